//! What `APP config` and `APP check` print: each setting, its value and where it came from, without secrets.

use std::fmt::Write as _;

use figment::value::{Dict, Value};

use super::field::Field;
use super::loaded::Loaded;
use super::nearest::suggestion;
use super::origin::{key_text, KeyPath, Origin};
use super::secret::{without_user_info, HIDDEN};
use super::values::{datetime, whole};
use super::Config;
use crate::error::{Error, Kind};

/// One setting as it is in force.
pub(super) struct Entry {
    /// With dots; of `[app]` each leaf is one.
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What `APP config [KEY]` prints: the effective settings as TOML, with the source of each as a comment.
///
/// Types that are secret are known once the application's settings were read: call [`Loaded::app`] first.
///
/// # Errors
///
/// [`Kind::Usage`] when there is no such key.
pub(crate) fn config_text(loaded: &Loaded, key: Option<&str>) -> Result<String, Error> {
    let mut entries = entries(loaded);
    if let Some(key) = key {
        let below = format!("{key}.");
        let names: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        entries.retain(|entry| entry.key == key || entry.key.starts_with(&below));
        if entries.is_empty() && key != "app" {
            let sections = names
                .iter()
                .filter_map(|name| name.rsplit_once('.'))
                .map(|(section, _)| section);
            let near = suggestion(key, names.iter().map(String::as_str).chain(sections));
            return Err(Error::new(
                Kind::Usage,
                format!("config: there is no key {key}{near}"),
            ));
        }
    }
    let settings: Vec<String> = entries.iter().map(|entry| entry.setting(loaded)).collect();
    /// Longer ones push their comment to the right.
    const WIDEST: usize = 48;
    let width = settings
        .iter()
        .map(|setting| setting.chars().count())
        .filter(|width| *width <= WIDEST)
        .max();
    let mut text = key.and_then(Field::find).map(about).unwrap_or_default();
    for (entry, setting) in entries.iter().zip(settings) {
        let _ = writeln!(
            text,
            "{setting:width$}  # {}",
            entry.place(loaded),
            width = width.unwrap_or_default()
        );
    }
    Ok(text)
}

/// The entry of the reference, as comments.
fn about(field: &Field) -> String {
    let default = toml_text(&(field.show)(&Config::default()), &|_, _| false);
    let Field {
        about,
        class,
        example,
        ..
    } = field;
    let expects = (field.expects)();
    format!("# {about}\n# {expects}; default {default}; for example {example}; class: {class}\n")
}

/// What `APP check` prints when there is nothing to refuse.
pub(crate) fn check_text(name: &str, loaded: &Loaded) -> String {
    let file = match &loaded.file {
        Some(file) => file.display().to_string(),
        None => format!("no {}", loaded.home().display()),
    };
    let mut text = format!(
        "{name}: configuration ok ({file}, profile {})\n",
        loaded.profile
    );
    for warning in &loaded.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// Every setting: the framework's in the order of the reference, then the application's by name.
pub(super) fn entries(loaded: &Loaded) -> Vec<Entry> {
    let ours = Config::FIELDS.iter().map(|field| Entry {
        key: field.key.into(),
        value: (field.show)(&loaded.config),
        origin: loaded
            .value(field.key)
            .map_or(Origin::Default, |value| loaded.origin(value.tag())),
    });
    let mut entries: Vec<Entry> = ours.collect();
    if let Some(Value::Dict(_, app)) = loaded.values.get("app") {
        for (key, value) in app {
            leaves(
                loaded,
                value,
                &KeyPath::Key(&KeyPath::Key(&KeyPath::Root, "app"), key),
                &mut entries,
            );
        }
    }
    entries
}

fn leaves(loaded: &Loaded, value: &Value, path: &KeyPath<'_>, entries: &mut Vec<Entry>) {
    match value {
        Value::Dict(_, table) if !table.is_empty() && datetime(table).is_none() => {
            for (key, value) in table {
                leaves(loaded, value, &KeyPath::Key(path, key), entries);
            }
        }
        _ => entries.push(Entry {
            key: path.to_string(),
            value: value.clone(),
            origin: loaded.origin(value.tag()),
        }),
    }
}

impl Entry {
    /// The value as TOML, or what stands in its place.
    pub(super) fn shown(&self, loaded: &Loaded) -> String {
        match loaded.is_secret(&self.key, &self.origin) {
            true if self.value.to_empty().is_none() => format!("{HIDDEN:?}"),
            _ => {
                let hidden = |below: &str, value: &Value| {
                    loaded.is_secret(
                        &format!("{}.{below}", self.key),
                        &loaded.origin(value.tag()),
                    )
                };
                toml_text(&self.value, &hidden)
            }
        }
    }

    fn setting(&self, loaded: &Loaded) -> String {
        let unset = if self.value.to_empty().is_some() {
            "# "
        } else {
            ""
        };
        format!("{unset}{} = {}", self.key, self.shown(loaded))
    }

    /// `default`, `slackwater.toml:40 (profile release)`, `environment SLACKWATER_APP__GREETING`, …
    fn place(&self, loaded: &Loaded) -> String {
        let line = loaded.line(&self.key, &self.origin);
        match (&self.origin, line) {
            (Origin::File(path), Some(line)) => format!("{}:{line}", path.display()),
            (Origin::Profile(path, name), Some(line)) => {
                format!("{}:{line} (profile {name})", path.display())
            }
            (origin, _) => origin.to_string(),
        }
    }
}

/// A value as TOML writes it in one line, without those entries of its tables that `hidden` names.
pub(super) fn toml_text(value: &Value, hidden: &dyn Fn(&str, &Value) -> bool) -> String {
    let string = |text: &str| one_line(&without_user_info(text));
    match value {
        Value::String(_, text) => string(text),
        Value::Char(_, char) => string(&char.to_string()),
        Value::Bool(_, bool) => bool.to_string(),
        Value::Num(_, number) => match (whole(*number), number.to_f64()) {
            (Some(whole), _) => whole.to_string(),
            (None, float) => toml_edit::Value::from(float.unwrap_or_default()).to_string(),
        },
        Value::Empty(..) => "unset".into(),
        Value::Array(_, list) => {
            let list: Vec<String> = list.iter().map(|value| toml_text(value, hidden)).collect();
            format!("[{}]", list.join(", "))
        }
        Value::Dict(_, table) => {
            datetime(table).map_or_else(|| table_text(table, hidden), str::to_owned)
        }
    }
}

fn table_text(table: &Dict, hidden: &dyn Fn(&str, &Value) -> bool) -> String {
    let pair = |(name, value): (&String, &Value)| {
        let shown = if hidden(name, value) {
            format!("{HIDDEN:?}")
        } else {
            toml_text(value, hidden)
        };
        format!("{} = {shown}", key_text(name))
    };
    let pairs: Vec<String> = table.iter().map(pair).collect();
    if pairs.is_empty() {
        "{}".into()
    } else {
        format!("{{ {} }}", pairs.join(", "))
    }
}

/// A string of TOML that never spans lines.
fn one_line(text: &str) -> String {
    let plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if plain(c) => quoted.push(c),
            c => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}
