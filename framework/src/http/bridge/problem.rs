//! Error responses of the bridge.

use hyper::header::{HeaderValue, CONNECTION, CONTENT_LENGTH};
use hyper::StatusCode;

use super::RequestSummary;
pub(super) use crate::http::problem::{describe, ErrorInfo};
use crate::http::ResponseBody;

/// The error of a request that is rejected before any route receives it.
#[derive(Debug)]
pub(super) struct RequestError {
    pub(super) status: StatusCode,
    detail: &'static str,
    connection: ConnectionAfterError,
}

/// The future of the connection after a rejected request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionAfterError {
    /// The request is valid HTTP, so its end is known.
    KeepAlive,
    /// The request is malformed. The bytes behind it may not be the request that the client meant.
    Close,
}

impl RequestError {
    /// The error of a malformed request.
    pub(super) const fn new(status: StatusCode, detail: &'static str) -> Self {
        RequestError {
            status,
            detail,
            connection: ConnectionAfterError::Close,
        }
    }

    /// The error of a request that is valid HTTP but not supported.
    pub(super) const fn unsupported(status: StatusCode, detail: &'static str) -> Self {
        RequestError {
            status,
            detail,
            connection: ConnectionAfterError::KeepAlive,
        }
    }
}

/// Answers a request that was rejected by the bridge.
pub(super) fn reject(
    error: &RequestError,
    summary: &RequestSummary,
) -> hyper::Response<ResponseBody> {
    log::debug!(
        "{summary}: rejected with {}: {}",
        error.status,
        error.detail
    );
    let mut response = response(error.status, &ErrorInfo::Detail(error.detail), summary);
    if error.connection == ConnectionAfterError::Close {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Returns an error response with nothing but its problem details.
pub(super) fn response(
    status: StatusCode,
    info: &ErrorInfo<'_>,
    summary: &RequestSummary,
) -> hyper::Response<ResponseBody> {
    let mut response = hyper::Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    let body = describe(response.headers_mut(), status, info, summary.error_format());
    if summary.is_head() {
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    } else {
        *response.body_mut() = ResponseBody::Full(body);
    }
    response
}

/// Answers `OPTIONS *`.
pub(super) fn no_content() -> hyper::Response<ResponseBody> {
    let mut response = hyper::Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
