//! The body of a response on its way to hyper: catches panics, counts bytes, and ends the exchange when it is dropped.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::{data_length, HeldBody, ResponseBody};
use super::pieces::BodySplitter;
use super::send_buffer::{OpenStream, SendBuffer};
use super::state::{ConnState, InFlight};
use crate::error::{panic_text, BoxError};
use crate::observe::access;
use crate::observe::metrics::Meter;
use crate::sync::limiter::Permit;

/// The longest complete response body whose unsent bytes are not counted over HTTP/2. Small responses thus need no
/// [`BodySplitter`].
const MAX_UNCOUNTED_BODY: usize = 1 << 10;

/// The body of a response that hyper sends. Dropping it ends the exchange.
pub(crate) struct OutgoingBody {
    pub(super) body: ResponseBody,
    /// `None` where the body's unsent bytes are not counted.
    pub(super) splitter: Option<Box<BodySplitter>>,
    pub(super) in_flight: Option<InFlight>,
    /// The request's body, if the handler holds it.
    pub(super) held: Option<HeldBody>,
    /// Keeps the responding generation of the application from ending until hyper has received the last byte.
    pub(super) _permit: Option<Permit>,
    pub(super) _stream: Option<OpenStream>,
    pub(super) access: Option<Box<access::AccessEntry>>,
    pub(super) meter: Option<Box<Meter>>,
}

#[cfg(feature = "http2")]
impl OutgoingBody {
    /// Removes the body from the response to a HEAD request. (hyper does this over HTTP/1.1.)
    pub(super) fn remove_body(&mut self) {
        self.body = ResponseBody::Empty;
        self.splitter = None;
    }

    /// Returns true while the body waits for the client to receive earlier bytes.
    pub(super) fn waits_for_room(&self) -> bool {
        self.splitter
            .as_ref()
            .is_some_and(|splitter| splitter.waits_for_room())
    }
}

impl OutgoingBody {
    /// Returns the number of bytes that were polled from the body and are not handed out yet.
    fn remaining(&self) -> u64 {
        self.splitter
            .as_ref()
            .map_or(0, |splitter| splitter.remaining() as u64)
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let polled = catch_unwind(AssertUnwindSafe(|| match &mut this.splitter {
            Some(splitter) => splitter.poll_frame(&mut this.body, cx),
            None => Pin::new(&mut this.body).poll_frame(cx),
        }));
        let frame = match polled {
            Ok(poll) => ready!(poll),
            Err(panic) => {
                if let Some(in_flight) = &this.in_flight {
                    log::error!(
                        "the response body of {} panicked: {}; the response is cut off and the process continues",
                        describe_request(in_flight.conn()),
                        panic_text(&*panic)
                    );
                }
                return Poll::Ready(Some(Err("the response body panicked".into())));
            }
        };
        if let Some(Ok(frame)) = &frame {
            let bytes = data_length(frame);
            if let Some(access) = &mut this.access {
                access.add_bytes(bytes);
            }
            if let Some(meter) = &this.meter {
                meter.add_bytes(bytes);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.remaining() == 0 && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let remaining = self.remaining();
        let body = self.body.size_hint();
        if remaining == 0 {
            return body;
        }
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(remaining));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(remaining));
        }
        hint
    }
}

impl Drop for OutgoingBody {
    fn drop(&mut self) {
        // dropped before the request ends, because it may hold the request's body
        self.body = ResponseBody::Empty;
        if let Some(in_flight) = &self.in_flight {
            in_flight.conn().end_request(self.held.take());
        }
        if let Some(access) = self.access.take() {
            access.log();
        }
    }
}

/// Returns the splitter that counts a body's unsent bytes, or `None` if they are not counted.
///
/// Complete bodies are not counted over HTTP/1.1, where a connection sends one at a time and `http::bridge` creates
/// none that is longer than 64 KiB. Over HTTP/2 the limit is [`MAX_UNCOUNTED_BODY`].
pub(super) fn splitter(
    conn: &ConnState,
    send_buffer: Option<&Arc<SendBuffer>>,
    body: &ResponseBody,
) -> Option<Box<BodySplitter>> {
    match (body, send_buffer) {
        (ResponseBody::Empty, _) | (ResponseBody::Full(_), None) => None,
        (ResponseBody::Full(bytes), Some(_)) if bytes.len() <= MAX_UNCOUNTED_BODY => None,
        (_, Some(buffer)) => Some(Box::new(BodySplitter::shared(buffer))),
        (ResponseBody::Stream(_), None) => {
            let limit = conn.shared.limits().send_buffer;
            Some(Box::new(BodySplitter::exclusive(
                &conn.shared.memory,
                limit,
            )))
        }
    }
}

/// Names the request in progress for a log line.
pub(super) fn describe_request(conn: &ConnState) -> String {
    match conn.request() {
        Some(request) => format!(
            "{} {} from {}",
            request.method,
            request.uri.path(),
            conn.endpoints.peer
        ),
        None => format!("a request from {}", conn.endpoints.peer),
    }
}
