//! The policy of a process' life in one pure function: what it does, in which phase, about which event.
//!
//! No I/O, no clock, no sockets: [`step`] maps a phase and an event to the next phase and a list of actions. The
//! driver feeds it and carries out what it says. The table in ARCHITECTURE.md shows the same for people.

mod commands;
mod words;

pub(crate) use commands::{meaning, standing, upgrades, word, Command, Standing};
pub(crate) use words::{Action, Afterwards, Event, Phase, Refusal, Step, Timer, Told, Word};

use Action::*;
use Afterwards::{Pause, Reload, Serve};
use Event::*;
use Phase::*;
use Step::{
    Accept, Announce, CloseIdle, CloseListeners, Cut, GiveBack, Keep, LetGo, Recover, Reinstate,
    Reopen, Rest, Retire, Settle, Share, StopAccepting, TakeBack, TakePidFile, TellDraining,
    TellStop,
};
use Told::{Firmly, Gently};

/// The whole policy.
pub(crate) fn step(phase: Phase, event: Event) -> (Phase, Vec<Action>) {
    match phase {
        Starting(afterwards) => starting(afterwards, event),
        Serving => serving(event),
        Reloading(afterwards) => reloading(afterwards, event),
        Upgrading(afterwards) => upgrading(afterwards, event),
        Swapping(told) => swapping(told, event),
        HandingOver(told) | Confirming(told) => handing_over(phase, told, event),
        Phase::Sharing => sharing(event),
        Standby => standby(event),
        Succeeding(afterwards) => succeeding(afterwards, event),
        Phase::Ready(afterwards) => ready(afterwards, event),
        Proving(afterwards) => proving(afterwards, event),
        Beside(afterwards) => beside(afterwards, event),
        Paused => paused(event),
        LameDuck(_) | LastCall(_) | Draining(_) | GivingBack(_) | Stopping(_) => {
            leaving(phase, event)
        }
        Gone => (Gone, vec![]),
    }
}

fn starting(afterwards: Afterwards, event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (Starting(Reload), vec![]),
        Usr1 => (Starting(afterwards), vec![ReopenLogs]),
        Usr2 => (Starting(afterwards), vec![Refuse(Refusal::StillStarting)]),
        Quit | Term | Int | Close => (Gone, vec![AbandonBuild]),
        Built => built(afterwards, go_live()),
        BuildFailed => (Gone, vec![]),
        Winch | Rollback | TimeOver | Drained => (Starting(afterwards), vec![]),
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers | SuccessorStops | SuccessorGone => (Starting(afterwards), vec![]),
        ToldLive | ToldShare | ToldCancel | ToldRecall | Confirmed | PredecessorGone => {
            (Starting(afterwards), vec![])
        }
    }
}

/// As a start, but what is built waits for the word of the old process; if that one is gone, it is a start.
fn succeeding(afterwards: Afterwards, event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (Succeeding(Reload), vec![]),
        Usr1 => (Succeeding(afterwards), vec![ReopenLogs]),
        Usr2 => (Succeeding(afterwards), vec![Refuse(Refusal::StillStarting)]),
        Quit | Term | Int | Close | ToldCancel => (Gone, vec![AbandonBuild]),
        Built => (Phase::Ready(afterwards), vec![Say(Word::Ready)]),
        BuildFailed => (Gone, vec![]),
        PredecessorGone => (Starting(afterwards), vec![]),
        Winch | Rollback | TimeOver | Drained | ToldLive | ToldShare | ToldRecall | Confirmed => {
            (Succeeding(afterwards), vec![])
        }
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers | SuccessorStops | SuccessorGone => (Succeeding(afterwards), vec![]),
    }
}

fn ready(afterwards: Afterwards, event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (Phase::Ready(Reload), vec![]),
        Usr1 => (Phase::Ready(afterwards), vec![ReopenLogs]),
        Usr2 => (
            Phase::Ready(afterwards),
            vec![Refuse(Refusal::StillStarting)],
        ),
        // the word to go live may be on its way
        Quit | Term | Int | Close => (Gone, vec![Say(Word::Stopping)]),
        ToldCancel => (Gone, vec![]),
        ToldLive => {
            let live = [
                GoLive,
                Live(Accept),
                Live(TakePidFile),
                Live(Announce),
                Say(Word::Accepting),
            ];
            (Proving(afterwards), live.to_vec())
        }
        ToldShare => (
            Beside(afterwards),
            vec![
                GoLive,
                Live(Accept),
                Live(TakePidFile),
                Say(Word::Accepting),
            ],
        ),
        // it died without a word of cancelling: somebody has to serve
        PredecessorGone => built(afterwards, go_live()),
        Winch | Rollback | TimeOver | Drained | ToldRecall | Confirmed | Built | BuildFailed => {
            (Phase::Ready(afterwards), vec![])
        }
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers | SuccessorStops | SuccessorGone => (Phase::Ready(afterwards), vec![]),
    }
}

