//! The clocks of a connection: when it must have made progress, kept as plain numbers that one ticker looks at.
//!
//! A timer for each connection would be armed and disarmed at each request, and each arming may wake the reactor.
//! Instead a connection only writes down by when something must happen; the ticker (`Connections::keep_time` of `serve`) looks at all
//! of them a few times in the shortest limit and wakes those that are overdue.

use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::states::State;
use crate::config;

/// A moment, in milliseconds since long before the process began to count.
pub(crate) type Millis = u64;

const NEVER: Millis = Millis::MAX;

/// When the process began to count. What comes from another process may be older than this one: some thirty years fit.
const BEGINNING: Millis = 1 << 40;

/// The present moment.
pub(crate) fn now() -> Millis {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let elapsed = BEGAN.get_or_init(Instant::now).elapsed().as_millis();
    Millis::try_from(elapsed)
        .unwrap_or(NEVER)
        .saturating_add(BEGINNING)
        .min(NEVER - 1)
}

/// The moment `limit` after `from`; never without a limit.
pub(super) fn after(from: Millis, limit: Option<Duration>) -> Millis {
    limit.map_or(NEVER, |limit| {
        from.saturating_add(Millis::try_from(limit.as_millis()).unwrap_or(NEVER))
    })
}

/// What a connection waits for from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReadState {
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// More of a body that somebody asked for.
    Body,
    /// The end of a body that a handler holds, though its answer is sent.
    BodyHeld,
    /// The end of a request whose answer is a 101.
    BeforeSwitch,
    /// Nothing, until the handler that answered 101 uses its tunnel.
    Switching,
    /// Bytes of another protocol.
    Tunnel,
    /// The end of what it sends: everything was sent to it, and the connection is being closed.
    End,
    /// Nothing: a handler works, or a response is on its way.
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

    /// The state whose clock runs meanwhile.
    pub(crate) fn state(self) -> State {
        match self {
            ReadState::Idle => State::Idle,
            ReadState::Head => State::Head,
            ReadState::Body => State::Body,
            ReadState::BodyHeld => State::BodyHeld,
            ReadState::BeforeSwitch => State::BeforeSwitch,
            ReadState::Switching => State::Switching,
            ReadState::Tunnel => State::Tunnel,
            ReadState::End => State::Lingering,
            ReadState::Nothing => State::Response,
        }
    }
}

/// By when a connection must have got on with reading, writing and answering.
#[derive(Debug)]
pub(crate) struct Deadlines {
    waiting: AtomicU8,
    since: AtomicU64,
    read_by: AtomicU64,
    write_by: AtomicU64,
    answer_by: AtomicU64,
}

impl Deadlines {
    /// Deadlines of a connection that has waited for `waiting` since `since`, and whose deadline counts from `from`.
    pub(crate) fn new(
        waiting: ReadState,
        since: Millis,
        from: Millis,
        limits: &config::Http,
    ) -> Self {
        Deadlines {
            waiting: AtomicU8::new(waiting as u8),
            since: AtomicU64::new(since),
            read_by: AtomicU64::new(waiting.state().deadline(from, limits)),
            write_by: AtomicU64::new(NEVER),
            answer_by: AtomicU64::new(NEVER),
        }
    }

    /// What the client is to send next.
    pub(crate) fn waiting(&self) -> ReadState {
        let waiting = usize::from(self.waiting.load(Ordering::Relaxed));
        ReadState::ALL[waiting.min(ReadState::ALL.len() - 1)]
    }

    /// Since when the connection waits for it.
    pub(crate) fn since(&self) -> Millis {
        self.since.load(Ordering::Relaxed)
    }

    /// The client is to send `waiting` from now on; the clock of that state starts.
    pub(crate) fn wait(&self, waiting: ReadState, limits: &config::Http) {
        let since = now();
        self.waiting.store(waiting as u8, Ordering::Relaxed);
        self.since.store(since, Ordering::Relaxed);
        self.read_by
            .store(waiting.state().deadline(since, limits), Ordering::Relaxed);
    }

