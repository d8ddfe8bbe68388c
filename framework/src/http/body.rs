//! Bodies on their way through: a request's with its limit and its time, a response's in the cheapest form it has.

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
use super::memory::Held;
use super::shared::Stage;
use super::state::{ConnState, DiscardBody, InFlight, WakeOnDrop};
use super::Client;
use crate::error::BoxError;
use crate::sync::lock::{Mutex, MutexGuard};

/// The body of a request: frames as hyper reads them, up to a limit that a route may move.
///
/// Dropped before its end, it leaves the rest to the exchange that it belongs to.
pub(crate) struct RequestBody {
    unread: Option<UnreadBody>,
    client: Client,
    /// All of it, where no connection brings it.
    #[cfg(feature = "testing")]
    whole: Option<Bytes>,
    limit: BodyLimit,
    taken: u64,
}

/// The unread rest of a request's body, shared by the handler that reads it and the exchange that it belongs to.
#[derive(Clone)]
pub(crate) struct UnreadBody(Arc<Mutex<Option<RemainingBody>>>);

/// The unread rest of a request's body whose handler has answered and still holds it.
pub(crate) struct HeldBody(Weak<Mutex<Option<RemainingBody>>>);

/// What is still to be read of a request's body.
pub(crate) struct RemainingBody {
    pub(crate) incoming: Incoming,
    /// Whether anybody has asked for a byte; a client that sent `Expect: 100-continue` waits for that.
    pub(crate) asked_for: bool,
    part: InFlight,
}

/// How many bytes of a body are taken. Shared with the request, so that a route or a middleware can move it
/// before the first byte is read.
#[derive(Clone, Debug)]
pub(crate) struct BodyLimit(Arc<Limit>);

#[derive(Debug)]
struct Limit {
    bytes: AtomicU64,
    /// Memory of a body that was collected for the handler, until the request is dropped.
    collected: OnceLock<Held>,
}

