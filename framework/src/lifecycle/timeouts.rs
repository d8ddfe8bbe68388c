//! The duration of each timeout, and the end of it.

use std::time::Duration;

use super::driver::Driver;
use super::instance::Instance;
use super::machine::{Input, Phase, ShutdownKind, Timeout};
use super::sender::ACK_TIMEOUT;
use super::successor::Successor;
use crate::config::GraceDefaults;

/// The time that the new process has between `Live` and `Accepting`. It has nothing left to do but to accept.
pub(super) const SWAP_TIMEOUT: Duration = Duration::from_secs(5);

impl Driver {
    pub(super) fn timer_expired(&mut self) -> Input {
        self.timer = None;
        match self.phase {
            Phase::Upgrading(_) => log::error!(
                "the new process was not ready within {:?} (upgrade.ready_timeout){}",
                self.duration_of(Timeout::Ready),
                self.successor.as_ref().map_or("", Successor::hint)
            ),
            Phase::Swapping(_) => {
                log::error!("the new process did not accept within {SWAP_TIMEOUT:?}");
            }
            Phase::Confirming(_) => {
                log::error!("the new process did not answer within {ACK_TIMEOUT:?}");
            }
            _ => {}
        }
        Input::TimerExpired
    }

    /// Returns the urgency of the shutdown. A debug build that receives TERM or INT is about to be restarted by its
    /// developer, and streams that never end would only delay that.
    pub(super) fn grace_defaults(&self) -> GraceDefaults {
        match self.phase {
            Phase::KeepaliveGrace(ShutdownKind::Fast)
            | Phase::Draining(ShutdownKind::Fast)
            | Phase::Stopping(ShutdownKind::Fast)
                if cfg!(debug_assertions) =>
            {
                GraceDefaults::Development
            }
            _ => GraceDefaults::Production,
        }
    }

    /// Returns the duration of a timeout by the current settings.
    pub(super) fn duration_of(&self, timeout: Timeout) -> Duration {
        let Some(config) = self.instance.as_ref().map(Instance::config) else {
            return Duration::ZERO;
        };
        let (shutdown, upgrade, grace_defaults) =
            (&config.shutdown, &config.upgrade, self.grace_defaults());
        match timeout {
            Timeout::ShutdownDelay => shutdown.delay,
            Timeout::KeepaliveGrace => shutdown.keepalive_grace.min(shutdown.grace(grace_defaults)),
            Timeout::Grace => shutdown
                .grace(grace_defaults)
                .saturating_sub(shutdown.keepalive_grace),
            Timeout::Force => shutdown.force_after(grace_defaults),
            Timeout::Ready => upgrade.ready_timeout,
            Timeout::Swap => SWAP_TIMEOUT,
            Timeout::Rollback => upgrade.rollback_window,
            Timeout::Answer => ACK_TIMEOUT,
            Timeout::Return => {
                shutdown.grace(grace_defaults) + shutdown.force_after(grace_defaults) + ACK_TIMEOUT
            }
        }
    }
}
