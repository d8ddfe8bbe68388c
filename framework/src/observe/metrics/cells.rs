//! Storage of counters by key, and their transfer between processes. The text format is elsewhere.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::sync::lock::{Mutex, RwLock};

/// Upper bounds of the histogram buckets, in microseconds. The last bucket has no bound.
pub(super) const BOUNDS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// The values of a counter: a sum of microseconds, then the buckets. A simple counter uses only the
/// first value.
const VALUES: usize = 1 + BOUNDS.len() + 1;

/// The number of counters in one message of the handover. It has to fit into the message even with
/// long routes.
const MESSAGE_COUNTERS: usize = 64;

/// The identity of a counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CounterKey {
    /// Requests with a response, and their durations.
    #[serde(rename = "answers")]
    Requests {
        #[serde(serialize_with = "as_text")]
        route: Arc<str>,
        method: &'static str,
        status: u16,
    },
    #[serde(rename = "plain")]
    Counter(Counter),
    /// The durations of drains.
    Drains,
}

/// The values of all counters at one moment.
pub(super) type Snapshot = Vec<(CounterKey, Vec<u64>)>;

/// A counter without durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Counter {
    /// Bytes of request bodies.
    Received,
    /// Bytes of response bodies.
    Sent,
    /// Connections accepted from the kernel.
    Accepted,
    /// Connections received from the old process of an upgrade.
    Taken,
    ReloadsDone,
    ReloadsRefused,
    UpgradesDone,
    UpgradesFailed,
}

/// A [`CounterKey`] in a message of another process.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReceivedKey {
    #[serde(rename = "answers")]
    Requests {
        route: String,
        method: String,
        status: u16,
    },
    #[serde(rename = "plain")]
    Counter(Counter),
    Drains,
}

impl From<ReceivedKey> for CounterKey {
    fn from(key: ReceivedKey) -> Self {
        match key {
            ReceivedKey::Requests {
                route,
                method,
                status,
            } => CounterKey::Requests {
                route: route.into(),
                method: known_method(&method),
                status,
            },
            ReceivedKey::Counter(counter) => CounterKey::Counter(counter),
            ReceivedKey::Drains => CounterKey::Drains,
        }
    }
}

fn as_text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

/// Returns a static name for a known method, or `other`. The client chooses the method, so unknown
/// ones share one counter.
pub(super) fn known_method(name: &str) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("other")
}

/// A counter or histogram.
#[derive(Clone, Debug, Default)]
pub(super) struct Values(Arc<[AtomicU64; VALUES]>);

impl Values {
    pub(super) fn add(&self, number: u64) {
        self.0[0].fetch_add(number, Ordering::Relaxed);
    }

    pub(super) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS
            .iter()
            .position(|bound| micros <= *bound)
            .unwrap_or(BOUNDS.len());
        self.add(micros);
        self.0[1 + bucket].fetch_add(1, Ordering::Relaxed);
    }

    fn load(&self) -> Vec<u64> {
        self.0
            .iter()
            .map(|value| value.load(Ordering::Relaxed))
            .collect()
    }
}

/// All counters of the process.
#[derive(Debug, Default)]
pub(super) struct Counters {
    all: RwLock<HashMap<CounterKey, Values>>,
    /// The values that the other process sent last.
    received: Mutex<HashMap<CounterKey, Vec<u64>>>,
}

impl Counters {
    pub(super) fn get(&self, key: &CounterKey) -> Values {
        if let Some(known) = self.all.read().get(key) {
            return known.clone();
        }
        self.all.write().entry(key.clone()).or_default().clone()
    }

    /// Returns the values of all counters, sorted by key.
    pub(super) fn snapshot(&self) -> Snapshot {
        let all = self.all.read();
        let mut snapshot: Vec<_> = all
            .iter()
            .map(|(key, values)| (key.clone(), values.load()))
            .collect();
        snapshot.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        snapshot
    }

    /// Returns true if another process has sent values.
    pub(super) fn has_received(&self) -> bool {
        !self.received.lock().is_empty()
    }

    /// Adds the difference to the values that the same process sent before. A message that cannot
    /// be parsed is ignored: losing counts is acceptable.
    pub(super) fn merge(&self, message: &str) {
        let Ok(counters) = serde_json::from_str::<Vec<(ReceivedKey, Vec<u64>)>>(message) else {
            return;
        };
        let mut received = self.received.lock();
        for (key, values) in counters {
            let key = CounterKey::from(key);
            let counter = self.get(&key);
            let last = received.entry(key).or_default();
            last.resize(VALUES, 0);
            for (index, (now, last)) in values.into_iter().zip(last).enumerate() {
                counter.0[index].fetch_add(now.saturating_sub(*last), Ordering::Relaxed);
                *last = now.max(*last);
            }
        }
    }
}

/// Serializes the values into messages of limited size.
pub(super) fn pack(snapshot: &Snapshot) -> Vec<String> {
    // numbers and text always serialize
    snapshot
        .chunks(MESSAGE_COUNTERS)
        .filter_map(|chunk| serde_json::to_string(chunk).ok())
        .collect()
}
