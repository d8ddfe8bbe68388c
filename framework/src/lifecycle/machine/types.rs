//! The types of the state machine: phases, inputs and actions.

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first generation is being built. The process does not accept yet.
    Starting(Queued),
    /// The process accepts and serves.
    Serving,
    /// The process serves, and builds its next generation.
    Reloading(Queued),
    /// The process serves, and waits until the new process is ready.
    Upgrading(Queued),
    /// The new process was sent `Live` or `Share`. The old process still accepts, until the new one does.
    Swapping(ShutdownKind),
    /// The new process accepts. The old one hands its connections over, and serves again if the new process fails
    /// within `upgrade.rollback_window`.
    HandingOver(ShutdownKind),
    /// `upgrade.rollback_window` is over. The old process waits for the answer to its last probe.
    Confirming(ShutdownKind),
    /// Both processes accept (`upgrade.mode = "manual"`), until an operator commits or rolls back.
    Sharing,
    /// Like `Sharing`, after a WINCH: the old process has stopped accepting and hands its connections over.
    Standby,
    /// In a new process: the first generation is being built, and the old process serves.
    Succeeding(Queued),
    /// In a new process: the generation is built, and the process waits for `Live` or `Share`.
    Ready(Queued),
    /// In a new process: it serves, but the old process serves again if it fails before the upgrade is confirmed.
    Proving(Queued),
    /// In a new process: both processes accept (`upgrade.mode = "manual"`), until an operator commits or rolls back.
    AwaitingCommit(Queued),
    /// The process has stopped accepting and drains, but does not exit.
    Paused,
    /// `/readyz` answers 503, but the process still accepts, so that load balancers can turn away first
    /// (`shutdown.delay`).
    ShutdownDelay(ShutdownKind),
    /// The process has stopped accepting. An idle connection may send one more request (`shutdown.keepalive_grace`).
    KeepaliveGrace(ShutdownKind),
    /// Idle connections are closed, and requests in progress finish (`shutdown.grace`).
    Draining(ShutdownKind),
    /// In a new process that was rolled back: as `Draining`, and its connections return to the old process.
    GivingBack(ShutdownKind),
    /// `shutdown.grace` is over. Handlers were cancelled and may clean up (`shutdown.force_after`).
    Stopping(ShutdownKind),
    /// The process can exit.
    Gone,
}

/// The operation that starts once the current build or trial has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    Nothing,
    /// A HUP arrived in the meantime. Several count as one.
    Reload,
    /// A WINCH arrived in the meantime.
    Pause,
}

/// The kind of a shutdown, by the signal that began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShutdownKind {
    /// QUIT, or the terminal was closed. A TERM or INT that follows makes the shutdown `Fast`.
    Graceful,
    /// TERM or INT. A second one closes all connections at once.
    Fast,
}

/// An input of the state machine: a signal, a message of the other process, or the end of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Hup,
    Usr1,
    Usr2,
    Winch,
    Quit,
    Term,
    Int,
    /// [`Handle::close`](crate::Handle::close) was called: close all connections at once.
    Close,
    /// An operator ran `APP rollback`.
    Rollback,
    /// A generation is built and checked, and can go live.
    Built,
    /// The build failed.
    BuildFailed,
    /// The timeout that was armed last has expired.
    TimerExpired,
    /// No connection, no handler and no background task is left.
    Drained,
    /// The new process sent `Ready`.
    SuccessorReady,
    /// A foreign program, which does not take part in the handover, accepts on the inherited sockets.
    ForeignAccepts,
    /// The new process sent `Accepting`.
    SuccessorAccepts,
    /// The new process sent `Accepting`, and `upgrade.mode` is "manual": the old process keeps accepting.
    SuccessorShares,
    /// The new process sent `Alive`: it has processed every message before the probe.
    SuccessorAlive,
    /// The new process sent `Stopping`: the exit that follows is not a failure.
    SuccessorStops,
    /// The new process exited, could not be started, or violated the protocol.
    SuccessorGone,
    /// The old process sent `Live`.
    LiveReceived,
    /// The old process sent `Share`: go live, while the old process keeps accepting.
    ShareReceived,
    /// The old process sent `Cancel`: do not go live.
    CancelReceived,
    /// The old process sent `Recall`: return its connections and exit.
    RecallReceived,
    /// The old process sent `Confirmed`: it will not serve again.
    Confirmed,
    /// The old process exited.
    PredecessorGone,
}

/// An action that the driver carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Load the configuration and build a generation from it, next to the current one.
    Build,
    /// Cancel the current build.
    AbandonBuild,
    /// Start the program again, with the listening sockets.
    Spawn,
    /// Kill and reap the new process.
    KillSuccessor,
    /// Send a message to the process at the other end of the handover.
    Send(MessageKind),
    /// Forward a HUP to the new process, which is about to serve.
    ForwardHup,
    /// Forward a signal that stops the process to the new one, if its sender means the active process.
    ForwardStop(Input),
    /// Replace the current generation by the new one.
    GoLive,
    /// Change the running instance.
    Instance(InstanceAction),
    /// Start a timeout. It replaces the one before.
    Arm(Timeout),
    Disarm,
    ReopenLogs,
    /// Log that the input was refused.
    Refuse(CommandRefusal),
}