    /// The connection has been closing since `since`; its progress is checked again at `check`.
    pub(super) fn linger(&self, since: Millis, check: Millis) {
        self.waiting.store(ReadState::End as u8, Ordering::Relaxed);
        self.since.store(since, Ordering::Relaxed);
        self.read_by.store(check, Ordering::Relaxed);
        self.write_moved();
        self.answered();
    }

    /// Nothing is expected of the client.
    pub(crate) fn wait_for_nothing(&self) {
        self.waiting
            .store(ReadState::Nothing as u8, Ordering::Relaxed);
        self.read_by.store(NEVER, Ordering::Relaxed);
    }

    /// The client takes nothing of the response; its time counts from the first refusal.
    pub(crate) fn write_stalled(&self, limits: impl FnOnce() -> Arc<config::Http>) {
        if self.write_by.load(Ordering::Relaxed) == NEVER {
            let by = State::Stalled.deadline(now(), &limits());
            self.write_by.store(by, Ordering::Relaxed);
        }
    }

    /// The client took something, or nothing is to be written.
    pub(crate) fn write_moved(&self) {
        self.write_by.store(NEVER, Ordering::Relaxed);
    }

    /// `state` begins, whose end is an answer or the end of an HTTP/2 connection.
    pub(crate) fn answer(&self, state: State, since: Millis, limits: &config::Http) {
        self.answer_by
            .store(state.deadline(since, limits), Ordering::Relaxed);
    }

    /// The handler has answered, or nobody waits for it.
    pub(crate) fn answered(&self) {
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

    /// Whether any of the three has run out.
    pub(crate) fn overdue(&self, now: Millis) -> bool {
        self.read_overdue(now) || self.write_overdue(now) || self.answer_overdue(now)
    }
}

/// How often to look, so that a limit is overrun by no more than an eighth of itself, and an idle machine sleeps.
pub(crate) fn tick(states: impl IntoIterator<Item = State>, limits: &config::Http) -> Duration {
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
    fn no_limit_is_never_overdue() {
        let limits = config::Http {
            idle_timeout: None,
            idle_release: None,
            ..limits()
        };
        assert!(!Deadlines::new(ReadState::Idle, 5, 5, &limits).overdue(NEVER - 1));
    }

    #[test]
    fn a_stalled_write_counts_from_its_first_refusal() {
        let deadlines = Deadlines::new(ReadState::Nothing, 0, 0, &limits());
        deadlines.write_stalled(|| Arc::new(limits()));
        deadlines.write_stalled(|| unreachable!("the clock runs already"));
        let late = now() + 3_600_000;
        assert!(deadlines.write_overdue(late));
        deadlines.write_moved();
        assert!(!deadlines.overdue(late));
    }

    #[test]
    fn waiting_for_nothing_has_no_deadline() {
        let deadlines = Deadlines::new(ReadState::Head, 0, 0, &limits());
        assert!(deadlines.read_overdue(3_600_000));
        deadlines.wait_for_nothing();
        assert_eq!(deadlines.waiting(), ReadState::Nothing);
        assert!(!deadlines.overdue(3_600_000));
    }

    #[test]
    fn whatever_is_waited_for_is_read_back() {
        for waiting in ReadState::ALL {
            let deadlines = Deadlines::new(waiting, 0, 0, &limits());
            assert_eq!(deadlines.waiting(), waiting);
        }
    }

    proptest! {
        #[test]
        fn a_deadline_is_never_before_its_start(from in 0..u64::MAX, limit in proptest::option::of(0u64..u64::MAX)) {
            prop_assert!(after(from, limit.map(Duration::from_millis)) >= from);
        }

        #[test]
        fn a_limit_is_looked_at_at_least_every_eighth_of_it(millis in 80u64..100_000) {
            let limit = Duration::from_millis(millis);
            let limits = config::Http { header_timeout: Some(limit), ..limits() };
            prop_assert!(tick([State::Head, State::Handler], &limits) <= limit / 8 + Duration::from_millis(1));
        }
    }
}
