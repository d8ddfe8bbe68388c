//! femme, the logger of debug builds, kept from doing harm.
//!
//! femme cannot be wrapped: it makes itself the one logger of the process, writes to standard output, and panics where
//! that fails, in whoever logs. So standard output becomes a pipe whose other end this process holds, to which writing
//! cannot fail; a thread passes on what comes out to the real standard output or to `log.file`.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::Errno;

use super::output::Output;
use crate::error::{Error, Kind};
use crate::sys::stdio;

/// How long [`Femme::flush`] waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// femme at work: what it prints, and where that goes.
#[derive(Clone, Debug)]
pub(super) struct Femme {
    printed: Arc<OwnedFd>,
    output: Arc<Mutex<Output>>,
}

impl Femme {
    /// Installs femme, or gives `None` if another logger is there already.
    ///
    /// # Errors
    /// There is no descriptor for the pipe, or no thread to read it.
    pub(super) fn install(output: Output, level: log::LevelFilter) -> Result<Option<Self>, Error> {
        if std::panic::catch_unwind(|| ::femme::with_level(level)).is_err() {
            return Ok(None);
        }
        let failed =
            |error: io::Error| Error::new(Kind::Io, "cannot set up the log").because(error);
        let printed = Arc::new(stdio::divert_stdout().map_err(failed)?);
        let femme = Femme {
            printed,
            output: Arc::new(Mutex::new(output)),
        };
        let passing = femme.clone();
        let thread = std::thread::Builder::new().name("log".into());
        thread.spawn(move || passing.pass_on()).map_err(failed)?;
        Ok(Some(femme))
    }

    pub(super) fn output(&self) -> MutexGuard<'_, Output> {
        self.output
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until everything that was printed has been passed on, for a second at most.
    pub(super) fn flush(&self) {
        let _ = io::stdout().flush();
        let deadline = Instant::now() + PATIENCE;
        while !self.is_idle() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Nothing is in the pipe, and, as whoever takes from it holds the output, nothing is on its way.
    fn is_idle(&self) -> bool {
        match self.output.try_lock() {
            Ok(_) | Err(TryLockError::Poisoned(_)) => {
                rustix::io::ioctl_fionread(&self.printed) == Ok(0)
            }
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Runs until nobody can print any more.
    fn pass_on(&self) {
        let mut buffer = vec![0; 64 << 10];
        while wait(&self.printed).is_ok() {
            let mut output = self.output();
            match rustix::io::read(&self.printed, &mut buffer[..]) {
                Ok(0) => return,
                Ok(count) => write(&mut output, &buffer[..count]),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

fn wait(printed: &OwnedFd) -> Result<(), Errno> {
    loop {
        match poll(&mut [PollFd::new(printed, PollFlags::IN)], None) {
            Err(Errno::INTR) => {}
            ready => return ready.map(drop),
        }
    }
}

fn write(output: &mut Output, printed: &[u8]) {
    if let Some(lost) = output.write(printed) {
        output.write(format!("{lost}\n").as_bytes());
    }
}
