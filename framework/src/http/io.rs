//! hyper's view of a socket: reads through a buffer that all connections of a thread share, writes as they are, and
//! the record is told what moved.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::deadlines::ReadState;
#[cfg(feature = "http2")]
use super::flood::Frames;
use super::memory::{Exhausted, Held};
use super::state::ConnState;
use crate::socket::{PeerState, Stream};
use crate::sys::claims::Claim;

/// As much as one read takes; hyper never asks for more at once than its `max_buf_size`.
const CHUNK: usize = 64 << 10;

thread_local! {
    /// hyper's cursor can only be filled without `unsafe` by copying; the copy's source is shared by a thread's connections.
    static CHUNKS: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// The socket of an active connection. HTTP/2 borrows it: hyper does not give back what it was put around.
pub(crate) struct Io<S = Stream> {
    pub(crate) stream: S,
    /// Read before this connection was put together, and to be read first.
    prefix: Bytes,
    conn: Arc<ConnState>,
    /// To be written before the first byte is read.
    pub(crate) claim: Option<Claim>,
    opening: Opening,
    head: Head,
    /// Those of a client that speaks HTTP/2.
    #[cfg(feature = "http2")]
    frames: Option<Box<Frames>>,
}

/// What the client's first bytes say of the protocol. Asked again whenever a connection is put together: a client that
/// rested may just as well have gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// They may still become the preface of HTTP/2.
    Unknown,
    Http1,
    Http2,
}

impl Opening {
    /// RFC 9113, section 3.4.
    const PREFACE: &'static [u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn of(bytes: &[u8]) -> Self {
        if cfg!(not(feature = "http2")) {
            return Opening::Http1;
        }
        let common = bytes.len().min(Self::PREFACE.len());
        match bytes[..common] == Self::PREFACE[..common] {
            true if common == Self::PREFACE.len() => Opening::Http2,
            true => Opening::Unknown,
            false => Opening::Http1,
        }
    }
}

/// The head that is read, or whose request is being answered.
#[derive(Default)]
struct Head {
    bytes: usize,
    held: Option<Held>,
}

/// The size of the buffer that hyper has for each connection that it reads from.
const FIRST_BUFFER: usize = 8 << 10;

impl Head {
    /// Counts bytes of a head. Bytes beyond the first buffer are taken from the memory budget.
    fn grows(&mut self, bytes: usize, conn: &ConnState) -> Result<(), Exhausted> {
        if conn.deadlines.waiting() != ReadState::Head {
            return Ok(());
        }
        self.bytes += bytes;
        if self.bytes <= FIRST_BUFFER {
            return Ok(());
        }
        let held = self.held.get_or_insert_with(|| conn.shared.memory.holder());
        held.resize(self.bytes)
    }

    /// Returns the bytes to the budget once the request is answered.
    fn settle(&mut self, conn: &ConnState) {
        if self.bytes > 0 && conn.deadlines.waiting() != ReadState::Head && conn.quiet() {
            *self = Head::default();
        }
    }
}

impl Io {
    pub(crate) fn new(
        stream: Stream,
        prefix: Bytes,
        conn: Arc<ConnState>,
        claim: Option<Claim>,
    ) -> Self {
        let opening = Opening::of(&prefix);
        Io {
            stream,
            prefix,
            conn,
            claim,
            opening,
            head: Head::default(),
            #[cfg(feature = "http2")]
            frames: None,
        }
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

#[cfg(feature = "http2")]
impl<'a> Io<&'a Stream> {
    /// One whose preface is in the prefix, and is for hyper to read.
    pub(crate) fn of_http2(stream: &'a Stream, prefix: Bytes, conn: Arc<ConnState>) -> Self {
        let mut frames = Box::new(Frames::new());
        frames.came(&prefix);
        Io {
            stream,
            prefix,
            conn,
            claim: None,
            opening: Opening::Http1,
            head: Head::default(),
            frames: Some(frames),
        }
    }
}

impl<S: Borrow<Stream>> Io<S> {
    /// Keeps what came until it is known what it is.
    fn keep(&mut self, bytes: &[u8]) {
        self.prefix = [&self.prefix[..], bytes].concat().into();
        self.opening = Opening::of(&self.prefix);
    }

    /// While a request is answered: hears whether the client is still there.
    fn listen(&self, cx: &mut Context<'_>) {
        if self.conn.quiet() {
            return;
        }
        match self.stream.borrow().peer_state(cx) {
            PeerState::Open => {}
            PeerState::HalfClosed => self.conn.hangs_up(),
            PeerState::Closed => self.conn.leaves(),
        }
    }
}

impl<S: Borrow<Stream> + Unpin> Read for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.conn.quiet() && (this.conn.wants_transfer(cx) || this.conn.outdated()) {
            // what comes now is for whoever takes over
            return Poll::Pending;
        }
        if this.conn.refuses_head() {
            return Poll::Pending;
        }
        CHUNKS.with_borrow_mut(|chunk| loop {
            match this.opening {
                #[cfg(feature = "http2")]
                Opening::Http2 => {
                    this.conn.preface_came();
                    return Poll::Pending;
                }
                Opening::Http1 if !this.prefix.is_empty() => {
                    let n = this.prefix.len().min(buf.remaining());
                    buf.put_slice(&this.prefix[..n]);
                    this.prefix.advance(n);
                    this.conn.has_read();
                    if this.head.grows(n, &this.conn).is_err() {
                        this.conn.refuse_head();
                        return Poll::Pending;
                    }
                    return Poll::Ready(Ok(()));
                }
                _ => {}
            }
            if let Some(claim) = this.claim.take() {
                claim.write()?;
            }
            let want = buf.remaining().min(chunk.len());
            let n = ready!(this.stream.borrow().poll_read(cx, &mut chunk[..want]))?;
            if n == 0 {
                // whatever it was to become, it does not
                if std::mem::replace(&mut this.opening, Opening::Http1) == Opening::Unknown
                    && !this.prefix.is_empty()
                {
                    continue;
                }
                return Poll::Ready(Ok(()));
            }
            this.conn.has_read();
            if this.head.grows(n, &this.conn).is_err() {
                this.conn.refuse_head();
                return Poll::Pending;
            }
            #[cfg(feature = "http2")]
            if let Some(frames) = &mut this.frames {
                frames.came(&chunk[..n]);
                if frames.are_a_flood() {
                    let why = "a flood of frames that ask for nothing";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
            }
            if this.opening == Opening::Unknown {
                this.opening = Opening::of(&chunk[..n]);
                if !this.prefix.is_empty() || this.opening != Opening::Http1 {
                    this.keep(&chunk[..n]);
                    continue;
                }
            }
            buf.put_slice(&chunk[..n]);
            return Poll::Ready(Ok(()));
        })
    }
}

impl<S: Borrow<Stream> + Unpin> Write for Io<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        #[cfg_attr(
            not(feature = "http2"),
            expect(unused_mut, reason = "nothing is counted")
        )]
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.borrow().poll_write(cx, bufs);
        #[cfg(feature = "http2")]
        if let (Some(frames), Poll::Ready(Ok(bytes))) = (&mut self.frames, &written) {
            frames.sent(*bytes);
        }
        match &written {
            Poll::Ready(_) => self.conn.has_written(),
            Poll::Pending => self.conn.cannot_write(),
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.head.settle(&this.conn);
        self.conn.set_flushed(true);
        self.listen(cx);
        Poll::Ready(Ok(()))
    }

    /// Nothing: how a connection ends is decided by whoever has taken it apart.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
