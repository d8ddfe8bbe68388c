//! The bodies of requests, with their limit and timeout, and the bodies of responses.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::StatusCode;

use super::clock::now;
use super::deadlines::ReadState;
use super::memory::HeldBytes;
use super::shared::Stage;
use super::state::{ConnState, DiscardBody, InFlight, WakeOnDrop};
use super::Client;
use crate::error::BoxError;
use crate::sync::lock::{Mutex, MutexGuard};

/// The body of a request, up to a limit that a route may change.
///
/// A body that is dropped before its end leaves its unread bytes to its exchange.
pub(crate) struct RequestBody {
    source: BodySource,
    client: Client,
    limit: BodyLimit,
    /// Bytes that the handler has read.
    read: u64,
}

/// The origin of a request body's bytes.
enum BodySource {
    /// Nothing is left to read.
    Ended,
    Connection(UnreadBody),
    /// Bytes of a request that came over no connection.
    #[cfg_attr(
        not(feature = "testing"),
        expect(dead_code, reason = "constructed by the in-process test client")
    )]
    InMemory(Bytes),
}

/// The unread bytes of a request's body, shared by the handler that reads it and by its exchange.
#[derive(Clone)]
pub(crate) struct UnreadBody(Arc<Mutex<Option<RemainingBody>>>);

/// The unread bytes of a request's body that a handler still holds after its response.
pub(crate) struct HeldBody(Weak<Mutex<Option<RemainingBody>>>);

/// The part of a request's body that hyper has not handed out yet.
pub(crate) struct RemainingBody {
    pub(crate) incoming: Incoming,
    /// Set by the first poll. hyper then sends `100 Continue` to a client that expects it.
    pub(crate) was_polled: bool,
    in_flight: InFlight,
}

/// The limit on the length of a body. It is shared with the request, so that a route or a middleware can change it
/// before the first byte is read.
#[derive(Clone, Debug)]
pub(crate) struct BodyLimit(Arc<Limit>);

#[derive(Debug)]
struct Limit {
    bytes: AtomicU64,
    /// Memory of a body that was collected for the handler. It is counted until the request is dropped.
    collected: OnceLock<HeldBytes>,
}

