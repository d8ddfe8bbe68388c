//! Errors as answers: 500, unless the error itself says more.

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

/// What `?` made of an error in a function that returns [`slackwater::Result`](crate::Result): a rejection says what it
/// says, everything else is 500, and is told to the log and, in a debug build, to the client.
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

/// A boxed error as an error: boxes of errors are none themselves.
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
