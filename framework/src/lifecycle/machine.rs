//! The state machine of a process: [`step`] maps a phase and an input to the next phase and a list of actions.
//!
//! It is a pure function without I/O, clock or sockets. The driver feeds it with inputs and carries out the actions.
//! `machine/transitions.txt` prints every transition as a table, and a test keeps the table up to date.

#![expect(
    clippy::match_same_arms,
    reason = "a table of transitions: one arm for each row, so that the compiler names a missing one"
)]

mod commands;
mod types;

pub(crate) use commands::{
    describe_phase, input_of, phase_name, progress, upgrades, OperatorCommand, Progress,
};
pub(crate) use types::{
    Action, CommandRefusal, Input, InstanceAction, MessageKind, Phase, Queued, ShutdownKind,
    Timeout,
};

#[allow(
    clippy::enum_glob_use,
    reason = "the table is read by the names of its rows"
)]
use Action::*;
#[allow(
    clippy::enum_glob_use,
    reason = "the table is read by the names of its rows"
)]
use Input::*;
use InstanceAction::{
    Accept, Announce, AnnounceSharing, CloseIdle, CloseListeners, CloseUnused, Cut, GiveBack,
    KeepConnections, MarkPaused, Recover, Reinstate, Release, Resume, Retire, StartDraining,
    StopAccepting, StopHandlers, TakeBack, TakePidFile,
};
#[allow(
    clippy::enum_glob_use,
    reason = "the table is read by the names of its rows"
)]
use Phase::*;
use Queued::{Nothing, Pause, Reload};
use ShutdownKind::{Fast, Graceful};

/// Returns the next phase and the actions that lead to it.
pub(crate) fn step(phase: Phase, input: Input) -> (Phase, Vec<Action>) {
    match phase {
        Starting(queued) => starting(queued, input),
        Serving => serving(input),
        Reloading(queued) => reloading(queued, input),
        Upgrading(queued) => upgrading(queued, input),
        Swapping(kind) => swapping(kind, input),
        HandingOver(kind) | Confirming(kind) => handing_over(phase, kind, input),
        Phase::Sharing => sharing(input),
        Standby => standby(input),
        Succeeding(queued) => succeeding(queued, input),
        Phase::Ready(queued) => ready(queued, input),
        Proving(queued) => proving(queued, input),
        AwaitingCommit(queued) => awaiting_commit(queued, input),
        Paused => paused(input),
        ShutdownDelay(_) | KeepaliveGrace(_) | Draining(_) | GivingBack(_) | Stopping(_) => {
            leaving(phase, input)
        }
        Gone => (Gone, vec![]),
    }
}

fn starting(queued: Queued, input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup => (Starting(Reload), vec![]),
        Usr1 => (Starting(queued), vec![ReopenLogs]),
        Usr2 => (
            Starting(queued),
            vec![Refuse(CommandRefusal::StillStarting)],
        ),
        Quit | Term | Int | Close => (Gone, vec![AbandonBuild]),
        Built => continue_with(queued, go_live()),
        BuildFailed => (Gone, vec![]),
        Winch | Rollback | TimerExpired | Drained => (Starting(queued), vec![]),
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive
        | SuccessorStops | SuccessorGone => (Starting(queued), vec![]),
        LiveReceived | ShareReceived | CancelReceived | RecallReceived | Confirmed
        | PredecessorGone => (Starting(queued), vec![]),
    }
}

/// Like [`starting`], but the generation goes live only when the old process sends `Live` or `Share`, or has exited.
fn succeeding(queued: Queued, input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup => (Succeeding(Reload), vec![]),
        Usr1 => (Succeeding(queued), vec![ReopenLogs]),
        Usr2 => (
            Succeeding(queued),
            vec![Refuse(CommandRefusal::StillStarting)],
        ),
        Quit | Term | Int | Close | CancelReceived => (Gone, vec![AbandonBuild]),
        Built => (Phase::Ready(queued), vec![Send(MessageKind::Ready)]),
        BuildFailed => (Gone, vec![]),
        PredecessorGone => (Starting(queued), vec![]),
        Winch | Rollback | TimerExpired | Drained | LiveReceived | ShareReceived
        | RecallReceived | Confirmed => (Succeeding(queued), vec![]),
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive
        | SuccessorStops | SuccessorGone => (Succeeding(queued), vec![]),
    }
}

