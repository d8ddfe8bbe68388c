//! Serves an HTTP/1.1 connection: puts hyper around its socket, polls it, and takes it apart between two requests.
//!
//! hyper has no call that returns the socket between two requests. But the socket can be taken when the connection is at
//! a boundary:
//!
//! 1. no request is in the service, and both bodies have been dropped ([`ConnState::nothing_in_flight`]),
//! 2. condition 1 already held before the last poll, and no request began during that poll,
//! 3. the last call that hyper made on the socket during that poll was a flush. hyper flushes only when its write buffer
//!    is empty.
//!
//! At a boundary `into_parts` loses nothing. Bytes that hyper has read ahead are returned as `read_buf`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::server::conn::http1;

use super::clock::now;
use super::connection::Connection;
use super::deadlines::{Deadlines, ReadState};
use super::exchange::ExchangeService;
use super::io::Io;
use super::shared::{Shared, Stage};
use super::state::{ConnState, ProtocolSwitch};
use super::states::TimedState;
use super::RoutedService;
use crate::config;
use crate::sync::limiter::Permit;

/// The reason for which serving a connection ended, with the connection if it is still open.
pub(crate) enum Outcome {
    /// The connection is idle: no byte arrived for `http.idle_release`, or idle connections are being closed.
    Idle(Connection),
    /// The connection moves to another process. The client may have sent a part of a head. The permit is the one of
    /// [`Transfer`](super::connection::Transfer).
    HandOver(Connection, Permit),
    /// The head of a request was not complete within `http.header_timeout`.
    HeadOverdue(Connection),
    /// The memory budget has no room for the rest of a head.
    HeadRefused(Connection),
    /// The last answer was written. The client may still be sending.
    Answered(Connection),
    /// A 101 was written. The bytes that follow belong to another protocol.
    ProtocolSwitch(Connection, ProtocolSwitch),
    /// The client speaks HTTP/2. The preface is in the connection's `head`.
    #[cfg(feature = "http2")]
    Http2(Connection),
    /// The connection is closed already, because the client closed it, took no byte for `http.write_timeout`, or
    /// [`Stage::Cut`] was reached.
    Closed,
}

/// Serves requests until the connection becomes idle or ends. Calls `register` with each `ConnState` that is created
/// for the connection.
pub(crate) async fn serve(
    mut connection: Connection,
    shared: &Arc<Shared>,
    dispatcher: &Arc<dyn RoutedService>,
    register: impl Fn(&Arc<ConnState>),
) -> Outcome {
    loop {
        let active = ActiveConnection::new(connection, shared, dispatcher);
        register(&active.conn);
        match active.await {
            // A part of the next request was read already. The connection cannot wait in the idle set, because its
            // socket may never become readable again.
            Outcome::Idle(idle) if !idle.head.is_empty() => connection = idle,
            outcome => return outcome,
        }
    }
}

/// A connection with hyper around its socket.
struct ActiveConnection {
    /// `None` after the socket was taken.
    hyper: Option<http1::Connection<Io, ExchangeService>>,
    conn: Arc<ConnState>,
    permit: Option<Permit>,
}

/// The reason for which a connection at a boundary is taken apart.
#[derive(Clone, Copy)]
enum ReleaseReason {
    Idle,
    HeadOverdue,
    HeadRefused,
    HandOver,
}

impl ActiveConnection {
    fn new(
        connection: Connection,
        shared: &Arc<Shared>,
        dispatcher: &Arc<dyn RoutedService>,
    ) -> Self {
        let Connection {
            stream,
            endpoints,
            permit,
            accepted,
            head,
            since,
            claim,
        } = connection;
        let deadlines = if head.is_empty() {
            Deadlines::new(ReadState::Idle, since, since.max(now()), &shared.limits())
        } else {
            Deadlines::new(ReadState::Head, since, since, &shared.limits())
        };
        let conn = ConnState::new(shared, &endpoints, accepted, deadlines);
        let io = Io::new(stream, head, conn.clone(), claim);
        let exchanges = ExchangeService::new(dispatcher.clone(), conn.clone());
        // The limits are read after ConnState has stored their version, so that a change in between is noticed.
        let hyper = builder(&shared.limits()).serve_connection(io, exchanges);
        ActiveConnection {
            hyper: Some(hyper),
            conn,
            permit: Some(permit),
        }
    }

    /// Returns the reason to take the connection apart at its next boundary, or `None` if hyper keeps the socket.
    fn release_reason(&self) -> Option<ReleaseReason> {
        let deadlines = &self.conn.deadlines;
        match deadlines.read_state() {
            ReadState::Head if self.conn.is_head_refused() => Some(ReleaseReason::HeadRefused),
            // without a transfer permit the connection is served here, with its usual deadlines
            ReadState::Head | ReadState::Idle
                if self.conn.stage() == Stage::HandOver && self.conn.has_transfer_permit() =>
            {
                Some(ReleaseReason::HandOver)
            }
            ReadState::Head | ReadState::Idle if self.conn.parser_is_outdated() => {
                Some(ReleaseReason::Idle)
            }
            ReadState::Head => deadlines
                .read_overdue(now())
                .then_some(ReleaseReason::HeadOverdue),
            ReadState::Idle => (self.conn.stage() >= Stage::CloseIdle
                || deadlines.read_overdue(now()))
            .then_some(ReleaseReason::Idle),
            ReadState::Body
            | ReadState::BodyHeld
            | ReadState::BeforeSwitch
            | ReadState::Switching
            | ReadState::Tunnel
            | ReadState::End
            | ReadState::Nothing => None,
        }
    }

