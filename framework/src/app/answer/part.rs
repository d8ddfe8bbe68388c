//! Parts of an answer: what stands before the body in a tuple.

use std::str::FromStr;

use tide::http::headers::{HeaderName, HeaderValue};
use tide::{Response, StatusCode};

use super::IntoResponse;

/// What changes an answer that it stands before in a tuple: a status, headers, cookies.
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
    message = "`{Self}` cannot stand before an answer",
    label = "not a part of a response",
    note = "before the answer in a tuple stand a `StatusCode`, headers as `[(name, value); N]`, or `Cookies`"
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

/// Headers, instead of what the answer has under these names. One that cannot be sent is the application's mistake:
/// the answer is 500, and the log says which.
impl<V: AsRef<str>, const N: usize> ResponsePart for [(&'static str, V); N] {
    fn apply(self, response: &mut Response) {
        for (name, value) in self {
            match (
                HeaderName::from_str(name),
                HeaderValue::from_str(value.as_ref()),
            ) {
                (Ok(name), Ok(value)) => response.insert_header(name, value),
                _ => {
                    let what = format!("the header {name:?} cannot be sent: it is not plain ASCII");
                    let error = tide::Error::from_str(StatusCode::InternalServerError, what);
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
