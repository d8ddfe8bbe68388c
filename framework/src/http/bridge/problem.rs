//! Answers that say what went wrong, where an error came without a body.

use hyper::header::{HeaderValue, CONNECTION, CONTENT_LENGTH};
use hyper::StatusCode;

use super::Asked;
pub(super) use crate::http::problem::{describe, Known};
use crate::http::ResponseBody;

/// A request that no route may see, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    detail: &'static str,
    then: Then,
}

/// What becomes of the connection of a request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It is understood what it was, and where it ends.
    Keep,
    /// Who sends what is no request for us may not mean what follows as one either.
    Close,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, detail: &'static str) -> Self {
        Refusal {
            status,
            detail,
            then: Then::Close,
        }
    }

    /// The same, for a request that is sound in itself.
    pub(super) const fn of_sound_request(status: StatusCode, detail: &'static str) -> Self {
        Refusal {
            status,
            detail,
            then: Then::Keep,
        }
    }
}

/// The answer to a request that went no further than the bridge.
pub(super) fn refuse(refusal: &Refusal, asked: &Asked) -> hyper::Response<ResponseBody> {
    log::debug!(
        "{asked}: refused with {}: {}",
        refusal.status,
        refusal.detail
    );
    let mut response = whole(refusal.status, &Known::Detail(refusal.detail), asked);
    if refusal.then == Then::Close {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// An answer that is nothing but its problem details.
pub(super) fn whole(
    status: StatusCode,
    known: &Known<'_>,
    asked: &Asked,
) -> hyper::Response<ResponseBody> {
    let mut response = hyper::Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    let body = describe(response.headers_mut(), status, known, asked.form());
    if asked.is_head() {
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    } else {
        *response.body_mut() = ResponseBody::Full(body);
    }
    response
}

/// The answer to a question about the server as a whole.
pub(super) fn no_content() -> hyper::Response<ResponseBody> {
    let mut response = hyper::Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