    /// Takes the socket from hyper. Returns `None` if it was taken before.
    fn take_apart(&mut self) -> Option<Connection> {
        let parts = self.hyper.take()?.into_parts();
        let deadlines = &self.conn.deadlines;
        Some(Connection {
            head: parts.io.unread(&parts.read_buf),
            endpoints: self.conn.endpoints.clone(),
            permit: self.permit.take()?,
            accepted: self.conn.accepted,
            since: deadlines.since(),
            claim: parts.io.claim,
            stream: parts.io.stream,
        })
    }

    /// Returns the outcome after hyper has ended the connection: the client or the server ended it, or hyper answered a
    /// protocol error.
    fn outcome_of_end(&mut self) -> Outcome {
        let switch = self.conn.take_protocol_switch();
        match (self.take_apart(), switch) {
            (Some(connection), Some(switch)) => Outcome::ProtocolSwitch(connection, switch),
            (Some(connection), None) => Outcome::Answered(connection),
            (None, _) => Outcome::Closed,
        }
    }

    /// Takes the connection apart and returns the outcome that belongs to the reason.
    fn release(&mut self, reason: ReleaseReason) -> Outcome {
        let Some(connection) = self.take_apart() else {
            return Outcome::Closed;
        };
        match reason {
            ReleaseReason::Idle => Outcome::Idle(connection),
            ReleaseReason::HeadOverdue => Outcome::HeadOverdue(connection),
            ReleaseReason::HeadRefused => Outcome::HeadRefused(connection),
            ReleaseReason::HandOver => match self.conn.take_transfer_permit() {
                Some(permit) => Outcome::HandOver(connection, permit),
                None => Outcome::Idle(connection),
            },
        }
    }
}

impl Drop for ActiveConnection {
    /// Closes the connection if its socket was not taken.
    fn drop(&mut self) {
        // a reference cycle: the callback in the switch may hold the request, and the request holds the ConnState
        drop(self.conn.take_protocol_switch());
        if let Some(connection) = self.take_apart() {
            connection.close();
        }
    }
}

impl Future for ActiveConnection {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        let conn = this.conn.clone();
        conn.register(cx.waker());
        if conn.stage() == Stage::Cut || conn.deadlines.write_overdue(now()) {
            return Poll::Ready(Outcome::Closed);
        }
        let deadlines = &conn.deadlines;
        if deadlines.read_state() == ReadState::Switching && deadlines.read_overdue(now()) {
            log::warn!(
                "the 101 for {} was not sent within {}; the connection is closed",
                conn.endpoints.peer,
                TimedState::Switching.clock()
            );
            return Poll::Ready(Outcome::Closed);
        }
        if conn.is_held_body_overdue(now()) {
            log::warn!(
                "a handler has answered {} but still holds the request's body and does not read it; the body is discarded ({})",
                conn.endpoints.peer,
                TimedState::BodyHeld.clock()
            );
            conn.discard_held_bodies();
        }
        let Some(hyper) = &mut this.hyper else {
            return Poll::Ready(Outcome::Closed);
        };

        let (nothing_was_in_flight, requests) = (conn.nothing_in_flight(), conn.requests());
        conn.set_flushed(false);
        if Pin::new(hyper).poll(cx).is_ready() {
            return Poll::Ready(this.outcome_of_end());
        }
        if conn.is_closed_by_client() {
            log::debug!(
                "the client {} closed the connection before its answer",
                conn.endpoints.peer
            );
            return Poll::Ready(Outcome::Closed);
        }
        #[cfg(feature = "http2")]
        if conn.has_preface() {
            return Poll::Ready(this.take_apart().map_or(Outcome::Closed, Outcome::Http2));
        }
        if !conn.nothing_in_flight() {
            // a request is in progress: other connections can use the transfer permit meanwhile
            if conn.stage() == Stage::HandOver {
                conn.take_transfer_permit();
            }
            return Poll::Pending;
        }
        if matches!(
            deadlines.read_state(),
            ReadState::Nothing | ReadState::BodyHeld
        ) {
            conn.expect_request();
        }
        let Some(reason) = this.release_reason() else {
            return Poll::Pending;
        };
        let at_boundary = nothing_was_in_flight && requests == conn.requests() && conn.flushed();
        if !at_boundary {
            // After a flush one more poll shows whether the connection is at a boundary. Without a flush hyper has
            // something to write, and the socket wakes the task when it can.
            if conn.flushed() {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        Poll::Ready(this.release(reason))
    }
}

/// Returns a builder of hyper connections with the limits. hyper cannot change them later: after a reload the
/// connection is taken apart and served with a new builder ([`ConnState::parser_is_outdated`]).
fn builder(limits: &config::Http) -> http1::Builder {
    /// hyper keeps this number of headers on its stack. For any other number it allocates at each request.
    const HEADERS_ON_STACK: usize = 100;
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(limits.max_header_bytes.max(64 << 10))
        .max_header_size(limits.max_header_bytes);
    if limits.max_headers != HEADERS_ON_STACK {
        builder.max_headers(limits.max_headers);
    }
    builder
}
