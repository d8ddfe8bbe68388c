//! A listening socket. It accepts connections, records where it came from, and removes only a
//! socket file that it created.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use async_io::Async;
use rustix::io::Errno;
use rustix::net::{acceptfrom_with, SocketAddrAny, SocketFlags};

use super::Address;
use crate::config::Listen;
use crate::sync::lock::Mutex;

/// The origin of a listener. It decides who may close the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenerOrigin {
    /// Bound by this process for an entry of `listen`.
    Bound,
    /// Passed by the parent process, which owns the socket and its path.
    Inherited,
}

/// A listening stream socket, non-blocking and close-on-exec.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Shared with [`Sockets`](super::Sockets) if it was inherited, because an inherited socket
    /// stays open when no configuration uses it.
    io: Async<Arc<OwnedFd>>,
    address: Address,
    name: Option<String>,
    details: OriginDetails,
}

/// The origin, with the data that only a bound listener has.
#[derive(Debug)]
enum OriginDetails {
    /// `entry` is kept because a reload reuses the listener of an equal entry. The address does not
    /// suffice for that: the entry may have port 0 or a host name.
    Bound {
        entry: Listen,
        path: Mutex<Option<BoundPath>>,
    },
    Inherited,
}

/// The path of a bound Unix socket and the identity of its file. Another process may have put its
/// own file at the path since.
#[derive(Debug)]
pub(super) struct BoundPath {
    pub(super) path: PathBuf,
    pub(super) file: FileId,
}

/// Device and inode: the identity of a file under any name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl Listener {
    pub(super) fn bound(
        socket: OwnedFd,
        entry: Listen,
        path: Option<BoundPath>,
    ) -> io::Result<Self> {
        let address = local_address(&socket)?;
        let details = OriginDetails::Bound {
            entry,
            path: Mutex::new(path),
        };
        Ok(Listener {
            io: Async::new(Arc::new(socket))?,
            address,
            name: None,
            details,
        })
    }

    pub(super) fn inherited(
        socket: Arc<OwnedFd>,
        address: Address,
        name: Option<String>,
    ) -> io::Result<Self> {
        Ok(Listener {
            io: Async::new(socket)?,
            address,
            name,
            details: OriginDetails::Inherited,
        })
    }

    /// Waits for an event of the accept queue. Call [`try_accept`](Self::try_accept) first:
    /// connections that were queued before this process registered the socket may cause no event.
    ///
    /// # Errors
    /// The reactor reports an error.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Accepts the next connection and returns it with the address of its peer, or `None` if the
    /// queue is empty.
    ///
    /// # Errors
    /// The process is out of descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM), in which case
    /// the caller pauses, or the socket no longer listens. Errors of a single connection are
    /// skipped.
    pub(crate) fn try_accept(&self) -> io::Result<Option<(OwnedFd, Address)>> {
        match accept_now(self.io.get_ref()) {
            Ok(connection) => Ok(Some(connection)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the number of connections that may wait in the accept queue. Connections that wait
    /// already are kept.
    ///
    /// # Errors
    /// listen(2) fails.
    pub(crate) fn set_backlog(&self, backlog: i32) -> io::Result<()> {
        Ok(rustix::net::listen(self.io.get_ref(), backlog)?)
    }

    /// The local address, with the port that the kernel assigned for port 0.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn origin(&self) -> ListenerOrigin {
        match self.details {
            OriginDetails::Bound { .. } => ListenerOrigin::Bound,
            OriginDetails::Inherited => ListenerOrigin::Inherited,
        }
    }

    /// The name of an inherited socket (LISTEN_FDNAMES).
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Removes the socket file of a bound Unix listener if the path still leads to the file that
    /// was bound. Does nothing for other sockets, nor on a second call. The descriptor itself is
    /// closed when its last owner is dropped.
    pub(crate) fn close(&self) {
        let Some(bound) = self.take_path() else {
            return;
        };
        if file_id(&bound.path).ok() != Some(bound.file) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&bound.path) {
            log::warn!(
                "cannot remove the socket file {}: {error}",
                bound.path.display()
            );
        }
    }

    /// The socket, for a child process.
    pub(super) fn socket(&self) -> Arc<OwnedFd> {
        self.io.get_ref().clone()
    }

    /// Gives up the socket file because another process uses it now: [`close`](Self::close) will
    /// not remove it.
    pub(crate) fn disown(&self) {
        self.take_path();
    }

    /// The entry of `listen` that the listener was bound for.
    pub(super) fn entry(&self) -> Option<&Listen> {
        match &self.details {
            OriginDetails::Bound { entry, .. } => Some(entry),
            OriginDetails::Inherited => None,
        }
    }

    /// The socket file that this listener owns.
    pub(super) fn file(&self) -> Option<FileId> {
        let OriginDetails::Bound { path, .. } = &self.details else {
            return None;
        };
        let path = path.lock();
        path.as_ref().map(|bound| bound.file)
    }

    fn take_path(&self) -> Option<BoundPath> {
        let OriginDetails::Bound { path, .. } = &self.details else {
            return None;
        };
        path.lock().take()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.get_ref().as_fd()
    }
}

/// Returns the identity of the file at `path`, without following a link.
pub(super) fn file_id(path: &std::path::Path) -> io::Result<FileId> {
    let stat = rustix::fs::lstat(path)?;
    Ok(FileId(stat.st_dev, stat.st_ino))
}

fn local_address(socket: &OwnedFd) -> io::Result<Address> {
    Address::from_kernel(rustix::net::getsockname(socket)?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "unknown address family"))
}

fn accept_now(socket: &OwnedFd) -> io::Result<(OwnedFd, Address)> {
    loop {
        match acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((connection, peer)) => return Ok((connection, peer_address(peer))),
            Err(error) if concerns_one_connection(error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Converts the address of a peer. The kernel returns no address if it is empty, which is possible
/// only for Unix clients.
fn peer_address(peer: Option<SocketAddrAny>) -> Address {
    peer.and_then(Address::from_kernel)
        .unwrap_or(Address::Unix(None))
}

/// Returns true for errors of a connection that failed while it was queued. Linux returns them from
/// accept(2); the next connection may be fine. EOPNOTSUPP, which the manual lists with them, may
/// also be permanent, so it is returned to the caller, which pauses.
fn concerns_one_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::PERM
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
    )
}
