//! Signals as inputs of the state machine.

use std::time::Instant;

use futures_lite::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use signal_hook_async_std::SignalsInfo;

use super::lineage::Lineage;
use super::machine::Input;
use super::waiter::{pass_on, Echoes, From};
use crate::error::{Error, Kind};

/// The signals of this process (`signal(7)`), caught from the creation of this value on.
pub(crate) struct Signals {
    stream: SignalsInfo<WithOrigin>,
    echoes: Echoes,
    /// The processes of this program. A first process that stays after an upgrade forwards signals to the active one.
    lineage: Option<Lineage>,
}

impl Signals {
    /// Installs the handlers. Before that HUP, USR1 and USR2 kill the process.
    ///
    /// # Errors
    /// The kernel refuses a handler.
    pub(crate) fn install() -> Result<Self, Error> {
        let all = [SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGQUIT, SIGTERM, SIGINT];
        SignalsInfo::new(all)
            .map(|stream| Signals {
                stream,
                echoes: Echoes::default(),
                lineage: None,
            })
            .map_err(|error| {
                Error::new(Kind::Io, "signal handlers could not be installed").because(error)
            })
    }

    /// Forwards signals to the active process from now on, once another process has taken over.
    pub(crate) fn route(&mut self, lineage: Lineage) {
        self.lineage = Some(lineage);
    }

    /// Waits for the next signal that is an input of the state machine.
    pub(crate) async fn next(&mut self) -> Option<Input> {
        loop {
            let origin = self.stream.next().await?;
            if self
                .echoes
                .is_echo(origin.signal, sender(&origin), Instant::now())
            {
                continue;
            }
            match &self.lineage {
                Some(lineage) if lineage.only_stays() => pass_on(&origin, &lineage.newest),
                _ => {
                    if let Some(input) = input_of(&origin) {
                        log::info!("{}", describe(&origin));
                        return Some(input);
                    }
                }
            }
        }
    }
}

fn input_of(origin: &Origin) -> Option<Input> {
    let is_from_kernel = matches!(origin.cause, Cause::Kernel);
    match origin.signal {
        SIGHUP if is_from_kernel => {
            log::info!("the terminal was closed; draining");
            Some(Input::Quit)
        }
        SIGHUP => Some(Input::Hup),
        SIGUSR1 => Some(Input::Usr1),
        SIGUSR2 => Some(Input::Usr2),
        // the kernel sends it when the terminal is resized
        SIGWINCH if is_from_kernel => None,
        SIGWINCH => Some(Input::Winch),
        SIGQUIT => Some(Input::Quit),
        SIGTERM => Some(Input::Term),
        SIGINT => Some(Input::Int),
        _ => None,
    }
}

/// Returns the sender of a signal. The waiter is the parent of the active process, and forwards even a signal that has
/// already reached the whole process group.
fn sender(origin: &Origin) -> From {
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    match &origin.process {
        Some(process) if Some(process.pid) == parent => From::Waiter,
        _ => From::Elsewhere,
    }
}

fn describe(origin: &Origin) -> String {
    let name = signal_hook::low_level::signal_name(origin.signal).unwrap_or("unknown");
    match &origin.process {
        Some(process) => format!("{name} from pid {}", process.pid),
        None => name.to_owned(),
    }
}
