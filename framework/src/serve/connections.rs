//! All connections of a process, from accept to close: active, idle, switched to another protocol, and draining.

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
use crate::http::active::{self, Outcome};
use crate::http::clock::now;
use crate::http::connection::{Connection, Detached, Transfer};
use crate::http::deadlines::{tick, Deadlines, ReadState};
#[cfg(feature = "http2")]
use crate::http::h2;
use crate::http::idle::IdleSet;
use crate::http::shared::{Shared, Stage};
use crate::http::state::ConnState;
use crate::http::states::TimedState;

use crate::http::{linger, Endpoints, RoutedService};
use crate::observe::metrics::{ConnectionGauges, Counter, Metrics};
use crate::socket::Stream;
use crate::sync::limiter::{Limiter, Permit};
use crate::sync::lock::Mutex;

/// All connections of a process.
pub(crate) struct Connections {
    pub(crate) shared: Arc<Shared>,
    /// Calls the live generation for each request.
    dispatcher: Arc<dyn RoutedService>,
    pub(crate) permits: Arc<Limiter>,
    /// The permits of connections that have switched to another protocol.
    tunnels: Arc<Limiter>,
    /// The connections that have a task.
    registry: Arc<Registry>,
    /// The connections that have no task.
    idle: Arc<IdleSet>,
    /// Receives the connections that leave during a handover; `None` at any other time.
    transfers: Mutex<Option<Sender<Transfer>>>,
}

/// The numbers of open connections by their state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenConnections {
    /// Connections with a request in progress.
    pub(crate) active: usize,
    /// Connections between two requests that still have a task, and connections that are being closed.
    pub(crate) idle: usize,
    /// Connections that switched to another protocol with a 101.
    pub(crate) tunnels: usize,
    /// Idle connections without a task.
    pub(crate) parked: usize,
}

impl OpenConnections {
    /// Returns the number of connections that have a task.
    pub(crate) fn with_task(self) -> usize {
        self.active + self.idle + self.tunnels
    }

