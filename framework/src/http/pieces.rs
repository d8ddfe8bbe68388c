//! Splits response bodies into pieces for which the client's connection has room.
//!
//! hyper polls a whole frame of a body before it checks the client's window, and then keeps the frame. Therefore a body
//! is polled only for as many bytes as the [`SendBuffer`] has granted before.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use event_listener::{Event, EventListener};
use http_body::{Body, Frame};

use super::memory::Memory;
use super::send_buffer::{SendBuffer, SendPermit, Shortage, StreamUsage, PIECE};
use super::ResponseBody;
use crate::error::BoxError;

/// The longest piece over HTTP/1.1, where one response at a time is sent.
const LONG_PIECE: usize = 256 << 10;

/// A piece that hyper has received. Dropping it returns its bytes to the send buffer.
struct Piece {
    bytes: Bytes,
    _permit: SendPermit,
}

/// Splits one response body into pieces.
#[derive(Debug)]
pub(crate) struct BodySplitter {
    stream: Arc<StreamUsage>,
    max_piece: usize,
    /// Bytes that were polled from the body, but did not fit into the last piece.
    remaining: Bytes,
    /// Present while the body waits for room.
    listeners: Option<RoomListeners>,
}

/// Listeners for returned bytes, which may make room for a piece.
#[derive(Debug, Default)]
struct RoomListeners {
    connection: Option<EventListener>,
    process: Option<EventListener>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl BodySplitter {
    /// Creates the splitter of one of many responses that share a connection.
    pub(crate) fn shared(buffer: &Arc<SendBuffer>) -> Self {
        Self::new(buffer.clone(), PIECE)
    }

    /// Creates the splitter of the only response that its connection sends at a time.
    pub(crate) fn exclusive(memory: &Arc<Memory>, limit: usize) -> Self {
        Self::new(SendBuffer::new(memory, limit, 1), LONG_PIECE)
    }

    fn new(buffer: Arc<SendBuffer>, max_piece: usize) -> Self {
        BodySplitter {
            stream: StreamUsage::new(buffer),
            max_piece,
            remaining: Bytes::new(),
            listeners: None,
        }
    }

    /// Returns true while the body waits for room in the send buffer or the memory budget.
    #[cfg(feature = "http2")]
    pub(crate) fn waits_for_room(&self) -> bool {
        self.listeners.is_some()
    }

    /// Returns the number of bytes that were polled from the body and are not handed out yet.
    pub(crate) fn remaining(&self) -> usize {
        self.remaining.len()
    }

    /// Polls the next frame of `body` once there is room for it.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut ResponseBody,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.remaining.is_empty() && body.is_end_stream() {
            return Pin::new(body).poll_frame(cx);
        }
        let wanted = match self.remaining.len() {
            0 => self.max_piece,
            remaining => remaining.min(self.max_piece),
        };
        let mut permit = ready!(self.poll_take(cx, wanted));
        if self.remaining.is_empty() {
            match ready!(body.poll_piece(cx, permit.bytes())) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.remaining = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.remaining.len().min(permit.bytes());
        let bytes = self.remaining.split_to(length);
        permit.shrink(length);
        let piece = Piece {
            bytes,
            _permit: permit,
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<SendPermit> {
        let has_waited = self.listeners.is_some();
        loop {
            let shortage = match self.stream.take(wanted) {
                Ok(permit) => {
                    self.listeners = None;
                    if has_waited {
                        // the returned bytes may suffice for another waiter as well
                        self.stream.buffer.bytes_returned.notify(1);
                        self.stream.buffer.memory.bytes_returned.notify(1);
                    }
                    return Poll::Ready(permit);
                }
                Err(shortage) => shortage,
            };
            self.stream.waker.register(cx.waker());
            let listeners = self.listeners.get_or_insert_default();
            // a new listener misses the bytes that were returned before it existed: take once more before waiting
            let is_new = listeners.listen(&self.stream.buffer, shortage);
            if !is_new && listeners.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl RoomListeners {
    /// Listens for the returns that may end `shortage`. Returns true if a listener was added.
    fn listen(&mut self, buffer: &SendBuffer, shortage: Shortage) -> bool {
        let mut is_new = false;
        let mut listen = |listener: &mut Option<EventListener>, event: &Event| {
            if listener.is_none() {
                *listener = Some(event.listen());
                is_new = true;
            }
        };
        listen(&mut self.connection, &buffer.bytes_returned);
        match shortage {
            Shortage::Process => listen(&mut self.process, &buffer.memory.bytes_returned),
            // dropping the listener passes its notification to another connection
            Shortage::Connection => self.process = None,
        }
        is_new
    }

    /// Resolves when bytes were returned, and removes the listener that was notified.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut polled = Poll::Pending;
        for slot in [&mut self.connection, &mut self.process] {
            if let Some(listener) = slot {
                if Pin::new(listener).poll(cx).is_ready() {
                    *slot = None;
                    polled = Poll::Ready(());
                }
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::super::send_buffer::GUARANTEED;
    use super::*;
    use futures_lite::future::{block_on, poll_fn, poll_once};

    async fn next(
        splitter: &mut BodySplitter,
        body: &mut ResponseBody,
    ) -> Option<Result<Frame<Bytes>, BoxError>> {
        poll_fn(|cx| splitter.poll_frame(body, cx)).await
    }

    #[test]
    fn a_body_that_waits_for_room_continues_when_a_piece_is_dropped() {
        let memory = Memory::new(Some(PIECE));
        let buffer = SendBuffer::new(&memory, 1 << 20, 1);
        let mut other = BodySplitter::shared(&SendBuffer::new(&memory, 1 << 20, 1));
        block_on(async {
            let mut splitter = BodySplitter::shared(&buffer);
            let mut body = ResponseBody::Full(vec![b'x'; 3 * PIECE].into());
            let first = next(&mut splitter, &mut body).await;
            let guaranteed = poll_fn(|cx| other.poll_take(cx, PIECE)).await;
            assert_eq!(
                guaranteed.bytes(),
                GUARANTEED,
                "another connection gets its guaranteed share"
            );
            assert!(poll_once(next(&mut splitter, &mut body)).await.is_none());
            drop(guaranteed);
            assert!(
                poll_once(next(&mut splitter, &mut body)).await.is_none(),
                "the guaranteed share was past the limit and makes no room"
            );
            drop(first);
            let mut sent = PIECE;
            while let Some(frame) = next(&mut splitter, &mut body).await {
                sent += frame.unwrap().into_data().unwrap().len();
            }
            assert_eq!(sent, 3 * PIECE);
        });
        assert_eq!(memory.used(), 0);
    }

    /// Races the drop of a piece against streams that begin to wait. A lost notification would hang the test.
    #[test]
    fn bytes_returned_between_a_failed_take_and_the_wait_wake_the_waiter() {
        for _ in 0..200 {
            let memory = Memory::new(Some(PIECE));
            let buffer = SendBuffer::new(&memory, 2 * PIECE, 1);
            let taken = StreamUsage::new(buffer.clone()).take(PIECE);
            let dropper = std::thread::spawn(move || drop(taken));
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    let buffer = buffer.clone();
                    std::thread::spawn(move || {
                        let mut splitter = BodySplitter::shared(&buffer);
                        drop(block_on(poll_fn(|cx| splitter.poll_take(cx, PIECE))));
                    })
                })
                .collect();
            dropper.join().unwrap();
            for waiter in waiters {
                waiter.join().unwrap();
            }
            assert_eq!(memory.used(), 0);
        }
    }
}
