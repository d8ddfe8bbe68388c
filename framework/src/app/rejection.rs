//! The reason a request was rejected, as problem details (RFC 9457) that `?` can return.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use serde::Serialize;
use tide::{Response, StatusCode};

use super::answer::{IntoResponse, PROBLEM_JSON};
use crate::error::{chain, BoxError};

/// The reason a request was rejected.
///
/// An extractor returns a rejection if the request lacks what it needs or carries an invalid value. A handler may
/// return its own: `?` accepts it in functions that return `Result<_, Rejection>` or
/// [`slackwater::Result`](crate::Result). The response is a problem document (RFC 9457). Middleware finds the
/// rejection in `response.error()`.
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
pub struct Rejection(Box<RejectionData>);

struct RejectionData {
    status: StatusCode,
    kind: Option<Cow<'static, str>>,
    detail: Cow<'static, str>,
    fields: Vec<FieldError>,
    presence: InputPresence,
    source: Option<BoxError>,
}

/// The presence of the rejected input. If it is absent, the extractor `Option<E>` is `None` instead of a rejection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InputPresence {
    Present,
    Absent,
}

/// An invalid or missing value in a request.
///
/// ```
/// use slackwater::{FieldError, Rejection};
///
/// let error = FieldError::new("body", "title", "may not be empty");
/// let rejection = Rejection::unprocessable("the todo is invalid").field(error);
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
    /// Creates an error for one value.
    ///
    /// `place` is the part of the request: `path`, `query`, `header`, `cookie`, `form` or `body`. `field` is the path
    /// of the value in that part, such as `items[0].price`. `detail` is a text for people.
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

    /// Returns the part of the request: `path`, `query`, `header`, `cookie`, `form` or `body`.
    #[must_use]
    pub fn place(&self) -> &'static str {
        self.place
    }

    /// Returns the path of the value in that part, such as `items[0].price`.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Returns the text that describes the error.
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
    /// Creates a rejection with a status and a text for the client.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Rejection(Box::new(RejectionData {
            status,
            kind: None,
            detail: detail.into(),
            fields: Vec::new(),
            presence: InputPresence::Present,
            source: None,
        }))
    }

    /// 400 Bad Request: the request cannot be parsed.
    #[must_use]
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Rejection::new(StatusCode::BadRequest, detail)
    }

    /// 401 Unauthorized: the client is not authenticated.
    #[must_use]
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Rejection::new(StatusCode::Unauthorized, detail)
    }

    /// 403 Forbidden: the client lacks the permission.
    #[must_use]
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Rejection::new(StatusCode::Forbidden, detail)
    }

    /// 404 Not Found: the resource does not exist.
    #[must_use]
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Rejection::new(StatusCode::NotFound, detail)
    }

    /// 422 Unprocessable Content: the request can be parsed, but a value is invalid; see [`field`](Rejection::field).
    #[must_use]
    pub fn unprocessable(detail: impl Into<Cow<'static, str>>) -> Self {
        Rejection::new(StatusCode::UnprocessableEntity, detail)
    }

    /// Marks the rejection as "absent": the extractor `Option<E>` becomes `None` instead of rejecting the request.
    #[must_use]
    pub fn absent(mut self) -> Self {
        self.0.presence = InputPresence::Absent;
        self
    }

    /// Adds an invalid or missing value.
    #[must_use]
    pub fn field(mut self, error: FieldError) -> Self {
        self.0.fields.push(error);
        self
    }

    /// Sets the `type` of the problem document: a URI that identifies this kind of problem for programs.
    #[must_use]
    pub fn kind(mut self, uri: impl Into<Cow<'static, str>>) -> Self {
        self.0.kind = Some(uri.into());
        self
    }

    /// Adds the error that caused the rejection. It appears in the log and, in a debug build, in the response.
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

    /// Returns the status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Returns the invalid and missing values. The list may be incomplete.
    #[must_use]
    pub fn fields(&self) -> &[FieldError] {
        &self.0.fields
    }

    /// Returns true if the rejection is marked as [`absent`](Rejection::absent).
    pub(super) fn is_absent(&self) -> bool {
        self.0.presence == InputPresence::Absent
    }

    fn document(&self) -> Vec<u8> {
        let RejectionData {
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
        let problem = ProblemDocument {
            kind: kind.as_deref(),
            title: status.canonical_reason(),
            status: u16::from(*status),
            detail,
            errors: fields,
            cause,
        };
        // cannot fail: all members are strings and numbers
        serde_json::to_vec(&problem).unwrap_or_default()
    }
}

/// Members of the response body (RFC 9457, section 3.1), with the extensions `errors`, as in the RFC's own example, and
/// `cause`, in debug builds.
#[derive(Serialize)]
struct ProblemDocument<'a> {
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