fn ready(queued: Queued, input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup => (Phase::Ready(Reload), vec![]),
        Usr1 => (Phase::Ready(queued), vec![ReopenLogs]),
        Usr2 => (
            Phase::Ready(queued),
            vec![Refuse(CommandRefusal::StillStarting)],
        ),
        // the old process may have sent `Live` already
        Quit | Term | Int | Close => (Gone, vec![Send(MessageKind::Stopping)]),
        CancelReceived => (Gone, vec![]),
        LiveReceived => {
            let live = [
                GoLive,
                Instance(Accept),
                Instance(TakePidFile),
                Instance(Announce),
                Send(MessageKind::Accepting),
            ];
            (Proving(queued), live.to_vec())
        }
        ShareReceived => (
            AwaitingCommit(queued),
            vec![
                GoLive,
                Instance(Accept),
                Instance(TakePidFile),
                Send(MessageKind::Accepting),
            ],
        ),
        // the old process exited without sending `Cancel`, so no other process serves
        PredecessorGone => continue_with(queued, go_live()),
        Winch | Rollback | TimerExpired | Drained | RecallReceived | Confirmed | Built
        | BuildFailed => (Phase::Ready(queued), vec![]),
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive
        | SuccessorStops | SuccessorGone => (Phase::Ready(queued), vec![]),
    }
}

fn proving(queued: Queued, input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup => (
            Proving(if queued == Pause { Nothing } else { Reload }),
            vec![],
        ),
        Winch => (Proving(Pause), vec![]),
        Usr1 => (Proving(queued), vec![ReopenLogs]),
        Usr2 => (Proving(queued), vec![Refuse(CommandRefusal::Unconfirmed)]),
        Quit | Term | Int | Close => leave(input, vec![Send(MessageKind::Stopping)]),
        RecallReceived => give_back(Graceful),
        Confirmed | PredecessorGone => continue_with(queued, vec![Instance(CloseUnused)]),
        Rollback | TimerExpired | Drained | Built | BuildFailed | LiveReceived | ShareReceived
        | CancelReceived => (Proving(queued), vec![]),
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive
        | SuccessorStops | SuccessorGone => (Proving(queued), vec![]),
    }
}

/// Like [`proving`], but a signal that stops this process rolls the upgrade back, because the old process still accepts.
fn awaiting_commit(queued: Queued, input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup => (
            AwaitingCommit(if queued == Pause { Nothing } else { Reload }),
            vec![],
        ),
        Winch => (AwaitingCommit(Pause), vec![]),
        Usr1 => (AwaitingCommit(queued), vec![ReopenLogs]),
        Usr2 => (
            AwaitingCommit(queued),
            vec![Refuse(CommandRefusal::Unconfirmed)],
        ),
        Quit | RecallReceived => give_back(Graceful),
        Term | Int => give_back(Fast),
        Close => leave(Close, vec![Send(MessageKind::Stopping)]),
        Confirmed | PredecessorGone => continue_with(
            queued,
            vec![
                Instance(TakePidFile),
                Instance(Announce),
                Instance(CloseUnused),
            ],
        ),
        Rollback | TimerExpired | Drained | Built | BuildFailed | LiveReceived | ShareReceived
        | CancelReceived => (AwaitingCommit(queued), vec![]),
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive
        | SuccessorStops | SuccessorGone => (AwaitingCommit(queued), vec![]),
    }
}

fn give_back(kind: ShutdownKind) -> (Phase, Vec<Action>) {
    let back = [StopAccepting, InstanceAction::HandOver, GiveBack, Retire].map(Instance);
    let actions = [Send(MessageKind::Stopping)]
        .into_iter()
        .chain(back)
        .chain([Arm(Timeout::Grace)]);
    (GivingBack(kind), actions.collect())
}

fn serving(input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup => (Reloading(Nothing), vec![Build]),
        Usr1 => (Serving, vec![ReopenLogs]),
        Usr2 => (Upgrading(Nothing), vec![Arm(Timeout::Ready), Spawn]),
        Winch => pause(vec![]),
        Quit | Term | Int | Close => leave(input, vec![]),
        // a process that was rolled back has exited, perhaps before it returned all connections
        SuccessorGone => (Serving, vec![Instance(Recover)]),
        TimerExpired => (Serving, vec![KillSuccessor, Instance(Recover)]),
        Built | BuildFailed | Rollback | Drained => (Serving, vec![]),
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive
        | SuccessorStops => (Serving, vec![]),
        LiveReceived | ShareReceived | CancelReceived | RecallReceived | Confirmed
        | PredecessorGone => (Serving, vec![]),
    }
}

