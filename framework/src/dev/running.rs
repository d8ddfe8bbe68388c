//! The program as it runs: how it stands, what it is told, and how an upgrade of it goes.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};
use signal_hook::low_level::siginfo::Origin;

use super::child::Start;
use crate::error::{Error, Kind};
use crate::lifecycle::{pass_on, Family, Newest};
use crate::sys::child::Ending;

/// How often the record of the generations is looked at while it is about to change.
const LOOK: Duration = Duration::from_millis(5);

/// How long a program may take to begin an upgrade that it was told of; it refuses while it does something else.
const ANSWER: Duration = Duration::from_secs(5);

/// How the program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It does not run: connections wait in the sockets for the next one that does.
    Down,
    /// It was started, and is not live yet.
    Starting,
    /// This one serves.
    Up(u32),
    /// It was told to upgrade, and its successor is on the way.
    Swapping(Swap),
    /// This one has taken over, and its predecessor may still come back.
    Proving(u32),
}

/// An upgrade under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Swap {
    from: u32,
    asked: Instant,
    successor: Successor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Successor {
    Awaited,
    Started,
}

/// What has become of it since it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It serves after a start.
    Live,
    /// This one serves after an upgrade.
    Swapped(u32),
    /// The one before serves on, for this reason.
    SwapFailed(&'static str),
    /// None of its generations is left.
    Ended(Ending),
}

/// The newest generation, by the record that all of them share, and those that came before it.
pub(super) struct Running {
    pub(super) start: Start,
    /// The program in its newest version that builds.
    pub(super) executable: PathBuf,
    phase: Phase,
    newest: Newest,
    family: Family,
}

impl Running {
    /// Nothing runs yet.
    ///
    /// # Errors
    /// There is no memory for the record of the generations.
    pub(super) fn new(start: Start, executable: PathBuf) -> io::Result<Self> {
        let (newest, family) = (Newest::create()?, Family::default());
        Ok(Running {
            start,
            executable,
            phase: Phase::Down,
            newest,
            family,
        })
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// How long to wait before it is looked at again, where a change of it is no event.
    pub(super) fn patience(&self) -> Option<Duration> {
        match self.phase {
            Phase::Starting | Phase::Swapping(_) | Phase::Proving(_) => Some(LOOK),
            Phase::Down | Phase::Up(_) => None,
        }
    }

    /// The process that serves.
    pub(super) fn live(&self) -> Option<u32> {
        self.newest.live()
    }

    /// Whether what serves is the newest version that builds.
    pub(super) fn is_newest(&self) -> bool {
        self.live().is_some_and(|live| runs(live, &self.executable))
    }

    /// Starts it where none runs.
    ///
    /// # Errors
    /// As [`Start::start`].
    pub(super) fn start(&mut self) -> Result<(), Error> {
        let newest = Newest::create()
            .map_err(|error| Error::new(Kind::Io, "no record of the generations").because(error))?;
        self.start.start(&self.executable, &newest)?;
        (self.newest, self.family) = (newest, Family::default());
        self.phase = Phase::Starting;
        Ok(())
    }

    pub(super) fn reload(&self, live: u32) {
        send(live, Signal::HUP);
    }

    pub(super) fn upgrade(&mut self, live: u32) {
        send(live, Signal::USR2);
        let asked = Instant::now();
        self.phase = Phase::Swapping(Swap {
            from: live,
            asked,
            successor: Successor::Awaited,
        });
    }

    /// What a process sent to the keeper is passed on; what comes from the terminal has reached the program as well.
    pub(super) fn pass_on(&self, origin: &Origin) {
        pass_on(origin, &self.newest);
    }

    /// Looks how it stands now.
    pub(super) fn look(&mut self) -> Option<News> {
        if self.phase != Phase::Down {
            if let Some(ending) = self.family.reap(&self.newest) {
                self.phase = Phase::Down;
                return Some(News::Ended(ending));
            }
        }
        match self.phase {
            Phase::Starting => {
                self.phase = Phase::Up(self.live()?);
                Some(News::Live)
            }
            Phase::Up(live) => self.look_for_swap(live),
            Phase::Swapping(swap) => self.look_at_swap(swap),
            Phase::Proving(new) => self.look_at_proof(new),
            Phase::Down => None,
        }
    }

    /// An upgrade that somebody else asked for, or one that was given up too soon on a machine that is short of time.
    fn look_for_swap(&mut self, live: u32) -> Option<News> {
        let named = self.newest.read();
        if named.next == 0 && named.live == live {
            return None;
        }
        let swap = Swap {
            from: live,
            asked: Instant::now(),
            successor: Successor::Started,
        };
        self.phase = Phase::Swapping(swap);
        self.look_at_swap(swap)
    }

    fn look_at_swap(&mut self, swap: Swap) -> Option<News> {
        let named = self.newest.read();
        match swap.successor {
            // whoever asks from now on is to find the new code
            _ if named.live != swap.from => {
                self.newest.is_alone().then(|| self.swapped(named.live))
            }
            Successor::Awaited if named.next != 0 => {
                self.phase = Phase::Swapping(Swap {
                    successor: Successor::Started,
                    ..swap
                });
                None
            }
            Successor::Awaited if swap.asked.elapsed() > ANSWER => {
                self.swap_failed("The program could not start its successor")
            }
            Successor::Started if named.next == 0 => {
                self.swap_failed("The new code does not start")
            }
            Successor::Awaited | Successor::Started => None,
        }
    }

    fn look_at_proof(&mut self, new: u32) -> Option<News> {
        let named = self.newest.read();
        if named.live != new {
            return self
                .swap_failed("The new code ended at once, and the code before serves again");
        }
        if self.newest.is_proven() {
            self.phase = Phase::Up(new);
        }
        None
    }

    fn swapped(&mut self, new: u32) -> News {
        self.phase = Phase::Proving(new);
        News::Swapped(new)
    }

    fn swap_failed(&mut self, why: &'static str) -> Option<News> {
        self.phase = Phase::Up(self.newest.read().live);
        Some(News::SwapFailed(why))
    }
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process runs this very file, and not one that had its name before.
fn runs(pid: u32, executable: &Path) -> bool {
    let identity = |path: &Path| {
        std::fs::metadata(path)
            .map(|data| (data.dev(), data.ino()))
            .ok()
    };
    let running = identity(Path::new(&format!("/proc/{pid}/exe")));
    running.is_some() && running == identity(executable)
}
