//! What is counted for Prometheus: requests, bytes, reloads, upgrades, drains. The counters outlive the process.
//!
//! A new process begins with what the old one had counted, which it is told before it accepts, and goes on adding what
//! that one still answers. For a moment either may be asked: so that no scrape sees a counter go back, both show what was
//! told until the old one has handed over, and the old one as long as it lives.
//!
//! The storage is here; [`text`] is what Prometheus reads.

mod cells;
#[cfg(feature = "metrics")]
mod text;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cells::{Cell, Cells, Counted};

use crate::sync::lock::Mutex;
pub(crate) use cells::{Key, Plain};

use super::CLIENT_GONE;

/// The counters of this process.
#[derive(Debug)]
pub(crate) struct Metrics {
    on: AtomicBool,
    cells: Cells,
    received: Cell,
    sent: Cell,
    version: String,
    /// What is shown while two processes may be asked, whatever is counted meanwhile.
    frozen: Mutex<Option<Counted>>,
}

/// What is not counted but looked at.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    not(feature = "metrics"),
    allow(dead_code, reason = "nobody scrapes them")
)]
pub(crate) struct Gauges {
    pub(crate) generation: u64,
    /// Connections by what they do.
    pub(crate) connections: [(&'static str, usize); 4],
}

/// One request, until its answer has left.
#[derive(Debug)]
pub(crate) struct Meter {
    metrics: Arc<Metrics>,
    method: &'static str,
    route: Arc<str>,
    began: Instant,
    status: u16,
}

impl Metrics {
    pub(crate) fn new(version: &str) -> Arc<Self> {
        let cells = Cells::default();
        let (received, sent) = (
            cells.get(&Key::Plain(Plain::Received)),
            cells.get(&Key::Plain(Plain::Sent)),
        );
        let version = version.to_owned();
        Arc::new(Metrics {
            on: AtomicBool::new(false),
            cells,
            received,
            sent,
            version,
            frozen: Mutex::default(),
        })
    }

    /// Whether requests are counted: `metrics.listen` or `metrics.path` is set.
    pub(crate) fn set_on(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, what: Plain) {
        self.count_by(what, 1);
    }

    pub(crate) fn count_by(&self, what: Plain, number: u64) {
        self.cells.get(&Key::Plain(what)).add(number);
    }

    /// Bytes of a request's body have come.
    pub(crate) fn received(&self, bytes: u64) {
        if self.is_on() {
            self.received.add(bytes);
        }
    }

    /// This process has left, and that took so long.
    pub(crate) fn drained(&self, took: Duration) {
        self.cells.get(&Key::Drains).observe(took);
    }

    /// Measures a request.
    pub(crate) fn meter(self: &Arc<Self>, method: &str, route: Arc<str>) -> Meter {
        let (metrics, method) = (self.clone(), cells::known_method(method));
        Meter {
            metrics,
            method,
            route,
            began: Instant::now(),
            status: CLIENT_GONE,
        }
    }

    /// What there is to scrape.
    pub(crate) fn text(&self, gauges: &Gauges) -> String {
        // held while it is rendered: what is shown must not get ahead of what is told
        let frozen = self.frozen.lock();
        match &*frozen {
            Some(told) => self.render(told, gauges),
            None => self.render(&self.cells.told(), gauges),
        }
    }

    /// From now on another process counts on from here, and what is scraped does not change any more. Gives what that
    /// process is to be told.
    pub(crate) fn freeze(&self) -> Vec<String> {
        let mut frozen = self.frozen.lock();
        cells::pack(frozen.insert(self.cells.told()))
    }

    /// The same in the new process, which shows what it was told, if it was.
    pub(crate) fn freeze_what_was_heard(&self) {
        if self.cells.has_heard() {
            self.freeze();
        }
    }

    /// Nobody else is asked any more: what is counted here is shown.
    pub(crate) fn thaw(&self) {
        *self.frozen.lock() = None;
    }

    /// What has been counted until now, in pieces that fit into a message each.
    pub(crate) fn told(&self) -> Vec<String> {
        cells::pack(&self.cells.told())
    }

    /// Another process has counted so much until now; told again, only what has come since is added.
    pub(crate) fn hear(&self, piece: &str) {
        self.cells.hear(piece);
    }

    #[cfg(feature = "metrics")]
    fn render(&self, told: &Counted, gauges: &Gauges) -> String {
        text::render(told, gauges, &self.version)
    }

    #[cfg(not(feature = "metrics"))]
    fn render(&self, _: &Counted, _: &Gauges) -> String {
        let _ = &self.version;
        String::new()
    }
}

impl Meter {
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.metrics.sent.add(bytes);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let Meter {
            metrics,
            method,
            route,
            began,
            status,
        } = self;
        let key = Key::Answers {
            route: route.clone(),
            method,
            status: *status,
        };
        metrics.cells.get(&key).observe(began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(metrics: &Metrics, key: &Key) -> u64 {
        let told = metrics.cells.told();
        told.iter()
            .find(|(known, _)| known == key)
            .map_or(0, |(_, values)| values.iter().skip(1).sum())
    }

    #[test]
    fn a_new_process_counts_on_from_what_it_is_told_and_adds_only_what_has_come_since() {
        let (old, new) = (Metrics::new("1"), Metrics::new("2"));
        let key = Key::Answers {
            route: "/".into(),
            method: "GET",
            status: 200,
        };
        let ask = |metrics: &Arc<Metrics>| metrics.meter("GET", "/".into()).answered(200);
        ask(&old);
        ask(&old);
        old.freeze().iter().for_each(|piece| new.hear(piece));
        ask(&new);
        assert_eq!(counted(&new, &key), 3);
        ask(&old);
        for _ in 0..2 {
            old.told().iter().for_each(|piece| new.hear(piece));
            assert_eq!(counted(&new, &key), 4);
        }
    }

    #[test]
    fn what_a_stranger_says_is_not_counted() {
        let metrics = Metrics::new("1");
        for nonsense in ["", "{}", "[[7,[1]]]", r#"[[{"plain":"love"},[1]]]"#] {
            metrics.hear(nonsense);
        }
        metrics.hear(r#"[["drains",[1,2]]]"#);
        metrics.hear(r#"[["drains",[18446744073709551615,18446744073709551615,3]]]"#);
    }
}
