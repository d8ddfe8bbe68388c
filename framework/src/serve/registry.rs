//! The states of all connections that have a task, so that they can be woken and listed.

use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;
use futures_lite::future::yield_now;
use slab::Slab;

use crate::http::clock::{now, Millis};
use crate::http::deadlines::ReadState;
use crate::http::state::{ConnState, RequestInfo};
use crate::sync::lock::Mutex;

/// The number of connections that are woken before other tasks run.
const BATCH: usize = 32;

/// The states of all connections that have a task.
#[derive(Default)]
pub(crate) struct Registry {
    states: Mutex<Slab<Arc<ConnState>>>,
    /// Notified when a connection is added to an empty registry.
    occupied: Event,
}

/// The registration of one connection. It is removed on drop.
pub(crate) struct Registration {
    registry: Arc<Registry>,
    /// `None` until a state is set.
    key: Mutex<Option<usize>>,
}

/// A connection that was closed before its end, because a shutdown reached the end of `shutdown.force_after`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// The client's address: `IP:PORT`, or `unix:` and a path.
    pub peer: String,
    /// The method and path of the request in progress, or of the request that opened a tunnel. `None` between two
    /// requests.
    pub request: Option<String>,
    /// True if the server had sent everything and closed its side, and the client had not received everything or not
    /// closed its own side.
    pub closing: bool,
    /// The time since the request began. If there is none, the time since the closing began, or since the connection was
    /// accepted.
    pub age: Duration,
}

impl Registry {
    pub(crate) fn registration(self: &Arc<Self>) -> Registration {
        Registration {
            registry: self.clone(),
            key: Mutex::new(None),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.states.lock().len()
    }

    /// Waits until at least one connection is registered.
    pub(crate) async fn occupied(&self) {
        while self.len() == 0 {
            let occupied = self.occupied.listen();
            if self.len() == 0 {
                occupied.await;
            }
        }
    }

    /// Wakes the connections that are past a deadline.
    pub(crate) async fn wake_overdue(&self, now: Millis) {
        self.wake_in_batches(|conn| conn.deadlines.overdue(now))
            .await;
    }

    /// Wakes all connections after a change of the stage. Their permits for a transfer to another process are released.
    pub(crate) fn wake_all(&self) {
        let states = self.states.lock();
        for (_, conn) in &*states {
            conn.take_transfer_permit();
            conn.wake();
        }
    }

    /// Wakes the selected connections in batches and lets other tasks run in between, so that a new request does not wait
    /// for all of them.
    pub(crate) async fn wake_in_batches(&self, is_selected: impl Fn(&ConnState) -> bool) {
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.wake_batch(from, &is_selected);
            yield_now().await;
        }
    }

    /// Wakes one batch, starting at the key `from`. Returns the key at which the next batch starts.
    fn wake_batch(&self, from: usize, is_selected: impl Fn(&ConnState) -> bool) -> Option<usize> {
        let states = self.states.lock();
        let mut woken = 0;
        for key in from..states.capacity() {
            if let Some(conn) = states.get(key).filter(|conn| is_selected(conn)) {
                conn.wake();
                woken += 1;
            }
            if woken == BATCH {
                return Some(key + 1);
            }
        }
        None
    }

    /// Returns the number of connections with a request in progress.
    pub(crate) fn active(&self) -> usize {
        let states = self.states.lock();
        states.iter().filter(|(_, conn)| conn.has_request()).count()
    }

    /// Returns the connection whose request is the oldest.
    pub(crate) fn oldest_request(&self) -> Option<Cut> {
        let states = self.states.lock();
        let active = states
            .iter()
            .filter_map(|(_, conn)| Some((conn.request()?, conn)));
        let oldest = active.min_by_key(|(request, _)| request.began);
        oldest.map(|(request, conn)| Cut::of(conn, Some(&request), now()))
    }

    /// Returns all connections, for the report of a shutdown.
    pub(crate) fn all(&self) -> Vec<Cut> {
        let states = self.states.lock();
        states
            .iter()
            .map(|(_, conn)| Cut::of(conn, conn.request().as_ref(), now()))
            .collect()
    }
}

impl Registration {
    /// Registers a state, in place of the previous one.
    pub(crate) fn set(&self, conn: &Arc<ConnState>) {
        let mut key = self.key.lock();
        let mut states = self.registry.states.lock();
        match key.and_then(|key| states.get_mut(key)) {
            Some(old) => *old = conn.clone(),
            None => {
                if states.is_empty() {
                    self.registry.occupied.notify(usize::MAX);
                }
                *key = Some(states.insert(conn.clone()));
            }
        }
    }

    /// Returns the registered state.
    pub(crate) fn conn(&self) -> Option<Arc<ConnState>> {
        let key = *self.key.lock();
        let states = self.registry.states.lock();
        key.and_then(|key| states.get(key).cloned())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let key = self.key.lock().take();
        let mut states = self.registry.states.lock();
        let removed = key.and_then(|key| states.try_remove(key));
        drop(states);
        drop(removed);
    }
}

impl Cut {
    fn of(conn: &ConnState, request: Option<&RequestInfo>, now: Millis) -> Self {
        let closing = conn.deadlines.read_state() == ReadState::End;
        let began = match request {
            Some(request) => request.began,
            None if closing => conn.deadlines.since(),
            None => conn.accepted,
        };
        Cut {
            peer: conn.endpoints.peer.clone(),
            request: request.map(|request| format!("{} {}", request.method, request.uri.path())),
            closing,
            age: Duration::from_millis(now.saturating_sub(began)),
        }
    }
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let activity = match &self.request {
            Some(request) => request,
            None if self.closing => "closing",
            None => "no request",
        };
        write!(f, "{} ({activity}, {:.1?})", self.peer, self.age)
    }
}
