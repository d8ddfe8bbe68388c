//! The vocabulary of the policy: phases, what can happen, what is to be done.

/// Where a process stands; each phase is named for what it does or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first generation is being built; nothing is accepted yet.
    Starting(Afterwards),
    /// Accepting and answering.
    Serving,
    /// The same, while the next generation is being built.
    Reloading(Afterwards),
    /// The same, while a new process starts that is to take over: until it is ready.
    Upgrading(Afterwards),
    /// The new process was told to go live: until it accepts.
    Swapping(Told),
    /// Not accepting; connections go to the new process, which could still fail: until the window is over.
    HandingOver(Told),
    /// The window is over: until the new process answers once more, having taken all that it was given.
    Confirming(Told),
    /// Both accept, this process and the new one: until a person decides.
    Sharing,
    /// The same after a WINCH: only the new one accepts, and connections go to it.
    Standby,
    /// A successor: the first generation is being built, while the old process serves.
    Succeeding(Afterwards),
    /// Built: until the old process says to go live.
    Ready(Afterwards),
    /// Live, but the old process would take over again if this one died: until it confirms.
    Proving(Afterwards),
    /// Live beside the old process, which accepts as well: until it confirms, or this one is sent away.
    Beside(Afterwards),
    /// Not accepting; connections drain; the process stays.
    Paused,
    /// About to leave: not ready any more, but still accepting, so that balancers can look elsewhere.
    LameDuck(Told),
    /// Not accepting; idle connections may send one last request.
    LastCall(Told),
    /// Requests in flight finish.
    Draining(Told),
    /// The same, while connections go back to the old process.
    GivingBack(Told),
    /// The grace is over: handlers have been told to come to an end.
    Stopping(Told),
    /// Nothing is left to do.
    Gone,
}

/// What to do once the build that is under way has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    Serve,
    /// A HUP came meanwhile; more than one are one.
    Reload,
    /// A WINCH came meanwhile.
    Pause,
}

/// How a process that leaves was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// By QUIT, or a terminal that is gone: in its own time.
    Gently,
    /// By TERM or INT: one more of these means now.
    Firmly,
}

/// What can happen to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Hup,
    Usr1,
    Usr2,
    Winch,
    Quit,
    Term,
    Int,
    /// A [`Handle`](crate::Handle) asks to cut everything.
    Close,
    /// An operator wants the old process back.
    Rollback,
    /// A generation is built, checked and ready to go live.
    Built,
    /// It could not be built.
    BuildFailed,
    /// The timer that was armed last has run out.
    TimeOver,
    /// No connection, no handler, no background task is left.
    Drained,
    /// The new process is built and waits to go live.
    SuccessorReady,
    /// A new process that knows nothing of a handover accepts on our sockets.
    StrangerAccepts,
    /// It accepts.
    SuccessorAccepts,
    /// It accepts, and so are we to: `upgrade.mode` is "manual".
    SuccessorShares,
    /// It lives, and has taken all that it was given until it was asked.
    SuccessorAnswers,
    /// It was told to stop: that is no death.
    SuccessorStops,
    /// It is dead, could not start, or broke the protocol.
    SuccessorGone,
    /// The old process says: go live.
    ToldLive,
    /// It says: go live, and that it goes on accepting.
    ToldShare,
    /// It says: do not.
    ToldCancel,
    /// It wants back what it gave.
    ToldRecall,
    /// It says that it will not take over again.
    Confirmed,
    /// It is gone.
    PredecessorGone,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Load the configuration and build a generation from it, beside the one that serves.
    Build,
    /// Give up the build that is under way.
    AbandonBuild,
    /// Start the program again beside this one, with the sockets.
    Spawn,
    /// Kill what was started, and reap it.
    KillSuccessor,
    /// Say something to the process at the other end of the handover.
    Say(Word),
    /// A HUP that came for this process is meant for the new one by now.
    PassHup,
    /// So is what tells a process to stop that only stays for those who watch its pid, or that one of those has passed on.
    PassStop(Event),
    /// Put the generation that was built in place of the current one.
    GoLive,
    /// Change what is running.
    Live(Step),
    /// Start the timer; it replaces the one before.
    Arm(Timer),
    Disarm,
    ReopenLogs,
    /// Say that the event is refused here.
    Refuse(Refusal),
}

impl Action {
    /// Why it refuses, if that is what it does.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            Action::Refuse(refusal) => Some(*refusal),
            _ => None,
        }
    }
}