fn reloading(queued: Queued, input: Input) -> (Phase, Vec<Action>) {
    match input {
        // the WINCH that waits for the build is cancelled by a HUP, as a pause is
        Hup if queued == Pause => (Reloading(Nothing), vec![]),
        Hup => (Reloading(Reload), vec![]),
        Winch => (Reloading(Pause), vec![]),
        Usr1 => (Reloading(queued), vec![ReopenLogs]),
        Usr2 => (Reloading(queued), vec![Refuse(CommandRefusal::Reloading)]),
        Quit | Term | Int | Close => leave(input, vec![AbandonBuild]),
        Built => continue_with(queued, vec![GoLive]),
        BuildFailed => continue_with(queued, vec![]),
        SuccessorGone => (Reloading(queued), vec![Instance(Recover)]),
        TimerExpired => (Reloading(queued), vec![KillSuccessor, Instance(Recover)]),
        Rollback | Drained => (Reloading(queued), vec![]),
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive
        | SuccessorStops => (Reloading(queued), vec![]),
        LiveReceived | ShareReceived | CancelReceived | RecallReceived | Confirmed
        | PredecessorGone => (Reloading(queued), vec![]),
    }
}

/// Until the new process is ready, no client is affected: after any failure this process serves on.
fn upgrading(queued: Queued, input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup => (Upgrading(Reload), vec![]),
        Usr1 => (Upgrading(queued), vec![ReopenLogs]),
        Usr2 => (
            Upgrading(queued),
            vec![Refuse(CommandRefusal::AlreadyUpgrading)],
        ),
        Quit | Term | Int | Close => leave(input, vec![Send(MessageKind::Cancel), KillSuccessor]),
        SuccessorReady => {
            let hup = (queued == Reload).then_some(ForwardHup);
            (
                Swapping(Graceful),
                [Send(MessageKind::Live), Arm(Timeout::Swap)]
                    .into_iter()
                    .chain(hup)
                    .collect(),
            )
        }
        // a foreign program cannot receive connections: they drain here, and it keeps the sockets
        ForeignAccepts => {
            let out = [StopAccepting, Release, StartDraining, Retire].map(Instance);
            (
                KeepaliveGrace(Graceful),
                out.into_iter()
                    .chain([Arm(Timeout::KeepaliveGrace)])
                    .collect(),
            )
        }
        SuccessorGone | SuccessorStops | SuccessorAccepts | SuccessorShares | SuccessorAlive
        | TimerExpired => continue_with(queued, vec![Disarm, KillSuccessor]),
        Rollback => continue_with(
            queued,
            vec![Send(MessageKind::Cancel), Disarm, KillSuccessor],
        ),
        Winch | Built | BuildFailed | Drained => (Upgrading(queued), vec![]),
        LiveReceived | ShareReceived | CancelReceived | RecallReceived | Confirmed
        | PredecessorGone => (Upgrading(queued), vec![]),
    }
}

/// A TERM or INT from here on makes the shutdown `Fast`, because this process is about to exit anyway.
fn swapping(kind: ShutdownKind, input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup => (Swapping(kind), vec![ForwardHup]),
        Usr1 => (Swapping(kind), vec![ReopenLogs]),
        Usr2 => (
            Swapping(kind),
            vec![Refuse(CommandRefusal::AlreadyUpgrading)],
        ),
        Term | Int => (Swapping(Fast), vec![ForwardStop(input)]),
        Quit => (Swapping(kind), vec![ForwardStop(input)]),
        Close => leave(Close, vec![Send(MessageKind::Cancel), KillSuccessor]),
        SuccessorAccepts => (
            HandingOver(kind),
            vec![
                Instance(StopAccepting),
                Instance(InstanceAction::HandOver),
                Arm(Timeout::Rollback),
            ],
        ),
        SuccessorShares => match kind {
            Graceful => (Phase::Sharing, vec![Disarm, Instance(AnnounceSharing)]),
            Fast => commit(Fast),
        },
        SuccessorStops => end_accepting(kind),
        SuccessorGone | Rollback | TimerExpired => serve_again(kind, vec![Disarm, KillSuccessor]),
        Winch | Built | BuildFailed | Drained => (Swapping(kind), vec![]),
        SuccessorReady | ForeignAccepts | SuccessorAlive => (Swapping(kind), vec![]),
        LiveReceived | ShareReceived | CancelReceived | RecallReceived | Confirmed
        | PredecessorGone => (Swapping(kind), vec![]),
    }
}

