//! A connection while it is served: put together around hyper, polled, and taken apart at a request boundary.
//!
//! hyper's public interface has no "give the socket back when you are between two requests". It can be had from
//! outside all the same: a connection is at a boundary when no request is in the service, neither body is on its
//! way, and a whole poll has gone by in which nothing was handed in and the last thing done to the socket was a
//! flush. Then `into_parts` loses nothing; what hyper has read ahead comes back as `read_buf`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::server::conn::http1;

use super::deadlines::{now, Deadlines, Millis, ReadState};
use super::exchange::Exchanges;
use super::io::Io;
use super::shared::{Shared, Stage};
use super::state::{ConnState, Switch};
use super::states::State;
use super::Endpoints;
use crate::config;
use crate::socket::Stream;
use crate::sync::limiter::Permit;
use crate::sys::claims::Claim;

/// A connection between two requests: all that there is to know of it, and its socket.
pub(crate) struct Connection<S = Stream> {
    pub(crate) stream: S,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) permit: Permit,
    pub(crate) accepted: Millis,
    /// What has been read of the next request, possibly of several.
    pub(crate) head: Bytes,
    /// Since when the connection is idle or, with a head, since when that head has been coming.
    pub(crate) since: Millis,
    /// It came from another process, which would take it back if this one died before it was read.
    pub(crate) claim: Option<Claim>,
}

/// How serving a connection came to its end.
pub(crate) enum Outcome {
    /// Between two requests, nothing read: silent for `idle_release`, or told that idle connections close.
    Idle(Connection),
    /// At a boundary, perhaps with a head that was read in part: another process goes on with it.
    Leaving(Connection, Permit),
    /// The head of a request took longer than `header_timeout`.
    HeadOverdue(Connection),
    /// The memory budget has no room for the rest of the head.
    HeadRefused(Connection),
    /// The last answer has been written; the client may still be sending, or have ended what it sends.
    Answered(Connection),
    /// A 101 has been written: the bytes now belong to another protocol.
    Switched(Connection, Switch),
    /// The client speaks HTTP/2; its preface is in the head.
    #[cfg(feature = "http2")]
    Http2(Connection),
    /// The client is gone, took nothing for `write_timeout`, or everything is cut: nothing is left to say.
    Over,
}

/// Serves requests until the connection ends or comes to rest. `watch` is shown each record that is made for it.
pub(crate) async fn serve(
    mut connection: Connection,
    shared: &Arc<Shared>,
    watch: impl Fn(&Arc<ConnState>),
) -> Outcome {
    loop {
        let active = Active::new(connection, shared);
        watch(&active.conn);
        match active.await {
            // read ahead by hyper: waiting for the socket would hang what is here already
            Outcome::Idle(rest) if !rest.head.is_empty() => connection = rest,
            outcome => return outcome,
        }
    }
}

/// A connection with hyper around its socket.
struct Active {
    hyper: Option<http1::Connection<Io, Exchanges>>,
    conn: Arc<ConnState>,
    permit: Option<Permit>,
}

/// Why a connection at a boundary is taken apart.
#[derive(Clone, Copy)]
enum Parting {
    Idle,
    HeadOverdue,
    HeadRefused,
    Leaving,
}

impl Active {
    fn new(connection: Connection, shared: &Arc<Shared>) -> Self {
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
        // the limits as they are after the record was made, which knows of every later change
        let hyper = builder(&shared.limits()).serve_connection(io, Exchanges::new(conn.clone()));
        Active {
            hyper: Some(hyper),
            conn,
            permit: Some(permit),
        }
    }

    /// Whether, and why, a connection that is at a boundary should be taken apart now.
    fn parting(&self) -> Option<Parting> {
        let deadlines = &self.conn.deadlines;
        match deadlines.waiting() {
            ReadState::Head if self.conn.refuses_head() => Some(Parting::HeadRefused),
            // one without a place is served here, with the clocks that it has anywhere
            ReadState::Head | ReadState::Idle
                if self.conn.stage() == Stage::HandOver && self.conn.has_place() =>
            {
                Some(Parting::Leaving)
            }
            ReadState::Head | ReadState::Idle if self.conn.outdated() => Some(Parting::Idle),
            ReadState::Head => deadlines
                .read_overdue(now())
                .then_some(Parting::HeadOverdue),
            ReadState::Idle => (self.conn.stage() >= Stage::CloseIdle
                || deadlines.read_overdue(now()))
            .then_some(Parting::Idle),
            ReadState::Body | ReadState::BodyHeld | ReadState::Nothing => None,
            ReadState::BeforeSwitch | ReadState::Switching | ReadState::Tunnel => None,
            ReadState::End => None,
        }
    }

