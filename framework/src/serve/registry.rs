//! Who is being served: the records of all active connections and tunnels, to wake them and to name them.

use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;
use futures_lite::future::yield_now;
use slab::Slab;

use crate::http::deadlines::{now, Millis, ReadState};
use crate::http::state::{ConnState, Request};
use crate::sync::lock::Mutex;

/// How many are woken at a time, where nothing is urgent.
const AT_A_TIME: usize = 32;

/// The records of all connections that have a task.
#[derive(Default)]
pub(crate) struct Registry {
    states: Mutex<Slab<Arc<ConnState>>>,
    /// Told when somebody comes to an empty ledger.
    somebody: Event,
}

/// The line of one connection; struck out when dropped.
pub(crate) struct Registration {
    registry: Arc<Registry>,
    key: Mutex<Option<usize>>,
}

/// A connection that was still at work when everything was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// The client's address, `IP:PORT`, or `unix:` and its path.
    pub peer: String,
    /// Method and path of the request it waited for; `None` for a tunnel, or between two requests.
    pub request: Option<String>,
    /// True if everything had been sent, and the client had not taken all of it or not closed its side.
    pub closing: bool,
    /// How long that request, or the closing, or else the connection, had been going on.
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

    /// Waits until somebody is there.
    pub(crate) async fn occupied(&self) {
        while self.len() == 0 {
            let somebody = self.somebody.listen();
            if self.len() == 0 {
                somebody.await;
            }
        }
    }

    /// Has those look at the clock who have run out of time.
    pub(crate) async fn wake_overdue(&self, now: Millis) {
        self.wake_in_turn(|conn| conn.deadlines.overdue(now)).await;
    }

    /// Has all of them look at the stage, now. Whoever had a place on the way to another process has none any more.
    pub(crate) fn wake_all(&self) {
        let states = self.states.lock();
        for (_, conn) in &*states {
            conn.stays();
            conn.wake();
        }
    }

    /// WakeOnDrop some, lets them run, and goes on: a request that comes meanwhile waits for some of them at the most.
    pub(crate) async fn wake_in_turn(&self, which: impl Fn(&ConnState) -> bool) {
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.wake_some(from, &which);
            yield_now().await;
        }
    }

    /// Returns the line after the last one that was woken, if there are more.
    fn wake_some(&self, from: usize, which: impl Fn(&ConnState) -> bool) -> Option<usize> {
        let states = self.states.lock();
        let mut woken = 0;
        for key in from..states.capacity() {
            if let Some(conn) = states.get(key).filter(|conn| which(conn)) {
                conn.wake();
                woken += 1;
            }
            if woken == AT_A_TIME {
                return Some(key + 1);
            }
        }
        None
    }

    /// How many have a request that is being answered.
    pub(crate) fn asking(&self) -> usize {
        let states = self.states.lock();
        states.iter().filter(|(_, conn)| conn.asks()).count()
    }

    /// Names the one whose request is the oldest.
    pub(crate) fn oldest_request(&self) -> Option<Cut> {
        let states = self.states.lock();
        let asking = states
            .iter()
            .filter_map(|(_, conn)| Some((conn.request()?, conn)));
        let oldest = asking.min_by_key(|(request, _)| request.began);
        oldest.map(|(request, conn)| Cut::of(conn, Some(&request), now()))
    }

    /// Names all that are there, for the report of what is cut.
    pub(crate) fn survivors(&self) -> Vec<Cut> {
        let states = self.states.lock();
        states
            .iter()
            .map(|(_, conn)| Cut::of(conn, conn.request().as_ref(), now()))
            .collect()
    }
}

impl Registration {
    /// Puts a record on this line, in place of the one before.
    pub(crate) fn show(&self, conn: &Arc<ConnState>) {
        let mut key = self.key.lock();
        let mut states = self.registry.states.lock();
        match key.and_then(|key| states.get_mut(key)) {
            Some(old) => *old = conn.clone(),
            None => {
                if states.is_empty() {
                    self.registry.somebody.notify(usize::MAX);
                }
                *key = Some(states.insert(conn.clone()));
            }
        }
    }

    /// The record that is shown.
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
    fn of(conn: &ConnState, request: Option<&Request>, now: Millis) -> Self {
        let closing = conn.deadlines.waiting() == ReadState::End;
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
        let what = match &self.request {
            Some(request) => request,
            None if self.closing => "closing",
            None => "no request",
        };
        write!(f, "{} ({what}, {:.1?})", self.peer, self.age)
    }
}
