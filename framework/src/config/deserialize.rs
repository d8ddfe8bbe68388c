//! Deserializes `[app]` into the application's type.
//!
//! A serde deserializer over figment's values. Text from the environment and from `--set` is converted to the type of
//! the field. The deserializer also records the keys that match no field, and the keys of type
//! [`Secret`](super::Secret).

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::btree_map;

use figment::value::{Dict, Tag, Value};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::deserialize_error::{DeserializeError, Location};
use super::layers::parse_inline;
use super::loaded_config::LoadedConfig;
use super::origin::{KeyPath, ValueOrigin};
use super::secret::SECRET;
use super::suggest::suggestion;
use super::values::{boolean, datetime, integer, visit_integer};
use crate::error::{Error, Kind};

/// Facts about keys that are recorded while values are read.
#[derive(Default)]
struct Findings {
    /// A warning for each key that matches no field.
    unknown: Vec<String>,
    /// The keys that are read as [`Secret`](super::Secret).
    secrets: Vec<String>,
}

/// The conversion of text for a target that accepts any type (`#[serde(flatten)]`, untagged enums).
#[derive(Clone, Copy)]
enum AnyText {
    String,
    /// To a number or a boolean if it parses as one, else to a string.
    Guess,
}

impl LoadedConfig {
    /// Deserializes `[app]` into the application's settings. Adds a warning for each unknown key.
    ///
    /// # Errors
    /// [`Kind::Config`] with the source, line and key of a value that is missing or has the wrong type.
    pub(crate) fn app<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let (settings, findings) = read(self)?;
        self.secrets.extend(findings.secrets);
        for warning in findings.unknown {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        Ok(settings)
    }
}

/// Deserializes `[app]`. A missing `[app]` is read as an empty table.
fn read<T: DeserializeOwned>(loaded: &LoadedConfig) -> Result<(T, Findings), Error> {
    let error = match read_with(loaded, AnyText::String) {
        Ok(settings) => return Ok(settings),
        Err(error) => error,
    };
    // For `#[serde(flatten)]` and untagged enums serde buffers values before it knows their types, so a number in the
    // environment is still a string when a field needs it. The second attempt converts such text before it is buffered.
    read_with(loaded, AnyText::Guess).map_err(|_| Error::new(Kind::Config, error.message(loaded)))
}

fn read_with<T: DeserializeOwned>(
    loaded: &LoadedConfig,
    any_text: AnyText,
) -> Result<(T, Findings), DeserializeError> {
    let empty = Value::from(Dict::new());
    let value = loaded.values.get("app").unwrap_or(&empty);
    let context = ReadContext {
        loaded,
        any_text,
        findings: RefCell::default(),
    };
    let path = KeyPath::Key(&KeyPath::Root, "app");
    let node = Node {
        value,
        tag: value.tag(),
        path: &path,
        context: &context,
        siblings: &[],
        hidden: false,
    };
    let settings = T::deserialize(node)?;
    Ok((settings, context.findings.into_inner()))
}

/// The state that all nodes share.
struct ReadContext<'a> {
    loaded: &'a LoadedConfig,
    any_text: AnyText,
    findings: RefCell<Findings>,
}

