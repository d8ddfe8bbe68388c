//! The readiness of a program of other make: a NOTIFY_SOCKET of our own, on which it says READY=1 (sd_notify(3)).

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use async_io::Async;

use crate::error::{Error, Kind};

/// More than any message of the protocol; what is longer is cut.
const LONGEST: usize = 8 * 1024;

/// A socket that hears when the program that was given its path is ready. It is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Notified {
    socket: Async<UnixDatagram>,
    directory: Directory,
}

/// Ours alone, so that nobody else says that the program is ready.
#[derive(Debug)]
struct Directory(PathBuf);

impl Notified {
    /// Makes the socket, in a directory that only this user may enter: some programs know no abstract sockets, which
    /// moreover are open to everybody.
    ///
    /// # Errors
    /// No directory can be made where such things belong, or no socket in it.
    pub(crate) fn listen() -> Result<Self, Error> {
        let failed =
            |error: io::Error| Error::new(Kind::Io, "cannot make a NOTIFY_SOCKET").because(error);
        let directory = Directory::make().map_err(failed)?;
        let socket = Async::<UnixDatagram>::bind(directory.socket()).map_err(failed)?;
        Ok(Notified { socket, directory })
    }

    /// What NOTIFY_SOCKET is to be for the program.
    pub(crate) fn address(&self) -> PathBuf {
        self.directory.socket()
    }

    /// Waits until the program says that it is ready.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub(crate) async fn ready(&self) -> Result<(), Error> {
        let mut buffer = [0; LONGEST];
        loop {
            let received = self.socket.recv(&mut buffer).await;
            let count =
                received.map_err(|error| Error::new(Kind::Io, "NOTIFY_SOCKET").because(error))?;
            if says_ready(&buffer[..count]) {
                return Ok(());
            }
        }
    }
}

fn says_ready(message: &[u8]) -> bool {
    message
        .split(|byte| *byte == b'\n')
        .any(|line| line == b"READY=1")
}

impl Directory {
    /// In the first place that takes it.
    fn make() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let places = runtime
            .into_iter()
            .chain([std::env::temp_dir(), PathBuf::from("/run")]);
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for place in places {
            match Self::make_in(&place) {
                Ok(made) => return Ok(made),
                Err(error) => {
                    last = io::Error::new(error.kind(), format!("{}: {error}", place.display()));
                }
            }
        }
        Err(last)
    }

    /// Under a name that is not taken: it may be that of an earlier one, or of somebody who wants to be in our way.
    fn make_in(place: &Path) -> io::Result<Self> {
        let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
        for number in 0..100 {
            let path = place.join(format!("slackwater-notify-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Directory(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }

    fn socket(&self) -> PathBuf {
        self.0.join(OsStr::new("notify"))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use async_std::task::block_on;

    use super::*;

    #[test]
    fn ready_is_heard_among_other_things() {
        let notified = Notified::listen().unwrap();
        let program = UnixDatagram::unbound().unwrap();
        for message in [
            "STATUS=starting",
            "READY=0\nXREADY=1",
            "STATUS=up\nREADY=1\nMAINPID=5\n",
        ] {
            program
                .send_to(message.as_bytes(), notified.address())
                .unwrap();
        }
        block_on(notified.ready()).unwrap();
    }

    #[test]
    fn nobody_else_gets_in_and_nothing_stays() {
        let notified = Notified::listen().unwrap();
        let other = Notified::listen().unwrap();
        assert_ne!(notified.address(), other.address());
        let directory = notified.address().parent().unwrap().to_owned();
        assert_eq!(
            fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
            0o700
        );
        drop(notified);
        assert!(!directory.exists());
        assert!(other.address().exists());
    }
}
