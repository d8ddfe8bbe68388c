//! Return values of typed routes, and their conversion into responses.

mod body;
mod failure;
mod json;
mod part;

pub use json::{Created, Html, NoContent};
pub use part::ResponsePart;

use tide::{Response, StatusCode};

/// The media type of a problem document (RFC 9457, section 3).
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// A value that a typed route can return.
///
/// | value | response |
/// |---|---|
/// | `&'static str`, `String`, `Cow<'static, str>` | 200, text |
/// | `Vec<u8>`, `&'static [u8]`, [`Bytes`](crate::Bytes) | 200, bytes |
/// | [`Json`](crate::Json), [`Html`] | 200 with this media type |
/// | [`Created`] | 201 with `Location` and a body |
/// | `()`, [`NoContent`] | 204 |
/// | [`StatusCode`](crate::StatusCode) | the status; from 400 with problem details |
/// | [`Redirect`](crate::Redirect) | 302, 303, 307 or 308 with `Location` |
/// | [`BodyStream`](crate::BodyStream) | 200, sent chunk by chunk |
/// | [`Body`](crate::Body), such as a file: `Body::from_file(path).await?` | 200 with the media type of the body |
/// | [`Response`](crate::Response) | unchanged |
/// | `(P, A)`, `(P, P, A)`, where `P` is a [`ResponsePart`]: a status, headers, [`Cookies`](crate::Cookies) | the response of `A`, changed by each `P` |
/// | `Option<A>` | the response of `A`, or 404 |
/// | `Result<A, E>` | the response of `A` or `E`; a [`Rejection`](crate::Rejection) has a status of its own, any other error is 500 |
///
/// Implement this trait for your own types by converting them into another such value:
///
/// ```
/// use slackwater::prelude::*;
/// use slackwater::{IntoResponse, Response};
///
/// struct Csv(Vec<String>);
///
/// impl IntoResponse for Csv {
///     fn into_response(self) -> Response {
///         ([("content-type", "text/csv")], self.0.join(",")).into_response()
///     }
/// }
///
/// #[get("/report")]
/// async fn report() -> Csv {
///     Csv(vec!["a".into(), "b".into()])
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be converted into a response",
    label = "cannot be returned from a route",
    note = "a route can return strings, bytes, `Json<T>`, `Html<T>`, `StatusCode`, `Created<T>`, `NoContent`, `Redirect`, \
            `BodyStream`, `Body`, `Response`, `(StatusCode, value)`, and `Option` and `Result` of these: return `Json(value)` \
            for a value that implements `serde::Serialize`",
    note = "the error type of a `Result` must implement it as well: `slackwater::Result<T>` accepts any error with `?`",
    note = "implement `slackwater::IntoResponse` for your own types"
)]
pub trait IntoResponse {
    /// Converts the value into a response.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::new(StatusCode::NoContent)
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        Response::new(self)
    }
}

impl<T: AsRef<str>> IntoResponse for tide::Redirect<T> {
    fn into_response(self) -> Response {
        self.into()
    }
}

impl<A: IntoResponse> IntoResponse for Option<A> {
    fn into_response(self) -> Response {
        self.map_or_else(|| Response::new(StatusCode::NotFound), A::into_response)
    }
}

impl<A: IntoResponse, E: IntoResponse> IntoResponse for Result<A, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(answer) => answer.into_response(),
            Err(error) => error.into_response(),
        }
    }
}
