//! Commands of an operator as events, and when each of them is done: a signal says less, and nobody waits for it.

use super::words::{Afterwards, Event, Phase, Refusal, Told};

/// What an operator asks for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Reload,
    Upgrade,
    Rollback,
    Pause,
    Resume,
    Drain,
    Stop,
}

/// How far a command has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Waits,
    Reached,
    /// Something else was asked for since, or came in between.
    Missed,
}

/// The event that a command becomes in a phase; `None` where there is nothing to do but to wait.
///
/// # Errors
/// Why it makes no sense there. What the policy refuses by itself is not looked at twice.
pub(crate) fn meaning(command: Command, phase: Phase) -> Result<Option<Event>, Refusal> {
    match command {
        // a HUP would resume
        Command::Reload if pauses(phase) => Err(Refusal::Paused),
        Command::Reload if phase == Phase::Sharing => Err(Refusal::Sharing),
        Command::Reload if is_leaving(phase) => Err(Refusal::Leaving),
        Command::Reload => Ok(Some(Event::Hup)),
        Command::Upgrade => Ok(Some(Event::Usr2)),
        Command::Rollback => match phase {
            Phase::Upgrading(_) | Phase::Sharing | Phase::Standby => Ok(Some(Event::Rollback)),
            // unless this one was told to stop meanwhile
            Phase::Swapping(told) | Phase::HandingOver(told) | Phase::Confirming(told)
                if told == Told::Gently =>
            {
                Ok(Some(Event::Rollback))
            }
            _ => Err(Refusal::NothingToRollBack),
        },
        Command::Pause => match phase {
            Phase::Starting(_) | Phase::Succeeding(_) | Phase::Ready(_) => {
                Err(Refusal::StillStarting)
            }
            Phase::Upgrading(_) => Err(Refusal::AlreadyUpgrading),
            _ if is_leaving(phase) => Err(Refusal::Leaving),
            _ if pauses(phase) => Ok(None),
            _ => Ok(Some(Event::Winch)),
        },
        Command::Resume if pauses(phase) => Ok(Some(Event::Hup)),
        Command::Resume => Err(Refusal::NotPaused),
        // who is to stop is about to change, and that takes milliseconds
        Command::Drain | Command::Stop if matches!(phase, Phase::Swapping(_)) => {
            Err(Refusal::AlreadyUpgrading)
        }
        Command::Drain | Command::Stop if is_leaving(phase) => Ok(None),
        Command::Drain => Ok(Some(Event::Quit)),
        Command::Stop => Ok(Some(Event::Term)),
    }
}

/// How far a command has come that was taken up before.
pub(crate) fn standing(command: Command, phase: Phase) -> Standing {
    match (command, phase) {
        // their outcome is more than a phase: whoever learns it says it
        (Command::Reload | Command::Upgrade, _) => Standing::Waits,
        (Command::Drain | Command::Stop, Phase::Gone) => Standing::Reached,
        (Command::Drain | Command::Stop, _) => Standing::Waits,
        (Command::Pause, Phase::Paused | Phase::Standby) => Standing::Reached,
        (Command::Pause, _) if pauses(phase) => Standing::Waits,
        (Command::Pause, _) => Standing::Missed,
        (Command::Resume, _) if pauses(phase) || is_leaving(phase) => Standing::Missed,
        (Command::Resume, _) => Standing::Reached,
        (Command::Rollback, Phase::Serving | Phase::Reloading(_)) => Standing::Reached,
        (Command::Rollback, Phase::Upgrading(_) | Phase::Swapping(_) | Phase::HandingOver(_)) => {
            Standing::Waits
        }
        (Command::Rollback, Phase::Confirming(_) | Phase::Sharing | Phase::Standby) => {
            Standing::Waits
        }
        (Command::Rollback, _) => Standing::Missed,
    }
}

/// Paused, or about to be.
fn pauses(phase: Phase) -> bool {
    match phase {
        Phase::Paused | Phase::Standby => true,
        Phase::Reloading(afterwards) | Phase::Proving(afterwards) | Phase::Beside(afterwards) => {
            afterwards == Afterwards::Pause
        }
        _ => false,
    }
}

