//! The policy of a process' life in one pure function: what it does, in which phase, about which event.
//!
//! No I/O, no clock, no sockets: [`step`] maps a phase and an event to the next phase and a list of actions. The
//! driver feeds it and carries out what it says. The table in ARCHITECTURE.md shows the same for people.

/// Where a process stands; each phase is named for what it does or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first generation is being built; nothing is accepted yet.
    Starting(Afterwards),
    /// Accepting and answering.
    Serving,
    /// The same, while the next generation is being built.
    Reloading(Afterwards),
    /// Not accepting; connections drain; the process stays.
    Paused,
    /// About to leave: not ready any more, but still accepting, so that balancers can look elsewhere.
    LameDuck(Told),
    /// Not accepting; idle connections may send one last request.
    LastCall(Told),
    /// Requests in flight finish.
    Draining(Told),
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
    /// A generation is built, checked and ready to go live.
    Built,
    /// It could not be built.
    BuildFailed,
    /// The timer that was armed last has run out.
    TimeOver,
    /// No connection, no handler, no background task is left.
    Drained,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Load the configuration and build a generation from it, beside the one that serves.
    Build,
    /// Give up the build that is under way.
    AbandonBuild,
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

/// A change to what is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Accept on all listeners.
    Accept,
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
}

/// Why an event is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Upgrades are not built yet.
    NoUpgradeYet,
    StillStarting,
    Paused,
    Leaving,
}

use Action::*;
use Afterwards::{Pause, Reload, Serve};
use Event::*;
use Phase::*;
use Step::{
    Accept, CloseIdle, CloseListeners, Cut, Reopen, Rest, Retire, StopAccepting, TellDraining, TellStop,
};
use Told::{Firmly, Gently};

/// The whole policy.
pub(crate) fn step(phase: Phase, event: Event) -> (Phase, Vec<Action>) {
    match phase {
        Starting(afterwards) => starting(afterwards, event),
        Serving => serving(event),
        Reloading(afterwards) => reloading(afterwards, event),
        Paused => paused(event),
        LameDuck(_) | LastCall(_) | Draining(_) | Stopping(_) => leaving(phase, event),
        Gone => (Gone, vec![]),
    }
}

fn starting(afterwards: Afterwards, event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (Starting(Reload), vec![]),
        Usr1 => (Starting(afterwards), vec![ReopenLogs]),
        Usr2 => (Starting(afterwards), vec![Refuse(Refusal::StillStarting)]),
        Quit | Term | Int | Close => (Gone, vec![AbandonBuild]),
        Built => built(afterwards, vec![GoLive, Live(Accept)]),
        BuildFailed => (Gone, vec![]),
        Winch | TimeOver | Drained => (Starting(afterwards), vec![]),
    }
}

fn serving(event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (Reloading(Serve), vec![Build]),
        Usr1 => (Serving, vec![ReopenLogs]),
        Usr2 => (Serving, vec![Refuse(Refusal::NoUpgradeYet)]),
        Winch => pause(vec![]),
        Quit | Term | Int | Close => leave(event, vec![]),
        Built | BuildFailed | TimeOver | Drained => (Serving, vec![]),
    }
}

fn reloading(afterwards: Afterwards, event: Event) -> (Phase, Vec<Action>) {
    match event {
        // after a WINCH that waits for the build, a HUP takes it back
        Hup if afterwards == Pause => (Reloading(Serve), vec![]),
        Hup => (Reloading(Reload), vec![]),
        Winch => (Reloading(Pause), vec![]),
        Usr1 => (Reloading(afterwards), vec![ReopenLogs]),
        Usr2 => (Reloading(afterwards), vec![Refuse(Refusal::NoUpgradeYet)]),
        Quit | Term | Int | Close => leave(event, vec![AbandonBuild]),
        Built => built(afterwards, vec![GoLive]),
        BuildFailed => built(afterwards, vec![]),
        TimeOver | Drained => (Reloading(afterwards), vec![]),
    }
}