    /// Takes hyper off the socket.
    fn part(&mut self) -> Option<Connection> {
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

    /// hyper has come to an end: by the client's wish, by ours, or by a protocol error it has answered.
    fn ended(&mut self) -> Outcome {
        let switch = self.conn.switched();
        match (self.part(), switch) {
            (Some(connection), Some(switch)) => Outcome::Switched(connection, switch),
            (Some(connection), None) => Outcome::Answered(connection),
            (None, _) => Outcome::Over,
        }
    }
}

impl Drop for Active {
    /// A connection that nobody goes on with is closed.
    fn drop(&mut self) {
        // a tunnel that nobody has reached holds its request, and that the record
        drop(self.conn.switched());
        self.part().into_iter().for_each(Connection::close);
    }
}

impl Future for Active {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        let conn = this.conn.clone();
        conn.watch(cx.waker());
        if conn.stage() == Stage::Cut || conn.deadlines.write_overdue(now()) {
            return Poll::Ready(Outcome::Over);
        }
        let deadlines = &conn.deadlines;
        if deadlines.waiting() == ReadState::Switching && deadlines.read_overdue(now()) {
            log::warn!(
                "a 101 could not be sent to {}; the connection is closed after {}",
                conn.endpoints.peer,
                State::Switching.clock()
            );
            return Poll::Ready(Outcome::Over);
        }
        if conn.holds_too_long(now()) {
            log::warn!(
                "a handler that has answered {} does not read the request's body; the body is discarded ({})",
                conn.endpoints.peer,
                State::BodyHeld.clock()
            );
            conn.take_held();
        }
        let Some(hyper) = &mut this.hyper else {
            return Poll::Ready(Outcome::Over);
        };

        let (was_quiet, calls) = (conn.quiet(), conn.calls());
        conn.set_flushed(false);
        if Pin::new(hyper).poll(cx).is_ready() {
            return Poll::Ready(this.ended());
        }
        if conn.gone() {
            log::debug!(
                "the client {} is gone before its answer",
                conn.endpoints.peer
            );
            return Poll::Ready(Outcome::Over);
        }
        #[cfg(feature = "http2")]
        if conn.has_preface() {
            return Poll::Ready(this.part().map_or(Outcome::Over, Outcome::Http2));
        }
        if !conn.quiet() {
            // whoever has to finish something first keeps no place from others
            if conn.stage() == Stage::HandOver {
                conn.stays();
            }
            return Poll::Pending;
        }
        if matches!(
            deadlines.waiting(),
            ReadState::Nothing | ReadState::BodyHeld
        ) {
            conn.becomes_idle();
        }
        let Some(parting) = this.parting() else {
            return Poll::Pending;
        };
        if !(was_quiet && calls == conn.calls() && conn.flushed()) {
            // one more whole poll shows whether anything is left in hyper's buffers; a stalled write wakes by itself
            if conn.flushed() {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let Some(connection) = this.part() else {
            return Poll::Ready(Outcome::Over);
        };
        Poll::Ready(match parting {
            Parting::Idle => Outcome::Idle(connection),
            Parting::HeadOverdue => Outcome::HeadOverdue(connection),
            Parting::HeadRefused => Outcome::HeadRefused(connection),
            Parting::Leaving => match conn.stays() {
                Some(place) => Outcome::Leaving(connection, place),
                None => Outcome::Idle(connection),
            },
        })
    }
}

/// hyper, with the limits that it takes once, when it is put around a socket.
fn builder(limits: &config::Http) -> http1::Builder {
    /// hyper's own default, kept on its stack; any other number is allocated for each request.
    const ON_THE_STACK: usize = 100;
    /// hyper refuses less than 8 KiB.
    const LEAST: usize = 8 << 10;
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(limits.max_header_bytes.max(64 << 10))
        .max_header_size(limits.max_header_bytes.max(LEAST));
    if limits.max_headers != ON_THE_STACK {
        builder.max_headers(limits.max_headers);
    }
    builder
}
