//! Closes a connection so that the client receives everything that was sent.
//!
//! close(2) with unread input, or input that arrives after close(2), makes the kernel reset the connection and drop
//! what is still in the send queue. So every connection ends here, whatever its protocol: the write side is shut down,
//! and input is read and discarded until the client closes its own side. A client that does not close has
//! the time of [`State::Lingering`] from the moment that it took the last byte; one that takes nothing has `http.write_timeout`.
//!
//! The connection keeps its seat and its entry in the ledger meanwhile: a shutdown waits for it, and cuts it at
//! [`Stage::Cut`].

use std::future::poll_fn;
use std::net::Shutdown;
use std::task::Poll;
use std::time::Duration;

use super::connection::Connection;
use super::deadlines::{after, now, Millis};
use super::shared::Stage;
use super::state::ConnState;
use super::states::State;
use crate::config;
use crate::socket::{unacknowledged, Stream};

/// How often the send queue is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What is written to a client whose head did not come in time (RFC 9110, section 15.5.9).
pub(crate) const HEAD_OVERDUE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The response to a client whose head has no room in the memory budget (RFC 9110, section 15.6.4).
pub(crate) const NO_ROOM: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Shuts the write side down, then reads and discards until the client closes, or no longer takes bytes, or everything
/// is cut. `record` is the connection's in the ledger.
pub(crate) async fn close(stream: &Stream, conn: &ConnState) {
    // the send queue is not looked at before the first LOOK is over: most clients have closed by then
    linger(stream, conn, u32::MAX, State::Lingering).await;
}

/// Does the same between two requests, for a shorter time if nothing is left in the send queue.
pub(crate) async fn close_idle(stream: &Stream, conn: &ConnState) {
    match unacknowledged(stream) {
        // a request may be on its way, and must not meet a reset that the client takes for the loss of an answer
        0 => linger(stream, conn, 0, State::LingeringIdle).await,
        left => linger(stream, conn, left, State::Lingering).await,
    }
}

async fn linger(stream: &Stream, conn: &ConnState, left: u32, state: State) {
    if conn.stage() == Stage::Cut || stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let began = now();
    let mut uptake = Uptake::new(left, began);
    conn.lingers(began, after(began, Some(LOOK)));
    let mut discarded = [0; 4096];
    poll_fn(|cx| {
        conn.watch(cx.waker());
        if conn.stage() == Stage::Cut {
            return Poll::Ready(());
        }
        while let Poll::Ready(read) = stream.poll_read(cx, &mut discarded) {
            if !matches!(read, Ok(1..)) {
                return Poll::Ready(());
            }
        }
        let now = now();
        if conn.deadlines.read_overdue(now) {
            uptake.look(unacknowledged(stream), now);
            if uptake.deadline(state, &conn.shared.limits()) <= now {
                return Poll::Ready(());
            }
            conn.lingers(began, after(now, Some(LOOK)));
        }
        Poll::Pending
    })
    .await;
    // another process may hold a copy of the socket
    let _ = stream.shutdown(Shutdown::Both);
}

/// Writes a response to a head that is not read to its end, then closes. Bytes that do not fit the socket at once are not sent.
pub(crate) async fn refuse_head(connection: &Connection, conn: &ConnState, response: &[u8]) {
    let sent = rustix::net::send(
        &connection.stream,
        response,
        rustix::net::SendFlags::NOSIGNAL,
    );
    if sent.is_ok() {
        close(&connection.stream, conn).await;
    }
}

/// The client's progress in taking what was sent, as the send queue shows it from one look to the next.
pub(super) struct Uptake {
    /// The bytes that were not acknowledged at the last look.
    left: u32,
    /// When the client was last seen to have taken some.
    moved: Millis,
}

impl Uptake {
    pub(super) fn new(left: u32, now: Millis) -> Self {
        Uptake { left, moved: now }
    }

    /// Returns true if the client has taken bytes since the last look.
    pub(super) fn look(&mut self, left: u32, now: Millis) -> bool {
        let has_moved = left < self.left;
        if has_moved {
            self.moved = now;
        }
        self.left = left;
        has_moved
    }

    /// Returns the moment at which waiting for the client is over.
    fn deadline(&self, state: State, limits: &config::Http) -> Millis {
        match self.left {
            0 => state.deadline(self.moved, limits),
            _ => State::Stalled.deadline(self.moved, limits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(write_timeout: Option<Duration>) -> config::Http {
        config::Http {
            write_timeout,
            ..config::Config::default().http
        }
    }

    fn stalled() -> config::Http {
        limits(Some(Duration::from_secs(30)))
    }

    #[test]
    fn a_client_that_has_taken_everything_has_two_seconds_to_close() {
        let mut uptake = Uptake::new(u32::MAX, 0);
        assert!(uptake.look(0, 500));
        assert!(!uptake.look(0, 1000));
        assert_eq!(uptake.deadline(State::Lingering, &stalled()), 2500);
    }

    #[test]
    fn a_client_of_an_idle_connection_has_half_a_second() {
        let mut uptake = Uptake::new(0, 0);
        assert!(!uptake.look(0, 500));
        assert_eq!(uptake.deadline(State::LingeringIdle, &stalled()), 500);
    }

    #[test]
    fn a_client_that_takes_bytes_is_waited_for_as_long_as_it_does() {
        let mut uptake = Uptake::new(u32::MAX, 0);
        for look in 1..100 {
            assert!(uptake.look(10_000 - look, u64::from(look) * 500));
            assert!(uptake.deadline(State::Lingering, &stalled()) > u64::from(look + 1) * 500);
        }
    }

    #[test]
    fn a_client_that_takes_nothing_has_the_write_timeout() {
        let mut uptake = Uptake::new(u32::MAX, 0);
        uptake.look(10_000, 500);
        uptake.look(10_000, 20_000);
        assert_eq!(uptake.deadline(State::Lingering, &stalled()), 30_500);
        assert_eq!(
            uptake.deadline(State::Lingering, &limits(None)),
            after(0, None)
        );
    }
}