/// A value that is being deserialized.
#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    /// The tag of the value, or of the text that the value was parsed from.
    tag: Tag,
    path: &'a KeyPath<'a>,
    context: &'a ReadContext<'a>,
    /// The fields of the struct that the value belongs to, for suggestions.
    siblings: &'static [&'static str],
    /// True within a `Secret`.
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
            context: self.context,
            hidden: self.hidden,
        }
    }

    fn origin(&self) -> ValueOrigin {
        self.context.loaded.origin(self.tag)
    }

    fn location(&self) -> Location {
        let (key, origin) = (self.path.to_string(), self.origin());
        let hidden = self.hidden || self.context.loaded.is_secret(&key, &origin);
        Location {
            key,
            origin,
            hidden,
        }
    }

    /// Returns the text of a value from the environment or from `--set`, which has no type of its own.
    fn text(&self) -> Result<Option<&'a str>, DeserializeError> {
        let Value::String(_, text) = self.value else {
            return Ok(None);
        };
        let origin = self.origin();
        if let ValueOrigin::VariableFile(name) = &origin {
            let failure = self
                .context
                .loaded
                .variable_files
                .get(name)
                .and_then(|file| file.failure.clone());
            if let Some(failure) = failure {
                return Err(DeserializeError::unreadable(failure));
            }
        }
        Ok(origin.is_text().then_some(text.as_str()))
    }

    fn parsed<T: std::str::FromStr>(&self) -> Result<Option<T>, DeserializeError> {
        Ok(self.text()?.and_then(|text| text.trim().parse().ok()))
    }

    fn note_unknown(&self) {
        let key = self.path.to_string();
        let name = key.rsplit('.').next().unwrap_or_default();
        let near = suggestion(name, self.siblings.iter().copied());
        let warning =
            self.context
                .loaded
                .error(&key, &self.origin(), format!("unknown key, ignored{near}"));
        self.context
            .findings
            .borrow_mut()
            .unknown
            .push(warning.to_string());
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        if let (Some(text), AnyText::Guess) = (self.text()?, self.context.any_text) {
            match (boolean(text), self.parsed::<i64>()?, self.parsed::<f64>()?) {
                (_, Some(number), _) => return visitor.visit_i64(number),
                (Some(bool), ..) => return visitor.visit_bool(bool),
                (.., Some(number)) => return visitor.visit_f64(number),
                _ => {}
            }
        }
        match self.value {
            Value::String(_, text) => visitor.visit_str(text),
            Value::Char(_, char) => visitor.visit_char(*char),
            Value::Bool(_, bool) => visitor.visit_bool(*bool),
            Value::Num(_, number) => match (integer(*number), number.to_f64()) {
                (Some(number), _) => visit_integer(number, visitor),
                (None, Some(number)) => visitor.visit_f64(number),
                (None, None) => visitor.visit_u128(number.to_u128().unwrap_or(u128::MAX)),
            },
            Value::Empty(..) => visitor.visit_unit(),
            Value::Dict(_, table) => match datetime(table) {
                Some(text) => visitor.visit_str(text),
                None => visitor.visit_map(TableAccess::new(self, table, &[])),
            },
            Value::Array(_, list) => visitor.visit_seq(ListAccess {
                node: self,
                rest: list.iter().enumerate(),
            }),
        }
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        match (self.parsed::<i128>()?, self.parsed::<f64>()?) {
            (Some(number), _) => visit_integer(number, visitor),
            (None, Some(number)) => visitor.visit_f64(number),
            (None, None) => self.any(visitor),
        }
    }

    fn boolean<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        match self.text()?.and_then(boolean) {
            Some(bool) => visitor.visit_bool(bool),
            None => self.any(visitor),
        }
    }

    fn string<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        match self.text()? {
            Some(text) => visitor.visit_str(text),
            None => self.any(visitor),
        }
    }

    fn list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        let Some(text) = self.text()? else {
            return self.any(visitor);
        };
        let list = match parse_inline(text) {
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
    ) -> Result<V::Value, DeserializeError> {
        if let Some(table @ Value::Dict(..)) = self.text()?.and_then(parse_inline) {
            return self.child(&table, self.path).table(fields, visitor);
        }
        match self.value {
            Value::Dict(_, table) => visitor.visit_map(TableAccess::new(self, table, fields)),
            _ => self.any(visitor),
        }
    }

    fn choice<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        let text = self.text()?;
        if let Some(table @ Value::Dict(..)) = text.and_then(parse_inline) {
            return self.child(&table, self.path).choice(visitor);
        }
        match self.value {
            Value::String(_, name) => {
                let name: StrDeserializer<'_, DeserializeError> = name.as_str().into_deserializer();
                visitor.visit_enum(name)
            }
            Value::Dict(_, table) => visitor.visit_enum(MapAccessDeserializer::new(
                TableAccess::new(self, table, &[]),
            )),
            _ => self.any(visitor),
        }
    }
}

