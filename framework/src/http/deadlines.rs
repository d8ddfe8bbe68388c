//! The deadlines of a connection, as plain numbers. A single ticker inspects them.
//!
//! There is no timer for each connection, because each request would arm and disarm it, and arming may wake the reactor.
//! Instead a connection only stores by when it must have read, written or answered. The ticker
//! (`Connections::keep_time` in `serve`) inspects all connections a few times in the shortest limit and wakes the overdue
//! ones.

use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};
use std::sync::Arc;
use std::time::Duration;

use super::clock::{now, Millis, NEVER};
use super::states::TimedState;
use crate::config;

/// The input that a connection expects from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReadState {
    /// The first byte of a request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The next bytes of a request's body, which the handler is waiting for.
    Body,
    /// The rest of a body that the handler still holds after its answer was sent.
    BodyHeld,
    /// The rest of a request whose answer will be a 101.
    BeforeSwitch,
    /// Nothing until the handler that answered 101 uses its tunnel.
    Switching,
    /// Bytes of another protocol, without a deadline.
    Tunnel,
    /// The end of its stream: everything was sent to the client, and the connection is being closed.
    End,
    /// Nothing: a handler is working, or a response is being sent.
    Nothing,
}

impl ReadState {
    const ALL: [ReadState; 9] = [
        ReadState::Idle,
        ReadState::Head,
        ReadState::Body,
        ReadState::BodyHeld,
        ReadState::BeforeSwitch,
        ReadState::Switching,
        ReadState::Tunnel,
        ReadState::End,
        ReadState::Nothing,
    ];

    /// Returns the state whose clock runs while this input is expected.
    pub(crate) fn state(self) -> TimedState {
        match self {
            ReadState::Idle => TimedState::Idle,
            ReadState::Head => TimedState::Head,
            ReadState::Body => TimedState::Body,
            ReadState::BodyHeld => TimedState::BodyHeld,
            ReadState::BeforeSwitch => TimedState::BeforeSwitch,
            ReadState::Switching => TimedState::Switching,
            ReadState::Tunnel => TimedState::Tunnel,
            ReadState::End => TimedState::Lingering,
            ReadState::Nothing => TimedState::Response,
        }
    }
}

/// The moments by which a connection must have read, written and answered.
#[derive(Debug)]
pub(crate) struct Deadlines {
    read_state: AtomicU8,
    /// The moment at which the connection entered its read state.
    since: AtomicU64,
    /// The three deadlines. Each is [`NEVER`] while its clock does not run.
    read_by: AtomicU64,
    write_by: AtomicU64,
    answer_by: AtomicU64,
}

impl Deadlines {
    /// Returns the deadlines of a connection that has been in `read_state` since `since`. The clock of that state started
    /// at `from`.
    pub(crate) fn new(
        read_state: ReadState,
        since: Millis,
        from: Millis,
        limits: &config::Http,
    ) -> Self {
        Deadlines {
            read_state: AtomicU8::new(read_state as u8),
            since: AtomicU64::new(since),
            read_by: AtomicU64::new(read_state.state().deadline(from, limits)),
            write_by: AtomicU64::new(NEVER),
            answer_by: AtomicU64::new(NEVER),
        }
    }

    /// Returns the input that is expected from the client.
    pub(crate) fn read_state(&self) -> ReadState {
        let index = usize::from(self.read_state.load(Ordering::Relaxed));
        ReadState::ALL[index.min(ReadState::ALL.len() - 1)]
    }

    /// Returns the moment at which the connection entered its read state.
    pub(crate) fn since(&self) -> Millis {
        self.since.load(Ordering::Relaxed)
    }

    /// Enters a read state and starts its clock.
    pub(crate) fn set_read_state(&self, read_state: ReadState, limits: &config::Http) {
        let since = now();
        self.read_state.store(read_state as u8, Ordering::Relaxed);
        self.since.store(since, Ordering::Relaxed);
        self.read_by.store(
            read_state.state().deadline(since, limits),
            Ordering::Relaxed,
        );
    }

    /// Records that the connection has been closing since `since`. Its progress is inspected at `check`.
    pub(super) fn linger(&self, since: Millis, check: Millis) {
        self.read_state
            .store(ReadState::End as u8, Ordering::Relaxed);
        self.since.store(since, Ordering::Relaxed);
        self.read_by.store(check, Ordering::Relaxed);
        self.stop_write_clock();
        self.stop_answer_clock();
    }

