//! The clock of the connections: moments as plain numbers, so that they can be stored in atomics.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A moment in milliseconds. The first call of [`now`] returned [`ORIGIN`].
pub(crate) type Millis = u64;

/// The moment that is never reached: the deadline of a state without a limit.
pub(super) const NEVER: Millis = Millis::MAX;

/// The value of [`now`] at its first call. It is about 35 years, so that the moments of a connection that comes from an
/// older process are not negative.
const ORIGIN: Millis = 1 << 40;

/// Returns the current moment.
pub(crate) fn now() -> Millis {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed().as_millis();
    Millis::try_from(elapsed)
        .unwrap_or(NEVER)
        .saturating_add(ORIGIN)
        .min(NEVER - 1)
}

/// Returns the moment `limit` after `from`, or [`NEVER`] without a limit.
pub(super) fn after(from: Millis, limit: Option<Duration>) -> Millis {
    limit.map_or(NEVER, |limit| {
        from.saturating_add(Millis::try_from(limit.as_millis()).unwrap_or(NEVER))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_deadline_is_never_before_its_start(from in 0..u64::MAX, limit in proptest::option::of(0u64..u64::MAX)) {
            prop_assert!(after(from, limit.map(Duration::from_millis)) >= from);
        }
    }
}