fn paused(event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (Serving, vec![Disarm, Live(Reopen), Live(Accept)]),
        Usr1 => (Paused, vec![ReopenLogs]),
        Usr2 => (Paused, vec![Refuse(Refusal::Paused)]),
        Quit => last_call(Gently),
        Term | Int => last_call(Firmly),
        Close => cut(),
        TimeOver => (Paused, vec![Live(CloseIdle)]),
        Winch | Built | BuildFailed | Drained => (Paused, vec![]),
    }
}

fn leaving(phase: Phase, event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup | Usr2 => (phase, vec![Refuse(Refusal::Leaving)]),
        Usr1 => (phase, vec![ReopenLogs]),
        Term | Int => match told(phase) {
            Firmly => cut(),
            Gently => (firmly(phase), vec![]),
        },
        Close => cut(),
        TimeOver => go_on_leaving(phase),
        Drained => match phase {
            LameDuck(_) => (phase, vec![]),
            Starting(_) | Serving | Reloading(_) | Paused | LastCall(_) | Draining(_) | Stopping(_)
            | Gone => (Gone, vec![Disarm]),
        },
        Winch | Quit | Built | BuildFailed => (phase, vec![]),
    }
}

/// A build has ended, for good or bad: `first` is what it brings.
fn built(afterwards: Afterwards, mut first: Vec<Action>) -> (Phase, Vec<Action>) {
    match afterwards {
        Serve => (Serving, first),
        Reload => {
            first.push(Build);
            (Reloading(Serve), first)
        }
        Pause => pause(first),
    }
}

fn pause(mut first: Vec<Action>) -> (Phase, Vec<Action>) {
    first.extend([Live(Rest), Live(StopAccepting), Live(TellDraining), Arm(Timer::LastCall)]);
    (Paused, first)
}

/// The first step out: TERM alone has a lame duck's delay.
fn leave(event: Event, mut first: Vec<Action>) -> (Phase, Vec<Action>) {
    let (phase, then) = match event {
        Term => (LameDuck(Firmly), vec![Live(Step::Leave), Arm(Timer::LameDuck)]),
        Int => last_call(Firmly),
        Close => cut(),
        Hup | Usr1 | Usr2 | Winch | Quit | Built | BuildFailed | TimeOver | Drained => last_call(Gently),
    };
    first.extend(then);
    (phase, first)
}

fn last_call(told: Told) -> (Phase, Vec<Action>) {
    let out = [Step::Leave, CloseListeners, TellDraining, Retire].map(Live);
    (LastCall(told), out.into_iter().chain([Arm(Timer::LastCall)]).collect())
}

fn go_on_leaving(phase: Phase) -> (Phase, Vec<Action>) {
    match phase {
        LameDuck(told) => last_call(told),
        LastCall(told) => (Draining(told), vec![Live(CloseIdle), Arm(Timer::Grace)]),
        Draining(told) => (Stopping(told), vec![Live(TellStop), Arm(Timer::Force)]),
        Stopping(_) => cut(),
        Starting(_) | Serving | Reloading(_) | Paused | Gone => (phase, vec![]),
    }
}

fn cut() -> (Phase, Vec<Action>) {
    (Gone, vec![Disarm, Live(Step::Leave), Live(CloseListeners), Live(Cut)])
}

fn told(phase: Phase) -> Told {
    match phase {
        LameDuck(told) | LastCall(told) | Draining(told) | Stopping(told) => told,
        Starting(_) | Serving | Reloading(_) | Paused | Gone => Gently,
    }
}

fn firmly(phase: Phase) -> Phase {
    match phase {
        LameDuck(_) => LameDuck(Firmly),
        LastCall(_) => LastCall(Firmly),
        Draining(_) => Draining(Firmly),
        Stopping(_) => Stopping(Firmly),
        Starting(_) | Serving | Reloading(_) | Paused | Gone => phase,
    }
}

#[cfg(test)]
mod tests;
