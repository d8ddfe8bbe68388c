//! Extractors of the whole body as bytes or text.

use std::future::Future;
use std::io;

use bytes::Bytes;
use futures_lite::AsyncBufReadExt;
use tide::http::headers::CONTENT_TYPE;
use tide::{Request, StatusCode};

use super::FromRequest;
use crate::app::request::context;
use crate::app::Rejection;
use crate::http::memory::HeldBytes;
use crate::http::BodyError;

/// Limit on the buffer that is allocated in advance, from the length that the client announces.
const MAX_PREALLOCATED: usize = 64 << 10;

impl<S> FromRequest<S> for Bytes {
    const READS_BODY: bool = true;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let body = bytes(request);
        async { body.await.map(Bytes::from) }
    }
}

impl<S> FromRequest<S> for Vec<u8> {
    const READS_BODY: bool = true;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        bytes(request)
    }
}

impl<S> FromRequest<S> for String {
    const READS_BODY: bool = true;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let body = bytes(request);
        async {
            String::from_utf8(body.await?)
                .map_err(|_| Rejection::bad_request("the body is not UTF-8"))
        }
    }
}

/// Reads the whole body.
pub(super) fn bytes<S>(
    request: &mut Request<S>,
) -> impl Future<Output = Result<Vec<u8>, Rejection>> + Send {
    let body = request.take_body();
    let context = context(request);
    let memory = context.and_then(|context| context.client.memory()).cloned();
    let limit = context.map(|context| context.limit.clone());
    async {
        let mut collected = Collected {
            bytes: Vec::new(),
            length: body.len(),
            held: memory.map(|memory| HeldBytes::new(&memory)),
        };
        collected.make_room(body.len().unwrap_or(0).min(MAX_PREALLOCATED))?;
        let mut reader = body.into_reader();
        loop {
            let chunk = reader.fill_buf().await.map_err(reject_body_error)?;
            if chunk.is_empty() {
                break;
            }
            collected.make_room(chunk.len())?;
            collected.bytes.extend_from_slice(chunk);
            let taken = chunk.len();
            reader.consume(taken);
        }
        if let (Some(limit), Some(held)) = (limit, collected.held) {
            limit.count_collected(held);
        }
        Ok(collected.bytes)
    }
}

/// A body while it is being collected, and its share of the memory budget.
struct Collected {
    bytes: Vec<u8>,
    length: Option<usize>,
    held: Option<HeldBytes>,
}

impl Collected {
    /// Makes room for `more` bytes: doubles the capacity, but not beyond the announced length of the body.
    fn make_room(&mut self, more: usize) -> Result<(), Rejection> {
        let needed = self.bytes.len().saturating_add(more);
        let capacity = self.bytes.capacity();
        if needed <= capacity {
            return Ok(());
        }
        let capacity = (2 * capacity)
            .min(self.length.unwrap_or(usize::MAX))
            .max(needed);
        if let Some(held) = &mut self.held {
            held.resize(capacity).map_err(|exhausted| {
                Rejection::new(StatusCode::ServiceUnavailable, exhausted.to_string())
            })?;
        }
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }
}

/// Converts an error of reading the body into a rejection, with the status that the HTTP layer uses for the same error.
pub(super) fn reject_body_error(error: io::Error) -> Rejection {
    let body_error = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<BodyError>())
        .copied();
    let (status, detail) = match body_error {
        Some(BodyError::TooLarge) => (StatusCode::PayloadTooLarge, "the body exceeds the limit"),
        Some(BodyError::TimedOut) => (
            StatusCode::RequestTimeout,
            "the body was not received in time",
        ),
        Some(BodyError::Stopping) => (
            StatusCode::ServiceUnavailable,
            "the server is shutting down",
        ),
        Some(BodyError::Cut) | None => (StatusCode::BadRequest, "the body is incomplete"),
    };
    Rejection::new(status, detail).because(error)
}

/// Returns true if `accepts` accepts the media type of the body, without parameters such as the charset.
pub(super) fn has_media_type<S>(request: &Request<S>, accepts: impl Fn(&str) -> bool) -> bool {
    let content_type = request
        .header(CONTENT_TYPE)
        .map_or("", |values| values.last().as_str());
    let essence = content_type.split(';').next().unwrap_or("").trim();
    // media types are case-insensitive, but almost all are in lower case: copy only the others
    accepts(essence)
        || essence.bytes().any(|byte| byte.is_ascii_uppercase())
            && accepts(&essence.to_ascii_lowercase())
}

/// Returns 415 with the expected media type. The rejection is "absent" if the request has neither a body nor a
/// `Content-Type`.
pub(super) fn unsupported<S>(request: &Request<S>, expected: &str) -> Rejection {
    let content_type = request
        .header(CONTENT_TYPE)
        .map(|values| values.last().as_str());
    let found = content_type.map_or("none".to_owned(), |value| format!("{value:?}"));
    let rejection = Rejection::new(
        StatusCode::UnsupportedMediaType,
        format!("expected the Content-Type {expected}, found {found}"),
    );
    if content_type.is_none() && request.is_empty() == Some(true) {
        rejection.absent()
    } else {
        rejection
    }
}
