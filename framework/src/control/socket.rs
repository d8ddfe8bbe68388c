//! The socket's place in the file system: taken by the process that accepts, handed on with an upgrade, given up last.
//!
//! Each process listens under a name of its own, `PLACE.PID`, from its start to its end. Whoever accepts connections
//! also holds `PLACE` itself: a second name of the same socket, put there by rename(2), so that it is never missing
//! while one process takes it over from another. Between two generations everybody can be reached.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::{
    bind, listen, socket_with, AddressFamily, SocketAddrUnix, SocketFlags, SocketType,
};

use super::path::{of_process, processes, Places};
use crate::error::{Error, Kind};
use crate::sync::lock::Mutex;

/// How many commands may wait until they are accepted.
const BACKLOG: i32 = 32;

/// The control socket of this process.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    /// The name that leads here alone.
    own: PathBuf,
    place: PathBuf,
    /// Device and inode, under whatever name.
    identity: (u64, u64),
    standing: Mutex<Standing>,
}

/// Whether this process is the one that commands are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Not yet, or not any more: under its own name only.
    Aside,
    /// It accepts, but a process that is none of its predecessors holds the place, and is respected.
    Waits,
    /// It holds the place; another generation may have taken it since.
    Holds,
}

/// Who listens at a place.
enum Holder {
    Nobody,
    /// A name of a socket whose process is gone.
    Stale,
    /// A process; `None` where that cannot be known.
    Alive(Option<u32>),
}

impl Socket {
    /// Listens under the name of this process at the first place that can be had.
    ///
    /// # Errors
    /// Every path that was tried, and why it cannot be: for the caller to warn of, not to end for.
    pub(crate) fn open(places: &Places) -> Result<Self, Error> {
        let mut tried = vec![];
        for place in places.paths() {
            match Socket::at(place) {
                Ok(socket) => return Ok(socket),
                Err(error) => tried.push(format!("{}: {error}", place.display())),
            }
        }
        Err(Error::new(
            Kind::Io,
            format!(
                "no control socket can be made ({}); set control.socket",
                tried.join("; ")
            ),
        ))
    }

    fn at(place: &Path) -> io::Result<Self> {
        remove_dead(place);
        let own = of_process(place, std::process::id());
        let listener = UnixListener::from(listen_privately(&own)?);
        let found = fs::symlink_metadata(&own)?;
        let identity = (found.dev(), found.ino());
        Ok(Socket {
            listener,
            own,
            place: place.to_owned(),
            identity,
            standing: Mutex::new(Standing::Aside),
        })
    }

    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Puts it in place: this process accepts. One of its `family`, the generations before and after it, may hold the
    /// place until now.
    ///
    /// # Errors
    /// The place belongs to another process that lives, or cannot be written.
    pub(crate) fn put_in_place(&self, family: &[u32]) -> Result<(), Error> {
        let put = self.put(family);
        *self.standing() = if put.is_ok() {
            Standing::Holds
        } else {
            Standing::Waits
        };
        put
    }

    /// Tries once more where somebody else was in the way; tells whether it has the place since.
    pub(super) fn try_again(&self) -> bool {
        let waits = *self.standing() == Standing::Waits;
        waits && self.put_in_place(&[]).is_ok()
    }

    fn put(&self, family: &[u32]) -> Result<(), Error> {
        let failed = |error: io::Error| {
            Error::new(
                Kind::Io,
                format!(
                    "the control socket cannot be put at {}",
                    self.place.display()
                ),
            )
            .because(error)
        };
        if self.is_here(&self.place) {
            return Ok(());
        }
        match holder(&self.place) {
            Holder::Nobody | Holder::Stale => {}
            Holder::Alive(Some(pid)) if family.contains(&pid) => {}
            Holder::Alive(pid) => {
                let whose = pid.map_or("another process".into(), |pid| {
                    format!("process {pid}, which runs")
                });
                let place = self.place.display();
                return Err(Error::new(
                    Kind::Io,
                    format!("the control socket {place} is that of {whose}"),
                ));
            }
        }
        let mut draft = self.own.clone().into_os_string();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        let _ = fs::remove_file(&draft);
        fs::hard_link(&self.own, &draft)
            .and_then(|()| fs::rename(&draft, &self.place))
            .map_err(failed)
    }