fn handing_over(phase: Phase, kind: ShutdownKind, input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup | Usr2 => (phase, vec![Refuse(CommandRefusal::Leaving)]),
        Usr1 => (phase, vec![ReopenLogs]),
        Term | Int if kind == Fast => release_and_cut(),
        Term | Int => (with_fast_shutdown(phase), vec![]),
        Close => release_and_cut(),
        TimerExpired if phase == HandingOver(kind) => (
            Confirming(kind),
            vec![Send(MessageKind::Probe), Arm(Timeout::Answer)],
        ),
        SuccessorAlive if phase == Confirming(kind) => (
            Draining(kind),
            vec![
                Instance(Release),
                Send(MessageKind::Confirmed),
                Instance(Retire),
                Arm(Timeout::Grace),
            ],
        ),
        SuccessorStops => {
            let (phase, then) = end_accepting(kind);
            (phase, [Instance(Release)].into_iter().chain(then).collect())
        }
        SuccessorGone | TimerExpired => {
            serve_again(kind, vec![Disarm, KillSuccessor, Instance(TakeBack)])
        }
        Rollback if kind == Graceful => recall(vec![
            Send(MessageKind::Recall),
            Instance(Reinstate),
            Instance(KeepConnections),
        ]),
        Winch | Quit | Rollback | Built | BuildFailed | Drained => (phase, vec![]),
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive => {
            (phase, vec![])
        }
        LiveReceived | ShareReceived | CancelReceived | RecallReceived | Confirmed
        | PredecessorGone => (phase, vec![]),
    }
}

/// Both processes accept, without a timeout. QUIT to this process commits, QUIT to the new one rolls back.
fn sharing(input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup => (Phase::Sharing, vec![Refuse(CommandRefusal::Sharing)]),
        Usr1 => (Phase::Sharing, vec![ReopenLogs]),
        Usr2 => (
            Phase::Sharing,
            vec![Refuse(CommandRefusal::AlreadyUpgrading)],
        ),
        Winch => (
            Standby,
            vec![
                Instance(StopAccepting),
                Instance(MarkPaused),
                Instance(InstanceAction::HandOver),
            ],
        ),
        Quit => commit(Graceful),
        Term | Int => commit(Fast),
        Close => release_and_cut(),
        SuccessorStops => recall(vec![Instance(Reinstate)]),
        Rollback => recall(vec![Send(MessageKind::Recall), Instance(Reinstate)]),
        SuccessorGone => serve_again(Graceful, vec![KillSuccessor, Instance(TakeBack)]),
        Built | BuildFailed | TimerExpired | Drained => (Phase::Sharing, vec![]),
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive => {
            (Phase::Sharing, vec![])
        }
        LiveReceived | ShareReceived | CancelReceived | RecallReceived | Confirmed
        | PredecessorGone => (Phase::Sharing, vec![]),
    }
}

fn standby(input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup => (
            Phase::Sharing,
            [KeepConnections, Accept].map(Instance).to_vec(),
        ),
        Usr1 => (Standby, vec![ReopenLogs]),
        Usr2 => (Standby, vec![Refuse(CommandRefusal::AlreadyUpgrading)]),
        Quit => commit(Graceful),
        Term | Int => commit(Fast),
        Close => release_and_cut(),
        SuccessorStops => recall(vec![Instance(Reinstate), Instance(KeepConnections)]),
        Rollback => recall(vec![
            Send(MessageKind::Recall),
            Instance(Reinstate),
            Instance(KeepConnections),
        ]),
        SuccessorGone => serve_again(
            Graceful,
            vec![KillSuccessor, Instance(TakeBack), Instance(KeepConnections)],
        ),
        Winch | Built | BuildFailed | TimerExpired | Drained => (Standby, vec![]),
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive => {
            (Standby, vec![])
        }
        LiveReceived | ShareReceived | CancelReceived | RecallReceived | Confirmed
        | PredecessorGone => (Standby, vec![]),
    }
}

/// Rolls back while the new process is alive: it returns its connections and exits.
fn recall(mut first: Vec<Action>) -> (Phase, Vec<Action>) {
    first.extend([
        Instance(Accept),
        Instance(TakePidFile),
        Arm(Timeout::Return),
    ]);
    (Serving, first)
}

