//! What the parts of one connection know of each other: socket, service and bodies write here, the connection reads.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};

use atomic_waker::AtomicWaker;
use hyper::{Method, Uri};

use super::body::HeldBody;
use super::deadlines::{Deadlines, Millis, ReadState};
use super::shared::{Shared, Stage};
use super::transfer::TransferPermit;
use super::{Endpoints, Upgrade};
use crate::sync::limiter::Permit;
use crate::sync::lock::Mutex;
use crate::sync::token::{token, Token, Trigger};

/// The record of a connection that is being served.
pub(crate) struct ConnState {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) accepted: Millis,
    pub(crate) deadlines: Deadlines,
    /// Which limits hyper was put around the socket with.
    parser: u32,
    /// Requests handed to the service since this record was made.
    calls: AtomicU32,
    /// Services, request bodies and response bodies that are not over: at 0 the connection is at a boundary.
    live: AtomicU32,
    /// Counts writes to the socket.
    #[cfg(feature = "http2")]
    writes: AtomicU32,
    /// Whether the last thing done to the socket was a flush, that is: nothing is left to be written.
    flushed: AtomicBool,
    /// Whether the client has begun with the preface of HTTP/2.
    #[cfg(feature = "http2")]
    preface: AtomicBool,
    /// The request that is being answered; for the report of a shutdown.
    request: Mutex<Option<Request>>,
    /// Bodies that handlers keep though the answers are sent.
    held: Mutex<Vec<HeldBody>>,
    transfer: Mutex<TransferPermit>,
    /// Set with a 101: what takes the socket over once that has been written.
    switch: Mutex<Option<Switch>>,
    /// Told when the client has ended what it sends, or is gone; made when somebody asks or tells.
    hung_up: OnceLock<(Trigger, Token)>,
    /// Whether nothing that is sent reaches the client any more.
    gone: AtomicBool,
    /// Set when the memory budget has no room for the rest of a head.
    head_refused: AtomicBool,
    task: AtomicWaker,
    body_reader: AtomicWaker,
}

/// A request as a report names it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) began: Millis,
}

/// A request that was answered with a 101, and who goes on from there.
pub(crate) struct Switch {
    pub(crate) upgrade: Upgrade,
    /// What the tunnel goes by in the report of a shutdown.
    pub(crate) request: Option<Request>,
    /// Keeps the generation that answered for as long as the tunnel stands.
    pub(crate) permit: Option<Permit>,
}

/// One thing that keeps a connection from its boundary, for as long as it is held.
pub(crate) struct InFlight {
    conn: Arc<ConnState>,
    wakes: WakeOnDrop,
}