    /// Takes away the names of processes that were killed.
    pub(crate) fn tidy(&self) {
        remove_dead(&self.place);
    }

    /// Takes its names away, the place only while it leads here: the last owner's is the last thing to go.
    pub(crate) fn remove(&self) {
        *self.standing() = Standing::Aside;
        for name in [&self.place, &self.own] {
            if self.is_here(name) {
                if let Err(error) = fs::remove_file(name) {
                    log::warn!(
                        "the control socket {} cannot be removed: {error}",
                        name.display()
                    );
                }
            }
        }
    }

    fn is_here(&self, name: &Path) -> bool {
        fs::symlink_metadata(name).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock()
    }
}

/// A listening socket that nobody but its user can connect to: its mode is set before it listens.
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

fn holder(place: &Path) -> Holder {
    match UnixStream::connect(place) {
        Ok(stream) => Holder::Alive(peer(&stream).map(|peer| peer.pid)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Holder::Nobody,
            io::ErrorKind::ConnectionRefused => Holder::Stale,
            _ => Holder::Alive(None),
        },
    }
}

/// Names of processes that were killed.
fn remove_dead(place: &Path) {
    for (_, name) in processes(place) {
        if matches!(holder(&name), Holder::Stale) {
            let _ = fs::remove_file(name);
        }
    }
}

/// Who is at the other end: of a listener, whoever made it listen (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// 0 for one outside of this pid namespace.
    pub(super) pid: u32,
    pub(super) uid: u32,
}

pub(super) fn peer(stream: &impl std::os::fd::AsFd) -> Option<Peer> {
    let found = getsockopt(stream, PeerCredentials).ok()?;
    Some(Peer {
        pid: u32::try_from(found.pid()).unwrap_or(0),
        uid: found.uid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(test: &str) -> (PathBuf, Places) {
        let directory =
            std::env::temp_dir().join(format!("slackwater-{}-control-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let place = directory.join("app.control");
        (place.clone(), Places::at(&place))
    }

    #[test]
    fn it_is_its_users_alone_and_leaves_nothing_behind() {
        let (path, places) = place("alone");
        let socket = Socket::open(&places).unwrap();
        assert!(!path.exists(), "not before it accepts");
        socket.put_in_place(&[]).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        socket.put_in_place(&[]).unwrap();
        socket.remove();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_stale_one_is_replaced_and_a_live_one_is_respected() {
        let (path, places) = place("stale");
        let theirs = UnixListener::bind(&path).unwrap();
        let socket = Socket::open(&places).unwrap();
        let error = socket.put_in_place(&[]).unwrap_err().to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        assert!(!socket.try_again());
        drop(theirs);
        assert!(socket.try_again());
        assert!(socket.is_here(&path));
    }

    #[test]
    fn a_predecessors_is_replaced_and_the_predecessor_leaves_it_alone() {
        let (path, places) = place("predecessor");
        let old = UnixListener::bind(&path).unwrap();
        let socket = Socket::open(&places).unwrap();
        socket.put_in_place(&[std::process::id()]).unwrap();
        drop(old);
        let other = path.with_extension("other");
        fs::rename(&path, &other).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        socket.remove();
        assert!(path.exists() && other.exists());
    }

    #[test]
    fn an_error_lists_every_path_tried() {
        let places = Places::at(Path::new("/nonexistent/app.control"));
        let error = Socket::open(&places).unwrap_err().chain();
        assert!(
            error.contains("/nonexistent/app.control: No such file")
                && error.contains("control.socket"),
            "{error}"
        );
    }
}
