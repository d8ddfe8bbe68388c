//! Waiting for a condition, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// The interval between two checks.
const STEP: Duration = Duration::from_millis(2);

/// Waits until `probe` returns a value.
///
/// # Panics
///
/// Panics after `within`; the message names `event`.
pub fn until<T>(within: Duration, event: &str, probe: impl FnMut() -> Option<T>) -> T {
    maybe(within, probe).unwrap_or_else(|| panic!("not within {within:?}: {event}"))
}

/// Waits until `probe` returns a value; returns `None` after `within`.
pub fn maybe<T>(within: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(STEP);
    }
}
