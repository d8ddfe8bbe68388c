//! Waiting for something to become true, with an end.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(2);

/// Waits until `probe` gives a value.
///
/// # Panics
///
/// After `within`, saying that `what` did not happen.
pub fn until<T>(within: Duration, what: &str, probe: impl FnMut() -> Option<T>) -> T {
    maybe(within, probe).unwrap_or_else(|| panic!("within {within:?}: {what}: did not happen"))
}

/// Waits until `probe` gives a value, at most `within`.
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
