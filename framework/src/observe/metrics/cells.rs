//! Counters by key, and how one process tells another what it has counted: pure storage, no text format.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::sync::lock::{Mutex, RwLock};

/// Upper bounds of the buckets of durations, in microseconds; one more has none.
pub(super) const BOUNDS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// A sum of microseconds, then the buckets. What is only counted uses the sum alone.
const VALUES: usize = 1 + BOUNDS.len() + 1;

/// How many counters one piece holds: it has to fit into a message of the handover, with long routes too.
const PIECE: usize = 64;

/// What a counter is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Key {
    /// Requests that were answered, and how long that took.
    Answers {
        #[serde(serialize_with = "as_text")]
        route: Arc<str>,
        method: &'static str,
        status: u16,
    },
    Plain(Plain),
    /// How long processes took to leave.
    Drains,
}

/// All that was counted until a moment.
pub(super) type Counted = Vec<(Key, Vec<u64>)>;

/// What is only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Plain {
    Received,
    Sent,
    Accepted,
    Taken,
    ReloadsDone,
    ReloadsRefused,
    UpgradesDone,
    UpgradesFailed,
}

/// A key as another process writes it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Answers {
        route: String,
        method: String,
        status: u16,
    },
    Plain(Plain),
    Drains,
}

impl From<Told> for Key {
    fn from(told: Told) -> Self {
        match told {
            Told::Answers {
                route,
                method,
                status,
            } => Key::Answers {
                route: route.into(),
                method: known_method(&method),
                status,
            },
            Told::Plain(plain) => Key::Plain(plain),
            Told::Drains => Key::Drains,
        }
    }
}

fn as_text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

/// Methods are the client's choice: those that nobody knows are one.
pub(super) fn known_method(name: &str) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("other")
}

/// One counter.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell(Arc<[AtomicU64; VALUES]>);

impl Cell {
    pub(super) fn add(&self, number: u64) {
        self.0[0].fetch_add(number, Ordering::Relaxed);
    }

    pub(super) fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS
            .iter()
            .position(|bound| micros <= *bound)
            .unwrap_or(BOUNDS.len());
        self.add(micros);
        self.0[1 + bucket].fetch_add(1, Ordering::Relaxed);
    }

    fn values(&self) -> Vec<u64> {
        self.0
            .iter()
            .map(|value| value.load(Ordering::Relaxed))
            .collect()
    }
}

/// All counters.
#[derive(Debug, Default)]
pub(super) struct Cells {
    all: RwLock<HashMap<Key, Cell>>,
    /// What another process has told last.
    heard: Mutex<HashMap<Key, Vec<u64>>>,
}

impl Cells {
    pub(super) fn get(&self, key: &Key) -> Cell {
        if let Some(known) = self.all.read().get(key) {
            return known.clone();
        }
        self.all.write().entry(key.clone()).or_default().clone()
    }

    /// All that has been counted, in the order of keys.
    pub(super) fn told(&self) -> Counted {
        let all = self.all.read();
        let mut told: Vec<_> = all
            .iter()
            .map(|(key, cell)| (key.clone(), cell.values()))
            .collect();
        told.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        told
    }

    /// Whether another process has told anything.
    pub(super) fn has_heard(&self) -> bool {
        !self.heard.lock().is_empty()
    }

    /// Adds what has come since the same process told the last time. What cannot be read is left out: it is but a count.
    pub(super) fn hear(&self, piece: &str) {
        let Ok(told) = serde_json::from_str::<Vec<(Told, Vec<u64>)>>(piece) else {
            return;
        };
        let mut heard = self.heard.lock();
        for (key, values) in told {
            let key = Key::from(key);
            let cell = self.get(&key);
            let last = heard.entry(key).or_default();
            last.resize(VALUES, 0);
            for (place, (now, last)) in values.into_iter().zip(last).enumerate() {
                cell.0[place].fetch_add(now.saturating_sub(*last), Ordering::Relaxed);
                *last = now.max(*last);
            }
        }
    }
}

/// Pieces of text that fit into a message each.
pub(super) fn pack(told: &Counted) -> Vec<String> {
    // numbers and text always serialize
    told.chunks(PIECE)
        .filter_map(|piece| serde_json::to_string(piece).ok())
        .collect()
}
