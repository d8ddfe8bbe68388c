//! Reads `[app]` into the application's own type: text from outside takes the type of its target.
//!
//! A serde deserializer over figment's values. Beside the value it finds the keys that nobody asked for, and those
//! that are read as [`Secret`](super::Secret).

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::btree_map;

use figment::value::{Dict, Tag, Value};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::layers::inline;
use super::loaded::Loaded;
use super::misfit::{Misfit, Place};
use super::nearest::suggestion;
use super::origin::{KeyPath, Origin};
use super::secret::SECRET;
use super::values::{datetime, switch, visit_whole, whole};
use crate::error::{Error, Kind};

/// What was seen on the way.
#[derive(Default)]
struct Notes {
    /// A warning for each key that nobody asked for.
    unknown: Vec<String>,
    /// The keys that are read as secrets.
    secrets: Vec<String>,
}

/// What text becomes where the target takes anything (`#[serde(flatten)]`, untagged enums).
#[derive(Clone, Copy)]
enum AnyText {
    String,
    /// A boolean or a number if it looks like one.
    Guess,
}

impl Loaded {
    /// Reads `[app]` as the application's settings. Unknown keys in it are added to the warnings.
    ///
    /// # Errors
    /// [`Kind::Config`] naming source, line and key of what is missing or has the wrong type.
    pub(crate) fn app<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let (settings, notes) = read(self)?;
        self.secrets.extend(notes.secrets);
        for warning in notes.unknown {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        Ok(settings)
    }
}

/// Reads `[app]`; a missing one is an empty table.
fn read<T: DeserializeOwned>(loaded: &Loaded) -> Result<(T, Notes), Error> {
    let refused = match read_with(loaded, AnyText::String) {
        Ok(read) => return Ok(read),
        Err(refused) => refused,
    };
    // Where serde buffers, a number from outside is still a string when it is asked for: try the other way.
    read_with(loaded, AnyText::Guess).map_err(|_| Error::new(Kind::Config, refused.report(loaded)))
}

fn read_with<T: DeserializeOwned>(
    loaded: &Loaded,
    any_text: AnyText,
) -> Result<(T, Notes), Misfit> {
    let empty = Value::from(Dict::new());
    let value = loaded.values.get("app").unwrap_or(&empty);
    let reader = Reader {
        loaded,
        any_text,
        notes: RefCell::default(),
    };
    let path = KeyPath::Key(&KeyPath::Root, "app");
    let node = Node {
        value,
        tag: value.tag(),
        path: &path,
        reader: &reader,
        siblings: &[],
        hidden: false,
    };
    let settings = T::deserialize(node)?;
    Ok((settings, reader.notes.into_inner()))
}

struct Reader<'a> {
    loaded: &'a Loaded,
    any_text: AnyText,
    notes: RefCell<Notes>,
}

/// A value on the way into the application's type.
#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    /// Its own, or that of the text it was found in.
    tag: Tag,
    path: &'a KeyPath<'a>,
    reader: &'a Reader<'a>,
    /// The names that its holder knows, for suggestions.
    siblings: &'static [&'static str],
    /// Whether it lies within a `Secret`.
    hidden: bool,
}

