//! The state of one active connection, shared by its task, its socket, the service and the bodies.
//!
//! The socket, the service and the bodies write to it; the connection's task reads it. The registry of all connections holds
//! it too, to count connections, to wake them and to list them in the report of a shutdown.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};

use atomic_waker::AtomicWaker;
use hyper::{Method, Uri};

use super::clock::Millis;
use super::deadlines::{Deadlines, ReadState};
use super::shared::{Shared, Stage};
use super::transfer::TransferPermit;
use super::{Endpoints, Upgrade};
use crate::sync::limiter::Permit;
use crate::sync::lock::Mutex;
use crate::sync::token::{token, Token, Trigger};

/// The state of an active connection, or of one stream of an HTTP/2 connection.
pub(crate) struct ConnState {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) accepted: Millis,
    pub(crate) deadlines: Deadlines,
    /// The version of the limits that hyper was created with.
    parser_version: u32,
    /// The number of requests that the service has received from this connection.
    requests: AtomicU32,
    /// The number of [`InFlight`] guards. The connection cannot be at a boundary before this is 0.
    in_flight: AtomicU32,
    /// The number of writes to the socket.
    #[cfg(feature = "http2")]
    writes: AtomicU32,
    /// True if the last call on the socket was a flush: hyper's write buffer is empty.
    flushed: AtomicBool,
    /// True if the client has sent the preface of HTTP/2.
    #[cfg(feature = "http2")]
    preface: AtomicBool,
    /// The request that is being answered.
    request: Mutex<Option<RequestInfo>>,
    /// Request bodies that handlers hold after their answers were sent.
    held_bodies: Mutex<Vec<Box<dyn DiscardBody>>>,
    transfer_permit: Mutex<TransferPermit>,
    /// Set by an answer with status 101 and taken when that answer was written.
    protocol_switch: Mutex<Option<ProtocolSwitch>>,
    /// Triggered when the client closes its sending side or the connection. Most connections never need it, so it is created
    /// on first use.
    half_closed: OnceLock<(Trigger, Token)>,
    /// True if the client has closed the connection and receives nothing more.
    closed_by_client: AtomicBool,
    /// True if the memory budget has no room for the rest of a head.
    head_refused: AtomicBool,
    task: AtomicWaker,
    body_reader: AtomicWaker,
}

/// The request that is being answered, for the report of a shutdown.
#[derive(Clone, Debug)]
pub(crate) struct RequestInfo {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) began: Millis,
}

/// The data that a connection needs after it has answered 101.
pub(crate) struct ProtocolSwitch {
    /// The handler's callback, which receives the connection.
    pub(crate) upgrade: Upgrade,
    /// The request that was answered with the 101. It names the tunnel in the report of a shutdown.
    pub(crate) request: Option<RequestInfo>,
    /// Keeps the generation that answered until the tunnel ends.
    pub(crate) permit: Option<Permit>,
}

/// A request body that a handler may hold after its answer was sent.
pub(crate) trait DiscardBody: Send + Sync + 'static {
    /// Returns true while the handler holds the body and has not read it to its end.
    fn is_held(&self) -> bool;

    /// Takes the body away from the handler. Its next read fails.
    fn discard(&self);
}

/// Keeps a connection from being at a boundary until it is dropped. The service and both bodies of a request hold one each.
pub(crate) struct InFlight {
    conn: Arc<ConnState>,
    wakes: WakeOnDrop,
}

/// The task that is woken when an [`InFlight`] guard is dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeOnDrop {
    /// The connection's task.
    Connection,
    /// None, because the guard is dropped only while the connection's task is polled.
    Nothing,
}

