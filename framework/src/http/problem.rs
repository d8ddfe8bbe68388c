//! Problem details (RFC 9457): what an answer says that is an error and has no body of its own.

use bytes::Bytes;
use hyper::header::{HeaderValue, CONTENT_TYPE};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::ResponseBody;

/// The members of RFC 9457 that we use; a missing `type` means `about:blank`.
#[derive(Serialize)]
struct Details<'a> {
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// The error and its sources: in a debug build only, for it may name anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

/// What is known of an error beyond its status.
pub(crate) enum Known<'a> {
    Nothing,
    /// Our own words: safe to say to anybody.
    Detail(&'static str),
    /// The application's error: said in debug builds.
    Cause(&'a str),
}

/// The body of an answer with this status, as JSON.
pub(crate) fn details(status: StatusCode, known: &Known<'_>) -> Bytes {
    let (detail, cause) = match *known {
        Known::Nothing => (None, None),
        Known::Detail(detail) => (Some(detail), None),
        Known::Cause(cause) => (None, cfg!(debug_assertions).then_some(cause)),
    };
    let title = status.canonical_reason().unwrap_or("Error");
    let details = Details { title, status: status.as_u16(), detail, cause };
    // strings and a number: serialising them cannot fail
    serde_json::to_vec(&details).map(Bytes::from).unwrap_or_default()
}

/// An answer that the framework gives itself: nothing but the status.
pub(crate) fn refusal(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Full(details(status, &Known::Nothing)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
