//! What serde says is wrong, as the field, what was expected, and what was found.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::Deserializer;

use crate::app::{FieldError, Rejection};
use tide::StatusCode;

/// A value that could not be read: where in it, and what serde says of that.
pub(super) struct Fault {
    path: String,
    message: String,
}

impl Fault {
    pub(super) fn whole(message: impl ToString) -> Self {
        Fault {
            path: String::new(),
            message: message.to_string(),
        }
    }

    pub(super) fn located<E: fmt::Display>(error: &serde_path_to_error::Error<E>) -> Self {
        Fault {
            path: error.path().to_string(),
            message: error.inner().to_string(),
        }
    }

    /// Whether nothing is wrong but that something is not there.
    pub(super) fn is_missing(&self) -> bool {
        quoted(&self.message, MISSING).is_some()
    }

    /// Names the field, where the value was that of one.
    pub(super) fn at(&mut self, field: &str) {
        self.path = field.to_owned();
    }

    /// As the answer with this status; `place` is the part of the request.
    pub(super) fn reject(self, status: StatusCode, place: &'static str) -> Rejection {
        let error = self.describe(place);
        Rejection::new(status, error.to_string()).field(error)
    }

    fn describe(self, place: &'static str) -> FieldError {
        let Fault { path, message } = self;
        // a path that is not there is "."
        let path = if path == "." { String::new() } else { path };
        let message = message.split(" at line ").next().unwrap_or(&message);
        if let Some(field) = quoted(message, MISSING) {
            return FieldError::new(place, join(&path, field), "it is missing")
                .found("a value", "nothing");
        }
        match parts(message) {
            Some((expected, found)) => {
                let detail = format!("expected {expected}, found {found}");
                FieldError::new(place, path, detail).found(expected, found)
            }
            None => FieldError::new(place, path, message),
        }
    }
}

/// As serde says it.
const MISSING: &str = "missing field ";

/// serde's own form: `invalid type: string "x", expected u32`, and the same with `value` or `length`.
fn parts(message: &str) -> Option<(&str, &str)> {
    let said = ["invalid type: ", "invalid value: ", "invalid length "];
    let rest = said.iter().find_map(|start| message.strip_prefix(start))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    Some((expected, found))
}

/// The name in backticks after `start`.
fn quoted<'a>(message: &'a str, start: &str) -> Option<&'a str> {
    message
        .strip_prefix(start)?
        .strip_prefix('`')?
        .strip_suffix('`')
}

fn join(path: &str, field: &str) -> String {
    match path {
        "" => field.to_owned(),
        _ => format!("{path}.{field}"),
    }
}

/// Reads a value. Where it fails, it is read once more to learn where: keeping track costs more than most reads.
pub(super) fn read<'de, T, D, E>(deserializer: impl Fn() -> D) -> Result<T, Fault>
where
    T: DeserializeOwned,
    D: Deserializer<'de, Error = E>,
    E: serde::de::Error,
{
    T::deserialize(deserializer()).map_err(|error| {
        match serde_path_to_error::deserialize::<_, T>(deserializer()) {
            Err(located) => Fault::located(&located),
            Ok(_) => Fault::whole(error),
        }
    })
}