fn proving(afterwards: Afterwards, event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (
            Proving(if afterwards == Pause { Serve } else { Reload }),
            vec![],
        ),
        Winch => (Proving(Pause), vec![]),
        Usr1 => (Proving(afterwards), vec![ReopenLogs]),
        Usr2 => (Proving(afterwards), vec![Refuse(Refusal::Unconfirmed)]),
        Quit | Term | Int | Close => leave(event, vec![Say(Word::Stopping)]),
        ToldRecall => give_back(Gently),
        Confirmed | PredecessorGone => built(afterwards, vec![Live(Settle)]),
        Rollback | TimeOver | Drained | Built | BuildFailed | ToldLive | ToldShare | ToldCancel => {
            (Proving(afterwards), vec![])
        }
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers | SuccessorStops | SuccessorGone => (Proving(afterwards), vec![]),
    }
}

/// As on trial, but whoever is told to stop here is sent away: the old process has never stopped accepting.
fn beside(afterwards: Afterwards, event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (
            Beside(if afterwards == Pause { Serve } else { Reload }),
            vec![],
        ),
        Winch => (Beside(Pause), vec![]),
        Usr1 => (Beside(afterwards), vec![ReopenLogs]),
        Usr2 => (Beside(afterwards), vec![Refuse(Refusal::Unconfirmed)]),
        Quit | ToldRecall => give_back(Gently),
        Term | Int => give_back(Firmly),
        Close => leave(Close, vec![Say(Word::Stopping)]),
        Confirmed | PredecessorGone => built(
            afterwards,
            vec![Live(TakePidFile), Live(Announce), Live(Settle)],
        ),
        Rollback | TimeOver | Drained | Built | BuildFailed | ToldLive | ToldShare | ToldCancel => {
            (Beside(afterwards), vec![])
        }
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers | SuccessorStops | SuccessorGone => (Beside(afterwards), vec![]),
    }
}

fn give_back(told: Told) -> (Phase, Vec<Action>) {
    let back = [StopAccepting, Step::HandOver, GiveBack, Retire].map(Live);
    let actions = [Say(Word::Stopping)]
        .into_iter()
        .chain(back)
        .chain([Arm(Timer::Grace)]);
    (GivingBack(told), actions.collect())
}

fn serving(event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (Reloading(Serve), vec![Build]),
        Usr1 => (Serving, vec![ReopenLogs]),
        Usr2 => (Upgrading(Serve), vec![Arm(Timer::Ready), Spawn]),
        Winch => pause(vec![]),
        Quit | Term | Int | Close => leave(event, vec![]),
        // one that was sent away has ended, and may not have given all back
        SuccessorGone => (Serving, vec![Live(Recover)]),
        TimeOver => (Serving, vec![KillSuccessor, Live(Recover)]),
        Built | BuildFailed | Rollback | Drained => (Serving, vec![]),
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers | SuccessorStops => (Serving, vec![]),
        ToldLive | ToldShare | ToldCancel | ToldRecall | Confirmed | PredecessorGone => {
            (Serving, vec![])
        }
    }
}

fn reloading(afterwards: Afterwards, event: Event) -> (Phase, Vec<Action>) {
    match event {
        // after a WINCH that waits for the build, a HUP takes it back
        Hup if afterwards == Pause => (Reloading(Serve), vec![]),
        Hup => (Reloading(Reload), vec![]),
        Winch => (Reloading(Pause), vec![]),
        Usr1 => (Reloading(afterwards), vec![ReopenLogs]),
        Usr2 => (Reloading(afterwards), vec![Refuse(Refusal::Reloading)]),
        Quit | Term | Int | Close => leave(event, vec![AbandonBuild]),
        Built => built(afterwards, vec![GoLive]),
        BuildFailed => built(afterwards, vec![]),
        SuccessorGone => (Reloading(afterwards), vec![Live(Recover)]),
        TimeOver => (Reloading(afterwards), vec![KillSuccessor, Live(Recover)]),
        Rollback | Drained => (Reloading(afterwards), vec![]),
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers | SuccessorStops => (Reloading(afterwards), vec![]),
        ToldLive | ToldShare | ToldCancel | ToldRecall | Confirmed | PredecessorGone => {
            (Reloading(afterwards), vec![])
        }
    }
}

