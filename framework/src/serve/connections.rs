//! All connections of a process, from accept to close: active ones, parked ones, tunnels, and the stages of a drain.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_channel::Sender;
use async_io::Timer;
use bytes::Bytes;
use futures_lite::future;

use super::dispatcher::Dispatcher;
use super::registry::{Cut, Registry};
use super::tunnel::TunnelStream;
use crate::config;
use crate::http::connection::{self, Connection, Outcome};
use crate::http::deadlines::{now, tick, Deadlines, ReadState};
use crate::http::detached::Detached;
#[cfg(feature = "http2")]
use crate::http::h2;
use crate::http::idle::IdleSet;
use crate::http::shared::{Shared, Stage};
use crate::http::state::ConnState;
use crate::http::states::State;
use crate::http::transfer::Transfer;
use crate::http::{linger, Endpoints};
use crate::observe::metrics::{Counter, Metrics};
use crate::socket::Stream;
use crate::sync::limiter::{Limiter, Permit};
use crate::sync::lock::Mutex;

/// Everybody who is connected.
pub(crate) struct Connections {
    pub(crate) shared: Arc<Shared>,
    pub(crate) permits: Arc<Limiter>,
    /// Those of another protocol take one of these as well.
    tunnels: Arc<Limiter>,
    registry: Arc<Registry>,
    idle: IdleSet,
    /// Where connections go while they are handed over.
    way_out: Mutex<Option<Sender<Transfer>>>,
}

/// How many are connected, by what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// With a request that is being answered.
    pub(crate) active: usize,
    /// Between two requests with a task, or being closed.
    pub(crate) idle: usize,
    /// Of another protocol, after a 101.
    pub(crate) tunnels: usize,
    /// Without a task.
    pub(crate) parked: usize,
}

impl Count {
    /// All that have a task.
    pub(crate) fn at_work(self) -> usize {
        self.active + self.idle + self.tunnels
    }
}

impl Connections {
    pub(crate) fn new(
        dispatcher: Arc<Dispatcher>,
        limits: config::Http,
        idle: IdleSet,
        permits: usize,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let connections = Arc::new(Connections {
            shared: Arc::new(Shared::new(dispatcher.clone(), limits, metrics)),
            permits: Limiter::new(permits),
            tunnels: Limiter::unlimited(),
            registry: Arc::default(),
            idle,
            way_out: Mutex::default(),
        });
        dispatcher.counts(&connections);
        connections
    }

    /// Serves a connection that has just been accepted.
    pub(crate) fn welcome(
        self: &Arc<Self>,
        socket: OwnedFd,
        endpoints: Arc<Endpoints>,
        permit: Permit,
    ) -> io::Result<()> {
        if self.shared.metrics.is_on() {
            self.shared.metrics.count(Counter::Accepted);
        }
        let (stream, now) = (Stream::new(socket)?, now());
        let head = Bytes::new();
        self.go(Connection {
            stream,
            endpoints,
            permit,
            accepted: now,
            head,
            since: now,
            claim: None,
        });
        Ok(())
    }

    /// Goes on with a connection that comes from another process, or comes back from one. Nothing is read of it until
    /// something has come: the other process would take it for one that may be in the middle of a request.
    pub(crate) fn adopt(self: &Arc<Self>, connection: Detached) {
        if self.shared.stage() == Stage::Open && !connection.speaks() {
            self.park(connection);
        } else {
            self.attach(connection);
        }
    }

    fn attach(self: &Arc<Self>, connection: Detached) {
        match connection.attach() {
            Ok(connection) => self.go(connection),
            Err(error) => log::warn!("a connection cannot be watched: {error}; it is closed"),
        }
    }

    /// Serves a connection in a task of its own, until it ends or is parked.
    fn go(self: &Arc<Self>, connection: Connection) {
        let connections = self.clone();
        async_std::task::spawn(async move { connections.serve(connection).await });
    }

