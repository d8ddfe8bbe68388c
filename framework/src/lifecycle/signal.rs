//! Signals as events: one stream of them, with the origin of each, installed before anything else.

use std::time::Instant;

use futures_lite::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use signal_hook_async_std::SignalsInfo;

use super::lineage::Lineage;
use super::machine::Event;
use super::waiter::{pass_on, Echoes, From};
use crate::error::{Error, Kind};

/// The signals of this process (`signal(7)`), caught from the moment this exists.
pub(crate) struct Signals {
    arriving: SignalsInfo<WithOrigin>,
    echoes: Echoes,
    /// The generations of this program, once they are known: a first process that only stays passes signals on.
    lineage: Option<Lineage>,
}

impl Signals {
    /// Installs the handlers; until then HUP, USR1 and USR2 would kill the process.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub(crate) fn install() -> Result<Self, Error> {
        let all = [SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGQUIT, SIGTERM, SIGINT];
        SignalsInfo::new(all)
            .map(|arriving| Signals {
                arriving,
                echoes: Echoes::default(),
                lineage: None,
            })
            .map_err(|error| {
                Error::new(Kind::Io, "signal handlers could not be installed").because(error)
            })
    }

    /// From now on signals go to the newest of these, where this process only stays for those who watch it.
    pub(crate) fn route(&mut self, lineage: Lineage) {
        self.lineage = Some(lineage);
    }

    /// The next signal that means something.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            let origin = self.arriving.next().await?;
            if self
                .echoes
                .is_echo(origin.signal, sender(&origin), Instant::now())
            {
                continue;
            }
            match &self.lineage {
                Some(lineage) if lineage.only_stays() => pass_on(&origin, &lineage.newest),
                _ => {
                    if let Some(event) = meaning(&origin) {
                        log::info!("{}", named(&origin));
                        return Some(event);
                    }
                }
            }
        }
    }
}

fn meaning(origin: &Origin) -> Option<Event> {
    let from_kernel = matches!(origin.cause, Cause::Kernel);
    match origin.signal {
        SIGHUP if from_kernel => {
            log::info!("the terminal is gone; draining");
            Some(Event::Quit)
        }
        SIGHUP => Some(Event::Hup),
        SIGUSR1 => Some(Event::Usr1),
        SIGUSR2 => Some(Event::Usr2),
        // a terminal that was resized is no command
        SIGWINCH if from_kernel => None,
        SIGWINCH => Some(Event::Winch),
        SIGQUIT => Some(Event::Quit),
        SIGTERM => Some(Event::Term),
        SIGINT => Some(Event::Int),
        _ => None,
    }
}

/// A waiter is the parent of the newest generation, and passes on what has reached a whole process group already.
fn sender(origin: &Origin) -> From {
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    match &origin.process {
        Some(process) if Some(process.pid) == parent => From::Waiter,
        _ => From::Elsewhere,
    }
}

fn named(origin: &Origin) -> String {
    let name = signal_hook::low_level::signal_name(origin.signal).unwrap_or("unknown");
    match &origin.process {
        Some(process) => format!("{name} from pid {}", process.pid),
        None => name.to_owned(),
    }
}
