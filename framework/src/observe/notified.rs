//! Receives the readiness notification of a foreign program: provides a NOTIFY_SOCKET and waits for
//! READY=1 (sd_notify(3)).

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use async_io::Async;

use crate::error::{Error, Kind};

/// The size of the buffer. It is larger than any message of the protocol; longer messages are
/// truncated.
const MAX_MESSAGE: usize = 8 * 1024;

/// A socket for the readiness notification of a program. Dropping it removes the socket file.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    socket: Async<UnixDatagram>,
    directory: Directory,
}

/// A directory that only this user can enter, so that no other user can send READY=1.
#[derive(Debug)]
struct Directory(PathBuf);

impl NotifySocket {
    /// Creates the socket in a directory that only this user can enter. An abstract socket would
    /// not do: some programs do not support them, and every user can send to them.
    ///
    /// # Errors
    /// No directory or no socket can be created.
    pub(crate) fn listen() -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::new(Kind::Io, "cannot create the NOTIFY_SOCKET for the program").because(error)
        };
        let directory = Directory::create().map_err(failed)?;
        let socket = Async::<UnixDatagram>::bind(directory.socket()).map_err(failed)?;
        Ok(NotifySocket { socket, directory })
    }

    /// The value of NOTIFY_SOCKET for the program.
    pub(crate) fn address(&self) -> PathBuf {
        self.directory.socket()
    }

    /// Waits until the program sends READY=1.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub(crate) async fn ready(&self) -> Result<(), Error> {
        let mut buffer = [0; MAX_MESSAGE];
        loop {
            let received = self.socket.recv(&mut buffer).await;
            let count = received.map_err(|error| {
                Error::new(Kind::Io, "cannot read the NOTIFY_SOCKET of the program").because(error)
            })?;
            if is_ready(&buffer[..count]) {
                return Ok(());
            }
        }
    }
}

fn is_ready(message: &[u8]) -> bool {
    message
        .split(|byte| *byte == b'\n')
        .any(|line| line == b"READY=1")
}

impl Directory {
    /// Creates the directory in the first parent where that works: XDG_RUNTIME_DIR, the directory
    /// for temporary files, /run.
    fn create() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let parents = runtime
            .into_iter()
            .chain([std::env::temp_dir(), PathBuf::from("/run")]);
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for parent in parents {
            match Self::create_in(&parent) {
                Ok(directory) => return Ok(directory),
                Err(error) => {
                    last = io::Error::new(error.kind(), format!("{}: {error}", parent.display()));
                }
            }
        }
        Err(last)
    }

    /// Creates the directory under a name that does not exist yet. The name may be left over from
    /// an earlier process, or another user may have created it to block this process.
    fn create_in(parent: &Path) -> io::Result<Self> {
        let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
        for number in 0..100 {
            let path = parent.join(format!("slackwater-notify-{}-{number}", std::process::id()));
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
    fn ready_is_recognized_among_other_messages() {
        let socket = NotifySocket::listen().unwrap();
        let program = UnixDatagram::unbound().unwrap();
        for message in [
            "STATUS=starting",
            "READY=0\nXREADY=1",
            "STATUS=up\nREADY=1\nMAINPID=5\n",
        ] {
            program
                .send_to(message.as_bytes(), socket.address())
                .unwrap();
        }
        block_on(socket.ready()).unwrap();
    }

    #[test]
    fn the_directory_is_private_and_removed_at_the_end() {
        let socket = NotifySocket::listen().unwrap();
        let other = NotifySocket::listen().unwrap();
        assert_ne!(socket.address(), other.address());
        let directory = socket.address().parent().unwrap().to_owned();
        assert_eq!(
            fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
            0o700
        );
        drop(socket);
        assert!(!directory.exists());
        assert!(other.address().exists());
    }
}
