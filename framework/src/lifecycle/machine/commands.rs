//! Commands of an operator: the input of the state machine that each becomes, and the moment when it is done.

#![expect(clippy::match_same_arms, reason = "tables: one arm for each row")]

use super::types::{CommandRefusal, Input, Phase, Queued, ShutdownKind};

/// A command of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperatorCommand {
    Reload,
    Upgrade,
    Rollback,
    Pause,
    Resume,
    Drain,
    Stop,
}

/// The progress of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Pending,
    Done,
    /// Another command or signal, or a failure, has prevented it.
    Superseded,
}

/// Returns the input that carries out a command, or `None` if the process is already doing so.
///
/// # Errors
/// The reason why the command makes no sense in this phase. Refusals of [`step`](super::step) are not repeated here.
pub(crate) fn input_of(
    command: OperatorCommand,
    phase: Phase,
) -> Result<Option<Input>, CommandRefusal> {
    match command {
        // a HUP resumes a paused process
        OperatorCommand::Reload if pauses(phase) => Err(CommandRefusal::Paused),
        OperatorCommand::Reload if phase == Phase::Sharing => Err(CommandRefusal::Sharing),
        OperatorCommand::Reload if is_leaving(phase) => Err(CommandRefusal::Leaving),
        OperatorCommand::Reload => Ok(Some(Input::Hup)),
        OperatorCommand::Upgrade => Ok(Some(Input::Usr2)),
        OperatorCommand::Rollback => match phase {
            Phase::Upgrading(_) | Phase::Sharing | Phase::Standby => Ok(Some(Input::Rollback)),
            // not after a TERM or INT in the meantime
            Phase::Swapping(kind) | Phase::HandingOver(kind) | Phase::Confirming(kind)
                if kind == ShutdownKind::Graceful =>
            {
                Ok(Some(Input::Rollback))
            }
            _ => Err(CommandRefusal::NothingToRollBack),
        },
        OperatorCommand::Pause => match phase {
            Phase::Starting(_) | Phase::Succeeding(_) | Phase::Ready(_) => {
                Err(CommandRefusal::StillStarting)
            }
            Phase::Upgrading(_) => Err(CommandRefusal::AlreadyUpgrading),
            _ if is_leaving(phase) => Err(CommandRefusal::Leaving),
            _ if pauses(phase) => Ok(None),
            _ => Ok(Some(Input::Winch)),
        },
        OperatorCommand::Resume if pauses(phase) => Ok(Some(Input::Hup)),
        OperatorCommand::Resume => Err(CommandRefusal::NotPaused),
        // for some milliseconds it is undecided which of the two processes is to stop
        OperatorCommand::Drain | OperatorCommand::Stop if matches!(phase, Phase::Swapping(_)) => {
            Err(CommandRefusal::AlreadyUpgrading)
        }
        OperatorCommand::Drain | OperatorCommand::Stop if is_leaving(phase) => Ok(None),
        OperatorCommand::Drain => Ok(Some(Input::Quit)),
        OperatorCommand::Stop => Ok(Some(Input::Term)),
    }
}

/// Returns the progress of a command that was accepted earlier.
pub(crate) fn progress(command: OperatorCommand, phase: Phase) -> Progress {
    match (command, phase) {
        // their outcome cannot be read from the phase: the driver reports it
        (OperatorCommand::Reload | OperatorCommand::Upgrade, _) => Progress::Pending,
        (OperatorCommand::Drain | OperatorCommand::Stop, Phase::Gone) => Progress::Done,
        (OperatorCommand::Drain | OperatorCommand::Stop, _) => Progress::Pending,
        (OperatorCommand::Pause, Phase::Paused | Phase::Standby) => Progress::Done,
        (OperatorCommand::Pause, _) if pauses(phase) => Progress::Pending,
        (OperatorCommand::Pause, _) => Progress::Superseded,
        (OperatorCommand::Resume, _) if pauses(phase) || is_leaving(phase) => Progress::Superseded,
        (OperatorCommand::Resume, _) => Progress::Done,
        (OperatorCommand::Rollback, Phase::Serving | Phase::Reloading(_)) => Progress::Done,
        (
            OperatorCommand::Rollback,
            Phase::Upgrading(_) | Phase::Swapping(_) | Phase::HandingOver(_),
        ) => Progress::Pending,
        (OperatorCommand::Rollback, Phase::Confirming(_) | Phase::Sharing | Phase::Standby) => {
            Progress::Pending
        }
        (OperatorCommand::Rollback, _) => Progress::Superseded,
    }
}

/// Returns true if the process is paused, or will be once the current build has ended.
fn pauses(phase: Phase) -> bool {
    match phase {
        Phase::Paused | Phase::Standby => true,
        Phase::Reloading(queued) | Phase::Proving(queued) | Phase::AwaitingCommit(queued) => {
            queued == Queued::Pause
        }
        _ => false,
    }
}