impl BodyLimit {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        BodyLimit(Arc::new(Limit {
            bytes: AtomicU64::new(limit.unwrap_or(u64::MAX)),
            collected: OnceLock::new(),
        }))
    }

    /// Keeps a collected body counted until the request is dropped.
    pub(crate) fn count_collected(&self, collected: HeldBytes) {
        // a body is collected once
        let _ = self.0.collected.set(collected);
    }

    /// Returns the limit in bytes, or `None` without a limit.
    #[cfg(feature = "ws")]
    pub(crate) fn get(&self) -> Option<u64> {
        Some(self.0.bytes.load(Ordering::Relaxed)).filter(|limit| *limit < u64::MAX)
    }

    /// Changes the limit; `None` accepts any length.
    pub(crate) fn set(&self, limit: Option<u64>) {
        self.0
            .bytes
            .store(limit.unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The reason why a request's body could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// The body is longer than the limit: 413.
    TooLarge,
    /// The client sent no byte for `http.body_timeout`: 408.
    TimedOut,
    /// The client disconnected, or sent a malformed body: 400.
    Cut,
    /// The server is shutting down and stopped waiting for the client: 503.
    Stopping,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, conn: &Arc<ConnState>, limit: Option<u64>) -> Self {
        let source = if incoming.is_end_stream() {
            BodySource::Ended
        } else {
            BodySource::Connection(UnreadBody(Arc::new(Mutex::new(Some(RemainingBody {
                incoming,
                was_polled: false,
                in_flight: InFlight::new(conn, WakeOnDrop::Connection),
            })))))
        };
        RequestBody {
            source,
            client: Client::of(conn),
            limit: BodyLimit::new(limit),
            read: 0,
        }
    }

    /// Creates the body of a request that came over no connection.
    #[cfg(feature = "testing")]
    pub(crate) fn in_memory(bytes: Bytes, limit: Option<u64>) -> Self {
        let source = if bytes.is_empty() {
            BodySource::Ended
        } else {
            BodySource::InMemory(bytes)
        };
        RequestBody {
            source,
            client: Client::default(),
            limit: BodyLimit::new(limit),
            read: 0,
        }
    }

    /// Returns the unread bytes for the exchange; `None` where nothing is left to read.
    pub(crate) fn unread_body(&self) -> Option<UnreadBody> {
        match &self.source {
            BodySource::Connection(unread) => Some(unread.clone()),
            BodySource::Ended | BodySource::InMemory(_) => None,
        }
    }

    /// Returns the client that sends the body.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns a handle that changes the limit.
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
        let this = &mut *self;
        let limit = this.limit.0.bytes.load(Ordering::Relaxed);
        let polled = match &mut this.source {
            BodySource::Ended => None,
            BodySource::Connection(unread) => {
                let mut shared = unread.lock();
                let Some(remaining) = shared.as_mut() else {
                    // the connection has taken the body from this reader
                    return Poll::Ready(Some(Err(BodyError::Cut)));
                };
                if !remaining.was_polled && remaining.incoming.size_hint().lower() > limit {
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                remaining.was_polled = true;
                let polled = ready!(remaining.poll(cx));
                match &polled {
                    None => *shared = None,
                    Some(Ok(frame)) => {
                        let metrics = &remaining.in_flight.conn().shared.metrics;
                        metrics.received(data_length(frame));
                    }
                    Some(Err(_)) => {}
                }
                polled
            }
            BodySource::InMemory(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
        };
        if polled.is_none() || matches!(this.source, BodySource::InMemory(_)) {
            this.source = BodySource::Ended;
        }
        Poll::Ready(polled.map(|frame| {
            let frame = frame?;
            this.read += data_length(&frame);
            if this.read <= limit {
                Ok(frame)
            } else {
                Err(BodyError::TooLarge)
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            BodySource::Ended => true,
            BodySource::Connection(unread) => unread
                .lock()
                .as_ref()
                .is_some_and(|remaining| remaining.incoming.is_end_stream()),
            BodySource::InMemory(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            BodySource::Ended => SizeHint::with_exact(0),
            BodySource::Connection(unread) => unread
                .lock()
                .as_ref()
                .map(|remaining| remaining.incoming.size_hint())
                .unwrap_or_default(),
            BodySource::InMemory(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

/// Returns the length of a frame's data, or 0 for trailers.
pub(super) fn data_length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

impl RemainingBody {
    /// Polls the next frame, and fails if the client sends nothing for `http.body_timeout`.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let conn = self.in_flight.conn();
        if conn.stage() >= Stage::Stop {
            return Poll::Ready(Some(Err(BodyError::Stopping)));
        }
        // registered before the deadline is checked, so that a wake-up between the two is not lost
        conn.register_body_reader(cx.waker());
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        let waits = conn.deadlines.read_state() == ReadState::Body;
        match polled {
            Poll::Pending if !waits => {
                conn.deadlines
                    .set_read_state(ReadState::Body, &conn.shared.limits());
                Poll::Pending
            }
            Poll::Pending if conn.deadlines.read_overdue(now()) => {
                conn.stop_reading_body();
                Poll::Ready(Some(Err(BodyError::TimedOut)))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(frame) => {
                if waits {
                    conn.stop_reading_body();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError::Cut)))
            }
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let BodySource::Connection(unread) = &self.source else {
            return;
        };
        if let Some(remaining) = &*unread.lock() {
            let conn = remaining.in_flight.conn();
            if conn.deadlines.read_state() == ReadState::Body {
                conn.stop_reading_body();
            }
        }
    }
}

impl UnreadBody {
    fn lock(&self) -> MutexGuard<'_, Option<RemainingBody>> {
        self.0.lock()
    }

    /// Takes the unread bytes away from the handler, which may still hold the body.
    pub(super) fn take(&self) -> Option<RemainingBody> {
        self.lock().take()
    }

    /// Returns the unread bytes if the handler has dropped the body.
    ///
    /// # Errors
    /// Returns the held body if the handler has not dropped it.
    pub(super) fn reclaim(self) -> Result<Option<RemainingBody>, HeldBody> {
        Arc::try_unwrap(self.0)
            .map(|remaining| remaining.into_inner())
            .map_err(|shared| HeldBody(Arc::downgrade(&shared)))
    }
}

impl DiscardBody for HeldBody {
    /// Returns true while the handler holds unread bytes.
    fn is_held(&self) -> bool {
        let unread = self.0.upgrade().map(UnreadBody);
        unread.is_some_and(|unread| unread.lock().is_some())
    }

    /// Takes the unread bytes away from the handler and drops them.
    fn discard(&self) {
        let unread = self.0.upgrade().map(UnreadBody);
        drop(unread.and_then(|unread| unread.take()));
    }
}

impl BodyError {
    /// Returns the status of the response to the request.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TimedOut => StatusCode::REQUEST_TIMEOUT,
            BodyError::Cut => StatusCode::BAD_REQUEST,
            BodyError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyError::TooLarge => "the request body is larger than the limit",
            BodyError::TimedOut => {
                "the client sent no byte of the request body for http.body_timeout"
            }
            BodyError::Cut => "the client disconnected or sent a malformed request body",
            BodyError::Stopping => "the server is shutting down",
        })
    }
}

impl std::error::Error for BodyError {}

/// The body of a response.
pub(crate) enum ResponseBody {
    /// A body without bytes.
    Empty,
    /// A whole body. It is sent with the head in one write.
    Full(Bytes),
    /// A body that is produced while it is sent. It has `Content-Length` if its size hint is exact, or else is chunked.
    Stream(Pin<Box<dyn BoundedBody>>),
}

/// A body that can produce frames of bounded length.
pub(crate) trait BoundedBody: Body<Data = Bytes, Error = BoxError> + Send {
    /// Polls the next frame, which should have at most `max_length` bytes. The caller splits a longer frame, but the
    /// whole frame stays in memory until then.
    fn poll_piece(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max_length: usize,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>>;
}

impl ResponseBody {
    /// Polls the next frame. A body that is produced while it is sent makes it at most `max_length` bytes long.
    pub(crate) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        max_length: usize,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            ResponseBody::Stream(body) => body.as_mut().poll_piece(cx, max_length),
            ResponseBody::Empty | ResponseBody::Full(_) => Pin::new(self).poll_frame(cx),
        }
    }
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