impl BodyLimit {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        BodyLimit(Arc::new(Limit {
            bytes: AtomicU64::new(limit.unwrap_or(u64::MAX)),
            collected: OnceLock::new(),
        }))
    }
    /// Counts a collected body until the request is dropped.
    pub(crate) fn keep(&self, collected: Held) {
        // a body is collected once
        let _ = self.0.collected.set(collected);
    }
    /// `None`: any length.
    #[cfg(feature = "ws")]
    pub(crate) fn get(&self) -> Option<u64> {
        Some(self.0.bytes.load(Ordering::Relaxed)).filter(|limit| *limit < u64::MAX)
    }
    pub(crate) fn set(&self, limit: Option<u64>) {
        self.0
            .bytes
            .store(limit.unwrap_or(u64::MAX), Ordering::Relaxed);
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
    pub(crate) fn new(incoming: Incoming, conn: &Arc<ConnState>, limit: Option<u64>) -> Self {
        let unread = (!incoming.is_end_stream()).then(|| {
            UnreadBody(Arc::new(Mutex::new(Some(RemainingBody {
                incoming,
                asked_for: false,
                part: InFlight::new(conn, WakeOnDrop::Connection),
            }))))
        });
        RequestBody {
            unread,
            client: Client::of(conn),
            #[cfg(feature = "testing")]
            whole: None,
            limit: BodyLimit::new(limit),
            taken: 0,
        }
    }

    /// A body that is there already and belongs to no connection.
    #[cfg(feature = "testing")]
    pub(crate) fn whole(bytes: Bytes, limit: Option<u64>) -> Self {
        let whole = Some(bytes).filter(|bytes| !bytes.is_empty());
        RequestBody {
            unread: None,
            client: Client::default(),
            whole,
            limit: BodyLimit::new(limit),
            taken: 0,
        }
    }

    /// The unread rest, for the exchange; `None` where nothing is to be read.
    pub(crate) fn unread(&self) -> Option<UnreadBody> {
        self.unread.clone()
    }

    /// Who sends it.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

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
        let limit = self.limit.0.bytes.load(Ordering::Relaxed);
        #[cfg(feature = "testing")]
        if let Some(whole) = self.whole.take() {
            let within = whole.len() as u64 <= limit;
            return Poll::Ready(Some(if within {
                Ok(Frame::data(whole))
            } else {
                Err(BodyError::TooLarge)
            }));
        }
        let this = &mut *self;
        let Some(unread) = &this.unread else {
            return Poll::Ready(None);
        };
        let mut shared = unread.lock();
        let Some(rest) = shared.as_mut() else {
            // taken away: the connection has gone on without this reader
            return Poll::Ready(Some(Err(BodyError::Cut)));
        };
        if !rest.asked_for && rest.incoming.size_hint().lower() > limit {
            return Poll::Ready(Some(Err(BodyError::TooLarge)));
        }
        rest.asked_for = true;
        match ready!(rest.poll(cx)) {
            None => {
                *shared = None;
                drop(shared);
                this.unread = None;
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                rest.part.conn().shared.metrics.received(bytes);
                this.taken += bytes;
                let within = this.taken <= limit;
                Poll::Ready(Some(if within {
                    Ok(frame)
                } else {
                    Err(BodyError::TooLarge)
                }))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        #[cfg(feature = "testing")]
        if self.whole.is_some() {
            return false;
        }
        let ended = |rest: &RemainingBody| rest.incoming.is_end_stream();
        self.unread
            .as_ref()
            .is_none_or(|unread| unread.lock().as_ref().is_some_and(ended))
    }

    fn size_hint(&self) -> SizeHint {
        #[cfg(feature = "testing")]
        if let Some(whole) = &self.whole {
            return SizeHint::with_exact(whole.len() as u64);
        }
        let hint = |unread: &UnreadBody| {
            let shared = unread.lock();
            shared.as_ref().map(|rest| rest.incoming.size_hint())
        };
        self.unread.as_ref().map_or_else(
            || SizeHint::with_exact(0),
            |unread| hint(unread).unwrap_or_default(),
        )
    }
}

impl RemainingBody {
    /// The next frame, in time.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let conn = self.part.conn();
        if conn.stage() >= Stage::Stop {
            return Poll::Ready(Some(Err(BodyError::Stopping)));
        }
        // registered before the clock is looked at, so that no tick falls between the two
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
        let shared = self.unread.as_ref().map(UnreadBody::lock);
        if let Some(rest) = shared.as_ref().and_then(|shared| shared.as_ref()) {
            let conn = rest.part.conn();
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

    /// Takes the rest away from the handler, which may still hold it.
    pub(super) fn take(&self) -> Option<RemainingBody> {
        self.lock().take()
    }

    /// Returns the rest if the handler has dropped its body, and else what it holds.
    pub(super) fn returned(self) -> Result<Option<RemainingBody>, HeldBody> {
        Arc::try_unwrap(self.0)
            .map(|rest| rest.into_inner())
            .map_err(|shared| HeldBody(Arc::downgrade(&shared)))
    }
}

impl DiscardBody for HeldBody {
    /// Returns true while the handler holds an unread rest.
    fn is_held(&self) -> bool {
        let unread = self.0.upgrade().map(UnreadBody);
        unread.is_some_and(|unread| unread.lock().is_some())
    }

    /// Takes the rest away from the handler.
    fn discard(&self) {
        drop(
            self.0
                .upgrade()
                .and_then(|shared| UnreadBody(shared).take()),
        );
    }
}

impl BodyError {
    /// The status of an answer to a request whose body is at fault.
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
    Stream(Pin<Box<dyn Pieces>>),
}

/// A body that makes its frames no longer than there is room for.
pub(crate) trait Pieces: Body<Data = Bytes, Error = BoxError> + Send {
    /// The next frame, of at most `longest` bytes. A longer one is accepted and split, but is in memory whole.
    fn poll_piece(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        longest: usize,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>>;
}

impl ResponseBody {
    /// The next frame; if the body is made while it is sent, of at most `longest` bytes.
    pub(crate) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        longest: usize,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            ResponseBody::Stream(body) => body.as_mut().poll_piece(cx, longest),
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
