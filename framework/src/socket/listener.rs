//! A listening socket: accepts connections, knows where it came from, and takes its path away only if it is its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_io::Async;
use rustix::io::Errno;
use rustix::net::{acceptfrom_with, SocketAddrAny, SocketFlags};

use super::Address;
use crate::config::Listen;

/// Where a listener came from; decides who may close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This process bound it for an entry of `listen`.
    Bound,
    /// It was passed by whoever started this process, who owns it and its path.
    Inherited,
}

/// A listening stream socket, non-blocking and close-on-exec.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Shared with [`Sockets`](super::Sockets) where it was inherited, so that it outlives every configuration.
    io: Async<Arc<OwnedFd>>,
    address: Address,
    name: Option<String>,
    source: Source,
}

/// What a listener stands for in the settings.
#[derive(Debug)]
enum Source {
    /// The entry is remembered because a reload keeps the listener of an equal one, also with port 0.
    Bound {
        entry: Listen,
        path: Mutex<Option<BoundPath>>,
    },
    Inherited,
}

/// The path of a bound Unix socket, and which file that was: another process may have put its own there since.
#[derive(Debug)]
pub(super) struct BoundPath {
    pub(super) path: PathBuf,
    pub(super) file: FileId,
}

/// Device and inode: the identity of a file, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl Listener {
    pub(super) fn bound(
        socket: OwnedFd,
        entry: Listen,
        path: Option<BoundPath>,
    ) -> io::Result<Self> {
        let address = local_address(&socket)?;
        let source = Source::Bound {
            entry,
            path: Mutex::new(path),
        };
        Ok(Listener {
            io: Async::new(Arc::new(socket))?,
            address,
            name: None,
            source,
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
            source: Source::Inherited,
        })
    }

    /// Waits until there may be a connection in the queue. To be asked after [`try_accept`](Self::try_accept): what an
    /// inherited socket already holds may give no edge.
    ///
    /// # Errors
    /// The reactor's.
    pub(crate) async fn waiting(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// The next connection in the queue and its peer, or `None`.
    ///
    /// # Errors
    /// Lack of descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM), after which the caller pauses, or a socket
    /// that no longer listens. What concerns one connection only is passed over.
    pub(crate) fn try_accept(&self) -> io::Result<Option<(OwnedFd, Address)>> {
        match accept_now(self.io.get_ref()) {
            Ok(connection) => Ok(Some(connection)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many connections may wait to be accepted; what waits already stays.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn set_backlog(&self, backlog: i32) -> io::Result<()> {
        Ok(rustix::net::listen(self.io.get_ref(), backlog)?)
    }

    /// Where it listens; for port 0 the port that was given.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn origin(&self) -> Origin {
        match self.source {
            Source::Bound { .. } => Origin::Bound,
            Source::Inherited => Origin::Inherited,
        }
    }

    /// The name it was passed under (LISTEN_FDNAMES).
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Takes the path of a bound Unix socket away, if it is still the file that was bound, and does nothing to any
    /// other socket or the second time. The descriptor is closed when the last holder lets go.
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

    /// The socket itself, to be passed on.
    pub(super) fn socket(&self) -> Arc<OwnedFd> {
        self.io.get_ref().clone()
    }

    /// Leaves the path to another process from now on: [`close`](Self::close) will not touch it.
    pub(crate) fn disown(&self) {
        self.take_path();
    }

    /// The entry of `listen` it was bound for.
    pub(super) fn entry(&self) -> Option<&Listen> {
        match &self.source {
            Source::Bound { entry, .. } => Some(entry),
            Source::Inherited => None,
        }
    }

    /// The socket file it owns.
    pub(super) fn file(&self) -> Option<FileId> {
        let Source::Bound { path, .. } = &self.source else {
            return None;
        };
        let path = path.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        path.as_ref().map(|bound| bound.file)
    }

    fn take_path(&self) -> Option<BoundPath> {
        let Source::Bound { path, .. } = &self.source else {
            return None;
        };
        path.lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.get_ref().as_fd()
    }
}

/// Which file a path names, without following a link.
pub(super) fn file_id(path: &std::path::Path) -> io::Result<FileId> {
    let stat = rustix::fs::lstat(path)?;
    Ok(FileId(stat.st_dev, stat.st_ino))
}

fn local_address(socket: &OwnedFd) -> io::Result<Address> {
    Address::from_kernel(rustix::net::getsockname(socket)?).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "its address is of an unknown family",
        )
    })
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

/// The kernel leaves the address out where it is empty, which only a Unix client's is.
fn peer_address(peer: Option<SocketAddrAny>) -> Address {
    peer.and_then(Address::from_kernel)
        .unwrap_or(Address::Unix(None))
}

/// Errors of a connection that died in the queue, which Linux hands to accept(2): the next one may be well.
/// EOPNOTSUPP, which the manual lists with them, is left to the caller's pause, for it may also be final.
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
