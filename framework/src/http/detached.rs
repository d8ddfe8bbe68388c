//! A connection that waits in no reactor: silent, or on its way from one process to another.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;

use super::connection::Connection;
use super::limits::Seat;
use super::timeouts::{now, Millis};
use super::Ends;
use crate::socket::Stream;
use crate::sys::claims::Claim;

/// For how long a connection has to have been silent to be one whose client waits for nothing, in milliseconds.
const SILENT: Millis = 500;

/// All that there is to know of a connection, and its bare socket.
pub(crate) struct Detached {
    pub(crate) socket: OwnedFd,
    pub(crate) ends: Arc<Ends>,
    pub(crate) seat: Seat,
    pub(crate) accepted: Millis,
    pub(crate) head: Bytes,
    pub(crate) since: Millis,
    pub(crate) claim: Option<Claim>,
}

impl Detached {
    /// Takes a connection's socket out of the reactor.
    pub(crate) fn of(connection: Connection) -> io::Result<Self> {
        let Connection { stream, ends, seat, accepted, head, since, claim } = connection;
        Ok(Detached { socket: stream.into_fd()?, ends, seat, accepted, head, since, claim })
    }

    /// Puts it back.
    pub(crate) fn attach(self) -> io::Result<Connection> {
        let Detached { socket, ends, seat, accepted, head, since, claim } = self;
        Ok(Connection { stream: Stream::new(socket)?, ends, seat, accepted, head, since, claim })
    }

    /// Whether nobody is in the middle of a conversation.
    pub(crate) fn is_silent(&self) -> bool {
        self.head.is_empty() && now().saturating_sub(self.since) > SILENT
    }
}
