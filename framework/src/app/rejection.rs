//! Why a request is not answered as it wished: RFC 9457's problem details, as a type that `?` takes.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use serde::Serialize;
use tide::{Response, StatusCode};

use super::answer::{IntoResponse, PROBLEM_JSON};
use crate::error::{chain, BoxError};

/// Why a request is not answered as it wished.
///
/// Extractors give one where a request does not hold what they need, and a handler may give its own: `?` takes it in a
/// function that returns `Result<_, Rejection>` and in one that returns [`slackwater::Result`](crate::Result). The
/// answer is a problem document (RFC 9457), and middleware finds the rejection in `response.error()`.
///
/// ```
/// use slackwater::prelude::*;
/// use slackwater::Rejection;
///
/// #[get("/users/:id")]
/// async fn user(id: u64) -> Result<String, Rejection> {
///     match id {
///         1 => Ok("Ann".into()),
///         _ => Err(Rejection::not_found(format!("there is no user {id}"))),
///     }
/// }
/// ```
pub struct Rejection(Box<Inner>);

struct Inner {
    status: StatusCode,
    kind: Option<Cow<'static, str>>,
    detail: Cow<'static, str>,
    fields: Vec<FieldError>,
    presence: Presence,
    source: Option<BoxError>,
}

/// Whether there was something to be wrong: `Option<E>` is `None` where there was not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Absent,
}

/// What is wrong with one value of a request.
///
/// ```
/// use slackwater::{FieldError, Rejection};
///
/// let error = FieldError::new("body", "title", "may not be empty");
/// let rejection = Rejection::unprocessable("the todo cannot be taken").field(error);
/// assert_eq!(rejection.fields()[0].field(), "title");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    #[serde(rename = "in")]
    place: &'static str,
    field: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

impl FieldError {
    /// What is wrong with `field`, a path such as `items[0].price`, in one part of the request: `path`, `query`,
    /// `header`, `cookie`, `form` or `body`.
    ///
    /// ```
    /// let error = slackwater::FieldError::new("query", "page", "starts with 1");
    /// ```
    #[must_use]
    pub fn new(place: &'static str, field: impl Into<String>, detail: impl Into<String>) -> Self {
        FieldError {
            place,
            field: field.into(),
            detail: detail.into(),
            expected: None,
            found: None,
        }
    }

    pub(super) fn found(mut self, expected: &str, found: &str) -> Self {
        self.expected = Some(expected.to_owned());
        self.found = Some(found.to_owned());
        self
    }

    /// Where it stands: `path`, `query`, `header`, `cookie`, `form` or `body`.
    ///
    /// ```
    /// assert_eq!(slackwater::FieldError::new("body", "title", "is empty").place(), "body");
    /// ```
    #[must_use]
    pub fn place(&self) -> &'static str {
        self.place
    }

    /// Its path within that: `items[0].price`.
    ///
    /// ```
    /// assert_eq!(slackwater::FieldError::new("body", "title", "is empty").field(), "title");
    /// ```
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What is wrong.
    ///
    /// ```
    /// assert_eq!(slackwater::FieldError::new("body", "title", "is empty").detail(), "is empty");
    /// ```
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FieldError {
            place,
            field,
            detail,
            ..
        } = self;
        match field.as_str() {
            "" => write!(f, "{place}: {detail}"),
            _ => write!(f, "{place} {field}: {detail}"),
        }
    }
}

