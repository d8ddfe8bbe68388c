//! Signals as events: one stream of them, with the origin of each, installed before anything else.

use futures_lite::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use signal_hook_async_std::SignalsInfo;

use super::machine::Event;
use crate::error::{Error, Kind};

/// The signals of this process (`signal(7)`), caught from the moment this exists.
pub(crate) struct Signals(SignalsInfo<WithOrigin>);

impl Signals {
    /// Installs the handlers; until then HUP, USR1 and USR2 would kill the process.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub(crate) fn install() -> Result<Self, Error> {
        let all = [SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGQUIT, SIGTERM, SIGINT];
        SignalsInfo::new(all)
            .map(Signals)
            .map_err(|error| Error::new(Kind::Io, "signal handlers could not be installed").because(error))
    }

    /// The next signal that means something.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            let origin = self.0.next().await?;
            if let Some(event) = meaning(&origin) {
                log::debug!("signal {}", named(&origin));
                return Some(event);
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

fn named(origin: &Origin) -> String {
    let name = signal_hook::low_level::signal_name(origin.signal).unwrap_or("unknown");
    match &origin.process {
        Some(process) => format!("{name} from pid {}", process.pid),
        None => name.to_owned(),
    }
}
