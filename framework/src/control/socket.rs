//! The control socket in the file system. The process that accepts connections holds the socket
//! path, passes it on in an upgrade, and removes it when it exits.
//!
//! Each process listens at a path of its own, `PATH.PID`, from start to exit. The process that
//! accepts connections also holds `PATH` itself, as a second name (hard link) of the same socket.
//! It is put there by rename(2), so `PATH` always exists while one process takes it over from
//! another, and every process can be reached at any time.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::net::{
    bind, listen, socket_with, AddressFamily, SocketAddrUnix, SocketFlags, SocketType,
};

use super::path::{of_process, processes, SocketPaths};
use crate::error::{Error, Kind};
use crate::sync::lock::Mutex;

/// The maximum length of the accept queue.
const BACKLOG: i32 = 32;

/// The control socket of this process.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    /// The path that leads to this process only.
    own: PathBuf,
    path: PathBuf,
    /// Device and inode of the socket file, which identify it under any name.
    identity: (u64, u64),
    path_state: Mutex<PathState>,
}

/// The state of the socket path from the view of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathState {
    /// This process does not hold the path and does not need it: it listens at its own path only.
    NotNeeded,
    /// This process accepts connections, but an unrelated process holds the path.
    Blocked,
    /// This process has taken the path. The new process of an upgrade may have taken it since.
    Held,
}

/// The owner of a socket file.
enum PathOwner {
    None,
    /// The process that created the file has exited.
    Dead,
    /// A running process, with its pid if that is known.
    Alive(Option<u32>),
}

impl Socket {
    /// Creates the socket at the first possible path, with the pid of this process appended.
    ///
    /// # Errors
    /// Names each path and the reason. The caller logs it as a warning and continues.
    pub(crate) fn open(paths: &SocketPaths) -> Result<Self, Error> {
        let mut tried = vec![];
        for path in paths.paths() {
            match Socket::create(path) {
                Ok(socket) => return Ok(socket),
                Err(error) => tried.push(format!("{}: {error}", path.display())),
            }
        }
        Err(Error::new(
            Kind::Io,
            format!(
                "cannot create a control socket ({}); set control.socket",
                tried.join("; ")
            ),
        ))
    }

    fn create(path: &Path) -> io::Result<Self> {
        remove_dead(path);
        let own = of_process(path, std::process::id());
        let listener = UnixListener::from(listen_privately(&own)?);
        let found = fs::symlink_metadata(&own)?;
        let identity = (found.dev(), found.ino());
        Ok(Socket {
            listener,
            own,
            path: path.to_owned(),
            identity,
            path_state: Mutex::new(PathState::NotNeeded),
        })
    }

    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Takes the socket path, because this process accepts connections now. A process of `family`,
    /// the processes before and after it in an upgrade, may hold the path until now.
    ///
    /// # Errors
    /// An unrelated running process holds the path, or it cannot be written.
    pub(crate) fn take_path(&self, family: &[u32]) -> Result<(), Error> {
        let result = self.try_take_path(family);
        *self.path_state() = if result.is_ok() {
            PathState::Held
        } else {
            PathState::Blocked
        };
        result
    }

    /// Takes the socket path if an unrelated process held it before. Returns true if that worked.
    pub(super) fn retry(&self) -> bool {
        let blocked = *self.path_state() == PathState::Blocked;
        blocked && self.take_path(&[]).is_ok()
    }

    fn try_take_path(&self, family: &[u32]) -> Result<(), Error> {
        let failed = |error: io::Error| {
            Error::new(
                Kind::Io,
                format!("cannot put the control socket at {}", self.path.display()),
            )
            .because(error)
        };
        if self.leads_here(&self.path) {
            return Ok(());
        }
        match owner(&self.path) {
            PathOwner::None | PathOwner::Dead => {}
            PathOwner::Alive(Some(pid)) if family.contains(&pid) => {}
            PathOwner::Alive(pid) => {
                let owner = pid.map_or("another process".into(), |pid| {
                    format!("process {pid}, which is running")
                });
                let path = self.path.display();
                return Err(Error::new(
                    Kind::Io,
                    format!("the control socket {path} belongs to {owner}"),
                ));
            }
        }
        let mut temporary = self.own.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let _ = fs::remove_file(&temporary);
        fs::hard_link(&self.own, &temporary)
            .and_then(|()| fs::rename(&temporary, &self.path))
            .map_err(failed)
    }