/// Whether the end of a part must wake the connection, or can only come while the connection is polled anyway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeOnDrop {
    Connection,
    Nobody,
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
            parser: shared.parser(),
            calls: AtomicU32::new(0),
            live: AtomicU32::new(0),
            #[cfg(feature = "http2")]
            writes: AtomicU32::new(0),
            flushed: AtomicBool::new(false),
            #[cfg(feature = "http2")]
            preface: AtomicBool::new(false),
            request: Mutex::new(None),
            held: Mutex::default(),
            transfer: Mutex::default(),
            switch: Mutex::new(None),
            hung_up: OnceLock::new(),
            gone: AtomicBool::new(false),
            head_refused: AtomicBool::new(false),
            task: AtomicWaker::new(),
            body_reader: AtomicWaker::new(),
        })
    }

    /// A request begins: nothing more is expected of the client until somebody wants its body.
    pub(crate) fn begin(&self, request: Request) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.deadlines.wait_for_nothing();
        *self.request.lock() = Some(request);
    }

    /// The answer to it has been handed to the socket; `held` is a body that the handler keeps all the same.
    pub(crate) fn end(&self, held: Option<HeldBody>) {
        *self.request.lock() = None;
        let mut bodies = self.held.lock();
        bodies.extend(held);
        bodies.retain(HeldBody::is_held);
        if !bodies.is_empty() && self.deadlines.waiting() == ReadState::Nothing {
            self.deadlines
                .wait(ReadState::BodyHeld, &self.shared.limits());
        }
    }

    /// The reader of a body wants nothing more of it for now.
    pub(crate) fn body_rests(&self) {
        if self.asks() {
            self.deadlines.wait_for_nothing();
        } else {
            self.deadlines
                .wait(ReadState::BodyHeld, &self.shared.limits());
        }
    }

    /// Returns true if a body is held past its time, and no answer is in the making that may need it.
    pub(crate) fn holds_too_long(&self, now: Millis) -> bool {
        matches!(
            self.deadlines.waiting(),
            ReadState::Body | ReadState::BodyHeld
        ) && self.deadlines.read_overdue(now)
            && !self.asks()
    }

    /// Takes the bodies away from handlers that keep them. The connection then ends or goes on without them.
    pub(crate) fn take_held(&self) {
        self.deadlines.wait_for_nothing();
        let held = std::mem::take(&mut *self.held.lock());
        held.iter().for_each(HeldBody::discard);
    }

    /// The answer is a 101, and the whole request has been read.
    pub(crate) fn switches(&self, switch: Switch) {
        self.deadlines
            .wait(ReadState::Switching, &self.shared.limits());
        *self.switch.lock() = Some(switch);
    }

    /// What takes the socket over, if a 101 was the last answer.
    pub(crate) fn switched(&self) -> Option<Switch> {
        self.switch.lock().take()
    }

    /// A tunnel is offered to the handler of this request.
    pub(crate) fn offers(&self, request: Option<Request>) {
        *self.request.lock() = request;
    }

    /// The handler uses its tunnel: from now on only writes have a limit.
    pub(crate) fn tunnels(&self) {
        self.deadlines
            .wait(ReadState::Tunnel, &self.shared.limits());
    }

    /// The connection has been closing since `since`; its progress is checked again at `check`.
    pub(crate) fn lingers(&self, since: Millis, check: Millis) {
        self.end(None);
        self.deadlines.linger(since, check);
    }

    /// Told when the client has ended what it sends, or is gone.
    pub(crate) fn hung_up(&self) -> Token {
        self.hung_up.get_or_init(token).1.clone()
    }

    /// The client has ended what it sends. It may still wait for its answer.
    pub(crate) fn hangs_up(&self) {
        self.hung_up.get_or_init(token).0.fire();
    }

    /// The client is gone: there is nobody to answer.
    pub(crate) fn leaves(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.hangs_up();
    }

    pub(crate) fn gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// The rest of the head is not read; the connection is told so and closed.
    pub(crate) fn refuse_head(&self) {
        self.head_refused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn refuses_head(&self) -> bool {
        self.head_refused.load(Ordering::Relaxed)
    }

    /// Whether a request is being answered.
    pub(crate) fn asks(&self) -> bool {
        self.request.lock().is_some()
    }

    pub(crate) fn request(&self) -> Option<Request> {
        self.request.lock().clone()
    }

    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether no request is in the service, no body on its way.
    pub(crate) fn quiet(&self) -> bool {
        self.live.load(Ordering::Acquire) == 0
    }

    /// The client speaks HTTP/2.
    #[cfg(feature = "http2")]
    pub(crate) fn preface_came(&self) {
        self.preface.store(true, Ordering::Relaxed);
    }

    #[cfg(feature = "http2")]
    pub(crate) fn has_preface(&self) -> bool {
        self.preface.load(Ordering::Relaxed)
    }

    /// Bytes have come from the client.
    pub(crate) fn has_read(&self) {
        match self.deadlines.waiting() {
            ReadState::Idle => self.deadlines.wait(ReadState::Head, &self.shared.limits()),
            ReadState::Body => self.deadlines.wait(ReadState::Body, &self.shared.limits()),
            // the whole of these has one deadline
            ReadState::Head
            | ReadState::BodyHeld
            | ReadState::BeforeSwitch
            | ReadState::Switching => {}
            ReadState::Tunnel | ReadState::End | ReadState::Nothing => {}
        }
    }

    /// The client took bytes (or may at once).
    pub(crate) fn has_written(&self) {
        self.flushed.store(false, Ordering::Relaxed);
        #[cfg(feature = "http2")]
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.deadlines.write_moved();
    }

    /// Returns a number that changes with each write to the socket.
    #[cfg(feature = "http2")]
    pub(crate) fn writes(&self) -> u32 {
        self.writes.load(Ordering::Relaxed)
    }

    /// The client takes no bytes at the moment.
    pub(crate) fn cannot_write(&self) {
        self.flushed.store(false, Ordering::Relaxed);
        self.deadlines.write_stalled(|| self.shared.limits());
    }

    pub(crate) fn set_flushed(&self, flushed: bool) {
        self.flushed.store(flushed, Ordering::Relaxed);
    }

    pub(crate) fn flushed(&self) -> bool {
        self.flushed.load(Ordering::Relaxed)
    }

    /// Nothing is live: from now on the client is expected to send a request.
    pub(crate) fn becomes_idle(&self) {
        self.deadlines.wait(ReadState::Idle, &self.shared.limits());
    }

    pub(crate) fn stage(&self) -> Stage {
        self.shared.stage()
    }

    /// Whether the next request is for a parser with other limits.
    pub(crate) fn outdated(&self) -> bool {
        self.parser != self.shared.parser()
    }

    /// Whether the next request is for another process: connections are handed over, and there is a place for this one.
    /// If there is none yet, `cx` is woken when there may be.
    pub(crate) fn wants_transfer(&self, cx: &mut Context<'_>) -> bool {
        if self.stage() != Stage::HandOver {
            return false;
        }
        let mut transfer = self.transfer.lock();
        // asked again: after a change of the stage nobody takes a place that `stays` has not heard of
        self.stage() == Stage::HandOver
            && transfer.poll(&self.shared.transfer_limits, self.deadlines.since(), cx)
    }

    /// Whether it has a place on the way to another process.
    pub(crate) fn has_place(&self) -> bool {
        matches!(*self.transfer.lock(), TransferPermit::Leaves(_))
    }

    /// Gives up the place on the way to another process, or the wait for one, and hands the place out.
    pub(crate) fn stays(&self) -> Option<Permit> {
        let mut transfer = self.transfer.lock();
        match std::mem::take(&mut *transfer) {
            TransferPermit::Leaves(place) => Some(place),
            TransferPermit::Waits(_) | TransferPermit::Stays => None,
        }
    }

    pub(crate) fn watch(&self, waker: &Waker) {
        self.task.register(waker);
    }

    pub(crate) fn watch_body(&self, waker: &Waker) {
        self.body_reader.register(waker);
    }

    /// Has the connection, and whoever reads its body, look at the clock and the stage.
    pub(crate) fn wake(&self) {
        self.task.wake();
        self.body_reader.wake();
    }
}

impl InFlight {
    pub(crate) fn of(conn: &Arc<ConnState>, wakes: WakeOnDrop) -> Self {
        conn.live.fetch_add(1, Ordering::AcqRel);
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
        self.conn.live.fetch_sub(1, Ordering::AcqRel);
        if self.wakes == WakeOnDrop::Connection {
            self.conn.task.wake();
        }
    }
}
