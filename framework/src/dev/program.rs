//! The program under development: its phase, its start, its reloads and its upgrades.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};
use signal_hook::low_level::siginfo::Origin;

use super::launcher::Launcher;
use crate::error::{Error, Kind};
use crate::lifecycle::{pass_on, Family, Newest};
use crate::sys::child::Ending;

/// The interval between two reads of the shared record while it is about to change.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The limit on the time between USR2 and the start of the new process. A process that is busy with
/// another operation refuses the upgrade.
const UPGRADE_START_TIMEOUT: Duration = Duration::from_secs(5);

/// The phase of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProgramPhase {
    /// No process runs. Connections wait in the queues of the sockets until one is started.
    Stopped,
    /// A process was started and is not live yet.
    Starting,
    /// The process with this pid serves.
    Serving(u32),
    /// A new process is about to take over.
    Upgrading(UpgradeAttempt),
    /// The new process with this pid has taken over. The old one takes over again if it dies.
    OnTrial(u32),
}

/// An upgrade whose new process is not live yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UpgradeAttempt {
    old_pid: u32,
    requested: Instant,
    progress: UpgradeProgress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UpgradeProgress {
    /// The old process was sent USR2.
    Requested,
    /// The old process has started the new one.
    Started,
}

/// A change of the program's phase that the loop handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProgramEvent {
    /// The program serves after a start.
    Live,
    /// The process with this pid serves after an upgrade.
    Upgraded(u32),
    /// The old process keeps serving, for this reason.
    UpgradeFailed(&'static str),
    /// No process of the program is left.
    Ended(Ending),
}

/// The processes of the program. They share a record that names the newest one.
pub(super) struct DevProgram {
    pub(super) launcher: Launcher,
    /// The executable of the last successful build.
    pub(super) executable: PathBuf,
    phase: ProgramPhase,
    newest: Newest,
    family: Family,
}

impl DevProgram {
    /// Creates the program without starting it.
    ///
    /// # Errors
    /// The shared record cannot be created, because no memory or descriptor is left.
    pub(super) fn new(launcher: Launcher, executable: PathBuf) -> io::Result<Self> {
        Ok(DevProgram {
            launcher,
            executable,
            phase: ProgramPhase::Stopped,
            newest: Newest::create()?,
            family: Family::default(),
        })
    }

    pub(super) fn phase(&self) -> ProgramPhase {
        self.phase
    }

    /// Returns the time until the next [`poll`](DevProgram::poll), or `None` if a change of the phase
    /// causes an event.
    pub(super) fn poll_interval(&self) -> Option<Duration> {
        match self.phase {
            ProgramPhase::Starting | ProgramPhase::Upgrading(_) | ProgramPhase::OnTrial(_) => {
                Some(POLL_INTERVAL)
            }
            ProgramPhase::Stopped | ProgramPhase::Serving(_) => None,
        }
    }

    /// Returns the pid of the process that serves.
    pub(super) fn live_pid(&self) -> Option<u32> {
        self.newest.live()
    }

    /// Returns true if the process that serves runs the last successful build.
    pub(super) fn runs_newest_build(&self) -> bool {
        self.live_pid()
            .is_some_and(|live| runs(live, &self.executable))
    }