/// Nothing has changed yet for anybody: whatever goes wrong, this process serves on.
fn upgrading(afterwards: Afterwards, event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (Upgrading(Reload), vec![]),
        Usr1 => (Upgrading(afterwards), vec![ReopenLogs]),
        Usr2 => (
            Upgrading(afterwards),
            vec![Refuse(Refusal::AlreadyUpgrading)],
        ),
        Quit | Term | Int | Close => leave(event, vec![Say(Word::Cancel), KillSuccessor]),
        SuccessorReady => {
            let hup = (afterwards == Reload).then_some(PassHup);
            (
                Swapping(Gently),
                [Say(Word::Live), Arm(Timer::Swap)]
                    .into_iter()
                    .chain(hup)
                    .collect(),
            )
        }
        // connections cannot travel to it: they drain, and the sockets are its own from now on
        StrangerAccepts => {
            let out = [StopAccepting, LetGo, TellDraining, Retire].map(Live);
            (
                LastCall(Gently),
                out.into_iter().chain([Arm(Timer::LastCall)]).collect(),
            )
        }
        SuccessorGone | SuccessorStops | SuccessorAccepts | SuccessorShares | SuccessorAnswers
        | TimeOver => built(afterwards, vec![Disarm, KillSuccessor]),
        Rollback => built(afterwards, vec![Say(Word::Cancel), Disarm, KillSuccessor]),
        Winch | Built | BuildFailed | Drained => (Upgrading(afterwards), vec![]),
        ToldLive | ToldShare | ToldCancel | ToldRecall | Confirmed | PredecessorGone => {
            (Upgrading(afterwards), vec![])
        }
    }
}

/// From here on a TERM finds the process leaving already.
fn swapping(told: Told, event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (Swapping(told), vec![PassHup]),
        Usr1 => (Swapping(told), vec![ReopenLogs]),
        Usr2 => (Swapping(told), vec![Refuse(Refusal::AlreadyUpgrading)]),
        Term | Int => (Swapping(Firmly), vec![PassStop(event)]),
        Quit => (Swapping(told), vec![PassStop(event)]),
        Close => leave(Close, vec![Say(Word::Cancel), KillSuccessor]),
        SuccessorAccepts => (
            HandingOver(told),
            vec![
                Live(StopAccepting),
                Live(Step::HandOver),
                Arm(Timer::Rollback),
            ],
        ),
        SuccessorShares => match told {
            Gently => (Phase::Sharing, vec![Disarm, Live(Share)]),
            Firmly => commit(Firmly),
        },
        SuccessorStops => last_call(told),
        SuccessorGone | Rollback | TimeOver => come_back(told, vec![Disarm, KillSuccessor]),
        Winch | Built | BuildFailed | Drained => (Swapping(told), vec![]),
        SuccessorReady | StrangerAccepts | SuccessorAnswers => (Swapping(told), vec![]),
        ToldLive | ToldShare | ToldCancel | ToldRecall | Confirmed | PredecessorGone => {
            (Swapping(told), vec![])
        }
    }
}

fn handing_over(phase: Phase, told: Told, event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup | Usr2 => (phase, vec![Refuse(Refusal::Leaving)]),
        Usr1 => (phase, vec![ReopenLogs]),
        Term | Int if told == Firmly => let_go_and_cut(),
        Term | Int => (firmly(phase), vec![]),
        Close => let_go_and_cut(),
        TimeOver if phase == HandingOver(told) => {
            (Confirming(told), vec![Say(Word::Probe), Arm(Timer::Answer)])
        }
        SuccessorAnswers if phase == Confirming(told) => (
            Draining(told),
            vec![
                Live(LetGo),
                Say(Word::Confirmed),
                Live(Retire),
                Arm(Timer::Grace),
            ],
        ),
        SuccessorStops => {
            let (phase, then) = last_call(told);
            (phase, [Live(LetGo)].into_iter().chain(then).collect())
        }
        SuccessorGone | TimeOver => come_back(told, vec![Disarm, KillSuccessor, Live(TakeBack)]),
        Rollback if told == Gently => recall(vec![Say(Word::Recall), Live(Reinstate), Live(Keep)]),
        Winch | Quit | Rollback | Built | BuildFailed | Drained => (phase, vec![]),
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers => (phase, vec![]),
        ToldLive | ToldShare | ToldCancel | ToldRecall | Confirmed | PredecessorGone => {
            (phase, vec![])
        }
    }
}