    async fn serve(self: Arc<Self>, connection: Connection) {
        let registration = self.registry.registration();
        match connection::serve(connection, &self.shared, |conn| registration.show(conn)).await {
            Outcome::Idle(connection) => {
                drop(registration);
                self.detach(connection, Self::park);
            }
            Outcome::Leaving(connection, place) => {
                drop(registration);
                self.detach(connection, |connections, connection| {
                    connections.send_off(Transfer { connection, place });
                });
            }
            Outcome::HeadOverdue(connection) => {
                if let Some(conn) = registration.conn() {
                    linger::refuse_head(&connection, &conn, linger::HEAD_OVERDUE).await;
                }
            }
            Outcome::HeadRefused(connection) => {
                if let Some(conn) = registration.conn() {
                    linger::refuse_head(&connection, &conn, linger::NO_ROOM).await;
                }
            }
            Outcome::Answered(connection) => {
                if let Some(conn) = registration.conn() {
                    linger::close(&connection.stream, &conn).await;
                }
            }
            Outcome::Switched(connection, switch) => {
                TunnelStream::offer(
                    connection,
                    switch,
                    registration,
                    self.tunnels.acquire_unbounded(),
                )
                .await;
            }
            #[cfg(feature = "http2")]
            Outcome::Http2(connection) => {
                drop(registration);
                let registry = self.registry.clone();
                let enlist = move |conn: &Arc<ConnState>| {
                    let registration = registry.registration();
                    registration.show(conn);
                    registration
                };
                h2::serve(connection, &self.shared, enlist).await;
            }
            Outcome::Over => {}
        }
    }

    fn detach(self: &Arc<Self>, connection: Connection, then: impl FnOnce(&Arc<Self>, Detached)) {
        match Detached::of(connection) {
            Ok(connection) => then(self, connection),
            Err(error) => {
                log::warn!("an idle connection is still being watched: {error}; it is closed");
            }
        }
    }

    /// Parks a silent connection, or closes it where its time is over.
    fn park(self: &Arc<Self>, connection: Detached) {
        let timeout = State::Parked.deadline(connection.since, &self.shared.limits());
        if self.shared.stage() >= Stage::CloseIdle || timeout <= now() {
            return self.close(connection);
        }
        if let Err(error) = self.idle.park(connection) {
            log::warn!("an idle connection could not be parked: {error}; it is closed");
        }
        // the stage may have come between the question and the parking
        match self.shared.stage() {
            Stage::Open | Stage::LastCall => {}
            Stage::HandOver => self.hand_over_idle(),
            Stage::CloseIdle | Stage::Stop | Stage::Cut => {
                self.close_parked(|_| true);
            }
        }
    }

    /// Closes a connection that has no task. It gets one, and an entry in the ledger, until its client has closed too.
    fn close(self: &Arc<Self>, idle: Detached) {
        // an unclaimed one belongs to the process that it came from
        if idle.claim.is_some() || self.shared.stage() == Stage::Cut {
            return idle.close();
        }
        match idle.attach() {
            Ok(Connection {
                stream,
                endpoints,
                permit,
                accepted,
                since,
                ..
            }) => {
                let deadlines = Deadlines::new(ReadState::End, since, now(), &self.shared.limits());
                let conn = ConnState::new(&self.shared, &endpoints, accepted, deadlines);
                let registration = self.registry.registration();
                registration.show(&conn);
                async_std::task::spawn(async move {
                    linger::close_idle(&stream, &conn).await;
                    // until here a shutdown waits for it
                    drop((registration, permit));
                });
            }
            Err(error) => {
                log::warn!(
                    "an idle connection is closed at once, because it cannot be watched: {error}"
                );
            }
        }
    }

    fn close_parked(self: &Arc<Self>, which: impl Fn(&Detached) -> bool) -> usize {
        let closed = self.idle.take_all(which).into_iter();
        closed.map(|idle| self.close(idle)).count()
    }

    /// From now on connections leave by `way`, each at a boundary and as soon as there is a place for it.
    pub(crate) fn hand_over(self: &Arc<Self>, way: Sender<Transfer>) {
        *self.way_out.lock() = Some(way);
        self.shared.set_stage(Stage::HandOver);
        self.hand_over_idle();
        let registry = self.registry.clone();
        async_std::task::spawn(async move { registry.wake_in_turn(|_| true).await });
    }