/// A phase that leads to none but the end, unless a new process dies.
fn is_leaving(phase: Phase) -> bool {
    match phase {
        Phase::Swapping(_)
        | Phase::HandingOver(_)
        | Phase::Confirming(_)
        | Phase::GivingBack(_) => true,
        Phase::LameDuck(_)
        | Phase::LastCall(_)
        | Phase::Draining(_)
        | Phase::Stopping(_)
        | Phase::Gone => true,
        Phase::Starting(_) | Phase::Succeeding(_) | Phase::Ready(_) => false,
        Phase::Proving(_) | Phase::Beside(_) | Phase::Sharing | Phase::Standby => false,
        Phase::Serving | Phase::Reloading(_) | Phase::Upgrading(_) | Phase::Paused => false,
    }
}

/// Whether a new process is, or was, to take over from this one.
pub(crate) fn upgrades(phase: Phase) -> bool {
    match phase {
        Phase::Upgrading(_) | Phase::Swapping(_) | Phase::HandingOver(_) => true,
        Phase::Sharing | Phase::Standby => true,
        _ => is_leaving(phase),
    }
}

/// The phase as `APP status` names it.
pub(crate) fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting(_) => "starting",
        Phase::Serving => "serving",
        Phase::Reloading(_) => "reloading",
        Phase::Upgrading(_) => "upgrading",
        Phase::Swapping(_) => "swapping",
        Phase::HandingOver(_) => "handing_over",
        Phase::Confirming(_) => "confirming",
        Phase::Sharing => "sharing",
        Phase::Standby => "standby",
        Phase::Succeeding(_) => "succeeding",
        Phase::Ready(_) => "ready",
        Phase::Proving(_) => "proving",
        Phase::Beside(_) => "beside",
        Phase::Paused => "paused",
        Phase::LameDuck(_) => "lame_duck",
        Phase::LastCall(_) => "last_call",
        Phase::Draining(_) => "draining",
        Phase::GivingBack(_) => "giving_back",
        Phase::Stopping(_) => "stopping",
        Phase::Gone => "gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::machine::step;

    /// Where a command leads from a phase, and how far it has come then.
    fn after(command: Command, phase: Phase) -> (Phase, Standing) {
        let phase = match meaning(command, phase).unwrap() {
            Some(event) => step(phase, event).0,
            None => phase,
        };
        (phase, standing(command, phase))
    }

    #[test]
    fn a_pause_is_done_when_it_is_and_waits_for_a_build() {
        assert_eq!(
            after(Command::Pause, Phase::Serving),
            (Phase::Paused, Standing::Reached)
        );
        assert_eq!(
            after(Command::Pause, Phase::Paused),
            (Phase::Paused, Standing::Reached)
        );
        let (phase, waits) = after(Command::Pause, Phase::Reloading(Afterwards::Serve));
        assert_eq!(waits, Standing::Waits);
        let (paused, _) = step(phase, Event::Built);
        assert_eq!(standing(Command::Pause, paused), Standing::Reached);
        let (resumed, _) = step(phase, Event::Hup);
        assert_eq!(standing(Command::Pause, resumed), Standing::Missed);
    }

    #[test]
    fn only_what_is_paused_is_resumed_and_a_reload_does_not_resume() {
        assert_eq!(
            after(Command::Resume, Phase::Paused),
            (Phase::Serving, Standing::Reached)
        );
        assert_eq!(
            meaning(Command::Resume, Phase::Serving),
            Err(Refusal::NotPaused)
        );
        assert_eq!(
            meaning(Command::Reload, Phase::Paused),
            Err(Refusal::Paused)
        );
    }

    #[test]
    fn an_upgrade_is_rolled_back_until_it_is_confirmed() {
        for phase in [
            Phase::Upgrading(Afterwards::Serve),
            Phase::Swapping(Told::Gently),
            Phase::HandingOver(Told::Gently),
            Phase::Confirming(Told::Gently),
            Phase::Sharing,
        ] {
            assert_eq!(
                after(Command::Rollback, phase),
                (Phase::Serving, Standing::Reached)
            );
        }
        for phase in [
            Phase::Serving,
            Phase::Draining(Told::Gently),
            Phase::Proving(Afterwards::Serve),
        ] {
            assert_eq!(
                meaning(Command::Rollback, phase),
                Err(Refusal::NothingToRollBack)
            );
        }
    }

    #[test]
    fn a_second_stop_waits_and_does_not_cut() {
        let (phase, waits) = after(Command::Stop, Phase::Serving);
        assert_eq!(
            (phase, waits),
            (Phase::LameDuck(Told::Firmly), Standing::Waits)
        );
        assert_eq!(after(Command::Stop, phase), (phase, Standing::Waits));
        assert_eq!(standing(Command::Stop, Phase::Gone), Standing::Reached);
    }
}
