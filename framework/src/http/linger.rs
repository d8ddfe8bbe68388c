//! Closing so that the last answer arrives: unread input turns a plain close into a reset, which can overtake it.

use std::future::poll_fn;
use std::net::Shutdown;
use std::task::{ready, Poll};

use async_io::Timer;
use futures_lite::future;

use super::connection::Connection;
use super::shared::{Shared, Stage};
use super::states::State;

/// What is written to a client whose head did not come in time (RFC 9110, section 15.5.9).
const HEAD_OVERDUE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Endpoints our side, and discards what still comes until the client has ended its own or two seconds are over.
pub(crate) async fn close(connection: Connection, shared: &Shared) {
    if connection.stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut discarded = [0; 4096];
    let read_to_end = poll_fn(|cx| {
        while shared.stage() < Stage::Cut {
            match ready!(connection.stream.poll_read(cx, &mut discarded)) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        Poll::Ready(())
    });
    let too_long = async {
        Timer::after(State::Lingering.fixed()).await;
    };
    future::or(read_to_end, too_long).await;
}

/// Tells the client that its head took too long, then closes. Whatever does not fit the socket at once is not sent.
pub(crate) async fn refuse_overdue_head(connection: Connection, shared: &Shared) {
    let sent = rustix::net::send(
        &connection.stream,
        HEAD_OVERDUE,
        rustix::net::SendFlags::NOSIGNAL,
    );
    if sent.is_ok() {
        close(connection, shared).await;
    }
}
