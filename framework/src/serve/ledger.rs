//! Who is being served: the records of all active connections and tunnels, to wake them and to name them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event_listener::Event;
use futures_lite::future::yield_now;
use slab::Slab;

use crate::http::record::{Record, Request};
use crate::http::timeouts::{now, Millis};

/// How many are woken at a time, where nothing is urgent.
const AT_A_TIME: usize = 32;

/// The records of all connections that have a task.
#[derive(Default)]
pub(crate) struct Ledger {
    records: Mutex<Slab<Arc<Record>>>,
    /// Told when somebody comes to an empty ledger.
    somebody: Event,
}

/// The line of one connection; struck out when dropped.
pub(crate) struct Entry {
    ledger: Arc<Ledger>,
    line: Mutex<Option<usize>>,
}

/// A connection that was still at work when everything was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// The client's address, `IP:PORT`, or `unix:` and its path.
    pub peer: String,
    /// Method and path of the request it waited for; `None` for a tunnel, or between two requests.
    pub request: Option<String>,
    /// How long that request, or else the connection, had been going on.
    pub age: Duration,
}

impl Ledger {
    pub(crate) fn entry(self: &Arc<Self>) -> Entry {
        Entry {
            ledger: self.clone(),
            line: Mutex::new(None),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
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
        self.wake_in_turn(|record| record.clocks.overdue(now)).await;
    }

    /// Has all of them look at the stage, now. Whoever had a place on the way to another process has none any more.
    pub(crate) fn wake_all(&self) {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, record) in &*records {
            record.stays();
            record.wake();
        }
    }

    /// Wakes some, lets them run, and goes on: a request that comes meanwhile waits for some of them at the most.
    pub(crate) async fn wake_in_turn(&self, which: impl Fn(&Record) -> bool) {
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.wake_some(from, &which);
            yield_now().await;
        }
    }

    /// Returns the line after the last one that was woken, if there are more.
    fn wake_some(&self, from: usize, which: impl Fn(&Record) -> bool) -> Option<usize> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let mut woken = 0;
        for line in from..records.capacity() {
            if let Some(record) = records.get(line).filter(|record| which(record)) {
                record.wake();
                woken += 1;
            }
            if woken == AT_A_TIME {
                return Some(line + 1);
            }
        }
        None
    }

    /// How many have a request that is being answered.
    pub(crate) fn asking(&self) -> usize {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().filter(|(_, record)| record.asks()).count()
    }

    /// Names the one whose request is the oldest.
    pub(crate) fn oldest_request(&self) -> Option<Cut> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let asking = records
            .iter()
            .filter_map(|(_, record)| Some((record.request()?, record)));
        let oldest = asking.min_by_key(|(request, _)| request.began);
        oldest.map(|(request, record)| Cut::of(record, Some(&request), now()))
    }

    /// Names all that are there, for the report of what is cut.
    pub(crate) fn survivors(&self) -> Vec<Cut> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records
            .iter()
            .map(|(_, record)| Cut::of(record, record.request().as_ref(), now()))
            .collect()
    }
}

impl Entry {
    /// Puts a record on this line, in place of the one before.
    pub(crate) fn show(&self, record: &Arc<Record>) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records = self
            .ledger
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match line.and_then(|line| records.get_mut(line)) {
            Some(old) => *old = record.clone(),
            None => {
                if records.is_empty() {
                    self.ledger.somebody.notify(usize::MAX);
                }
                *line = Some(records.insert(record.clone()));
            }
        }
    }

    /// The record that is shown.
    pub(crate) fn record(&self) -> Option<Arc<Record>> {
        let line = *self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let records = self
            .ledger
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        line.and_then(|line| records.get(line).cloned())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let line = self
            .line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut records = self
            .ledger
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let struck = line.and_then(|line| records.try_remove(line));
        drop(records);
        drop(struck);
    }
}

impl Cut {
    fn of(record: &Record, request: Option<&Request>, now: Millis) -> Self {
        let began = request.map_or(record.accepted, |request| request.began);
        Cut {
            peer: record.ends.peer.clone(),
            request: request.map(|request| format!("{} {}", request.method, request.uri.path())),
            age: Duration::from_millis(now.saturating_sub(began)),
        }
    }
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = self.request.as_deref().unwrap_or("no request");
        write!(f, "{} ({what}, {:.1?})", self.peer, self.age)
    }
}