/// Commits the upgrade: the new process keeps its connections, and this process exits when it has drained.
fn commit(kind: ShutdownKind) -> (Phase, Vec<Action>) {
    let away = [StopAccepting, InstanceAction::HandOver, Release].map(Instance);
    let then = [
        Send(MessageKind::Confirmed),
        Instance(Retire),
        Arm(Timeout::Grace),
    ];
    (Draining(kind), away.into_iter().chain(then).collect())
}

/// Serves again after the new process has died, unless this process received TERM or INT in the meantime.
fn serve_again(kind: ShutdownKind, mut first: Vec<Action>) -> (Phase, Vec<Action>) {
    match kind {
        Graceful => {
            first.extend([Instance(Accept), Instance(TakePidFile)]);
            (Serving, first)
        }
        Fast => {
            let (phase, then) = end_accepting(Fast);
            first.extend(then);
            (phase, first)
        }
    }
}

fn release_and_cut() -> (Phase, Vec<Action>) {
    let (phase, then) = cut();
    (
        phase,
        [Instance(Release), Send(MessageKind::Confirmed)]
            .into_iter()
            .chain(then)
            .collect(),
    )
}

fn paused(input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup => (Serving, vec![Disarm, Instance(Resume), Instance(Accept)]),
        Usr1 => (Paused, vec![ReopenLogs]),
        Usr2 => (Paused, vec![Refuse(CommandRefusal::Paused)]),
        Quit => end_accepting(Graceful),
        Term | Int => end_accepting(Fast),
        Close => cut(),
        TimerExpired => (Paused, vec![Instance(CloseIdle)]),
        SuccessorGone => (
            Paused,
            [Recover, StartDraining, CloseIdle].map(Instance).to_vec(),
        ),
        Winch | Rollback | Built | BuildFailed | Drained => (Paused, vec![]),
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive
        | SuccessorStops => (Paused, vec![]),
        LiveReceived | ShareReceived | CancelReceived | RecallReceived | Confirmed
        | PredecessorGone => (Paused, vec![]),
    }
}

fn leaving(phase: Phase, input: Input) -> (Phase, Vec<Action>) {
    match input {
        Hup | Usr2 => (phase, vec![Refuse(CommandRefusal::Leaving)]),
        Usr1 => (phase, vec![ReopenLogs]),
        Term | Int => match shutdown_kind(phase) {
            Fast => cut(),
            Graceful => (with_fast_shutdown(phase), vec![]),
        },
        Close => cut(),
        TimerExpired => next_shutdown_phase(phase),
        // the process still accepts, so the next connection may arrive at any moment
        Drained if matches!(phase, ShutdownDelay(_)) => (phase, vec![]),
        Drained => (Gone, vec![Disarm]),
        Winch | Quit | Rollback | Built | BuildFailed => (phase, vec![]),
        // connections that were to be handed over are served here, and closed after their current request
        SuccessorGone if matches!(phase, KeepaliveGrace(_)) => {
            (phase, [TakeBack, StartDraining].map(Instance).to_vec())
        }
        SuccessorGone if matches!(phase, Draining(_)) => (
            phase,
            [TakeBack, StartDraining, CloseIdle].map(Instance).to_vec(),
        ),
        PredecessorGone if matches!(phase, GivingBack(_)) => {
            let here = [TakeBack, StartDraining, CloseIdle].map(Instance);
            (
                Draining(shutdown_kind(phase)),
                here.into_iter().chain([Arm(Timeout::Grace)]).collect(),
            )
        }
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive
        | SuccessorStops | SuccessorGone => (phase, vec![]),
        LiveReceived | ShareReceived | CancelReceived | RecallReceived | Confirmed
        | PredecessorGone => (phase, vec![]),
    }
}

/// Continues with the operation that was queued during a build or a trial. `first` are the actions that precede it.
fn continue_with(queued: Queued, mut first: Vec<Action>) -> (Phase, Vec<Action>) {
    match queued {
        Nothing => (Serving, first),
        Reload => {
            first.push(Build);
            (Reloading(Nothing), first)
        }
        Pause => pause(first),
    }
}

/// The actions of a process that starts to serve while no other process serves.
fn go_live() -> Vec<Action> {
    [GoLive]
        .into_iter()
        .chain([Accept, TakePidFile, Announce, CloseUnused].map(Instance))
        .collect()
}