    /// Returns the numbers with the labels of the metrics.
    fn by_state(self) -> [(&'static str, usize); 4] {
        [
            ("active", self.active),
            ("idle", self.idle),
            ("parked", self.parked),
            ("tunnel", self.tunnels),
        ]
    }
}

fn count(registry: &Registry, tunnels: &Limiter, idle: &IdleSet) -> OpenConnections {
    let (all, active, tunnels) = (registry.len(), registry.active(), tunnels.in_use());
    OpenConnections {
        active,
        idle: all.saturating_sub(active + tunnels),
        tunnels,
        parked: idle.len(),
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
        let (registry, tunnels, idle) = (
            Arc::<Registry>::default(),
            Limiter::unlimited(),
            Arc::new(idle),
        );
        // not the connections themselves, which own the dispatcher
        let (active, switched, parked) = (registry.clone(), tunnels.clone(), idle.clone());
        let shared = Arc::new(Shared::new(limits, metrics));
        let memory = shared.memory.clone();
        dispatcher.set_connection_gauges(move || ConnectionGauges {
            by_state: count(&active, &switched, &parked).by_state(),
            held: memory.used(),
        });
        Arc::new(Connections {
            shared,
            dispatcher,
            permits: Limiter::new(permits),
            tunnels,
            registry,
            idle,
            transfers: Mutex::default(),
        })
    }

    /// Serves a connection that has just been accepted.
    pub(crate) fn serve_accepted(
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
        self.spawn(Connection {
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

    /// Serves a connection that another process sent or returned.
    ///
    /// A connection without received bytes is not read here, because reading would claim it, and the other process could
    /// not take back a claimed connection.
    pub(crate) fn serve_received(self: &Arc<Self>, connection: Detached) {
        if self.shared.stage() == Stage::Open && !connection.has_input() {
            self.insert_idle(connection);
        } else {
            self.attach(connection);
        }
    }

    fn attach(self: &Arc<Self>, connection: Detached) {
        match connection.attach() {
            Ok(connection) => self.spawn(connection),
            Err(error) => {
                log::warn!("a connection cannot be registered with epoll: {error}; it is closed");
            }
        }
    }

    /// Serves a connection in a task of its own, until it ends or becomes idle.
    fn spawn(self: &Arc<Self>, connection: Connection) {
        let connections = self.clone();
        async_std::task::spawn(async move { connections.serve(connection).await });
    }

    async fn serve(self: Arc<Self>, connection: Connection) {
        let registration = self.registry.registration();
        match active::serve(connection, &self.shared, &self.dispatcher, |conn| {
            registration.set(conn);
        })
        .await
        {
            Outcome::Idle(connection) => {
                drop(registration);
                self.detach(connection, Self::insert_idle);
            }
            Outcome::HandOver(connection, permit) => {
                drop(registration);
                self.detach(connection, |connections, connection| {
                    connections.send(Transfer { connection, permit });
                });
            }
            Outcome::HeadOverdue(connection) => {
                if let Some(conn) = registration.conn() {
                    linger::refuse_head(&connection, &conn, linger::REQUEST_TIMEOUT).await;
                }
            }
            Outcome::HeadRefused(connection) => {
                if let Some(conn) = registration.conn() {
                    linger::refuse_head(&connection, &conn, linger::SERVICE_UNAVAILABLE).await;
                }
            }
            Outcome::Answered(connection) => {
                if let Some(conn) = registration.conn() {
                    linger::close(&connection.stream, &conn).await;
                }
            }
            Outcome::ProtocolSwitch(connection, switch) => {
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
                let register = move |conn: &Arc<ConnState>| {
                    let registration = registry.registration();
                    registration.set(conn);
                    registration
                };
                h2::serve(connection, &self.shared, &self.dispatcher, register).await;
            }
            Outcome::Closed => {}
        }
    }

    /// Takes the socket out of the reactor, then calls `then`.
    fn detach(self: &Arc<Self>, connection: Connection, then: impl FnOnce(&Arc<Self>, Detached)) {
        match connection.detach() {
            Ok(connection) => then(self, connection),
            Err(error) => {
                log::warn!(
                    "an idle connection cannot be removed from epoll: {error}; it is closed"
                );
            }
        }
    }

    /// Inserts an idle connection into the idle set, or closes it if its time is over.
    fn insert_idle(self: &Arc<Self>, connection: Detached) {
        let timeout = TimedState::IdleWithoutTask.deadline(connection.since, &self.shared.limits());
        if self.shared.stage() >= Stage::CloseIdle || timeout <= now() {
            return self.close(connection);
        }
        if let Err(error) = self.idle.insert(connection) {
            log::warn!("an idle connection cannot be registered with epoll: {error}; it is closed");
        }
        // the stage may have changed after the check above
        match self.shared.stage() {
            Stage::Open | Stage::NoKeepAlive => {}
            Stage::HandOver => self.hand_over_idle(),
            Stage::CloseIdle | Stage::Stop | Stage::Cut => {
                self.close_idle_if(|_| true);
            }
        }
    }

    /// Closes a connection that has no task. It receives a task and a registration until the client has closed, too.
    fn close(self: &Arc<Self>, idle: Detached) {
        // a connection with an unused claim belongs to the process that sent it
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
                registration.set(&conn);
                async_std::task::spawn(async move {
                    linger::close_idle(&stream, &conn).await;
                    // a shutdown waits until the two are released
                    drop((registration, permit));
                });
            }
            Err(error) => {
                log::warn!(
                    "an idle connection cannot be registered with epoll: {error}; it is closed at once"
                );
            }
        }
    }

    /// Closes the selected connections of the idle set, and returns their number.
    fn close_idle_if(self: &Arc<Self>, is_selected: impl Fn(&Detached) -> bool) -> usize {
        let selected = self.idle.remove_if(is_selected);
        let count = selected.len();
        for idle in selected {
            self.close(idle);
        }
        count
    }

    /// Sends each connection to `transfers` at a request boundary, as soon as it has a permit for the transfer.
    pub(crate) fn hand_over(self: &Arc<Self>, transfers: Sender<Transfer>) {
        *self.transfers.lock() = Some(transfers);
        self.shared.set_stage(Stage::HandOver);
        self.hand_over_idle();
        let registry = self.registry.clone();
        async_std::task::spawn(async move { registry.wake_in_batches(|_| true).await });
    }

    /// Ends the handover: the remaining connections are served here.
    pub(crate) fn cancel_hand_over(&self) {
        *self.transfers.lock() = None;
        self.shared.set_stage(Stage::Open);
        self.registry.wake_all();
    }

    /// Sends the connections of the idle set. A connection that receives a request before it is sent is served here.
    fn hand_over_idle(self: &Arc<Self>) {
        let connections = self.clone();
        async_std::task::spawn(async move {
            loop {
                let permits = connections.shared.transfer_limits.acquire_idle().await;
                if connections.shared.stage() != Stage::HandOver {
                    return;
                }
                let idle = connections.idle.remove_up_to(permits.len());
                if idle.is_empty() {
                    return;
                }
                for (connection, permit) in idle.into_iter().zip(permits) {
                    connections.send(Transfer { connection, permit });
                }
            }
        });
    }

    /// Sends a connection to the next process. If the handover has ended meanwhile, the connection is served here.
    fn send(self: &Arc<Self>, transfer: Transfer) {
        let transfers = self.transfers.lock().clone();
        let unsent = match transfers {
            Some(transfers) => transfers
                .try_send(transfer)
                .err()
                .map(async_channel::TrySendError::into_inner),
            None => Some(transfer),
        };
        if let Some(Transfer { connection, .. }) = unsent {
            self.serve_received(connection);
        }
    }

    /// Serves the connections of the idle set that become readable. It never returns.
    pub(crate) async fn serve_woken(self: Arc<Self>) {
        loop {
            match self.idle.next_readable().await {
                Ok(woken) => {
                    for connection in woken {
                        self.attach(connection);
                    }
                }
                Err(error) => {
                    log::error!(
                        "epoll_wait failed for the idle connections: {error}; the server tries again in a second"
                    );
                    Timer::after(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Wakes and closes the connections that are past a deadline. It never returns.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        loop {
            self.permits.wait_until_used().await;
            let limits = self.shared.limits();
            let http = &*limits;
            // If no connection has a task, only the timeout of the idle set is left, which is long.
            let idle_tick = async {
                Timer::after(tick([TimedState::IdleWithoutTask], http)).await;
            };
            future::or(self.registry.occupied(), idle_tick).await;
            if self.registry.len() > 0 {
                let states = TimedState::ALL.iter().map(|(state, _)| *state);
                Timer::after(tick(states, http)).await;
            }
            let now = now();
            self.registry.wake_overdue(now).await;
            self.close_idle_if(|idle| {
                TimedState::IdleWithoutTask.deadline(idle.since, &limits) <= now
            });
        }
    }

    pub(crate) fn count(&self) -> OpenConnections {
        count(&self.registry, &self.tunnels, &self.idle)
    }

    /// Returns the connection whose request has been in progress for the longest time.
    pub(crate) fn oldest_request(&self) -> Option<Cut> {
        self.registry.oldest_request()
    }

    /// Adds `Connection: close` to every response from now on. Idle connections may send one more request.
    pub(crate) fn announce_close(&self) {
        self.shared.set_stage(Stage::NoKeepAlive);
    }

    /// Closes idle connections. Returns the number of them that were in the idle set.
    pub(crate) fn close_idle(self: &Arc<Self>) -> usize {
        self.shared.set_stage(Stage::CloseIdle);
        let closed = self.close_idle_if(|_| true);
        self.registry.wake_all();
        closed
    }

    /// Ends the waiting for request bodies, so that handlers return.
    pub(crate) fn stop(&self) {
        self.shared.set_stage(Stage::Stop);
        self.registry.wake_all();
    }

    /// Closes all connections at once. Returns the connections that had a task.
    pub(crate) fn cut(self: &Arc<Self>) -> Vec<Cut> {
        let connections = self.registry.all();
        self.shared.set_stage(Stage::Cut);
        self.close_idle_if(|_| true);
        self.registry.wake_all();
        connections
    }

    /// Keeps connections alive again after a pause.
    pub(crate) fn reopen(&self) {
        self.shared.set_stage(Stage::Open);
    }
}