macro_rules! read_as { ($($reader:ident: $($method:ident)*;)*) => { $($(
    fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        self.$reader(visitor).map_err(|error| error.at(|| self.location()))
    }
)*)* } }

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = DeserializeError;

    read_as! {
        any: deserialize_any deserialize_identifier;
        number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
            deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
            deserialize_f32 deserialize_f64;
        list: deserialize_seq;
        boolean: deserialize_bool;
        string: deserialize_str deserialize_string deserialize_char deserialize_bytes deserialize_byte_buf;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        match self.value {
            Value::Empty(..) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
        .map_err(|error| error.at(|| self.location()))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
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
    ) -> Result<V::Value, DeserializeError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        if name == SECRET {
            self.hidden = true;
            self.context
                .findings
                .borrow_mut()
                .secrets
                .push(self.path.to_string());
        }
        visitor
            .visit_newtype_struct(self)
            .map_err(|error| error.at(|| self.location()))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        self.table(&[], visitor)
            .map_err(|error| error.at(|| self.location()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        self.table(fields, visitor)
            .map_err(|error| error.at(|| self.location()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        self.choice(visitor)
            .map_err(|error| error.at(|| self.location()))
    }

    /// Records a warning, because serde ignores exactly the keys that match no field.
    fn deserialize_ignored_any<V: Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        self.note_unknown();
        visitor.visit_unit()
    }
}

struct ListAccess<'a> {
    node: Node<'a>,
    rest: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> de::SeqAccess<'de> for ListAccess<'_> {
    type Error = DeserializeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DeserializeError> {
        let Some((index, value)) = self.rest.next() else {
            return Ok(None);
        };
        let path = KeyPath::Index(self.node.path, index);
        seed.deserialize(self.node.child(value, &path)).map(Some)
    }
}

struct TableAccess<'a> {
    node: Node<'a>,
    fields: &'static [&'static str],
    rest: btree_map::Iter<'a, String, Value>,
    next: Option<(&'a str, Cow<'a, Value>)>,
}

impl<'a> TableAccess<'a> {
    fn new(node: Node<'a>, table: &'a Dict, fields: &'static [&'static str]) -> Self {
        TableAccess {
            node,
            fields,
            rest: table.iter(),
            next: None,
        }
    }

    /// Returns the field that a key of the environment stands for, with its value.
    ///
    /// Names of environment variables do not preserve case, and a field may itself be called `KEY_FILE`; then the path
    /// of the file is its value.
    fn match_field(&self, key: &'a str, value: &'a Value) -> (&'a str, Cow<'a, Value>) {
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
            ValueOrigin::VariableFile(variable) => {
                self.node.context.loaded.variable_files.get(variable)
            }
            _ => None,
        };
        match (field(key), field(&format!("{key}_file")), file) {
            (Some(field), ..) => (field, Cow::Borrowed(value)),
            (None, Some(field), Some(file)) => (field, Cow::Owned(file.path.as_str().into())),
            _ => (key, Cow::Borrowed(value)),
        }
    }
}

impl<'de> de::MapAccess<'de> for TableAccess<'_> {
    type Error = DeserializeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DeserializeError> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        let (key, value) = self.match_field(key, value);
        let path = KeyPath::Key(self.node.path, key);
        let deserializer: StrDeserializer<'_, DeserializeError> = key.into_deserializer();
        let read = seed
            .deserialize(deserializer)
            .map_err(|error| error.at(|| self.node.child(&value, &path).location()))?;
        self.next = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DeserializeError> {
        let Some((key, value)) = self.next.take() else {
            return Err(de::Error::custom("serde requested a value before its key"));
        };
        let path = KeyPath::Key(self.node.path, key);
        let node = Node {
            siblings: self.fields,
            ..self.node.child(&value, &path)
        };
        seed.deserialize(node)
    }
}
