//! Answers: what a typed route may give, and how it becomes a response.

mod body;
mod failure;
mod json;
mod part;

pub use json::{Created, Html, NoContent};
pub use part::ResponsePart;

use tide::{Response, StatusCode};

/// RFC 9457, section 3.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// What a typed route may give.
///
/// | answer | response |
/// |---|---|
/// | `&'static str`, `String`, `Cow<'static, str>` | 200, text |
/// | `Vec<u8>`, `&'static [u8]`, [`Bytes`](crate::Bytes) | 200, bytes |
/// | [`Json`](crate::Json), [`Html`] | 200 with that type |
/// | [`Created`] | 201 with `Location`, and a body |
/// | `()`, [`NoContent`] | 204 |
/// | [`StatusCode`](crate::StatusCode) | the status; from 400 on with problem details |
/// | [`Redirect`](crate::Redirect) | 302, 303, 307 or 308 with `Location` |
/// | [`BodyStream`](crate::BodyStream) | 200, as it comes |
/// | [`Body`](crate::Body), which may be a file: `Body::from_file(path).await?` | 200, with its type |
/// | [`Response`](crate::Response) | as it is |
/// | `(P, A)`, `(P, P, A)` with [`ResponsePart`]s such as a status, headers, [`Cookies`](crate::Cookies) | the answer, changed by these |
/// | `Option<A>` | the answer, or 404 |
/// | `Result<A, E>` | either; an error of any type is 500, a [`Rejection`](crate::Rejection) is what it says |
///
/// An application's own answer implements this in terms of another one:
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
    message = "`{Self}` is no answer",
    label = "cannot be turned into a response",
    note = "answers are strings, bytes, `Json<T>`, `Html<T>`, `StatusCode`, `Created<T>`, `NoContent`, `Redirect`, \
            `BodyStream`, `Body`, `Response`, `(StatusCode, answer)`, and `Option` and `Result` of them: give `Json(value)` \
            for a value that implements `serde::Serialize`",
    note = "the error of a `Result` is an answer as well: `slackwater::Result<T>` takes any error with `?`",
    note = "an answer of your own implements `slackwater::IntoResponse`"
)]
pub trait IntoResponse {
    /// The response that says this.
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