impl<'a> Node<'a> {
    fn child<'b>(self, value: &'b Value, path: &'b KeyPath<'b>) -> Node<'b>
    where
        'a: 'b,
    {
        let tag = if value.tag().is_default() {
            self.tag
        } else {
            value.tag()
        };
        Node {
            value,
            tag,
            path,
            siblings: &[],
            reader: self.reader,
            hidden: self.hidden,
        }
    }

    fn origin(&self) -> Origin {
        self.reader.loaded.origin(self.tag)
    }

    fn place(&self) -> Place {
        let (key, origin) = (self.path.to_string(), self.origin());
        let hidden = self.hidden || self.reader.loaded.is_secret(&key, &origin);
        Place {
            key,
            origin,
            hidden,
        }
    }

    /// The text, if it came from outside and has no type of its own.
    fn text(&self) -> Result<Option<&'a str>, Misfit> {
        let Value::String(_, text) = self.value else {
            return Ok(None);
        };
        let origin = self.origin();
        if let Origin::VariableFile(name) = &origin {
            let failure = self
                .reader
                .loaded
                .named_files
                .get(name)
                .and_then(|file| file.failure.clone());
            if let Some(failure) = failure {
                return Err(Misfit::unreadable(failure));
            }
        }
        Ok(origin.is_text().then_some(text.as_str()))
    }

    fn parsed<T: std::str::FromStr>(&self) -> Result<Option<T>, Misfit> {
        Ok(self.text()?.and_then(|text| text.trim().parse().ok()))
    }

    fn note_unknown(&self) {
        let key = self.path.to_string();
        let name = key.rsplit('.').next().unwrap_or_default();
        let near = suggestion(name, self.siblings.iter().copied());
        let fault =
            self.reader
                .loaded
                .fault(&key, &self.origin(), format!("unknown key, ignored{near}"));
        self.reader
            .notes
            .borrow_mut()
            .unknown
            .push(fault.to_string());
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if let (Some(text), AnyText::Guess) = (self.text()?, self.reader.any_text) {
            match (switch(text), self.parsed::<i64>()?, self.parsed::<f64>()?) {
                (_, Some(number), _) => return visitor.visit_i64(number),
                (Some(switch), ..) => return visitor.visit_bool(switch),
                (.., Some(number)) => return visitor.visit_f64(number),
                _ => {}
            }
        }
        match self.value {
            Value::String(_, text) => visitor.visit_str(text),
            Value::Char(_, char) => visitor.visit_char(*char),
            Value::Bool(_, bool) => visitor.visit_bool(*bool),
            Value::Num(_, number) => match (whole(*number), number.to_f64()) {
                (Some(number), _) => visit_whole(number, visitor),
                (None, Some(number)) => visitor.visit_f64(number),
                (None, None) => visitor.visit_u128(number.to_u128().unwrap_or(u128::MAX)),
            },
            Value::Empty(..) => visitor.visit_unit(),
            Value::Dict(_, table) => match datetime(table) {
                Some(text) => visitor.visit_str(text),
                None => visitor.visit_map(Table::new(self, table, &[])),
            },
            Value::Array(_, list) => visitor.visit_seq(List {
                node: self,
                rest: list.iter().enumerate(),
            }),
        }
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match (self.parsed::<i128>()?, self.parsed::<f64>()?) {
            (Some(number), _) => visit_whole(number, visitor),
            (None, Some(number)) => visitor.visit_f64(number),
            (None, None) => self.any(visitor),
        }
    }

    fn switch<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.text()?.and_then(switch) {
            Some(bool) => visitor.visit_bool(bool),
            None => self.any(visitor),
        }
    }

    fn string<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.text()? {
            Some(text) => visitor.visit_str(text),
            None => self.any(visitor),
        }
    }

    fn list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let Some(text) = self.text()? else {
            return self.any(visitor);
        };
        let list = match inline(text) {
            Some(list @ Value::Array(..)) => list,
            _ if text.trim().is_empty() => Value::from(Vec::<Value>::new()),
            _ => text.split(',').map(str::trim).collect::<Vec<_>>().into(),
        };
        self.child(&list, self.path).any(visitor)
    }

    fn table<'de, V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        if let Some(table @ Value::Dict(..)) = self.text()?.and_then(inline) {
            return self.child(&table, self.path).table(fields, visitor);
        }
        match self.value {
            Value::Dict(_, table) => visitor.visit_map(Table::new(self, table, fields)),
            _ => self.any(visitor),
        }
    }

    fn choice<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let text = self.text()?;
        if let Some(table @ Value::Dict(..)) = text.and_then(inline) {
            return self.child(&table, self.path).choice(visitor);
        }
        match self.value {
            Value::String(_, name) => {
                let name: StrDeserializer<'_, Misfit> = name.as_str().into_deserializer();
                visitor.visit_enum(name)
            }
            Value::Dict(_, table) => {
                visitor.visit_enum(MapAccessDeserializer::new(Table::new(self, table, &[])))
            }
            _ => self.any(visitor),
        }
    }
}