/// Both accept, as long as a person likes: QUIT here commits, QUIT there takes it back.
fn sharing(event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (Phase::Sharing, vec![Refuse(Refusal::Sharing)]),
        Usr1 => (Phase::Sharing, vec![ReopenLogs]),
        Usr2 => (Phase::Sharing, vec![Refuse(Refusal::AlreadyUpgrading)]),
        Winch => (
            Standby,
            vec![Live(StopAccepting), Live(Rest), Live(Step::HandOver)],
        ),
        Quit => commit(Gently),
        Term | Int => commit(Firmly),
        Close => let_go_and_cut(),
        SuccessorStops => recall(vec![Live(Reinstate)]),
        Rollback => recall(vec![Say(Word::Recall), Live(Reinstate)]),
        SuccessorGone => come_back(Gently, vec![KillSuccessor, Live(TakeBack)]),
        Built | BuildFailed | TimeOver | Drained => (Phase::Sharing, vec![]),
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers => (Phase::Sharing, vec![]),
        ToldLive | ToldShare | ToldCancel | ToldRecall | Confirmed | PredecessorGone => {
            (Phase::Sharing, vec![])
        }
    }
}

fn standby(event: Event) -> (Phase, Vec<Action>) {
    match event {
        Hup => (Phase::Sharing, [Keep, Accept].map(Live).to_vec()),
        Usr1 => (Standby, vec![ReopenLogs]),
        Usr2 => (Standby, vec![Refuse(Refusal::AlreadyUpgrading)]),
        Quit => commit(Gently),
        Term | Int => commit(Firmly),
        Close => let_go_and_cut(),
        SuccessorStops => recall(vec![Live(Reinstate), Live(Keep)]),
        Rollback => recall(vec![Say(Word::Recall), Live(Reinstate), Live(Keep)]),
        SuccessorGone => come_back(Gently, vec![KillSuccessor, Live(TakeBack), Live(Keep)]),
        Winch | Built | BuildFailed | TimeOver | Drained => (Standby, vec![]),
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers => (Standby, vec![]),
        ToldLive | ToldShare | ToldCancel | ToldRecall | Confirmed | PredecessorGone => {
            (Standby, vec![])
        }
    }
}

/// The new process lives, and is sent away: what it has comes back.
fn recall(mut first: Vec<Action>) -> (Phase, Vec<Action>) {
    first.extend([Live(Accept), Live(TakePidFile), Arm(Timer::Return)]);
    (Serving, first)
}

/// The new process is here to stay; there is no way back.
fn commit(told: Told) -> (Phase, Vec<Action>) {
    let away = [StopAccepting, Step::HandOver, LetGo].map(Live);
    let then = [Say(Word::Confirmed), Live(Retire), Arm(Timer::Grace)];
    (Draining(told), away.into_iter().chain(then).collect())
}

/// The new process is dead: serve again, unless this one was told to stop meanwhile.
fn come_back(told: Told, mut first: Vec<Action>) -> (Phase, Vec<Action>) {
    match told {
        Gently => {
            first.extend([Live(Accept), Live(TakePidFile)]);
            (Serving, first)
        }
        Firmly => {
            let (phase, then) = last_call(Firmly);
            first.extend(then);
            (phase, first)
        }
    }
}