/// A change to what is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Accept on all listeners.
    Accept,
    /// The pid file names this process from now on.
    TakePidFile,
    /// Signals to a first process that stays are meant for this one from now on.
    Announce,
    /// Stop accepting, and keep the listeners.
    StopAccepting,
    /// Stop accepting for good: take what waits in our own queues, leave those of others to their next owner.
    CloseListeners,
    /// Answer `/readyz` with 503, and say that the process leaves.
    Leave,
    /// Answer `/readyz` with 503, and say that it is for a pause.
    Rest,
    /// Answer `/readyz` with 200, and keep connections alive again.
    Reopen,
    /// Tell requests and their connections that they come to an end.
    TellDraining,
    /// Tell the generation that it retires, and watch for the end of all that is left.
    Retire,
    /// Close idle connections.
    CloseIdle,
    /// Send connections to the other process as they come to a boundary.
    HandOver,
    /// Say that two processes accept, and what ends that.
    Share,
    /// Connections stay here again.
    Keep,
    /// The new process was told to stop: this one is the newest again.
    Reinstate,
    /// The old process keeps its sockets: close only our own, tell requests and tasks to finish.
    GiveBack,
    /// The new process keeps what it was given: forget the copies, tell requests and tasks to finish.
    LetGo,
    /// The old process will not come back: close listeners of its that the settings no longer want.
    Settle,
    /// The other process is dead: take back what it had not read; what it had ends with it.
    TakeBack,
    /// A new process that was sent away has ended: take what it has not given back.
    Recover,
    /// Tell handlers that their time is over.
    TellStop,
    /// Cut what is left and name it.
    Cut,
}

/// The waits of a process' life; how long each is stands in the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// `shutdown.delay`
    LameDuck,
    /// `shutdown.keepalive_grace`
    LastCall,
    /// what `shutdown.grace` leaves after the last call
    Grace,
    /// `shutdown.force_after`
    Force,
    /// `upgrade.ready_timeout`
    Ready,
    /// how long a new process may take from *live* to *accepting*
    Swap,
    /// `upgrade.rollback_window`
    Rollback,
    /// how long a new process may take to answer
    Answer,
    /// how long one that is sent away may take to give everything back: a whole shutdown
    Return,
}

/// What is said to the process at the other end of a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Ready,
    Live,
    Cancel,
    Accepting,
    Probe,
    Recall,
    Confirmed,
    Stopping,
}

/// Why an event is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    StillStarting,
    Reloading,
    Paused,
    Leaving,
    /// The last upgrade has not been confirmed.
    Unconfirmed,
    /// The last upgrade was rolled back, and the new process has not given all back.
    Returning,
    /// One is under way.
    AlreadyUpgrading,
    /// There is nothing to resume or to reload while two processes accept.
    Sharing,
    /// It accepts already.
    NotPaused,
    /// No upgrade is under way, or it is confirmed.
    NothingToRollBack,
}

impl Refusal {
    /// The signal that it is about, for the log, where it can be but one.
    pub(crate) fn signal(self) -> &'static str {
        match self {
            Refusal::Reloading | Refusal::Unconfirmed | Refusal::AlreadyUpgrading => "USR2 ",
            Refusal::Sharing => "HUP ",
            Refusal::StillStarting | Refusal::Paused | Refusal::Leaving | Refusal::Returning => "",
            Refusal::NotPaused | Refusal::NothingToRollBack => "",
        }
    }

    /// What there is to say to whoever asked.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Refusal::StillStarting => "refused: the process is still starting; nothing changed",
            Refusal::Reloading => "refused: a reload is under way; nothing changed",
            Refusal::Paused => "refused: the process is paused; resume it first (HUP)",
            Refusal::Leaving => "refused: the process is leaving; it goes on leaving",
            Refusal::Unconfirmed => "refused: the last upgrade is not confirmed yet; nothing changed",
            Refusal::Returning => {
                "refused: the process that was sent away still gives its connections back; nothing changed"
            }
            Refusal::AlreadyUpgrading => "refused: an upgrade is under way; it goes on",
            Refusal::Sharing => {
                "refused: a new process accepts beside this one, which accepts as well; nothing changed"
            }
            Refusal::NotPaused => "refused: the process is not paused; nothing changed",
            Refusal::NothingToRollBack => {
                "refused: no upgrade is under way that could be rolled back; nothing changed"
            }
        }
    }
}