fn pause(mut first: Vec<Action>) -> (Phase, Vec<Action>) {
    first.extend([
        Instance(MarkPaused),
        Instance(StopAccepting),
        Instance(StartDraining),
        Arm(Timeout::KeepaliveGrace),
    ]);
    (Paused, first)
}

/// Begins the shutdown. Only TERM is followed by `shutdown.delay`.
fn leave(input: Input, mut first: Vec<Action>) -> (Phase, Vec<Action>) {
    let (phase, then) = match input {
        Term => (
            ShutdownDelay(Fast),
            vec![
                Instance(InstanceAction::MarkLeaving),
                Arm(Timeout::ShutdownDelay),
            ],
        ),
        Int => end_accepting(Fast),
        Close => cut(),
        Quit | Hup | Usr1 | Usr2 | Winch | Rollback => end_accepting(Graceful),
        Built | BuildFailed | TimerExpired | Drained => end_accepting(Graceful),
        SuccessorReady | ForeignAccepts | SuccessorAccepts | SuccessorShares | SuccessorAlive
        | SuccessorStops | SuccessorGone => end_accepting(Graceful),
        LiveReceived | ShareReceived | CancelReceived | RecallReceived | Confirmed
        | PredecessorGone => end_accepting(Graceful),
    };
    first.extend(then);
    (phase, first)
}

fn end_accepting(kind: ShutdownKind) -> (Phase, Vec<Action>) {
    let out = [
        InstanceAction::MarkLeaving,
        CloseListeners,
        StartDraining,
        Retire,
    ]
    .map(Instance);
    (
        KeepaliveGrace(kind),
        out.into_iter()
            .chain([Arm(Timeout::KeepaliveGrace)])
            .collect(),
    )
}

/// Moves to the next phase of the shutdown, because the timeout of the current one has expired.
fn next_shutdown_phase(phase: Phase) -> (Phase, Vec<Action>) {
    match phase {
        ShutdownDelay(kind) => end_accepting(kind),
        KeepaliveGrace(kind) => (
            Draining(kind),
            vec![Instance(CloseIdle), Arm(Timeout::Grace)],
        ),
        Draining(kind) | GivingBack(kind) => (
            Stopping(kind),
            vec![Instance(StopHandlers), Arm(Timeout::Force)],
        ),
        Stopping(_) => cut(),
        Starting(_) | Succeeding(_) | Phase::Ready(_) | Proving(_) | AwaitingCommit(_) => {
            (phase, vec![])
        }
        Serving | Reloading(_) | Paused | Gone => (phase, vec![]),
        Upgrading(_) | Swapping(_) | HandingOver(_) | Confirming(_) | Phase::Sharing | Standby => {
            (phase, vec![])
        }
    }
}

fn cut() -> (Phase, Vec<Action>) {
    (
        Gone,
        vec![
            Disarm,
            Instance(InstanceAction::MarkLeaving),
            Instance(CloseListeners),
            Instance(Cut),
        ],
    )
}

fn shutdown_kind(phase: Phase) -> ShutdownKind {
    match phase {
        Swapping(kind) | HandingOver(kind) | Confirming(kind) => kind,
        ShutdownDelay(kind) | KeepaliveGrace(kind) | Draining(kind) | GivingBack(kind)
        | Stopping(kind) => kind,
        Starting(_)
        | Succeeding(_)
        | Phase::Ready(_)
        | Proving(_)
        | AwaitingCommit(_)
        | Serving => Graceful,
        Reloading(_) | Upgrading(_) | Phase::Sharing | Standby | Paused | Gone => Graceful,
    }
}

fn with_fast_shutdown(phase: Phase) -> Phase {
    match phase {
        Swapping(_) => Swapping(Fast),
        HandingOver(_) => HandingOver(Fast),
        Confirming(_) => Confirming(Fast),
        ShutdownDelay(_) => ShutdownDelay(Fast),
        KeepaliveGrace(_) => KeepaliveGrace(Fast),
        Draining(_) => Draining(Fast),
        GivingBack(_) => GivingBack(Fast),
        Stopping(_) => Stopping(Fast),
        Starting(_)
        | Succeeding(_)
        | Phase::Ready(_)
        | Proving(_)
        | AwaitingCommit(_)
        | Serving => phase,
        Reloading(_) | Upgrading(_) | Phase::Sharing | Standby | Paused | Gone => phase,
    }
}

#[cfg(test)]
mod tests;
