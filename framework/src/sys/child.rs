//! A process that this one has started, by its descriptor: no pid is ever signalled that might be another's by now.

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

/// A child of this process, running or ended. Dropping it neither kills nor reaps it.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    started: Instant,
    pidfd: Async<OwnedFd>,
    /// Known once it has been reaped.
    ending: OnceLock<Ending>,
}

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Somebody else reaped it, or SIGCHLD was ignored when this process was started.
    Unknown,
}

impl Child {
    /// Takes over a child that was just started and that nobody else waits for.
    ///
    /// # Errors
    /// The operating system gives no descriptor for it (Linux before 5.4, or none is left): it is killed and reaped.
    pub(super) fn new(pid: Pid) -> io::Result<Self> {
        watch(pid).inspect_err(|_| {
            // it has not been waited for: this is its pid and nobody else's
            let _ = process::kill_process(pid, Signal::KILL);
            let _ = process::waitpid(Some(pid), WaitOptions::empty());
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// When it was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Waits until it has ended, and reaps it. Any number may wait, and ask again.
    pub(crate) async fn exited(&self) -> Ending {
        loop {
            if let Some(ending) = self.try_exited() {
                return ending;
            }
            // without a reactor that takes it there is nothing to wait for; it never happens after `watch`
            if self.pidfd.readable().await.is_err() {
                return self.reap(WaitIdOptions::EXITED).unwrap_or(Ending::Unknown);
            }
        }
    }

    /// How it has ended, if it has.
    pub(crate) fn try_exited(&self) -> Option<Ending> {
        self.reap(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Kills it with SIGKILL, stopped or not; nothing happens if it has ended.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends it a signal; nothing happens if it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = process::pidfd_send_signal(&self.pidfd, signal);
    }

    /// Kills it and waits until it is gone, so that none of its descriptors is open any more.
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
                // ECHILD: reaped, here in another task or elsewhere
                Err(_) => break Ending::Unknown,
            }
        };
        Some(*self.ending.get_or_init(|| ending))
    }
}

fn watch(pid: Pid) -> io::Result<Child> {
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

    /// The status a shell would give: the process' own, or 128 and the signal; 1 if nobody knows.
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
            Ending::Unknown => f.write_str("ended, nobody knows how"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use async_std::task::block_on;

    use super::*;

    #[expect(clippy::zombie_processes, reason = "what takes it over waits for it")]
    fn shell(script: &str) -> Child {
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .spawn()
            .unwrap();
        Child::new(Pid::from_child(&child)).unwrap()
    }

    #[test]
    fn it_is_reaped_with_its_status_and_can_be_asked_again() {
        let child = shell("exit 7");
        assert_eq!(block_on(child.exited()), Ending::Exited(7));
        assert_eq!(block_on(child.exited()), Ending::Exited(7));
        assert!(!std::path::Path::new(&format!("/proc/{}", child.pid())).exists());
    }

    #[test]
    fn a_stopped_one_is_killed_and_reaped() {
        let child = shell("kill -STOP $$; exit 0");
        assert_eq!(child.try_exited(), None);
        assert_eq!(block_on(child.kill_and_reap()), Ending::Killed(9));
        child.kill();
        assert_eq!(child.try_exited(), Some(Ending::Killed(9)));
    }

    #[test]
    fn two_wait_for_the_same_one() {
        let child = shell("sleep 0.1; exit 3");
        let both = futures_lite::future::zip(child.exited(), child.exited());
        assert_eq!(block_on(both), (Ending::Exited(3), Ending::Exited(3)));
    }

    #[test]
    fn an_ending_in_words_and_as_a_status() {
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