    /// Removes the paths of processes that were killed.
    pub(crate) fn tidy(&self) {
        remove_dead(&self.path);
    }

    /// Removes the paths of this process. The socket path is removed only while it leads to this
    /// process.
    pub(crate) fn remove(&self) {
        *self.path_state() = PathState::NotNeeded;
        for name in [&self.path, &self.own] {
            if self.leads_here(name) {
                if let Err(error) = fs::remove_file(name) {
                    log::warn!(
                        "cannot remove the control socket {}: {error}",
                        name.display()
                    );
                }
            }
        }
    }

    fn leads_here(&self, name: &Path) -> bool {
        fs::symlink_metadata(name).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    fn path_state(&self) -> std::sync::MutexGuard<'_, PathState> {
        self.path_state.lock()
    }
}

/// Creates a listening socket that only its user can connect to. The mode is set before the socket
/// listens.
fn listen_privately(path: &Path) -> io::Result<OwnedFd> {
    let _ = fs::remove_file(path);
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &address)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn owner(path: &Path) -> PathOwner {
    match UnixStream::connect(path) {
        Ok(stream) => PathOwner::Alive(peer_credentials(&stream).map(|peer| peer.pid)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => PathOwner::None,
            io::ErrorKind::ConnectionRefused => PathOwner::Dead,
            _ => PathOwner::Alive(None),
        },
    }
}

/// Removes the paths of processes that were killed.
fn remove_dead(path: &Path) {
    for (_, name) in processes(path) {
        if matches!(owner(&name), PathOwner::Dead) {
            let _ = fs::remove_file(name);
        }
    }
}

/// Returns pid and user of the peer. For a listening peer these are of the process that called
/// listen(2) (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerCredentials {
    /// 0 for a process outside of this pid namespace.
    pub(super) pid: u32,
    pub(super) uid: u32,
}

pub(super) fn peer_credentials(stream: &impl std::os::fd::AsFd) -> Option<PeerCredentials> {
    let found = getsockopt(stream, sockopt::PeerCredentials).ok()?;
    Some(PeerCredentials {
        pid: u32::try_from(found.pid()).unwrap_or(0),
        uid: found.uid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(test: &str) -> (PathBuf, SocketPaths) {
        let directory =
            std::env::temp_dir().join(format!("slackwater-{}-control-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("app.control");
        (path.clone(), SocketPaths::at(&path))
    }

    #[test]
    fn the_socket_is_private_and_leaves_no_files() {
        let (path, paths) = path("alone");
        let socket = Socket::open(&paths).unwrap();
        assert!(
            !path.exists(),
            "the path is taken only once the process accepts"
        );
        socket.take_path(&[]).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        socket.take_path(&[]).unwrap();
        socket.remove();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_stale_path_is_replaced_and_the_path_of_a_running_process_is_not() {
        let (path, paths) = path("stale");
        let theirs = UnixListener::bind(&path).unwrap();
        let socket = Socket::open(&paths).unwrap();
        let error = socket.take_path(&[]).unwrap_err().to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        assert!(!socket.retry());
        drop(theirs);
        assert!(socket.retry());
        assert!(socket.leads_here(&path));
    }

    #[test]
    fn the_path_of_the_old_process_is_replaced_and_the_old_process_does_not_remove_it() {
        let (path, paths) = path("old-process");
        let old = UnixListener::bind(&path).unwrap();
        let socket = Socket::open(&paths).unwrap();
        socket.take_path(&[std::process::id()]).unwrap();
        drop(old);
        let other = path.with_extension("other");
        fs::rename(&path, &other).unwrap();
        fs::write(&path, "of another process").unwrap();
        socket.remove();
        assert!(path.exists() && other.exists());
    }

    #[test]
    fn an_error_lists_every_path_tried() {
        let paths = SocketPaths::at(Path::new("/nonexistent/app.control"));
        let error = Socket::open(&paths).unwrap_err().chain();
        assert!(
            error.contains("/nonexistent/app.control: No such file")
                && error.contains("control.socket"),
            "{error}"
        );
    }
}