impl ConnState {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        endpoints: &Arc<Endpoints>,
        accepted: Millis,
        deadlines: Deadlines,
    ) -> Arc<Self> {
        Arc::new(ConnState {
            shared: shared.clone(),
            endpoints: endpoints.clone(),
            accepted,
            deadlines,
            parser_version: shared.parser_version(),
            requests: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            #[cfg(feature = "http2")]
            writes: AtomicU32::new(0),
            flushed: AtomicBool::new(false),
            #[cfg(feature = "http2")]
            preface: AtomicBool::new(false),
            request: Mutex::new(None),
            held_bodies: Mutex::default(),
            transfer_permit: Mutex::default(),
            protocol_switch: Mutex::new(None),
            half_closed: OnceLock::new(),
            closed_by_client: AtomicBool::new(false),
            head_refused: AtomicBool::new(false),
            task: AtomicWaker::new(),
            body_reader: AtomicWaker::new(),
        })
    }

    /// Records that the service has received a request. No byte is expected from the client until the handler reads the body.
    pub(crate) fn begin_request(&self, request: RequestInfo) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.deadlines.expect_nothing();
        *self.request.lock() = Some(request);
    }

    /// Records that the answer was passed to the socket. `held` is the request's body if the handler still holds it.
    pub(crate) fn end_request(&self, held: Option<impl DiscardBody>) {
        *self.request.lock() = None;
        let mut bodies = self.held_bodies.lock();
        if let Some(held) = held {
            bodies.push(Box::new(held));
        }
        bodies.retain(|body| body.is_held());
        if !bodies.is_empty() && self.deadlines.read_state() == ReadState::Nothing {
            self.deadlines
                .set_read_state(ReadState::BodyHeld, &self.shared.limits());
        }
    }

    /// Records that the handler does not wait for a byte of the request's body at the moment.
    pub(crate) fn stop_reading_body(&self) {
        if self.has_request() {
            self.deadlines.expect_nothing();
        } else {
            self.deadlines
                .set_read_state(ReadState::BodyHeld, &self.shared.limits());
        }
    }

    /// Returns true if a handler has held a body for too long after its answer, and no later request is being answered
    /// that may need the body.
    pub(crate) fn is_held_body_overdue(&self, now: Millis) -> bool {
        matches!(
            self.deadlines.read_state(),
            ReadState::Body | ReadState::BodyHeld
        ) && self.deadlines.read_overdue(now)
            && !self.has_request()
    }

    /// Takes all held bodies away from their handlers, so that the connection can go on or end.
    pub(crate) fn discard_held_bodies(&self) {
        self.deadlines.expect_nothing();
        let held = std::mem::take(&mut *self.held_bodies.lock());
        for body in held {
            body.discard();
        }
    }

    /// Records that the answer is a 101. The whole request must have been read.
    pub(crate) fn set_protocol_switch(&self, switch: ProtocolSwitch) {
        self.deadlines
            .set_read_state(ReadState::Switching, &self.shared.limits());
        *self.protocol_switch.lock() = Some(switch);
    }

    /// Takes the protocol switch, if the last answer was a 101.
    pub(crate) fn take_protocol_switch(&self) -> Option<ProtocolSwitch> {
        self.protocol_switch.lock().take()
    }

    /// Sets the request that a tunnel is listed with.
    pub(crate) fn set_request(&self, request: Option<RequestInfo>) {
        *self.request.lock() = request;
    }

    /// Records that the handler uses its tunnel. From then on only writes have a deadline.
    pub(crate) fn start_tunnel(&self) {
        self.deadlines
            .set_read_state(ReadState::Tunnel, &self.shared.limits());
    }

    /// Records that the connection has been closing since `since`. Its progress is inspected at `check`.
    pub(crate) fn linger(&self, since: Millis, check: Millis) {
        *self.request.lock() = None;
        self.deadlines.linger(since, check);
    }

    /// Returns a token that is triggered when the client closes its sending side or the connection.
    pub(crate) fn half_closed(&self) -> Token {
        self.half_closed.get_or_init(token).1.clone()
    }

    /// Records that the client has closed its sending side. It may still wait for its answer.
    pub(crate) fn on_half_close(&self) {
        self.half_closed.get_or_init(token).0.fire();
    }

    /// Records that the client has closed the connection.
    pub(crate) fn on_close(&self) {
        self.closed_by_client.store(true, Ordering::Relaxed);
        self.on_half_close();
    }

    pub(crate) fn is_closed_by_client(&self) -> bool {
        self.closed_by_client.load(Ordering::Relaxed)
    }

    /// Stops reading the head. The connection's task then answers 503 and closes the connection.
    pub(crate) fn refuse_head(&self) {
        self.head_refused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_head_refused(&self) -> bool {
        self.head_refused.load(Ordering::Relaxed)
    }

    /// Returns true if a request is being answered, or if the connection is a tunnel.
    pub(crate) fn has_request(&self) -> bool {
        self.request.lock().is_some()
    }

    pub(crate) fn request(&self) -> Option<RequestInfo> {
        self.request.lock().clone()
    }

    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns true if no request is in the service and both bodies have been dropped.
    pub(crate) fn nothing_in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0
    }

    /// Records that the client speaks HTTP/2.
    #[cfg(feature = "http2")]
    pub(crate) fn set_preface(&self) {
        self.preface.store(true, Ordering::Relaxed);
    }

    #[cfg(feature = "http2")]
    pub(crate) fn has_preface(&self) -> bool {
        self.preface.load(Ordering::Relaxed)
    }

    /// Updates the deadlines after bytes were read.
    pub(crate) fn on_read(&self) {
        match self.deadlines.read_state() {
            ReadState::Idle => self
                .deadlines
                .set_read_state(ReadState::Head, &self.shared.limits()),
            ReadState::Body => self
                .deadlines
                .set_read_state(ReadState::Body, &self.shared.limits()),
            // the others have one deadline from their start to their end, or none
            ReadState::Head
            | ReadState::BodyHeld
            | ReadState::BeforeSwitch
            | ReadState::Switching
            | ReadState::Tunnel
            | ReadState::End
            | ReadState::Nothing => {}
        }
    }

    /// Updates the deadlines after bytes were written or a write failed.
    pub(crate) fn on_written(&self) {
        self.flushed.store(false, Ordering::Relaxed);
        #[cfg(feature = "http2")]
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.deadlines.stop_write_clock();
    }

    /// Returns a number that changes with each write to the socket.
    #[cfg(feature = "http2")]
    pub(crate) fn writes(&self) -> u32 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Starts the deadline for writing, because the socket accepts no bytes at the moment.
    pub(crate) fn on_write_blocked(&self) {
        self.flushed.store(false, Ordering::Relaxed);
        self.deadlines.start_write_clock(|| self.shared.limits());
    }

    pub(crate) fn set_flushed(&self, flushed: bool) {
        self.flushed.store(flushed, Ordering::Relaxed);
    }

    pub(crate) fn flushed(&self) -> bool {
        self.flushed.load(Ordering::Relaxed)
    }

    /// Starts the deadline for the next request.
    pub(crate) fn expect_request(&self) {
        self.deadlines
            .set_read_state(ReadState::Idle, &self.shared.limits());
    }

    pub(crate) fn stage(&self) -> Stage {
        self.shared.stage()
    }

    /// Returns true if a reload has changed limits that hyper accepts only when it is put around a socket.
    pub(crate) fn parser_is_outdated(&self) -> bool {
        self.parser_version != self.shared.parser_version()
    }

    /// Returns true if connections are handed over and the connection has a transfer permit. The other process then serves
    /// its next request. Otherwise the task of `cx` is woken when a permit is available.
    pub(crate) fn poll_transfer_permit(&self, cx: &mut Context<'_>) -> bool {
        if self.stage() != Stage::HandOver {
            return false;
        }
        let mut permit = self.transfer_permit.lock();
        // Read the stage again under the lock. A change of the stage takes all transfer permits back, and a permit that is
        // acquired after that would never be released.
        self.stage() == Stage::HandOver
            && permit.poll(&self.shared.transfer_limits, self.deadlines.since(), cx)
    }

    pub(crate) fn has_transfer_permit(&self) -> bool {
        matches!(*self.transfer_permit.lock(), TransferPermit::Acquired(_))
    }

    /// Takes the transfer permit if the connection has one, and stops waiting for one otherwise.
    pub(crate) fn take_transfer_permit(&self) -> Option<Permit> {
        let mut permit = self.transfer_permit.lock();
        match std::mem::take(&mut *permit) {
            TransferPermit::Acquired(permit) => Some(permit),
            TransferPermit::Waiting(_) | TransferPermit::NotRequested => None,
        }
    }

    /// Registers the waker of the connection's task.
    pub(crate) fn register(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Registers the waker of the task that reads the request's body.
    pub(crate) fn register_body_reader(&self, waker: &Waker) {
        self.body_reader.register(waker);
    }

    /// Wakes the connection's task and the reader of its body, so that they check the deadlines and the stage.
    pub(crate) fn wake(&self) {
        self.task.wake();
        self.body_reader.wake();
    }
}

impl InFlight {
    pub(crate) fn new(conn: &Arc<ConnState>, wakes: WakeOnDrop) -> Self {
        conn.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight {
            conn: conn.clone(),
            wakes,
        }
    }

    pub(crate) fn conn(&self) -> &Arc<ConnState> {
        &self.conn
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.conn.in_flight.fetch_sub(1, Ordering::AcqRel);
        if self.wakes == WakeOnDrop::Connection {
            self.conn.task.wake();
        }
    }
}
