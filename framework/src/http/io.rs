//! hyper's view of a socket: reads through a buffer that all connections of a thread share, writes as they are, and
//! the record is told what moved.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::record::Record;
use crate::socket::Stream;
use crate::sys::claims::Claim;

/// As much as one read takes; hyper never asks for more at once than its `max_buf_size`.
const CHUNK: usize = 64 << 10;

thread_local! {
    /// hyper's cursor can only be filled without `unsafe` by copying; the copy's source is shared by a thread's connections.
    static CHUNKS: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// The socket of an active connection.
pub(crate) struct Io {
    pub(crate) stream: Stream,
    /// Read before this connection was put together, and to be read first.
    prefix: Bytes,
    record: Arc<Record>,
    /// To be written before the first byte is read.
    pub(crate) claim: Option<Claim>,
    read: End,
}

/// Whether the client has ended what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    NotYet,
    Reached,
}

impl Io {
    pub(crate) fn new(stream: Stream, prefix: Bytes, record: Arc<Record>, claim: Option<Claim>) -> Self {
        Io { stream, prefix, record, claim, read: End::NotYet }
    }

    pub(crate) fn end(&self) -> End {
        self.read
    }

    /// What of the prefix hyper has not taken, in front of what it took and did not use.
    pub(crate) fn unread(&self, taken: &[u8]) -> Bytes {
        match (taken.is_empty(), self.prefix.is_empty()) {
            (true, true) => Bytes::new(),
            // a copy, so that hyper's buffer of 8 KiB is freed
            (false, true) => Bytes::copy_from_slice(taken),
            (_, false) => [taken, &self.prefix[..]].concat().into(),
        }
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.record.outdated() && this.record.quiet() {
            // what comes now is for whoever takes over
            return Poll::Pending;
        }
        if !this.prefix.is_empty() {
            let n = this.prefix.len().min(buf.remaining());
            buf.put_slice(&this.prefix[..n]);
            this.prefix.advance(n);
            this.record.has_read();
            return Poll::Ready(Ok(()));
        }
        if let Some(claim) = this.claim.take() {
            claim.write()?;
        }
        CHUNKS.with_borrow_mut(|chunk| {
            let want = buf.remaining().min(chunk.len());
            let n = ready!(this.stream.poll_read(cx, &mut chunk[..want]))?;
            if n == 0 {
                this.read = End::Reached;
            } else {
                this.record.has_read();
            }
            buf.put_slice(&chunk[..n]);
            Poll::Ready(Ok(()))
        })
    }
}

impl Write for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.poll_write(cx, bufs);
        match &written {
            Poll::Ready(_) => self.record.has_written(),
            Poll::Pending => self.record.cannot_write(),
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.record.set_flushed(true);
        Poll::Ready(Ok(()))
    }

    /// Nothing: how a connection ends is decided by whoever has taken it apart.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
