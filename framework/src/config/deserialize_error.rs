//! The error for a value of `[app]` that does not match the application's type, with its location and without secrets.

use std::fmt;

use serde::de;

use super::explain::effective_settings;
use super::field::variable;
use super::loaded_config::LoadedConfig;
use super::origin::{key_text, ValueOrigin};
use super::secret::HIDDEN;
use super::suggest::suggestion;
use super::values::describe;

/// A value that does not match the application's type.
#[derive(Debug)]
pub(super) struct DeserializeError {
    kind: ErrorKind,
    location: Option<Box<Location>>,
}

#[derive(Debug)]
enum ErrorKind {
    Expected {
        expected: String,
        found: String,
    },
    Missing(&'static str),
    Unknown {
        found: String,
        expected: &'static [&'static str],
    },
    Variant {
        found: String,
        expected: &'static [&'static str],
    },
    /// An error from the application's own `Deserialize`. Its text may contain the value.
    Custom(String),
    /// The file of a `…_FILE` variable could not be read.
    Unreadable(String),
}

/// The key and the source of a value of `[app]`.
#[derive(Debug)]
pub(super) struct Location {
    pub(super) key: String,
    pub(super) origin: ValueOrigin,
    /// True if the value must not be printed.
    pub(super) hidden: bool,
}

impl DeserializeError {
    fn new(kind: ErrorKind) -> Self {
        DeserializeError {
            kind,
            location: None,
        }
    }

    pub(super) fn unreadable(failure: String) -> Self {
        DeserializeError::new(ErrorKind::Unreadable(failure))
    }

    /// Adds the location, unless the error has one already: the innermost value reports first, and its location is the
    /// most precise.
    pub(super) fn at(mut self, location: impl FnOnce() -> Location) -> Self {
        self.location.get_or_insert_with(|| Box::new(location()));
        self
    }

    /// Returns the error message, on one line.
    pub(super) fn message(self, loaded: &LoadedConfig) -> String {
        let whole_table = || Location {
            key: "app".into(),
            origin: ValueOrigin::Default,
            hidden: false,
        };
        let location = self.location.map_or_else(whole_table, |location| *location);
        let message = match self.kind {
            ErrorKind::Missing(name) => return missing(loaded, &location, name),
            ErrorKind::Expected { expected, .. } if location.hidden => {
                format!("expected {expected}; the value is secret")
            }
            ErrorKind::Variant { expected, .. } if location.hidden => {
                format!("expected one of {}", expected.join(", "))
            }
            ErrorKind::Custom(_) if location.hidden => {
                "invalid value; the reason is not shown, because the value is secret".into()
            }
            kind => without_secrets(kind.to_string(), loaded),
        };
        loaded
            .error(&location.key, &location.origin, message)
            .to_string()
    }
}

/// Replaces the values of secrets in an error text, because a type that checks several fields at once may quote them.
fn without_secrets(text: String, loaded: &LoadedConfig) -> String {
    let settings = effective_settings(loaded);
    let secrets = settings
        .iter()
        .filter(|setting| loaded.is_secret(&setting.key, &setting.origin));
    let quotable = secrets
        .filter_map(|setting| setting.value.as_str())
        .filter(|secret| !secret.is_empty());
    quotable.fold(text, |text, secret| text.replace(secret, HIDDEN))
}

fn missing(loaded: &LoadedConfig, location: &Location, name: &str) -> String {
    let Location {
        key: table, origin, ..
    } = location;
    let key = format!("{table}.{}", key_text(name));
    if table.contains('[') {
        // An element of a list can only be set in place, so the location is the only hint that helps.
        return loaded.error(&key, origin, "missing").to_string();
    }
    let variable = variable(&loaded.env_prefix, &key);
    format!(
        "{key}: missing; set it in {} under [{table}], or in the environment as {variable}",
        loaded.hint_file().display()
    )
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::Expected { expected, found } => {
                write!(f, "expected {expected}, found {found}")
            }
            ErrorKind::Missing(name) => write!(f, "{name} is missing"),
            ErrorKind::Unknown { found, expected } => {
                let near = suggestion(found, expected.iter().copied());
                write!(f, "unknown key{near}")
            }
            ErrorKind::Variant { found, expected } => {
                let near = suggestion(found, expected.iter().copied());
                write!(
                    f,
                    "expected one of {}, found {found:?}{near}",
                    expected.join(", ")
                )
            }
            ErrorKind::Custom(text) | ErrorKind::Unreadable(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for DeserializeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for DeserializeError {}

impl de::Error for DeserializeError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        DeserializeError::new(ErrorKind::Custom(text.to_string()))
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        DeserializeError::new(ErrorKind::Expected {
            expected: expectation(&expected.to_string()),
            found: unexpected(found),
        })
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn missing_field(name: &'static str) -> Self {
        DeserializeError::new(ErrorKind::Missing(name))
    }

    fn unknown_field(found: &str, expected: &'static [&'static str]) -> Self {
        DeserializeError::new(ErrorKind::Unknown {
            found: found.into(),
            expected,
        })
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        DeserializeError::new(ErrorKind::Variant {
            found: found.into(),
            expected,
        })
    }
}

/// Translates serde's name of a Rust type into the terms of a settings file.
fn expectation(serde: &str) -> String {
    match serde {
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" | "u8" | "u16" | "u32" | "u64" | "u128"
        | "usize" => {
            format!("a whole number ({serde})")
        }
        "f32" | "f64" => "a number".into(),
        "a map" => "a table".into(),
        "a sequence" => "a list".into(),
        _ if serde.starts_with("struct ") => "a table".into(),
        _ => serde.into(),
    }
}

fn unexpected(found: de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Str(text) => describe(&text.into()),
        de::Unexpected::Signed(number) => format!("integer {number}"),
        de::Unexpected::Unsigned(number) => format!("integer {number}"),
        de::Unexpected::Bool(bool) => format!("boolean {bool}"),
        de::Unexpected::Float(number) => format!("number {number}"),
        de::Unexpected::Map => "a table".into(),
        de::Unexpected::Seq => "a list".into(),
        de::Unexpected::Unit | de::Unexpected::Option => "nothing".into(),
        other => other.to_string(),
    }
}