    /// Starts a process. Call this only if none runs.
    ///
    /// # Errors
    /// Those of [`Launcher::start`], or the shared record cannot be created.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        let newest = Newest::create().map_err(|error| {
            Error::new(
                Kind::Io,
                "cannot create the shared record of the program's processes",
            )
            .because(error)
        })?;
        self.launcher.start(&self.executable, &newest)?;
        (self.newest, self.family) = (newest, Family::default());
        self.phase = ProgramPhase::Starting;
        Ok(())
    }

    #[expect(
        clippy::unused_self,
        reason = "an order to the program, as `upgrade` is"
    )]
    pub(super) fn reload(&self, live: u32) {
        send(live, Signal::HUP);
    }

    pub(super) fn upgrade(&mut self, live: u32) {
        send(live, Signal::USR2);
        self.phase = ProgramPhase::Upgrading(UpgradeAttempt {
            old_pid: live,
            requested: Instant::now(),
            progress: UpgradeProgress::Requested,
        });
    }

    /// Forwards a signal that a process has sent to the `dev` process. A signal from the terminal is
    /// not forwarded, because the terminal sends it to the program as well.
    pub(super) fn forward_signal(&self, origin: &Origin) {
        pass_on(origin, &self.newest);
    }

    /// Reaps processes that have ended, reads the shared record, and updates the phase.
    pub(super) fn poll(&mut self) -> Option<ProgramEvent> {
        if self.phase != ProgramPhase::Stopped {
            if let Some(ending) = self.family.reap(&self.newest) {
                self.phase = ProgramPhase::Stopped;
                return Some(ProgramEvent::Ended(ending));
            }
        }
        match self.phase {
            ProgramPhase::Starting => {
                self.phase = ProgramPhase::Serving(self.live_pid()?);
                Some(ProgramEvent::Live)
            }
            ProgramPhase::Serving(live) => self.detect_upgrade(live),
            ProgramPhase::Upgrading(attempt) => self.poll_upgrade(attempt),
            ProgramPhase::OnTrial(new) => self.poll_trial(new),
            ProgramPhase::Stopped => None,
        }
    }

    /// Detects an upgrade that the loop has not requested, or an upgrade that a slow machine started
    /// after [`UPGRADE_START_TIMEOUT`].
    fn detect_upgrade(&mut self, live: u32) -> Option<ProgramEvent> {
        let record = self.newest.read();
        if record.next == 0 && record.live == live {
            return None;
        }
        let attempt = UpgradeAttempt {
            old_pid: live,
            requested: Instant::now(),
            progress: UpgradeProgress::Started,
        };
        self.phase = ProgramPhase::Upgrading(attempt);
        self.poll_upgrade(attempt)
    }

    fn poll_upgrade(&mut self, attempt: UpgradeAttempt) -> Option<ProgramEvent> {
        let record = self.newest.read();
        match attempt.progress {
            // wait until the old process accepts no connections: a page that reloads after this
            // event must get the new code
            _ if record.live != attempt.old_pid => {
                if !self.newest.is_alone() {
                    return None;
                }
                self.phase = ProgramPhase::OnTrial(record.live);
                Some(ProgramEvent::Upgraded(record.live))
            }
            UpgradeProgress::Requested if record.next != 0 => {
                self.phase = ProgramPhase::Upgrading(UpgradeAttempt {
                    progress: UpgradeProgress::Started,
                    ..attempt
                });
                None
            }
            UpgradeProgress::Requested if attempt.requested.elapsed() > UPGRADE_START_TIMEOUT => {
                self.upgrade_failed("The running program did not start the new build")
            }
            UpgradeProgress::Started if record.next == 0 => {
                self.upgrade_failed("The new code does not start")
            }
            UpgradeProgress::Requested | UpgradeProgress::Started => None,
        }
    }

    fn poll_trial(&mut self, new: u32) -> Option<ProgramEvent> {
        if self.newest.read().live != new {
            return self.upgrade_failed("The new code ended soon after the upgrade");
        }
        if self.newest.is_proven() {
            self.phase = ProgramPhase::Serving(new);
        }
        None
    }

    fn upgrade_failed(&mut self, reason: &'static str) -> Option<ProgramEvent> {
        self.phase = ProgramPhase::Serving(self.newest.read().live);
        Some(ProgramEvent::UpgradeFailed(reason))
    }
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Returns true if a process runs this file, and not an older file that had the same path.
fn runs(pid: u32, executable: &Path) -> bool {
    let identity = |path: &Path| {
        std::fs::metadata(path)
            .map(|data| (data.dev(), data.ino()))
            .ok()
    };
    let running = identity(Path::new(&format!("/proc/{pid}/exe")));
    running.is_some() && running == identity(executable)
}
