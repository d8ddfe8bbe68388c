//! A connection between two requests: its socket, and the data that moves with it.
//!
//! [`Connection`] is what remains when hyper is removed from the socket. Its socket is either registered with the reactor
//! ([`Stream`]), or it is a plain descriptor ([`Detached`]): in the idle set, or on its way to another process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::clock::Millis;
use super::Endpoints;
use crate::socket::Stream;
use crate::sync::limiter::Permit;
use crate::sys::claims::Claim;

/// A connection between two requests.
pub(crate) struct Connection<S = Stream> {
    pub(crate) stream: S,
    pub(crate) endpoints: Arc<Endpoints>,
    /// Counts the connection against `http.max_connections`.
    pub(crate) permit: Permit,
    /// The moment at which the connection was accepted, possibly by another process.
    pub(crate) accepted: Millis,
    /// Bytes that were read from the socket and belong to the next requests.
    pub(crate) head: Bytes,
    /// The moment at which the connection became idle or, if `head` is not empty, at which that head began.
    pub(crate) since: Millis,
    /// Present until the first read if the connection came from another process. As long as the claim is not written,
    /// that process takes the connection back if this process dies.
    pub(crate) claim: Option<Claim>,
}

/// A connection whose socket is not registered with the reactor.
pub(crate) type Detached = Connection<OwnedFd>;

/// A connection that is to be sent to another process.
pub(crate) struct Transfer {
    pub(crate) connection: Detached,
    /// Limits the number of connections on their way. It is held until the other process has received the connection.
    pub(crate) permit: Permit,
}

impl Connection {
    /// Removes the socket from the reactor.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        self.try_map_stream(Stream::into_fd)
    }
}

impl Detached {
    /// Registers the socket with the reactor.
    pub(crate) fn attach(self) -> io::Result<Connection> {
        self.try_map_stream(Stream::new)
    }

    /// Returns true if bytes of the next request have arrived.
    pub(crate) fn has_input(&self) -> bool {
        !self.head.is_empty() || matches!(self.peek(), Ok(1))
    }

    /// Returns true if the client has closed the connection or its sending side, and all its bytes have been read.
    pub(crate) fn is_closed_by_client(&self) -> bool {
        match self.peek() {
            Ok(n) => n == 0,
            Err(error) => error != Errno::AGAIN && error != Errno::INTR,
        }
    }

    fn peek(&self) -> Result<usize, Errno> {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(&self.stream, &mut [0_u8; 1], flags).map(|(n, _)| n)
    }
}

impl<S: AsFd> Connection<S> {
    /// Closes the connection at once.
    ///
    /// close(2) alone does not suffice: another process may still hold a copy of the socket, and then the client would not
    /// be notified. A connection with an unwritten claim is not shut down, because it belongs to the process that sent it.
    pub(crate) fn close(self) {
        if self.claim.is_none() {
            let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both);
        }
    }
}

impl<S> Connection<S> {
    fn try_map_stream<T>(self, map: impl FnOnce(S) -> io::Result<T>) -> io::Result<Connection<T>> {
        let Connection {
            stream,
            endpoints,
            permit,
            accepted,
            head,
            since,
            claim,
        } = self;
        Ok(Connection {
            stream: map(stream)?,
            endpoints,
            permit,
            accepted,
            head,
            since,
            claim,
        })
    }
}