    /// Stops the clock for reading, because no input is expected.
    pub(crate) fn expect_nothing(&self) {
        self.read_state
            .store(ReadState::Nothing as u8, Ordering::Relaxed);
        self.read_by.store(NEVER, Ordering::Relaxed);
    }

    /// Starts the clock for writing, because the socket accepts no bytes. A clock that already runs is not restarted.
    pub(crate) fn start_write_clock(&self, limits: impl FnOnce() -> Arc<config::Http>) {
        if self.write_by.load(Ordering::Relaxed) == NEVER {
            let by = TimedState::Stalled.deadline(now(), &limits());
            self.write_by.store(by, Ordering::Relaxed);
        }
    }

    /// Stops the clock for writing, because the socket accepted bytes or nothing is left to write.
    pub(crate) fn stop_write_clock(&self) {
        self.write_by.store(NEVER, Ordering::Relaxed);
    }

    /// Starts the clock of `state`, which ends with an answer. HTTP/2 connections use this clock for their own states.
    pub(crate) fn start_answer_clock(
        &self,
        state: TimedState,
        since: Millis,
        limits: &config::Http,
    ) {
        self.answer_by
            .store(state.deadline(since, limits), Ordering::Relaxed);
    }

    /// Stops the clock for the answer.
    pub(crate) fn stop_answer_clock(&self) {
        self.answer_by.store(NEVER, Ordering::Relaxed);
    }

    pub(crate) fn read_overdue(&self, now: Millis) -> bool {
        self.read_by.load(Ordering::Relaxed) <= now
    }

    pub(crate) fn write_overdue(&self, now: Millis) -> bool {
        self.write_by.load(Ordering::Relaxed) <= now
    }

    pub(crate) fn answer_overdue(&self, now: Millis) -> bool {
        self.answer_by.load(Ordering::Relaxed) <= now
    }

    /// Returns true if any of the three deadlines has passed.
    pub(crate) fn overdue(&self, now: Millis) -> bool {
        self.read_overdue(now) || self.write_overdue(now) || self.answer_overdue(now)
    }
}

/// Returns the ticker's interval: an eighth of the shortest limit of `states`, between 10 ms and 250 ms. A deadline is
/// therefore noticed late by at most an eighth of its limit, or by 10 ms if that is longer.
pub(crate) fn tick(
    states: impl IntoIterator<Item = TimedState>,
    limits: &config::Http,
) -> Duration {
    let shortest = states
        .into_iter()
        .filter_map(|state| state.limit(limits))
        .min()
        .unwrap_or(Duration::from_secs(2));
    (shortest / 8).clamp(Duration::from_millis(10), Duration::from_millis(250))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> config::Http {
        config::Config::default().http
    }

    #[test]
    fn a_state_without_a_limit_is_never_overdue() {
        let limits = config::Http {
            idle_timeout: None,
            idle_release: None,
            ..limits()
        };
        assert!(!Deadlines::new(ReadState::Idle, 5, 5, &limits).overdue(NEVER - 1));
    }

    #[test]
    fn the_clock_for_writing_is_not_restarted_while_it_runs() {
        let deadlines = Deadlines::new(ReadState::Nothing, 0, 0, &limits());
        deadlines.start_write_clock(|| Arc::new(limits()));
        deadlines.start_write_clock(|| unreachable!("the clock runs already"));
        let late = now() + 3_600_000;
        assert!(deadlines.write_overdue(late));
        deadlines.stop_write_clock();
        assert!(!deadlines.overdue(late));
    }

    #[test]
    fn no_expected_input_means_no_deadline() {
        let deadlines = Deadlines::new(ReadState::Head, 0, 0, &limits());
        assert!(deadlines.read_overdue(3_600_000));
        deadlines.expect_nothing();
        assert_eq!(deadlines.read_state(), ReadState::Nothing);
        assert!(!deadlines.overdue(3_600_000));
    }

    #[test]
    fn each_read_state_is_returned_as_it_was_set() {
        for read_state in ReadState::ALL {
            let deadlines = Deadlines::new(read_state, 0, 0, &limits());
            assert_eq!(deadlines.read_state(), read_state);
        }
    }

    proptest! {
        #[test]
        fn the_tickers_interval_is_at_most_an_eighth_of_the_shortest_limit(millis in 80u64..100_000) {
            let limit = Duration::from_millis(millis);
            let limits = config::Http { header_timeout: Some(limit), ..limits() };
            prop_assert!(tick([TimedState::Head, TimedState::Handler], &limits) <= limit / 8 + Duration::from_millis(1));
        }
    }
}
