//! Why a value of `[app]` does not fit the application's type, told with its place and without secrets.

use std::fmt;

use serde::de;

use super::explain::entries;
use super::field::variable;
use super::loaded::Loaded;
use super::nearest::suggestion;
use super::origin::{key_text, Origin};
use super::secret::HIDDEN;
use super::values::describe;

/// Why a value does not fit the application's type.
#[derive(Debug)]
pub(super) struct Misfit {
    what: What,
    at: Option<Box<Place>>,
}

#[derive(Debug)]
enum What {
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
    /// By the application's own type: it may quote the value.
    Refused(String),
    /// The file that a `…_FILE` variable names.
    Unreadable(String),
}

/// A value of `[app]` and where it came from.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) key: String,
    pub(super) origin: Origin,
    /// Whether its value is not to be shown.
    pub(super) hidden: bool,
}

impl Misfit {
    fn new(what: What) -> Self {
        Misfit { what, at: None }
    }

    pub(super) fn unreadable(failure: String) -> Self {
        Misfit::new(What::Unreadable(failure))
    }

    /// Where it was found. The innermost place is the one to name: it is told first.
    pub(super) fn at(mut self, place: impl FnOnce() -> Place) -> Self {
        self.at.get_or_insert_with(|| Box::new(place()));
        self
    }

    /// The line that the user reads.
    pub(super) fn report(self, loaded: &Loaded) -> String {
        let nowhere = || Place {
            key: "app".into(),
            origin: Origin::Default,
            hidden: false,
        };
        let place = self.at.map_or_else(nowhere, |place| *place);
        let what = match self.what {
            What::Missing(name) => return missing(loaded, &place, name),
            What::Expected { expected, .. } if place.hidden => {
                format!("expected {expected}; what was found is secret")
            }
            What::Variant { expected, .. } if place.hidden => {
                format!("expected one of {}", expected.join(", "))
            }
            What::Refused(_) if place.hidden => {
                "its value is refused; the reason might show it, and it is secret".into()
            }
            what => without_secrets(what.to_string(), loaded),
        };
        loaded.fault(&place.key, &place.origin, what).to_string()
    }
}

/// A type that checks several fields at once may quote those that are secret.
fn without_secrets(text: String, loaded: &Loaded) -> String {
    let entries = entries(loaded);
    let secrets = entries
        .iter()
        .filter(|entry| loaded.is_secret(&entry.key, &entry.origin));
    let quotable = secrets
        .filter_map(|entry| entry.value.as_str())
        .filter(|secret| !secret.is_empty());
    quotable.fold(text, |text, secret| text.replace(secret, HIDDEN))
}

fn missing(loaded: &Loaded, place: &Place, name: &str) -> String {
    let Place {
        key: holder,
        origin,
        ..
    } = place;
    let key = format!("{holder}.{}", key_text(name));
    if holder.contains('[') {
        // An entry of a list cannot be set from elsewhere: where it is says enough.
        return loaded.fault(&key, origin, "missing").to_string();
    }
    let variable = variable(&loaded.env_prefix, &key);
    format!(
        "{key}: missing; set it in {} under [{holder}], or as {variable}",
        loaded.home().display()
    )
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Expected { expected, found } => write!(f, "expected {expected}, found {found}"),
            What::Missing(name) => write!(f, "{name} is missing"),
            What::Unknown { found, expected } => {
                let near = suggestion(found, expected.iter().copied());
                write!(f, "unknown key{near}")
            }
            What::Variant { found, expected } => {
                let near = suggestion(found, expected.iter().copied());
                write!(
                    f,
                    "expected one of {}, found {found:?}{near}",
                    expected.join(", ")
                )
            }
            What::Refused(text) | What::Unreadable(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Misfit::new(What::Refused(text.to_string()))
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Misfit::new(What::Expected {
            expected: expectation(&expected.to_string()),
            found: unexpected(found),
        })
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn missing_field(name: &'static str) -> Self {
        Misfit::new(What::Missing(name))
    }

    fn unknown_field(found: &str, expected: &'static [&'static str]) -> Self {
        Misfit::new(What::Unknown {
            found: found.into(),
            expected,
        })
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Misfit::new(What::Variant {
            found: found.into(),
            expected,
        })
    }
}

/// serde's names of Rust's types, in the words of a settings file.
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
