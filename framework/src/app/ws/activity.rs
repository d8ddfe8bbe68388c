//! Watches the bytes of a WebSocket client: a sign of life, and the memory of a message that is being received.
//!
//! A client in the middle of a long message cannot answer a ping, so any byte counts as a sign of life.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite};
use tide::http::upgrade::Connection;

use crate::http::memory::{HeldBytes, MemoryExhausted};
use crate::sync::lock::Mutex;

/// A connection that sets a flag and counts when bytes are received.
pub(super) struct TrackedConnection {
    pub(super) connection: Connection,
    pub(super) received: Arc<AtomicBool>,
    pub(super) partial: Arc<PartialMessage>,
}

/// The bytes that were received since the last complete message.
#[derive(Default)]
pub(super) struct PartialMessage(Mutex<(usize, Option<HeldBytes>)>);

impl PartialMessage {
    /// Counts the bytes in a memory budget, if there is one.
    pub(super) fn new(held: Option<HeldBytes>) -> Arc<Self> {
        Arc::new(PartialMessage(Mutex::new((0, held))))
    }

    fn add(&self, bytes: usize) -> Result<(), MemoryExhausted> {
        let (received, held) = &mut *self.0.lock();
        *received = received.saturating_add(bytes);
        held.as_mut().map_or(Ok(()), |held| held.resize(*received))
    }

    /// Returns the complete message's share of the budget, and starts counting the next message.
    pub(super) fn complete(&self) -> Option<HeldBytes> {
        let (received, held) = &mut *self.0.lock();
        *received = 0;
        let next = held.as_ref().map(HeldBytes::new_in_same_budget);
        std::mem::replace(held, next)
    }
}

impl AsyncRead for TrackedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.connection).poll_read(cx, buffer));
        if matches!(read, Ok(1..)) {
            self.received.store(true, Ordering::Relaxed);
        }
        if let Ok(bytes) = &read {
            self.partial.add(*bytes).map_err(io::Error::other)?;
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for TrackedConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_close(cx)
    }
}
