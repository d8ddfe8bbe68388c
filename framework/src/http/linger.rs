//! Closes a connection so that the client receives everything that was sent.
//!
//! If a socket is closed with unread input, or if input arrives after close(2), the kernel resets the connection and drops
//! the send queue. Therefore connections of every protocol are closed here: the write side is shut down, and input is read
//! and discarded until the client closes its side. A client that does not close has the time of
//! [`TimedState::Lingering`] after it has acknowledged the last byte. A client that acknowledges nothing has
//! `http.write_timeout`.
//!
//! The connection keeps its permit and its registration meanwhile, so that a shutdown waits for it and ends the wait at
//! [`Stage::Cut`].

use std::future::poll_fn;
use std::net::Shutdown;
use std::task::Poll;
use std::time::Duration;

use super::clock::{after, now, Millis};
use super::connection::Connection;
use super::shared::Stage;
use super::state::ConnState;
use super::states::TimedState;
use crate::config;
use crate::socket::{unacknowledged, Stream};

/// The interval at which the send queue is read.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The response to a client whose head was not complete in time (RFC 9110, section 15.5.9).
pub(crate) const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The response to a client whose head has no room in the memory budget (RFC 9110, section 15.6.4).
pub(crate) const SERVICE_UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Shuts the write side down, then reads and discards input until the client closes, its time is over, or [`Stage::Cut`] is
/// reached.
pub(crate) async fn close(stream: &Stream, conn: &ConnState) {
    // the length of the send queue is not read before the first interval ends, because most clients have closed by then
    linger(stream, conn, u32::MAX, TimedState::Lingering).await;
}

/// Closes an idle connection in the same way, but waits for a shorter time if the send queue is empty.
pub(crate) async fn close_idle(stream: &Stream, conn: &ConnState) {
    match unacknowledged(stream) {
        // not closed at once: a request may be on its way, and a reset would look to the client like a lost answer
        0 => linger(stream, conn, 0, TimedState::LingeringIdle).await,
        left => linger(stream, conn, left, TimedState::Lingering).await,
    }
}

async fn linger(stream: &Stream, conn: &ConnState, left: u32, state: TimedState) {
    if conn.stage() == Stage::Cut || stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let began = now();
    let mut progress = SendProgress::new(left, began);
    conn.linger(began, after(began, Some(CHECK_INTERVAL)));
    let mut discarded = [0; 4096];
    poll_fn(|cx| {
        conn.register(cx.waker());
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
            progress.update(unacknowledged(stream), now);
            if progress.deadline(state, &conn.shared.limits()) <= now {
                return Poll::Ready(());
            }
            conn.linger(began, after(now, Some(CHECK_INTERVAL)));
        }
        Poll::Pending
    })
    .await;
    // close(2) does not end the connection if another process holds a copy of the socket
    let _ = stream.shutdown(Shutdown::Both);
}

/// Answers a head that was not read to its end, then closes the connection. Bytes of the response that do not fit into the
/// send queue are not sent.
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

/// The client's progress in acknowledging bytes, measured by the length of the send queue.
pub(super) struct SendProgress {
    /// The bytes that were not acknowledged at the last update.
    left: u32,
    /// The moment of the last update at which the client had acknowledged bytes.
    moved: Millis,
}

impl SendProgress {
    pub(super) fn new(left: u32, now: Millis) -> Self {
        SendProgress { left, moved: now }
    }

    /// Returns true if the client has acknowledged bytes since the last update.
    pub(super) fn update(&mut self, left: u32, now: Millis) -> bool {
        let has_moved = left < self.left;
        if has_moved {
            self.moved = now;
        }
        self.left = left;
        has_moved
    }

    /// Returns the moment at which the wait for the client ends.
    fn deadline(&self, state: TimedState, limits: &config::Http) -> Millis {
        match self.left {
            0 => state.deadline(self.moved, limits),
            _ => TimedState::Stalled.deadline(self.moved, limits),
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
    fn a_client_that_has_acknowledged_everything_has_two_seconds_to_close() {
        let mut progress = SendProgress::new(u32::MAX, 0);
        assert!(progress.update(0, 500));
        assert!(!progress.update(0, 1000));
        assert_eq!(progress.deadline(TimedState::Lingering, &stalled()), 2500);
    }

    #[test]
    fn a_client_of_an_idle_connection_has_half_a_second_to_close() {
        let mut progress = SendProgress::new(0, 0);
        assert!(!progress.update(0, 500));
        assert_eq!(
            progress.deadline(TimedState::LingeringIdle, &stalled()),
            500
        );
    }

    #[test]
    fn the_wait_goes_on_as_long_as_the_client_acknowledges_bytes() {
        let mut progress = SendProgress::new(u32::MAX, 0);
        for check in 1..100 {
            assert!(progress.update(10_000 - check, u64::from(check) * 500));
            assert!(
                progress.deadline(TimedState::Lingering, &stalled()) > u64::from(check + 1) * 500
            );
        }
    }

    #[test]
    fn a_client_that_acknowledges_nothing_has_the_write_timeout() {
        let mut progress = SendProgress::new(u32::MAX, 0);
        progress.update(10_000, 500);
        progress.update(10_000, 20_000);
        assert_eq!(progress.deadline(TimedState::Lingering, &stalled()), 30_500);
        assert_eq!(
            progress.deadline(TimedState::Lingering, &limits(None)),
            after(0, None)
        );
    }
}
