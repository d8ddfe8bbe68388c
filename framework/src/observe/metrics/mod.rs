//! Metrics for Prometheus: requests, bytes, reloads, upgrades, drains. The counters survive an
//! upgrade.
//!
//! The old process of an upgrade sends its counters before the new process accepts connections. The
//! new process continues from them and keeps adding the requests that the old process still
//! answers. During the handover a scrape may reach either process. So that no counter goes
//! backwards, both processes then show the values that were sent: the new process until the
//! handover ends, the old process until it exits.
//!
//! [`cells`] stores the counters, [`text`] formats them.

mod cells;
#[cfg(feature = "metrics")]
mod text;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cells::{Counters, Snapshot, Values};

use crate::sync::lock::Mutex;
pub(crate) use cells::{Counter, CounterKey};

use super::CLIENT_GONE;

/// The counters of this process.
#[derive(Debug)]
pub(crate) struct Metrics {
    on: AtomicBool,
    counters: Counters,
    received: Values,
    sent: Values,
    version: String,
    /// The values that a scrape shows during the handover, in place of the current ones.
    frozen: Mutex<Option<Snapshot>>,
}

/// Values that are read at the time of a scrape.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    not(feature = "metrics"),
    allow(dead_code, reason = "read only by the feature `metrics`")
)]
pub(crate) struct Gauges {
    pub(crate) generation: u64,
    pub(crate) connections: ConnectionGauges,
}

/// The present numbers of the connections.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    not(feature = "metrics"),
    allow(dead_code, reason = "read only by the feature `metrics`")
)]
pub(crate) struct ConnectionGauges {
    /// The number of connections in each state, with the label of the state.
    pub(crate) by_state: [(&'static str, usize); 4],
    /// The bytes that are held for clients, out of `http.memory`.
    pub(crate) held: usize,
}

/// Measures one request until it is dropped.
#[derive(Debug)]
pub(crate) struct Meter {
    metrics: Arc<Metrics>,
    method: &'static str,
    route: Arc<str>,
    started: Instant,
    status: u16,
}

impl Metrics {
    pub(crate) fn new(version: &str) -> Arc<Self> {
        let counters = Counters::default();
        let (received, sent) = (
            counters.get(&CounterKey::Counter(Counter::Received)),
            counters.get(&CounterKey::Counter(Counter::Sent)),
        );
        let version = version.to_owned();
        Arc::new(Metrics {
            on: AtomicBool::new(false),
            counters,
            received,
            sent,
            version,
            frozen: Mutex::default(),
        })
    }

    /// Turns counting of requests on or off. It is on if `metrics.listen` or `metrics.path` is set.
    pub(crate) fn set_on(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, counter: Counter) {
        self.count_by(counter, 1);
    }

    pub(crate) fn count_by(&self, counter: Counter, number: u64) {
        self.counters.get(&CounterKey::Counter(counter)).add(number);
    }

    /// Counts received bytes of a request body.
    pub(crate) fn received(&self, bytes: u64) {
        if self.is_on() {
            self.received.add(bytes);
        }
    }

    /// Records the duration of the drain of this process.
    pub(crate) fn drained(&self, duration: Duration) {
        self.counters.get(&CounterKey::Drains).observe(duration);
    }

    /// Starts to measure a request.
    pub(crate) fn meter(self: &Arc<Self>, method: &str, route: Arc<str>) -> Meter {
        let (metrics, method) = (self.clone(), cells::known_method(method));
        Meter {
            metrics,
            method,
            route,
            started: Instant::now(),
            status: CLIENT_GONE,
        }
    }

    /// Returns the metrics as text.
    pub(crate) fn text(&self, gauges: &Gauges) -> String {
        // locked while the text is created: a scrape must not show more than `freeze` returned
        let frozen = self.frozen.lock();
        match &*frozen {
            Some(snapshot) => self.render(snapshot, gauges),
            None => self.render(&self.counters.snapshot(), gauges),
        }
    }

    /// Freezes the values that a scrape shows, and returns them as messages for the new process,
    /// which counts on from them.
    pub(crate) fn freeze(&self) -> Vec<String> {
        let mut frozen = self.frozen.lock();
        cells::pack(frozen.insert(self.counters.snapshot()))
    }

    /// Freezes the values in the new process, if it received any from the old process.
    pub(crate) fn freeze_received(&self) {
        if self.counters.has_received() {
            self.freeze();
        }
    }

    /// Shows the current values again: no other process is scraped any more.
    pub(crate) fn unfreeze(&self) {
        *self.frozen.lock() = None;
    }

    /// Returns the current values as messages for the other process.
    pub(crate) fn messages(&self) -> Vec<String> {
        cells::pack(&self.counters.snapshot())
    }

    /// Adds the values of another process. A repeated message adds only the difference to the
    /// previous one.
    pub(crate) fn merge(&self, message: &str) {
        self.counters.merge(message);
    }

    #[cfg(feature = "metrics")]
    fn render(&self, snapshot: &Snapshot, gauges: &Gauges) -> String {
        text::render(snapshot, gauges, &self.version)
    }

    #[cfg(not(feature = "metrics"))]
    fn render(&self, _: &Snapshot, _: &Gauges) -> String {
        let _ = &self.version;
        String::new()
    }
}

impl Meter {
    pub(crate) fn set_status(&mut self, status: u16) {
        self.status = status;
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.metrics.sent.add(bytes);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let Meter {
            metrics,
            method,
            route,
            started,
            status,
        } = self;
        let key = CounterKey::Requests {
            route: route.clone(),
            method,
            status: *status,
        };
        metrics.counters.get(&key).observe(started.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(metrics: &Metrics, key: &CounterKey) -> u64 {
        let snapshot = metrics.counters.snapshot();
        snapshot
            .iter()
            .find(|(known, _)| known == key)
            .map_or(0, |(_, values)| values.iter().skip(1).sum())
    }

    #[test]
    fn a_new_process_continues_the_counters_of_the_old_one_and_adds_only_differences() {
        let (old, new) = (Metrics::new("1"), Metrics::new("2"));
        let key = CounterKey::Requests {
            route: "/".into(),
            method: "GET",
            status: 200,
        };
        let request = |metrics: &Arc<Metrics>| metrics.meter("GET", "/".into()).set_status(200);
        request(&old);
        request(&old);
        for message in old.freeze() {
            new.merge(&message);
        }
        request(&new);
        assert_eq!(counted(&new, &key), 3);
        request(&old);
        for _ in 0..2 {
            for message in old.messages() {
                new.merge(&message);
            }
            assert_eq!(counted(&new, &key), 4);
        }
    }

    #[test]
    fn invalid_messages_are_ignored() {
        let metrics = Metrics::new("1");
        for message in ["", "{}", "[[7,[1]]]", r#"[[{"plain":"love"},[1]]]"#] {
            metrics.merge(message);
        }
        metrics.merge(r#"[["drains",[1,2]]]"#);
        metrics.merge(r#"[["drains",[18446744073709551615,18446744073709551615,3]]]"#);
    }
}
