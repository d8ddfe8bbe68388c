//! Bodies on their way through: a request's with its limit and its time, a response's in the cheapest form it has.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::error::BoxError;

/// The body of a request: frames as hyper reads them, up to a limit that a route may move.
pub(crate) struct RequestBody {
    incoming: hyper::body::Incoming,
    limit: BodyLimit,
}

/// How many bytes of a body are taken. Shared with the request, so that a route or a middleware can move it
/// before the first byte is read.
#[derive(Clone, Debug)]
pub(crate) struct BodyLimit(Arc<AtomicU64>);

impl BodyLimit {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        BodyLimit(Arc::new(AtomicU64::new(limit.unwrap_or(u64::MAX))))
    }
    pub(crate) fn set(&self, limit: Option<u64>) {
        self.0.store(limit.unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Why a request's body could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// More than the limit: 413.
    TooLarge,
    /// No byte for `http.body_timeout`: 408.
    TimedOut,
    /// The client is gone, or what it sent is no body.
    Cut,
    /// The server stops and waits no longer.
    Stopping,
}

impl RequestBody {
    /// The handle by which a route moves the limit.
    pub(crate) fn limit(&self) -> BodyLimit {
        self.limit.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // skeleton: the real one counts, keeps time and gives an unread rest back to the connection
        Pin::new(&mut self.incoming).poll_frame(cx).map_err(|_| BodyError::Cut)
    }
    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyError::TooLarge => "the request body is larger than the limit",
            BodyError::TimedOut => "no byte of the request body came in time",
            BodyError::Cut => "the request body ended early",
            BodyError::Stopping => "the server stops",
        })
    }
}

impl std::error::Error for BodyError {}

/// The body of a response, in the cheapest form that it has.
pub(crate) enum ResponseBody {
    /// No bytes at all.
    Empty,
    /// All of it at once: sent with the head in one write.
    Full(Bytes),
    /// Frames as they come; Content-Length where its size hint is exact, chunks otherwise.
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            ResponseBody::Empty => Poll::Ready(None),
            ResponseBody::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = ResponseBody::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            ResponseBody::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Empty => true,
            ResponseBody::Full(bytes) => bytes.is_empty(),
            ResponseBody::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Empty => SizeHint::with_exact(0),
            ResponseBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ResponseBody::Stream(body) => body.size_hint(),
        }
    }
}