/// Returns true if the process is about to exit, unless the new process dies.
fn is_leaving(phase: Phase) -> bool {
    match phase {
        Phase::Swapping(_)
        | Phase::HandingOver(_)
        | Phase::Confirming(_)
        | Phase::GivingBack(_) => true,
        Phase::ShutdownDelay(_)
        | Phase::KeepaliveGrace(_)
        | Phase::Draining(_)
        | Phase::Stopping(_)
        | Phase::Gone => true,
        Phase::Starting(_) | Phase::Succeeding(_) | Phase::Ready(_) => false,
        Phase::Proving(_) | Phase::AwaitingCommit(_) | Phase::Sharing | Phase::Standby => false,
        Phase::Serving | Phase::Reloading(_) | Phase::Upgrading(_) | Phase::Paused => false,
    }
}

/// Returns true if a new process is taking over or has taken over.
pub(crate) fn upgrades(phase: Phase) -> bool {
    match phase {
        Phase::Upgrading(_) | Phase::Swapping(_) | Phase::HandingOver(_) => true,
        Phase::Sharing | Phase::Standby => true,
        _ => is_leaving(phase),
    }
}

/// Returns the name of a phase in `APP status`. The names are part of its JSON and do not change.
pub(crate) fn phase_name(phase: Phase) -> &'static str {
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
        Phase::AwaitingCommit(_) => "beside",
        Phase::Paused => "paused",
        Phase::ShutdownDelay(_) => "lame_duck",
        Phase::KeepaliveGrace(_) => "last_call",
        Phase::Draining(_) => "draining",
        Phase::GivingBack(_) => "giving_back",
        Phase::Stopping(_) => "stopping",
        Phase::Gone => "gone",
    }
}

/// Describes a phase in a sentence that begins with "the process is".
pub(crate) fn describe_phase(phase: Phase) -> String {
    match phase {
        Phase::AwaitingCommit(_) => "waiting for the commit of its upgrade".to_owned(),
        Phase::ShutdownDelay(_) | Phase::KeepaliveGrace(_) => "shutting down".to_owned(),
        Phase::Gone => "stopped".to_owned(),
        _ => phase_name(phase).replace('_', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::machine::step;

    /// Returns the phase after a command, and the progress of the command.
    fn after(command: OperatorCommand, phase: Phase) -> (Phase, Progress) {
        let phase = match input_of(command, phase).unwrap() {
            Some(event) => step(phase, event).0,
            None => phase,
        };
        (phase, progress(command, phase))
    }

    #[test]
    fn names_in_the_json_of_status_differ_from_the_code_but_do_not_change() {
        for (phase, name) in [
            (Phase::AwaitingCommit(Queued::Nothing), "beside"),
            (Phase::ShutdownDelay(ShutdownKind::Fast), "lame_duck"),
            (Phase::KeepaliveGrace(ShutdownKind::Fast), "last_call"),
        ] {
            assert_eq!(phase_name(phase), name);
        }
    }

    #[test]
    fn a_pause_is_done_at_once_or_after_the_current_build() {
        assert_eq!(
            after(OperatorCommand::Pause, Phase::Serving),
            (Phase::Paused, Progress::Done)
        );
        assert_eq!(
            after(OperatorCommand::Pause, Phase::Paused),
            (Phase::Paused, Progress::Done)
        );
        let (phase, waits) = after(OperatorCommand::Pause, Phase::Reloading(Queued::Nothing));
        assert_eq!(waits, Progress::Pending);
        let (paused, _) = step(phase, Input::Built);
        assert_eq!(progress(OperatorCommand::Pause, paused), Progress::Done);
        let (resumed, _) = step(phase, Input::Hup);
        assert_eq!(
            progress(OperatorCommand::Pause, resumed),
            Progress::Superseded
        );
    }

    #[test]
    fn only_a_paused_process_is_resumed_and_a_reload_does_not_resume() {
        assert_eq!(
            after(OperatorCommand::Resume, Phase::Paused),
            (Phase::Serving, Progress::Done)
        );
        assert_eq!(
            input_of(OperatorCommand::Resume, Phase::Serving),
            Err(CommandRefusal::NotPaused)
        );
        assert_eq!(
            input_of(OperatorCommand::Reload, Phase::Paused),
            Err(CommandRefusal::Paused)
        );
    }

    #[test]
    fn an_upgrade_can_be_rolled_back_until_it_is_confirmed() {
        for phase in [
            Phase::Upgrading(Queued::Nothing),
            Phase::Swapping(ShutdownKind::Graceful),
            Phase::HandingOver(ShutdownKind::Graceful),
            Phase::Confirming(ShutdownKind::Graceful),
            Phase::Sharing,
        ] {
            assert_eq!(
                after(OperatorCommand::Rollback, phase),
                (Phase::Serving, Progress::Done)
            );
        }
        for phase in [
            Phase::Serving,
            Phase::Draining(ShutdownKind::Graceful),
            Phase::Proving(Queued::Nothing),
        ] {
            assert_eq!(
                input_of(OperatorCommand::Rollback, phase),
                Err(CommandRefusal::NothingToRollBack)
            );
        }
    }

    #[test]
    fn a_second_stop_waits_and_closes_no_connection() {
        let (phase, waits) = after(OperatorCommand::Stop, Phase::Serving);
        assert_eq!(
            (phase, waits),
            (Phase::ShutdownDelay(ShutdownKind::Fast), Progress::Pending)
        );
        assert_eq!(
            after(OperatorCommand::Stop, phase),
            (phase, Progress::Pending)
        );
        assert_eq!(progress(OperatorCommand::Stop, Phase::Gone), Progress::Done);
    }
}
