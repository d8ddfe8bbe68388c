//! Every state of a connection, of either protocol, and the clock that ends it.
//!
//! A deadline can be computed from a [`State`] only, and the macro below accepts no state without a clock or a reason. The
//! table in ARCHITECTURE.md lists the same states; a test compares the two, and another one holds a real connection in
//! each state until it ends.

use std::fmt;
use std::time::Duration;

use super::deadlines::{after, Millis};
use crate::config;

/// The clock that ends a state.
pub(crate) enum Clock {
    /// A setting; `"none"` is the operator's choice to have no limit.
    Setting(&'static str, fn(&config::Http) -> Option<Duration>),
    /// A constant.
    Fixed(Duration),
    /// No clock of its own, for this reason.
    Unlimited(&'static str),
}

use Clock::{Fixed, Setting, Unlimited};

macro_rules! states {
    ($($(#[$meta:meta])* $state:ident, $about:literal, $clock:expr;)+) => {
        /// A state of a connection or of a stream.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum State {
            $($(#[$meta])* #[doc = $about] $state,)+
        }

        impl State {
            /// All states, each with its description.
            pub(crate) const ALL: &[(State, &str)] =
                &[$($(#[$meta])* (State::$state, $about),)+];

            /// The clock that ends the state.
            pub(crate) const fn clock(self) -> Clock {
                match self {
                    $($(#[$meta])* State::$state => $clock,)+
                }
            }
        }
    };
}

states! {
    Idle, "no byte of the next request has come; past the clock the connection is parked, or closed",
        Setting("http.idle_release, http.idle_timeout", |http| {
            http.idle_release.into_iter().chain(http.idle_timeout).min()
        });
    Parked, "idle, without a task",
        Setting("http.idle_timeout", |http| http.idle_timeout);
    Head, "the head of a request has begun",
        Setting("http.header_timeout", |http| http.header_timeout);
    Handler, "the handler works on its answer",
        Setting("http.request_timeout", |http| http.request_timeout);
    Body, "the handler waits for the next byte of the request's body",
        Setting("http.body_timeout", |http| http.body_timeout);
    Response, "the handler makes the body of its response, and the client takes it",
        Unlimited("a stream may last; it ends with its handler, or with `Stalled`");
    Stalled, "the client takes no byte of what is written, in any state",
        Setting("http.write_timeout", |http| http.write_timeout);
    BodyHeld, "the answer is sent, but the handler still holds the request's body and does not read it",
        Setting("http.body_timeout", |http| http.body_timeout);
    BeforeSwitch, "the handler has answered 101, and the rest of the request is read first",
        Setting("http.body_timeout", |http| http.body_timeout);
    Switching, "the 101 is on its way, or the handler has not used its tunnel yet",
        Fixed(Duration::from_secs(10));
    Tunnel, "another protocol is spoken after a 101",
        Unlimited("it ends with its handler, or with `Stalled`; a WebSocket pings (`Upgrade::ping`)");
    #[cfg(feature = "ws")]
    WebSocketClosing, "a close frame, or the end of the stream, waits for its answer",
        Fixed(Duration::from_secs(5));
    Lingering, "the last byte is written, and input is discarded; the clock starts when the client has taken everything, until then `Stalled` runs",
        Fixed(Duration::from_secs(2));
    LingeringIdle, "an idle connection is closed, and input is discarded",
        Fixed(Duration::from_millis(500));
    HandedOver, "sent to the next process, which has not acknowledged it",
        Fixed(Duration::from_secs(5));
    #[cfg(feature = "http2")]
    Http2Busy, "HTTP/2 with open streams",
        Unlimited("each stream is in `Handler`, `Body`, `Response` or `Stalled`");
    #[cfg(feature = "http2")]
    Http2Idle, "HTTP/2 without an open stream; past the clock GOAWAY is sent",
        Setting("http.idle_timeout", |http| http.idle_timeout);
    #[cfg(feature = "http2")]
    Http2Leaving, "HTTP/2 after GOAWAY, with open streams",
        Unlimited("as `Http2Busy`");
    #[cfg(feature = "http2")]
    Http2Left, "HTTP/2 after GOAWAY and the last stream; the clock starts anew whenever the client takes bytes",
        Fixed(Duration::from_secs(5));
}

impl State {
    /// The time that the state may last; `None` without a limit.
    pub(crate) fn limit(self, limits: &config::Http) -> Option<Duration> {
        match self.clock() {
            Setting(_, value) => value(limits),
            Fixed(limit) => Some(limit),
            Unlimited(_) => None,
        }
    }

    /// The moment at which the state ends if it begins at `since`.
    pub(crate) fn deadline(self, since: Millis, limits: &config::Http) -> Millis {
        after(since, self.limit(limits))
    }

    /// The limit of a state whose clock is a constant; zero for any other.
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
        let row = |(state, about): &(State, &str)| {
            format!("| {state:?} | {about} | {} |\n", state.clock())
        };
        let rows: String = State::ALL.iter().map(row).collect();
        let table = format!("| state | meaning | clock |\n|---|---|---|\n{rows}\n");
        assert!(
            include_str!("../../ARCHITECTURE.md").contains(&table),
            "ARCHITECTURE.md should hold this table:\n\n{table}"
        );
    }

    #[test]
    fn by_default_only_the_handler_and_what_it_streams_are_without_a_limit() {
        let limits = config::Config::default().http;
        for (state, _) in State::ALL {
            let unlimited = match state {
                State::Handler => true,
                state => matches!(state.clock(), Unlimited(_)),
            };
            assert_eq!(state.limit(&limits).is_none(), unlimited, "{state:?}");
        }
    }
}
