//! A child process, held by its pidfd. A signal can therefore never reach another process that
//! reuses the pid.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::Instant;

use async_io::Async;
use rustix::io::Errno;
use rustix::process::{
    self, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions,
};

/// A child of this process, running or exited. Dropping it neither kills nor reaps it.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    started: Instant,
    pidfd: Async<OwnedFd>,
    /// Set when the child is reaped.
    ending: OnceLock<Ending>,
}

/// The way in which a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Exited with this status.
    Exited(i32),
    /// Killed by this signal.
    Killed(i32),
    /// Unknown: the child was reaped elsewhere, or SIGCHLD was ignored when this process was
    /// started.
    Unknown,
}

impl Child {
    /// Takes over a child that was just started. No other code may wait for it.
    ///
    /// # Errors
    /// pidfd_open(2) fails (Linux before 5.4, or no descriptor is left). Then the child is killed
    /// and reaped.
    pub(super) fn new(pid: Pid) -> io::Result<Self> {
        open(pid).inspect_err(|_| {
            // the child has not been reaped, so the pid is still its own
            let _ = process::kill_process(pid, Signal::KILL);
            let _ = process::waitpid(Some(pid), WaitOptions::empty());
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The time when it was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Waits until the child has ended, and reaps it. Several tasks may wait, and repeated calls
    /// return the same result.
    pub(crate) async fn exited(&self) -> Ending {
        loop {
            if let Some(ending) = self.try_exited() {
                return ending;
            }
            // the reactor cannot wait for the pidfd, so block; this does not happen after `open`
            if self.pidfd.readable().await.is_err() {
                return self.reap(WaitIdOptions::EXITED).unwrap_or(Ending::Unknown);
            }
        }
    }

    /// Returns how the child ended, or `None` while it runs.
    pub(crate) fn try_exited(&self) -> Option<Ending> {
        self.reap(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Sends SIGKILL, which also ends a stopped process. Has no effect if the child has ended.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends a signal. Has no effect if the child has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = process::pidfd_send_signal(&self.pidfd, signal);
    }

    /// Kills the child and waits until it has ended, so that all its descriptors are closed.
    pub(crate) async fn kill_and_reap(&self) -> Ending {
        self.kill();
        self.exited().await
    }

    fn reap(&self, options: WaitIdOptions) -> Option<Ending> {
        if let Some(ending) = self.ending.get() {
            return Some(*ending);
        }
        let ending = loop {
            match process::waitid(
                WaitId::PidFd(std::os::fd::AsFd::as_fd(&self.pidfd)),
                options,
            ) {
                Ok(Some(status)) => break Ending::of(&status),
                Ok(None) => return None,
                Err(Errno::INTR) => {}
                // ECHILD: reaped by another task, or elsewhere in the process
                Err(_) => break Ending::Unknown,
            }
        };
        Some(*self.ending.get_or_init(|| ending))
    }
}

fn open(pid: Pid) -> io::Result<Child> {
    let pidfd = process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    Ok(Child {
        pid,
        started: Instant::now(),
        pidfd: Async::new(pidfd)?,
        ending: OnceLock::new(),
    })
}

impl Ending {
    fn of(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(status), _) => Ending::Exited(status),
            (None, Some(signal)) => Ending::Killed(signal),
            (None, None) => Ending::Unknown,
        }
    }

    /// The exit status that a shell would report: the status of the process, or 128 plus the
    /// signal. 1 if it is unknown.
    pub(crate) fn code(self) -> u8 {
        let code = match self {
            Ending::Exited(status) => status & 0xff,
            Ending::Killed(signal) => 128 + (signal & 0x7f),
            Ending::Unknown => 1,
        };
        u8::try_from(code).unwrap_or(1)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(status) => write!(f, "exited with status {status}"),
            Ending::Killed(signal) => match signal_hook::low_level::signal_name(*signal) {
                Some(name) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {signal}"),
            },
            Ending::Unknown => f.write_str("ended with an unknown status"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use async_std::task::block_on;

    use super::*;

    #[expect(clippy::zombie_processes, reason = "`Child` waits for it")]
    fn shell(script: &str) -> Child {
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .spawn()
            .unwrap();
        Child::new(Pid::from_child(&child)).unwrap()
    }

    #[test]
    fn a_child_is_reaped_once_and_its_status_stays_available() {
        let child = shell("exit 7");
        assert_eq!(block_on(child.exited()), Ending::Exited(7));
        assert_eq!(block_on(child.exited()), Ending::Exited(7));
        assert!(!std::path::Path::new(&format!("/proc/{}", child.pid())).exists());
    }

    #[test]
    fn a_stopped_child_is_killed_and_reaped() {
        let child = shell("kill -STOP $$; exit 0");
        assert_eq!(child.try_exited(), None);
        assert_eq!(block_on(child.kill_and_reap()), Ending::Killed(9));
        child.kill();
        assert_eq!(child.try_exited(), Some(Ending::Killed(9)));
    }

    #[test]
    fn two_tasks_wait_for_the_same_child() {
        let child = shell("sleep 0.1; exit 3");
        let both = futures_lite::future::zip(child.exited(), child.exited());
        assert_eq!(block_on(both), (Ending::Exited(3), Ending::Exited(3)));
    }

    #[test]
    fn an_ending_has_a_text_and_an_exit_status() {
        assert_eq!(Ending::Exited(7).to_string(), "exited with status 7");
        assert_eq!(Ending::Killed(9).to_string(), "was killed by SIGKILL");
        assert_eq!(
            (
                Ending::Exited(7).code(),
                Ending::Killed(15).code(),
                Ending::Unknown.code()
            ),
            (7, 143, 1)
        );
    }
}
