//! The output of `APP config` and `APP check`: each setting, its value and its source, with secrets hidden.

use std::fmt::Write as _;

use figment::value::{Dict, Value};

use super::field::Field;
use super::loaded_config::LoadedConfig;
use super::origin::{key_text, KeyPath, ValueOrigin};
use super::secret::{without_user_info, HIDDEN};
use super::suggest::suggestion;
use super::values::{datetime, integer};
use super::Config;
use crate::error::{Error, Kind};

/// A setting with the value that is in effect.
pub(super) struct EffectiveSetting {
    /// The key with dots. Each leaf of `[app]` is a setting of its own.
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: ValueOrigin,
}

/// Returns the output of `APP config [KEY]`: the effective settings as TOML, with the source of each as a comment.
///
/// Call [`LoadedConfig::app`] first: it records the keys that the application reads as [`Secret`](super::Secret).
///
/// # Errors
///
/// [`Kind::Usage`] if `key` does not exist.
pub(crate) fn config_text(loaded: &LoadedConfig, key: Option<&str>) -> Result<String, Error> {
    let mut entries = effective_settings(loaded);
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
                format!("config: the key {key} does not exist{near}"),
            ));
        }
    }
    let settings: Vec<String> = entries.iter().map(|entry| entry.setting(loaded)).collect();
    // A longer setting does not widen the column; its comment stands further to the right.
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
            entry.location(loaded),
            width = width.unwrap_or_default()
        );
    }
    Ok(text)
}

/// Returns the key's entry in the reference, as TOML comments.
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

/// Returns the output of `APP check` for a valid configuration.
pub(crate) fn check_text(name: &str, loaded: &LoadedConfig) -> String {
    let file = match &loaded.file {
        Some(file) => file.display().to_string(),
        None => format!("no {}", loaded.hint_file().display()),
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

/// Returns every setting: the framework's in the order of the reference, then the application's by name.
pub(super) fn effective_settings(loaded: &LoadedConfig) -> Vec<EffectiveSetting> {
    let ours = Config::FIELDS.iter().map(|field| EffectiveSetting {
        key: field.key.into(),
        value: (field.show)(&loaded.config),
        origin: loaded
            .value(field.key)
            .map_or(ValueOrigin::Default, |value| loaded.origin(value.tag())),
    });
    let mut entries: Vec<EffectiveSetting> = ours.collect();
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

fn leaves(
    loaded: &LoadedConfig,
    value: &Value,
    path: &KeyPath<'_>,
    entries: &mut Vec<EffectiveSetting>,
) {
    match value {
        Value::Dict(_, table) if !table.is_empty() && datetime(table).is_none() => {
            for (key, value) in table {
                leaves(loaded, value, &KeyPath::Key(path, key), entries);
            }
        }
        _ => entries.push(EffectiveSetting {
            key: path.to_string(),
            value: value.clone(),
            origin: loaded.origin(value.tag()),
        }),
    }
}

impl EffectiveSetting {
    /// Returns the value as TOML, or `"***"` if it is secret.
    pub(super) fn shown(&self, loaded: &LoadedConfig) -> String {
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

    fn setting(&self, loaded: &LoadedConfig) -> String {
        let unset = if self.value.to_empty().is_some() {
            "# "
        } else {
            ""
        };
        format!("{unset}{} = {}", self.key, self.shown(loaded))
    }

    /// Returns the source: `default`, `slackwater.toml:40 (profile release)`, `environment SLACKWATER_APP__GREETING`, …
    fn location(&self, loaded: &LoadedConfig) -> String {
        let line = loaded.line(&self.key, &self.origin);
        match (&self.origin, line) {
            (ValueOrigin::File(path), Some(line)) => format!("{}:{line}", path.display()),
            (ValueOrigin::Profile(path, name), Some(line)) => {
                format!("{}:{line} (profile {name})", path.display())
            }
            (origin, _) => origin.to_string(),
        }
    }
}

/// Formats a value as one line of TOML. Entries of tables for which `hidden` returns true are shown as `"***"`.
pub(super) fn toml_text(value: &Value, hidden: &dyn Fn(&str, &Value) -> bool) -> String {
    let string = |text: &str| one_line(&without_user_info(text));
    match value {
        Value::String(_, text) => string(text),
        Value::Char(_, char) => string(&char.to_string()),
        Value::Bool(_, bool) => bool.to_string(),
        Value::Num(_, number) => match (integer(*number), number.to_f64()) {
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

/// Quotes a string as TOML, on a single line.
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