macro_rules! read_as { ($($how:ident: $($method:ident)*;)*) => { $($(
    fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.$how(visitor).map_err(|misfit| misfit.at(|| self.place()))
    }
)*)* } }

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Misfit;

    read_as! {
        any: deserialize_any deserialize_identifier;
        number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
            deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
            deserialize_f32 deserialize_f64;
        list: deserialize_seq;
        switch: deserialize_bool;
        string: deserialize_str deserialize_string deserialize_char deserialize_bytes deserialize_byte_buf;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Empty(..) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
        .map_err(|misfit| misfit.at(|| self.place()))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let KeyPath::Key(KeyPath::Root, _) = self.path else {
            return self.any(visitor);
        };
        for (key, value) in self.value.as_dict().into_iter().flatten() {
            self.child(value, &KeyPath::Key(self.path, key))
                .note_unknown();
        }
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        if name == SECRET {
            self.hidden = true;
            self.reader
                .notes
                .borrow_mut()
                .secrets
                .push(self.path.to_string());
        }
        visitor
            .visit_newtype_struct(self)
            .map_err(|misfit| misfit.at(|| self.place()))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.table(&[], visitor)
            .map_err(|misfit| misfit.at(|| self.place()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.table(fields, visitor)
            .map_err(|misfit| misfit.at(|| self.place()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.choice(visitor)
            .map_err(|misfit| misfit.at(|| self.place()))
    }

    /// Only keys that no field has are read like this.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.note_unknown();
        visitor.visit_unit()
    }
}

struct List<'a> {
    node: Node<'a>,
    rest: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> de::SeqAccess<'de> for List<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        let Some((index, value)) = self.rest.next() else {
            return Ok(None);
        };
        let path = KeyPath::Index(self.node.path, index);
        seed.deserialize(self.node.child(value, &path)).map(Some)
    }
}

struct Table<'a> {
    node: Node<'a>,
    fields: &'static [&'static str],
    rest: btree_map::Iter<'a, String, Value>,
    next: Option<(&'a str, Cow<'a, Value>)>,
}

impl<'a> Table<'a> {
    fn new(node: Node<'a>, table: &'a Dict, fields: &'static [&'static str]) -> Self {
        Table {
            node,
            fields,
            rest: table.iter(),
            next: None,
        }
    }

    /// The field that a key from outside means: case is lost there, and `KEY_FILE` may be a name of its own.
    fn meant(&self, key: &'a str, value: &'a Value) -> (&'a str, Cow<'a, Value>) {
        let origin = self.node.child(value, self.node.path).origin();
        if !origin.is_text() || self.fields.contains(&key) {
            return (key, Cow::Borrowed(value));
        }
        let field = |name: &str| {
            self.fields
                .iter()
                .find(|field| field.eq_ignore_ascii_case(name))
                .copied()
        };
        let file = match &origin {
            Origin::VariableFile(variable) => self.node.reader.loaded.named_files.get(variable),
            _ => None,
        };
        match (field(key), field(&format!("{key}_file")), file) {
            (Some(field), ..) => (field, Cow::Borrowed(value)),
            (None, Some(field), Some(file)) => (field, Cow::Owned(file.path.as_str().into())),
            _ => (key, Cow::Borrowed(value)),
        }
    }
}

impl<'de> de::MapAccess<'de> for Table<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misfit> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        let (key, value) = self.meant(key, value);
        let path = KeyPath::Key(self.node.path, key);
        let deserializer: StrDeserializer<'_, Misfit> = key.into_deserializer();
        let read = seed
            .deserialize(deserializer)
            .map_err(|misfit| misfit.at(|| self.node.child(&value, &path).place()))?;
        self.next = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some((key, value)) = self.next.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let path = KeyPath::Key(self.node.path, key);
        let node = Node {
            siblings: self.fields,
            ..self.node.child(&value, &path)
        };
        seed.deserialize(node)
    }
}
