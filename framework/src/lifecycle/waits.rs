//! The waits of a process' life: how long each is, and what it means when one is over.

use std::time::Duration;

use super::driver::Driver;
use super::giving::ANSWER;
use super::live::Live;
use super::machine::{self, Event, Phase, Told};
use super::successor::Successor;
use crate::config::GraceDefaults;

/// How long a new process may take from the word to go live until it accepts: it has nothing left to do but that.
pub(super) const SWAP: Duration = Duration::from_secs(5);

impl Driver {
    pub(super) fn time_over(&mut self) -> Event {
        self.timer = None;
        let wait = |timer| self.wait(timer);
        match self.phase {
            Phase::Upgrading(_) => log::error!(
                "the new process was not ready within {:?} (upgrade.ready_timeout){}",
                wait(machine::Timer::Ready),
                self.successor.as_ref().map_or("", Successor::hint)
            ),
            Phase::Swapping(_) => log::error!("the new process did not accept within {SWAP:?}"),
            Phase::Confirming(_) => log::error!("the new process did not answer within {ANSWER:?}"),
            _ => {}
        }
        Event::TimeOver
    }

    /// A debug build that is stopped by TERM or INT is about to be started again, with streams open that never end.
    pub(super) fn grace_defaults(&self) -> GraceDefaults {
        match self.phase {
            Phase::LastCall(Told::Firmly)
            | Phase::Draining(Told::Firmly)
            | Phase::Stopping(Told::Firmly)
                if cfg!(debug_assertions) =>
            {
                GraceDefaults::Development
            }
            _ => GraceDefaults::Production,
        }
    }

    /// How long a wait is, by the settings in force.
    pub(super) fn wait(&self, timer: machine::Timer) -> Duration {
        let Some(config) = self.live.as_ref().map(Live::config) else {
            return Duration::ZERO;
        };
        let (shutdown, upgrade, defaults) =
            (&config.shutdown, &config.upgrade, self.grace_defaults());
        match timer {
            machine::Timer::LameDuck => shutdown.delay,
            machine::Timer::LastCall => shutdown.keepalive_grace.min(shutdown.grace(defaults)),
            machine::Timer::Grace => shutdown
                .grace(defaults)
                .saturating_sub(shutdown.keepalive_grace),
            machine::Timer::Force => shutdown.force_after(defaults),
            machine::Timer::Ready => upgrade.ready_timeout,
            machine::Timer::Swap => SWAP,
            machine::Timer::Rollback => upgrade.rollback_window,
            machine::Timer::Answer => ANSWER,
            machine::Timer::Return => {
                shutdown.grace(defaults) + shutdown.force_after(defaults) + ANSWER
            }
        }
    }
}
