//! A connection that waits in no reactor: silent, or on its way from one process to another.

use std::io;
use std::os::fd::OwnedFd;

use super::connection::Connection;
use super::timeouts::{now, Millis};
use crate::socket::Stream;

/// For how long a connection has to have been silent to be one whose client waits for nothing, in milliseconds.
const SILENT: Millis = 500;

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

    /// Whether nobody is in the middle of a conversation.
    pub(crate) fn is_silent(&self) -> bool {
        self.head.is_empty() && now().saturating_sub(self.since) > SILENT
    }
}

impl<S> Connection<S> {
    fn with<T>(self, turn: impl FnOnce(S) -> io::Result<T>) -> io::Result<Connection<T>> {
        let Connection { stream, ends, seat, accepted, head, since, claim } = self;
        Ok(Connection { stream: turn(stream)?, ends, seat, accepted, head, since, claim })
    }
}