impl Rejection {
    /// With this status, and with words for whoever sent the request.
    ///
    /// ```
    /// use slackwater::{Rejection, StatusCode};
    ///
    /// let rejection = Rejection::new(StatusCode::Conflict, "somebody else has changed it meanwhile");
    /// ```
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Rejection(Box::new(Inner {
            status,
            kind: None,
            detail: detail.into(),
            fields: Vec::new(),
            presence: Presence::There,
            source: None,
        }))
    }

    /// 400: the request cannot be understood.
    ///
    /// ```
    /// let rejection = slackwater::Rejection::bad_request("the signature is not base64");
    /// ```
    #[must_use]
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Rejection::new(StatusCode::BadRequest, detail)
    }

    /// 401: it is not known who asks.
    ///
    /// ```
    /// let rejection = slackwater::Rejection::unauthorized("log in first");
    /// ```
    #[must_use]
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Rejection::new(StatusCode::Unauthorized, detail)
    }

    /// 403: whoever asks may not.
    ///
    /// ```
    /// let rejection = slackwater::Rejection::forbidden("this is not your todo");
    /// ```
    #[must_use]
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Rejection::new(StatusCode::Forbidden, detail)
    }

    /// 404: there is no such thing.
    ///
    /// ```
    /// let rejection = slackwater::Rejection::not_found("there is no todo 7");
    /// ```
    #[must_use]
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Rejection::new(StatusCode::NotFound, detail)
    }

    /// 422: it is understood, but says what cannot be; see [`field`](Rejection::field).
    ///
    /// ```
    /// let rejection = slackwater::Rejection::unprocessable("the end is before the beginning");
    /// ```
    #[must_use]
    pub fn unprocessable(detail: impl Into<Cow<'static, str>>) -> Self {
        Rejection::new(StatusCode::UnprocessableEntity, detail)
    }

    /// That something is missing which the request need not have: where an extractor gives this, `Option` of it is `None`.
    ///
    /// ```
    /// let rejection = slackwater::Rejection::unauthorized("log in first").absent();
    /// ```
    #[must_use]
    pub fn absent(mut self) -> Self {
        self.0.presence = Presence::Absent;
        self
    }

    /// Names one more value that is wrong.
    ///
    /// ```
    /// use slackwater::{FieldError, Rejection};
    ///
    /// let rejection = Rejection::unprocessable("the todo cannot be taken")
    ///     .field(FieldError::new("body", "title", "may not be empty"));
    /// ```
    #[must_use]
    pub fn field(mut self, error: FieldError) -> Self {
        self.0.fields.push(error);
        self
    }

    /// A URI that names this kind of problem for programs: the document's `type`.
    ///
    /// ```
    /// let rejection = slackwater::Rejection::forbidden("too many todos").kind("https://example.org/problems/quota");
    /// ```
    #[must_use]
    pub fn kind(mut self, uri: impl Into<Cow<'static, str>>) -> Self {
        self.0.kind = Some(uri.into());
        self
    }

    /// What led to it: for the log, and in a debug build for the client.
    ///
    /// ```
    /// # fn doc(error: std::io::Error) -> slackwater::Rejection {
    /// slackwater::Rejection::new(slackwater::StatusCode::BadGateway, "the warehouse does not answer").because(error)
    /// # }
    /// ```
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The status of the answer.
    ///
    /// ```
    /// let rejection = slackwater::Rejection::not_found("no such todo");
    /// assert_eq!(rejection.status(), slackwater::StatusCode::NotFound);
    /// ```
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The values that are wrong, as far as they are known.
    ///
    /// ```
    /// assert!(slackwater::Rejection::not_found("no such todo").fields().is_empty());
    /// ```
    #[must_use]
    pub fn fields(&self) -> &[FieldError] {
        &self.0.fields
    }

    /// Whether nothing is wrong but that something is missing.
    pub(super) fn is_absent(&self) -> bool {
        self.0.presence == Presence::Absent
    }

    fn document(&self) -> Vec<u8> {
        let Inner {
            status,
            kind,
            detail,
            fields,
            source,
            ..
        } = &*self.0;
        let cause = source
            .as_deref()
            .filter(|_| cfg!(debug_assertions))
            .map(|source| chain(source));
        let problem = Problem {
            kind: kind.as_deref(),
            title: status.canonical_reason(),
            status: u16::from(*status),
            detail,
            errors: fields,
            cause,
        };
        // strings and numbers: serialising them cannot fail
        serde_json::to_vec(&problem).unwrap_or_default()
    }
}

/// RFC 9457, section 3.1, with the extension `errors` as in its own example, and `cause` in debug builds.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.status());
        response.set_body(self.document());
        response.insert_header(tide::http::headers::CONTENT_TYPE, PROBLEM_JSON);
        response.set_error(tide::Error::new(self.status(), self));
        response
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.status, chain(self))
    }
}

impl StdError for Rejection {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