fn let_go_and_cut() -> (Phase, Vec<Action>) {
    let (phase, then) = cut();
    (
        phase,
        [Live(LetGo), Say(Word::Confirmed)]
            .into_iter()
            .chain(then)
            .collect(),
    )
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
        SuccessorGone => (
            Paused,
            [Recover, TellDraining, CloseIdle].map(Live).to_vec(),
        ),
        Winch | Rollback | Built | BuildFailed | Drained => (Paused, vec![]),
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers | SuccessorStops => (Paused, vec![]),
        ToldLive | ToldShare | ToldCancel | ToldRecall | Confirmed | PredecessorGone => {
            (Paused, vec![])
        }
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
        // a lame duck still accepts: that nobody is there says nothing
        Drained if matches!(phase, LameDuck(_)) => (phase, vec![]),
        Drained => (Gone, vec![Disarm]),
        Winch | Quit | Rollback | Built | BuildFailed => (phase, vec![]),
        // what was to travel to it is answered here and closed politely
        SuccessorGone if matches!(phase, LastCall(_)) => {
            (phase, [TakeBack, TellDraining].map(Live).to_vec())
        }
        SuccessorGone if matches!(phase, Draining(_)) => (
            phase,
            [TakeBack, TellDraining, CloseIdle].map(Live).to_vec(),
        ),
        PredecessorGone if matches!(phase, GivingBack(_)) => {
            let here = [TakeBack, TellDraining, CloseIdle].map(Live);
            (
                Draining(told(phase)),
                here.into_iter().chain([Arm(Timer::Grace)]).collect(),
            )
        }
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers | SuccessorStops | SuccessorGone => (phase, vec![]),
        ToldLive | ToldShare | ToldCancel | ToldRecall | Confirmed | PredecessorGone => {
            (phase, vec![])
        }
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

/// Nobody else serves: from here on it is this process.
fn go_live() -> Vec<Action> {
    [GoLive]
        .into_iter()
        .chain([Accept, TakePidFile, Announce, Settle].map(Live))
        .collect()
}

fn pause(mut first: Vec<Action>) -> (Phase, Vec<Action>) {
    first.extend([
        Live(Rest),
        Live(StopAccepting),
        Live(TellDraining),
        Arm(Timer::LastCall),
    ]);
    (Paused, first)
}

/// The first step out: TERM alone has a lame duck's delay.
fn leave(event: Event, mut first: Vec<Action>) -> (Phase, Vec<Action>) {
    let (phase, then) = match event {
        Term => (
            LameDuck(Firmly),
            vec![Live(Step::Leave), Arm(Timer::LameDuck)],
        ),
        Int => last_call(Firmly),
        Close => cut(),
        Quit | Hup | Usr1 | Usr2 | Winch | Rollback => last_call(Gently),
        Built | BuildFailed | TimeOver | Drained => last_call(Gently),
        SuccessorReady | StrangerAccepts | SuccessorAccepts | SuccessorShares
        | SuccessorAnswers | SuccessorStops | SuccessorGone => last_call(Gently),
        ToldLive | ToldShare | ToldCancel | ToldRecall | Confirmed | PredecessorGone => {
            last_call(Gently)
        }
    };
    first.extend(then);
    (phase, first)
}

fn last_call(told: Told) -> (Phase, Vec<Action>) {
    let out = [Step::Leave, CloseListeners, TellDraining, Retire].map(Live);
    (
        LastCall(told),
        out.into_iter().chain([Arm(Timer::LastCall)]).collect(),
    )
}

/// The wait of a phase is over: the next one begins.
fn go_on_leaving(phase: Phase) -> (Phase, Vec<Action>) {
    match phase {
        LameDuck(told) => last_call(told),
        LastCall(told) => (Draining(told), vec![Live(CloseIdle), Arm(Timer::Grace)]),
        Draining(told) | GivingBack(told) => {
            (Stopping(told), vec![Live(TellStop), Arm(Timer::Force)])
        }
        Stopping(_) => cut(),
        Starting(_) | Succeeding(_) | Phase::Ready(_) | Proving(_) | Beside(_) => (phase, vec![]),
        Serving | Reloading(_) | Paused | Gone => (phase, vec![]),
        Upgrading(_) | Swapping(_) | HandingOver(_) | Confirming(_) | Phase::Sharing | Standby => {
            (phase, vec![])
        }
    }
}

fn cut() -> (Phase, Vec<Action>) {
    (
        Gone,
        vec![Disarm, Live(Step::Leave), Live(CloseListeners), Live(Cut)],
    )
}

fn told(phase: Phase) -> Told {
    match phase {
        Swapping(told) | HandingOver(told) | Confirming(told) => told,
        LameDuck(told) | LastCall(told) | Draining(told) | GivingBack(told) | Stopping(told) => {
            told
        }
        Starting(_) | Succeeding(_) | Phase::Ready(_) | Proving(_) | Beside(_) | Serving => Gently,
        Reloading(_) | Upgrading(_) | Phase::Sharing | Standby | Paused | Gone => Gently,
    }
}

fn firmly(phase: Phase) -> Phase {
    match phase {
        Swapping(_) => Swapping(Firmly),
        HandingOver(_) => HandingOver(Firmly),
        Confirming(_) => Confirming(Firmly),
        LameDuck(_) => LameDuck(Firmly),
        LastCall(_) => LastCall(Firmly),
        Draining(_) => Draining(Firmly),
        GivingBack(_) => GivingBack(Firmly),
        Stopping(_) => Stopping(Firmly),
        Starting(_) | Succeeding(_) | Phase::Ready(_) | Proving(_) | Beside(_) | Serving => phase,
        Reloading(_) | Upgrading(_) | Phase::Sharing | Standby | Paused | Gone => phase,
    }
}

#[cfg(test)]
mod tests;
