//! Every state of an HTTP/1.1 or HTTP/2 connection, and the clock that ends it.
//!
//! A deadline can only be computed from a [`TimedState`]. The macro below accepts no state without a clock, or without the
//! reason why it has none. The table in ARCHITECTURE.md lists the same states, and a test compares the two. Another test
//! (`tests/tests/states.rs`) holds a real connection in each state until it ends.

use std::fmt;
use std::time::Duration;

use super::clock::{after, Millis};
use crate::config;

/// The clock that ends a state.
pub(crate) enum Clock {
    /// The name of a setting, and a function that reads it. The setting may be `"none"`: no limit.
    Setting(&'static str, fn(&config::Http) -> Option<Duration>),
    /// A constant duration.
    Fixed(Duration),
    /// No clock, and the reason for it.
    Unlimited(&'static str),
}

use Clock::{Fixed, Setting, Unlimited};

macro_rules! states {
    ($($(#[$meta:meta])* $state:ident, $about:literal, $clock:expr;)+) => {
        /// A state of a connection, or of a stream of HTTP/2.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum TimedState {
            $($(#[$meta])* #[doc = $about] $state,)+
        }

        impl TimedState {
            /// All states, each with its description.
            pub(crate) const ALL: &[(TimedState, &str)] =
                &[$($(#[$meta])* (TimedState::$state, $about),)+];

            /// Returns the clock that ends the state.
            pub(crate) const fn clock(self) -> Clock {
                match self {
                    $($(#[$meta])* TimedState::$state => $clock,)+
                }
            }
        }
    };
}

states! {
    Idle, "no byte of the next request has arrived; when the clock ends, the connection enters the `IdleSet` or is closed",
        Setting("http.idle_release, http.idle_timeout", |http| {
            http.idle_release.into_iter().chain(http.idle_timeout).min()
        });
    IdleWithoutTask, "an idle connection in the `IdleSet`, without a task and without buffers",
        Setting("http.idle_timeout", |http| http.idle_timeout);
    Head, "a part of a request's head has arrived",
        Setting("http.header_timeout", |http| http.header_timeout);
    Handler, "the handler has not answered yet",
        Setting("http.request_timeout", |http| http.request_timeout);
    Body, "the handler waits for the next byte of the request's body",
        Setting("http.body_timeout", |http| http.body_timeout);
    Response, "the body of the response is produced and sent",
        Unlimited("a stream may last; it ends with its handler or by `Stalled`");
    Stalled, "a write to the client is blocked, in any state",
        Setting("http.write_timeout", |http| http.write_timeout);
    BodyHeld, "the answer has been sent, but the handler still holds the request's body and does not read it",
        Setting("http.body_timeout", |http| http.body_timeout);
    BeforeSwitch, "the handler has answered 101, and the rest of the request is read before the 101 is sent",
        Setting("http.body_timeout", |http| http.body_timeout);
    Switching, "the 101 is being sent, or the handler has not used its tunnel yet",
        Fixed(Duration::from_secs(10));
    Tunnel, "the connection carries another protocol after a 101",
        Unlimited("it ends with its handler or by `Stalled`; a WebSocket sends pings (`Upgrade::ping`)");
    #[cfg(feature = "ws")]
    WebSocketClosing, "a close frame or the end of the stream has been sent, and the client has not answered it",
        Fixed(Duration::from_secs(5));
    Lingering, "the last byte has been written, and input is discarded; the clock starts when the client has acknowledged every byte, and until then `Stalled` applies",
        Fixed(Duration::from_secs(2));
    LingeringIdle, "an idle connection is being closed, and input is discarded",
        Fixed(Duration::from_millis(500));
    HandedOver, "sent to another process, which has not acknowledged it yet",
        Fixed(Duration::from_secs(5));
    #[cfg(feature = "http2")]
    Http2Busy, "HTTP/2 with open streams",
        Unlimited("each stream is in `Handler`, `Body`, `Response` or `Stalled`");
    #[cfg(feature = "http2")]
    Http2Idle, "HTTP/2 without an open stream; when the clock ends, GOAWAY is sent",
        Setting("http.idle_timeout", |http| http.idle_timeout);
    #[cfg(feature = "http2")]
    Http2Leaving, "HTTP/2 after GOAWAY, with open streams",
        Unlimited("as `Http2Busy`");
    #[cfg(feature = "http2")]
    Http2Left, "HTTP/2 after GOAWAY and the last stream; the clock restarts whenever the client acknowledges bytes",
        Fixed(Duration::from_secs(5));
}

impl TimedState {
    /// Returns the time that the state may last, or `None` if it has no limit.
    pub(crate) fn limit(self, limits: &config::Http) -> Option<Duration> {
        match self.clock() {
            Setting(_, value) => value(limits),
            Fixed(limit) => Some(limit),
            Unlimited(_) => None,
        }
    }

    /// Returns the moment at which the state ends if it begins at `since`.
    pub(crate) fn deadline(self, since: Millis, limits: &config::Http) -> Millis {
        after(since, self.limit(limits))
    }

    /// Returns the limit of a state whose clock is a constant, and zero for any other state.
    pub(crate) const fn fixed(self) -> Duration {
        match self.clock() {
            Fixed(limit) => limit,
            Setting(..) | Unlimited(_) => Duration::ZERO,
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting(names, _) => f.write_str(names),
            Fixed(limit) => write!(f, "{limit:?}"),
            Unlimited(reason) => write!(f, "none: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(feature = "http2", feature = "ws"))]
    #[test]
    fn every_state_is_in_the_table_of_the_architecture_page() {
        let row = |(state, about): &(TimedState, &str)| {
            format!("| {state:?} | {about} | {} |\n", state.clock())
        };
        let rows: String = TimedState::ALL.iter().map(row).collect();
        let table = format!("| state | meaning | clock |\n|---|---|---|\n{rows}\n");
        assert!(
            include_str!("../../ARCHITECTURE.md").contains(&table),
            "ARCHITECTURE.md should hold this table:\n\n{table}"
        );
    }

    #[test]
    fn by_default_every_state_has_a_limit_unless_it_depends_on_the_handler() {
        let limits = config::Config::default().http;
        for (state, _) in TimedState::ALL {
            let unlimited = match state {
                TimedState::Handler => true,
                state => matches!(state.clock(), Unlimited(_)),
            };
            assert_eq!(state.limit(&limits).is_none(), unlimited, "{state:?}");
        }
    }
}
