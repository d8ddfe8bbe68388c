//! Responses from errors: 500, unless the error has a status of its own.

use std::error::Error as StdError;
use std::fmt;

use tide::{Response, StatusCode};

use super::IntoResponse;
use crate::app::Rejection;
use crate::error::BoxError;

impl IntoResponse for tide::Error {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.status());
        response.set_error(self);
        response
    }
}

/// The error type of [`slackwater::Result`](crate::Result). A [`Rejection`] becomes its own response. Every other error
/// becomes 500; its text appears in the log and, in a debug build, in the response.
impl IntoResponse for BoxError {
    fn into_response(self) -> Response {
        match self.downcast::<Rejection>() {
            Ok(rejection) => rejection.into_response(),
            Err(error) => {
                tide::Error::new(StatusCode::InternalServerError, Opaque(error)).into_response()
            }
        }
    }
}

/// Wraps a [`BoxError`] in a type that implements [`Error`](StdError), which the box itself does not.
struct Opaque(BoxError);

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Opaque {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}
