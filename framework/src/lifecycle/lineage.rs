//! Where this process stands among its generations: which one is the newest, and whether the first one has to stay.

use std::process::ExitCode;
use std::sync::Arc;

use super::waiter::{self, Newest, Watched};
use crate::config::FirstProcess;
use crate::error::{Error, Kind};
use crate::socket::{InheritedSockets, NEWEST};
use crate::sys::spawn::Program;

/// What the generations of a program know of each other.
#[derive(Clone, Debug)]
pub(crate) struct Lineage {
    pub(crate) newest: Arc<Newest>,
    place: Place,
}

/// The place of this process.
#[derive(Clone, Debug)]
enum Place {
    /// The first one: somebody may watch its pid, and then it stays when it is replaced.
    First(Arc<Watched>, FirstProcess),
    /// A later one: it ends when it is replaced.
    Later,
}

impl Lineage {
    /// Finds out at the start. `first_process` is the setting of that name.
    ///
    /// # Errors
    /// When the operating system has no memory for the record that the generations share.
    pub(crate) fn of(
        program: &Program,
        inherited: &mut InheritedSockets,
        first_process: FirstProcess,
    ) -> Result<Self, Error> {
        let failed = |error| {
            Error::new(
                Kind::Io,
                "cannot create the record that the processes share",
            )
            .because(error)
        };
        match inherited.take_fd(NEWEST) {
            Some(parcel) => {
                let newest = Arc::new(Newest::adopt(parcel).map_err(failed)?);
                Ok(Lineage {
                    newest,
                    place: Place::Later,
                })
            }
            None => {
                let newest = Arc::new(Newest::create().map_err(failed)?);
                let watched = Arc::new(Watched::record(program));
                Ok(Lineage {
                    newest,
                    place: Place::First(watched, first_process),
                })
            }
        }
    }

    /// Before a successor is started: what is orphaned below a process that stays is its to reap.
    pub(crate) fn before_upgrade(&self) {
        if self.is_watched() {
            if let Err(error) = waiter::be_subreaper() {
                log::warn!("this process cannot become a subreaper, and later processes will not be its children: {error}");
            }
        }
    }

    /// Whether another process serves by now, and this one only stays for those who watch its pid.
    pub(crate) fn only_stays(&self) -> bool {
        self.newest
            .live()
            .is_some_and(|live| live != std::process::id())
            && self.is_watched()
    }

    /// Whether what it is told is meant for the newest process: it stays for those who watch its pid, or one that stays
    /// has passed the word on.
    pub(crate) fn speaks_for_the_newest(&self) -> bool {
        self.is_watched() || self.newest.waiter().is_some()
    }

    fn is_watched(&self) -> bool {
        match &self.place {
            Place::First(watched, first_process) => watched.should_stay(*first_process),
            Place::Later => false,
        }
    }

    /// At the end of a process that was replaced: goes on as a waiter if it has to stay, and gives the status to end
    /// with once that is over. `None`: it has not been replaced, or may end.
    pub(crate) fn stay(&self, program: &Program) -> Option<ExitCode> {
        if !self.only_stays() {
            return None;
        }
        log::info!(
            "this process stays, because its pid is watched (upgrade.first_process); it releases its memory and forwards signals to the active process"
        );
        crate::observe::log::flush();
        self.newest.stays();
        let error = waiter::becomes_waiter(program, &self.newest);
        log::warn!(
            "cannot execute the program as a waiter: {error}; this process waits without releasing its memory"
        );
        Some(waiter::wait(&self.newest))
    }
}
