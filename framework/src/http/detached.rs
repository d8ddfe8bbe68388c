//! A connection that waits in no reactor: silent, or on its way from one process to another.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::connection::Connection;
use crate::socket::Stream;

/// A connection with its bare socket.
pub(crate) type Detached = Connection<OwnedFd>;

impl Detached {
    /// Takes a connection's socket out of the reactor.
    pub(crate) fn of(connection: Connection) -> io::Result<Self> {
        connection.with(Stream::into_fd)
    }

    /// Puts it back.
    pub(crate) fn attach(self) -> io::Result<Connection> {
        self.with(Stream::new)
    }

    /// Whether something of a request has come.
    pub(crate) fn speaks(&self) -> bool {
        !self.head.is_empty() || matches!(self.peek(), Ok(1))
    }

    /// Whether the client has closed, and nothing is to be read: then there is no need of a parser to find out.
    pub(crate) fn is_over(&self) -> bool {
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
    /// Closes it. Another process may have a copy of its socket still, and without shutdown(2) nobody would learn of it.
    /// One that has not been read here is that process' to take back.
    pub(crate) fn close(self) {
        if self.claim.is_none() {
            let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both);
        }
    }
}

impl<S> Connection<S> {
    fn with<T>(self, turn: impl FnOnce(S) -> io::Result<T>) -> io::Result<Connection<T>> {
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
            stream: turn(stream)?,
            endpoints,
            permit,
            accepted,
            head,
            since,
            claim,
        })
    }
}
