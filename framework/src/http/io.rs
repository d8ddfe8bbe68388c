//! The socket as hyper reads and writes it.
//!
//! Reads go through a buffer that all connections of a thread share, because hyper's cursor can only be filled by copying
//! if `unsafe` is forbidden. Writes go directly to the socket. Each call updates the [`ConnState`]: its deadlines, and
//! whether hyper's write buffer is empty.

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
use super::flood::FrameCounter;
use super::memory::{HeldBytes, MemoryExhausted};
use super::state::ConnState;
use crate::socket::{PeerState, Stream};
use crate::sys::claims::Claim;

/// The length of the shared buffer: the most bytes of one read, even if `http.max_header_bytes` is larger.
const READ_BUFFER: usize = 64 << 10;

/// The size of the read buffer that hyper allocates for each connection. A head that fits into it is not counted
/// against the memory budget.
const HYPER_BUFFER: usize = 8 << 10;

thread_local! {
    static READ_BUFFERS: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER].into_boxed_slice());
}

/// The socket of an active connection.
///
/// `S` is the stream itself for HTTP/1.1. It is a reference for HTTP/2, because hyper does not return the socket of an HTTP/2
/// connection.
pub(crate) struct Io<S = Stream> {
    pub(crate) stream: S,
    /// Bytes that hyper receives before the first byte of the socket.
    prefix: Bytes,
    conn: Arc<ConnState>,
    /// Present if the connection came from another process. The claim is written before the first byte is read.
    pub(crate) claim: Option<Claim>,
    protocol: Protocol,
    head: Head,
    /// Counts the frames of an HTTP/2 client; `None` for HTTP/1.1.
    #[cfg(feature = "http2")]
    frames: Option<Box<FrameCounter>>,
}

/// The protocol of a connection, as far as the client's first bytes determine it.
///
/// It is determined anew whenever a connection becomes active, because an idle connection may not have sent a byte yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// No byte has arrived, or the bytes are an incomplete preface of HTTP/2.
    Unknown,
    Http1,
    Http2,
}

impl Protocol {
    /// The preface of HTTP/2 (RFC 9113, section 3.4).
    const PREFACE: &'static [u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn of(bytes: &[u8]) -> Self {
        if cfg!(not(feature = "http2")) {
            return Protocol::Http1;
        }
        let common = bytes.len().min(Self::PREFACE.len());
        match bytes[..common] == Self::PREFACE[..common] {
            true if common == Self::PREFACE.len() => Protocol::Http2,
            true => Protocol::Unknown,
            false => Protocol::Http1,
        }
    }
}

/// The memory of a request's head, from its first byte until the request is answered.
#[derive(Default)]
struct Head {
    bytes: usize,
    held: Option<HeldBytes>,
}

impl Head {
    /// Counts bytes that were read. If they belong to a head that is longer than hyper's buffer, they are taken
    /// from the memory budget.
    fn grow(&mut self, bytes: usize, conn: &ConnState) -> Result<(), MemoryExhausted> {
        if conn.deadlines.read_state() != ReadState::Head {
            return Ok(());
        }
        self.bytes += bytes;
        if self.bytes <= HYPER_BUFFER {
            return Ok(());
        }
        let held = self
            .held
            .get_or_insert_with(|| HeldBytes::new(&conn.shared.memory));
        held.resize(self.bytes)
    }

