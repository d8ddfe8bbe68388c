//! Parts of a response: the elements before the body in a tuple.

use std::str::FromStr;

use tide::http::headers::{HeaderName, HeaderValue};
use tide::{Response, StatusCode};

use super::IntoResponse;

/// A part of a response: a status, headers or cookies. In a tuple, parts come before the body and change its response.
///
/// ```
/// use slackwater::prelude::*;
/// use slackwater::StatusCode;
///
/// #[get("/teapot")]
/// async fn teapot() -> (StatusCode, [(&'static str, &'static str); 1], &'static str) {
///     (StatusCode::ImATeapot, [("x-brew", "oolong")], "short and stout")
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a part of a response",
    label = "not a part of a response",
    note = "in a tuple, the elements before the body are a `StatusCode`, headers as `[(name, value); N]`, or `Cookies`"
)]
pub trait ResponsePart {
    /// Changes the response.
    fn apply(self, response: &mut Response);
}

impl ResponsePart for StatusCode {
    fn apply(self, response: &mut Response) {
        response.set_status(self);
    }
}

/// Headers. They replace headers of the same name. If a header's name or value is invalid, the response is 500 and
/// the log names the header.
impl<V: AsRef<str>, const N: usize> ResponsePart for [(&'static str, V); N] {
    fn apply(self, response: &mut Response) {
        for (name, value) in self {
            match (
                HeaderName::from_str(name),
                HeaderValue::from_str(value.as_ref()),
            ) {
                (Ok(name), Ok(value)) => response.insert_header(name, value),
                _ => {
                    let text = format!("invalid header {name:?}: its name or value is not ASCII");
                    let error = tide::Error::from_str(StatusCode::InternalServerError, text);
                    *response = error.into_response();
                }
            }
        }
    }
}

impl<P: ResponsePart, A: IntoResponse> IntoResponse for (P, A) {
    fn into_response(self) -> Response {
        let (part, answer) = self;
        let mut response = answer.into_response();
        part.apply(&mut response);
        response
    }
}

impl<P: ResponsePart, Q: ResponsePart, A: IntoResponse> IntoResponse for (P, Q, A) {
    fn into_response(self) -> Response {
        let (first, second, answer) = self;
        (first, (second, answer)).into_response()
    }
}