impl Action {
    pub(crate) fn refusal(&self) -> Option<CommandRefusal> {
        match self {
            Action::Refuse(refusal) => Some(*refusal),
            _ => None,
        }
    }
}

/// An action on the running instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InstanceAction {
    /// Accept on all listeners.
    Accept,
    /// Write the pid of this process into the pid file.
    TakePidFile,
    /// Record this process as the active one: a first process that stays forwards signals to it.
    Announce,
    /// Stop accepting, and keep the listeners.
    StopAccepting,
    /// Accept the connections that wait in the queues of our own listeners, then close all listeners. Queues of
    /// inherited listeners are left to the process that accepts on them next.
    CloseListeners,
    /// Answer `/readyz` with 503 and `leaving`.
    MarkLeaving,
    /// Answer `/readyz` with 503 and `paused`.
    MarkPaused,
    /// Answer `/readyz` with 200, and keep connections alive again.
    Resume,
    /// Notify handlers, and close each connection after its current request.
    StartDraining,
    /// Retire the generation, and wait until nothing is left.
    Retire,
    /// Close idle connections.
    CloseIdle,
    /// Send each connection to the other process as it reaches a request boundary.
    HandOver,
    /// Log that two processes accept, and how to commit or roll back.
    AnnounceSharing,
    /// Stop handing connections over.
    KeepConnections,
    /// Record this process as the active one again, because the new one stops.
    Reinstate,
    /// Close the listeners of this process, leave those of the old process to it, and let requests and tasks finish.
    GiveBack,
    /// Forget the copies of connections that were handed over, and let requests and tasks finish.
    Release,
    /// Close listeners of the old process that the settings do not name.
    CloseUnused,
    /// Take over every connection that the process at the other end, which is dead, has not read from.
    TakeBack,
    /// Take over every connection that a rolled-back process, which is dead, has not returned.
    Recover,
    /// Cancel handlers.
    StopHandlers,
    /// Close all connections and log each.
    Cut,
}

/// A timeout of a phase. Most durations come from the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// `shutdown.delay`
    ShutdownDelay,
    /// `shutdown.keepalive_grace`
    KeepaliveGrace,
    /// `shutdown.grace` minus `shutdown.keepalive_grace`
    Grace,
    /// `shutdown.force_after`
    Force,
    /// `upgrade.ready_timeout`
    Ready,
    /// The time that the new process has between `Live` and `Accepting`
    Swap,
    /// `upgrade.rollback_window`
    Rollback,
    /// The time that the new process has to answer a probe
    Answer,
    /// The time that a rolled-back process has to return all connections: a whole shutdown
    Return,
}

/// The kind of a message to the process at the other end of the handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Ready,
    Live,
    Cancel,
    Accepting,
    Probe,
    Recall,
    Confirmed,
    Stopping,
}

/// The reason why a signal or command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandRefusal {
    StillStarting,
    Reloading,
    Paused,
    Leaving,
    /// The last upgrade is not confirmed yet.
    Unconfirmed,
    /// The last upgrade was rolled back, and the new process still returns its connections.
    Returning,
    AlreadyUpgrading,
    /// Two processes accept, so there is nothing to resume, and a reload would change only one of them.
    Sharing,
    NotPaused,
    /// No upgrade is in progress, or it is already confirmed.
    NothingToRollBack,
}

impl CommandRefusal {
    /// Returns the refused signal followed by a space, if only one signal can lead to this refusal.
    pub(crate) fn signal(self) -> &'static str {
        match self {
            CommandRefusal::Reloading
            | CommandRefusal::Unconfirmed
            | CommandRefusal::AlreadyUpgrading => "USR2 ",
            CommandRefusal::Sharing => "HUP ",
            CommandRefusal::StillStarting
            | CommandRefusal::Paused
            | CommandRefusal::Leaving
            | CommandRefusal::Returning
            | CommandRefusal::NotPaused
            | CommandRefusal::NothingToRollBack => "",
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            CommandRefusal::StillStarting => "refused: the process is still starting; nothing changed",
            CommandRefusal::Reloading => "refused: a reload is in progress; nothing changed",
            CommandRefusal::Paused => "refused: the process is paused; resume it first (HUP)",
            CommandRefusal::Leaving => "refused: the process is shutting down, and continues to",
            CommandRefusal::Unconfirmed => {
                "refused: the last upgrade is not confirmed yet; nothing changed"
            }
            CommandRefusal::Returning => {
                "refused: the process that was rolled back still returns its connections; nothing changed"
            }
            CommandRefusal::AlreadyUpgrading => "refused: an upgrade is in progress, and continues",
            CommandRefusal::Sharing => {
                "refused: the old process and the new one both accept; commit the upgrade or roll it back first"
            }
            CommandRefusal::NotPaused => "refused: the process is not paused; nothing changed",
            CommandRefusal::NothingToRollBack => {
                "refused: no upgrade is in progress that could be rolled back; nothing changed"
            }
        }
    }
}
