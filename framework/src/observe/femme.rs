//! Runs femme, the logger of debug builds, so that it cannot harm the process.
//!
//! femme cannot be wrapped: it installs itself as the logger of the process, writes to standard
//! output, and panics in the logging thread if a write fails. Therefore standard output is replaced
//! by a pipe whose reading end this process holds, so that writes cannot fail. A thread forwards
//! the lines to the original standard output or to `log.file`.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::Errno;

use super::output::Output;
use crate::error::{Error, Kind};
use crate::sys::stdio;

/// The time that [`Femme::flush`] waits if the output is blocked.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The installed femme: the pipe that it writes to, and the output to which the pipe is forwarded.
#[derive(Clone, Debug)]
pub(super) struct Femme {
    pipe: Arc<OwnedFd>,
    output: Arc<Mutex<Output>>,
}

impl Femme {
    /// Installs femme. Returns `None` if another logger is installed already.
    ///
    /// # Errors
    /// No descriptor is left for the pipe, or the thread that reads it cannot be started.
    pub(super) fn install(output: Output, level: log::LevelFilter) -> Result<Option<Self>, Error> {
        if std::panic::catch_unwind(|| ::femme::with_level(level)).is_err() {
            return Ok(None);
        }
        let failed =
            |error: io::Error| Error::new(Kind::Io, "cannot set up the log").because(error);
        let pipe = Arc::new(stdio::divert_stdout().map_err(failed)?);
        let femme = Femme {
            pipe,
            output: Arc::new(Mutex::new(output)),
        };
        let forwarder = femme.clone();
        let thread = std::thread::Builder::new().name("log".into());
        thread.spawn(move || forwarder.forward()).map_err(failed)?;
        Ok(Some(femme))
    }

    pub(super) fn output(&self) -> MutexGuard<'_, Output> {
        self.output
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until all lines have been forwarded, for one second at most.
    pub(super) fn flush(&self) {
        let _ = io::stdout().flush();
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        while !self.is_idle() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns true if the pipe is empty and no line is being written. The forwarding thread holds
    /// the lock on the output while it reads and writes.
    fn is_idle(&self) -> bool {
        match self.output.try_lock() {
            Ok(_) | Err(TryLockError::Poisoned(_)) => {
                rustix::io::ioctl_fionread(&self.pipe) == Ok(0)
            }
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Forwards lines until the writing end of the pipe is closed.
    fn forward(&self) {
        let mut buffer = vec![0; 64 << 10];
        while wait(&self.pipe).is_ok() {
            let mut output = self.output();
            match rustix::io::read(&self.pipe, &mut buffer[..]) {
                Ok(0) => return,
                Ok(count) => write(&mut output, &buffer[..count]),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

fn wait(pipe: &OwnedFd) -> Result<(), Errno> {
    loop {
        match poll(&mut [PollFd::new(pipe, PollFlags::IN)], None) {
            Err(Errno::INTR) => {}
            ready => return ready.map(drop),
        }
    }
}

fn write(output: &mut Output, lines: &[u8]) {
    if let Some(lost) = output.write(lines) {
        output.write(format!("{lost}\n").as_bytes());
    }
}