    /// Returns the bytes to the budget once the request is answered.
    fn release_if_answered(&mut self, conn: &ConnState) {
        if self.bytes > 0
            && conn.deadlines.read_state() != ReadState::Head
            && conn.nothing_in_flight()
        {
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
        let protocol = Protocol::of(&prefix);
        Io {
            stream,
            prefix,
            conn,
            claim,
            protocol,
            head: Head::default(),
            #[cfg(feature = "http2")]
            frames: None,
        }
    }

    /// Returns the bytes of the next requests: `read_ahead`, which hyper has read but not parsed, and then the rest of the
    /// prefix, which hyper has not read.
    pub(crate) fn unread(&self, read_ahead: &[u8]) -> Bytes {
        match (read_ahead.is_empty(), self.prefix.is_empty()) {
            (true, true) => Bytes::new(),
            // copied, so that hyper's buffer of 8 KiB is freed
            (false, true) => Bytes::copy_from_slice(read_ahead),
            (_, false) => [read_ahead, &self.prefix[..]].concat().into(),
        }
    }
}

#[cfg(feature = "http2")]
impl<'a> Io<&'a Stream> {
    /// Returns the socket of an HTTP/2 connection. The prefix starts with the preface, which hyper reads.
    pub(crate) fn of_http2(stream: &'a Stream, prefix: Bytes, conn: Arc<ConnState>) -> Self {
        let mut frames = Box::new(FrameCounter::new());
        frames.count_received(&prefix);
        Io {
            stream,
            prefix,
            conn,
            claim: None,
            // passes the prefix and the input to hyper without looking for a preface again
            protocol: Protocol::Http1,
            head: Head::default(),
            frames: Some(frames),
        }
    }
}

impl<S: Borrow<Stream>> Io<S> {
    /// Appends bytes to the prefix and determines the protocol again.
    fn append_to_prefix(&mut self, bytes: &[u8]) {
        self.prefix = [&self.prefix[..], bytes].concat().into();
        self.protocol = Protocol::of(&self.prefix);
    }

    /// Checks whether the client has closed the connection while a request is in progress. hyper does not read then, so it
    /// would not notice.
    fn check_client(&self, cx: &mut Context<'_>) {
        if self.conn.nothing_in_flight() {
            return;
        }
        match self.stream.borrow().peer_state(cx) {
            PeerState::Open => {}
            PeerState::HalfClosed => self.conn.on_half_close(),
            PeerState::Closed => self.conn.on_close(),
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
        // The next request is left in the socket if another process or a parser with new limits will serve it.
        if this.conn.nothing_in_flight()
            && (this.conn.poll_transfer_permit(cx) || this.conn.parser_is_outdated())
        {
            return Poll::Pending;
        }
        if this.conn.is_head_refused() {
            return Poll::Pending;
        }
        READ_BUFFERS.with_borrow_mut(|chunk| loop {
            match this.protocol {
                #[cfg(feature = "http2")]
                Protocol::Http2 => {
                    this.conn.set_preface();
                    return Poll::Pending;
                }
                Protocol::Http1 if !this.prefix.is_empty() => {
                    let n = this.prefix.len().min(buf.remaining());
                    buf.put_slice(&this.prefix[..n]);
                    this.prefix.advance(n);
                    this.conn.on_read();
                    if this.head.grow(n, &this.conn).is_err() {
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
                // the client has closed after a part of the preface: hyper reads that part as HTTP/1.1 and rejects it
                if std::mem::replace(&mut this.protocol, Protocol::Http1) == Protocol::Unknown
                    && !this.prefix.is_empty()
                {
                    continue;
                }
                return Poll::Ready(Ok(()));
            }
            this.conn.on_read();
            if this.head.grow(n, &this.conn).is_err() {
                this.conn.refuse_head();
                return Poll::Pending;
            }
            #[cfg(feature = "http2")]
            if let Some(frames) = &mut this.frames {
                frames.count_received(&chunk[..n]);
                if frames.is_flood() {
                    let error = "the client sends too many frames that do not belong to a request";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
            if this.protocol == Protocol::Unknown {
                this.protocol = Protocol::of(&chunk[..n]);
                if !this.prefix.is_empty() || this.protocol != Protocol::Http1 {
                    this.append_to_prefix(&chunk[..n]);
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
            expect(unused_mut, reason = "frames are counted for HTTP/2 only")
        )]
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.borrow().poll_write(cx, bufs);
        #[cfg(feature = "http2")]
        if let (Some(frames), Poll::Ready(Ok(bytes))) = (&mut self.frames, &written) {
            frames.count_sent(*bytes);
        }
        match &written {
            Poll::Ready(_) => self.conn.on_written(),
            Poll::Pending => self.conn.on_write_blocked(),
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.head.release_if_answered(&this.conn);
        self.conn.set_flushed(true);
        self.check_client(cx);
        Poll::Ready(Ok(()))
    }

    /// Does nothing. The task that takes the connection apart decides how it is closed.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