    /// Connections stay again.
    pub(crate) fn keep(&self) {
        *self.way_out.lock() = None;
        self.shared.set_stage(Stage::Open);
        self.registry.wake_all();
    }

    /// Sends the parked ones off. Those whose turn has not come can still speak, and are answered here.
    fn hand_over_idle(self: &Arc<Self>) {
        let connections = self.clone();
        async_std::task::spawn(async move {
            loop {
                let transfer_limits = connections.shared.transfer_limits.take_silent().await;
                if connections.shared.stage() != Stage::HandOver {
                    return;
                }
                let parked = connections.idle.take_some(transfer_limits.len());
                if parked.is_empty() {
                    return;
                }
                for (connection, place) in parked.into_iter().zip(transfer_limits) {
                    connections.send_off(Transfer { connection, place });
                }
            }
        });
    }

    fn send_off(self: &Arc<Self>, leaving: Transfer) {
        let way = self.way_out.lock().clone();
        let stays = match way {
            Some(way) => way
                .try_send(leaving)
                .err()
                .map(async_channel::TrySendError::into_inner),
            None => Some(leaving),
        };
        // the stage has changed meanwhile
        if let Some(Transfer { connection, .. }) = stays {
            self.adopt(connection);
        }
    }

    /// Gives parked connections that have something to say a task again; never ends.
    pub(crate) async fn tend_parked(self: Arc<Self>) {
        loop {
            match self.idle.woken().await {
                Ok(woken) => {
                    woken.into_iter().for_each(|parked| self.attach(parked));
                }
                Err(error) => {
                    log::error!(
                        "parked connections cannot be watched: {error}; tried again in a second"
                    );
                    Timer::after(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Keeps everybody's time, while there is anybody; never ends.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        loop {
            self.permits.wait_until_used().await;
            let limits = self.shared.limits();
            let http = &*limits;
            // where all are parked, one limit is left, and that is long
            let until_somebody_is_active = async {
                Timer::after(tick([State::Parked], http)).await;
            };
            future::or(self.registry.occupied(), until_somebody_is_active).await;
            if self.registry.len() > 0 {
                let states = State::ALL.iter().map(|(state, _)| *state);
                Timer::after(tick(states, http)).await;
            }
            let now = now();
            self.registry.wake_overdue(now).await;
            self.close_parked(|idle| State::Parked.deadline(idle.since, &limits) <= now);
        }
    }

    pub(crate) fn count(&self) -> Count {
        let (all, active, tunnels) = (
            self.registry.len(),
            self.registry.asking(),
            self.tunnels.in_use(),
        );
        let idle = all.saturating_sub(active + tunnels);
        Count {
            active,
            idle,
            tunnels,
            parked: self.idle.len(),
        }
    }

    /// The request that has been in the works for the longest time.
    pub(crate) fn oldest_request(&self) -> Option<Cut> {
        self.registry.oldest_request()
    }

    /// From now on every answer carries `Connection: close`; idle connections may send one more request.
    pub(crate) fn last_call(&self) {
        self.shared.set_stage(Stage::LastCall);
    }

    /// Idle connections close; returns how many of them were parked.
    pub(crate) fn close_idle(self: &Arc<Self>) -> usize {
        self.shared.set_stage(Stage::CloseIdle);
        let parked = self.close_parked(|_| true);
        self.registry.wake_all();
        parked
    }

    /// Handlers are told to come to an end: bodies are waited for no longer.
    pub(crate) fn stop(&self) {
        self.shared.set_stage(Stage::Stop);
        self.registry.wake_all();
    }

    /// Cuts whoever is left, and names them.
    pub(crate) fn cut(self: &Arc<Self>) -> Vec<Cut> {
        let survivors = self.registry.survivors();
        self.shared.set_stage(Stage::Cut);
        self.close_parked(|_| true);
        self.registry.wake_all();
        survivors
    }

    /// Back to keep-alive as usual.
    pub(crate) fn reopen(&self) {
        self.shared.set_stage(Stage::Open);
    }
}
