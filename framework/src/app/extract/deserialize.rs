//! Turns a serde error into a [`FieldError`]: the field, the expected value and the value that was found.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::Deserializer;

use crate::app::{FieldError, Rejection};
use tide::StatusCode;

/// A value that cannot be deserialized: the path of the field, and serde's message.
pub(super) struct ValueError {
    path: String,
    message: String,
}

impl ValueError {
    /// An error without the path of a field.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass errors and texts without a reference"
    )]
    pub(super) fn without_path(message: impl ToString) -> Self {
        ValueError {
            path: String::new(),
            message: message.to_string(),
        }
    }

    /// An error with the path of the field.
    pub(super) fn with_path<E: fmt::Display>(error: &serde_path_to_error::Error<E>) -> Self {
        ValueError {
            path: error.path().to_string(),
            message: error.inner().to_string(),
        }
    }

    /// Returns true if a required field is missing.
    pub(super) fn is_missing(&self) -> bool {
        in_backticks(&self.message, MISSING).is_some()
    }

    /// Sets the path of the field.
    pub(super) fn set_path(&mut self, path: &str) {
        self.path = path.to_owned();
    }

    /// Converts the error into a rejection. `place` is the part of the request.
    pub(super) fn reject(self, status: StatusCode, place: &'static str) -> Rejection {
        let error = self.describe(place);
        Rejection::new(status, error.to_string()).field(error)
    }

    fn describe(self, place: &'static str) -> FieldError {
        let ValueError { path, message } = self;
        // serde_path_to_error writes an empty path as "."
        let path = if path == "." { String::new() } else { path };
        let message = message.split(" at line ").next().unwrap_or(&message);
        if let Some(field) = in_backticks(message, MISSING) {
            return FieldError::new(place, join(&path, field), "missing")
                .found("a value", "nothing");
        }
        match expected_and_found(message) {
            Some((expected, found)) => {
                let detail = format!("expected {expected}, found {found}");
                FieldError::new(place, path, detail).found(expected, found)
            }
            None => FieldError::new(place, path, message),
        }
    }
}

/// Start of serde's message about a missing field.
const MISSING: &str = "missing field ";

/// Splits a message such as `invalid type: string "x", expected u32`. serde writes the same with `value` and `length`.
fn expected_and_found(message: &str) -> Option<(&str, &str)> {
    let starts = ["invalid type: ", "invalid value: ", "invalid length "];
    let rest = starts
        .iter()
        .find_map(|start| message.strip_prefix(start))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    Some((expected, found))
}

/// Returns the name in backticks after `start`.
fn in_backticks<'a>(message: &'a str, start: &str) -> Option<&'a str> {
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

/// Deserializes a value.
///
/// The first attempt does not track the path of the current field, because tracking costs more than most
/// deserializations. After a failure, a second attempt finds the path.
pub(super) fn deserialize<'de, T, D, E>(deserializer: impl Fn() -> D) -> Result<T, ValueError>
where
    T: DeserializeOwned,
    D: Deserializer<'de, Error = E>,
    E: serde::de::Error,
{
    T::deserialize(deserializer()).map_err(|error| {
        match serde_path_to_error::deserialize::<_, T>(deserializer()) {
            Err(error) => ValueError::with_path(&error),
            Ok(_) => ValueError::without_path(error),
        }
    })
}
