//! The policy pair by pair, as ARCHITECTURE.md prints it, and what must hold of every path through it.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

const PHASES: [Phase; 35] = [
    Starting(Serve),
    Starting(Reload),
    Succeeding(Serve),
    Succeeding(Reload),
    Phase::Ready(Serve),
    Phase::Ready(Reload),
    Proving(Serve),
    Proving(Reload),
    Proving(Pause),
    Beside(Serve),
    Beside(Reload),
    Beside(Pause),
    Serving,
    Reloading(Serve),
    Reloading(Reload),
    Reloading(Pause),
    Upgrading(Serve),
    Upgrading(Reload),
    Swapping(Gently),
    Swapping(Firmly),
    HandingOver(Gently),
    HandingOver(Firmly),
    Confirming(Gently),
    Confirming(Firmly),
    Phase::Sharing,
    Standby,
    Paused,
    LameDuck(Firmly),
    LastCall(Gently),
    LastCall(Firmly),
    Draining(Firmly),
    GivingBack(Gently),
    GivingBack(Firmly),
    Stopping(Firmly),
    Gone,
];

const EVENTS: [Event; 26] = [
    Hup,
    Usr1,
    Usr2,
    Winch,
    Quit,
    Term,
    Int,
    Close,
    Rollback,
    Built,
    BuildFailed,
    TimeOver,
    Drained,
    SuccessorReady,
    StrangerAccepts,
    SuccessorAccepts,
    SuccessorShares,
    SuccessorAnswers,
    SuccessorStops,
    SuccessorGone,
    ToldLive,
    ToldShare,
    ToldCancel,
    ToldRecall,
    Confirmed,
    PredecessorGone,
];

/// The whole function as a table: a line for each phase and for all events that do the same in it, if that is anything.
fn table() -> String {
    let mut table = String::from("| phase | events | next phase | actions |\n|---|---|---|---|\n");
    for phase in PHASES {
        let mut rows: Vec<(String, Vec<String>)> = vec![];
        for event in EVENTS {
            let (next, actions) = step(phase, event);
            if next == phase && actions.is_empty() {
                continue;
            }
            let actions: Vec<String> = actions.iter().map(name).collect();
            let outcome = format!("{next:?} | {}", actions.join(", "));
            match rows.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, events)) => events.push(format!("{event:?}")),
                None => rows.push((outcome, vec![format!("{event:?}")])),
            }
        }
        for (outcome, events) in rows {
            let _ = writeln!(table, "| {phase:?} | {} | {outcome} |", events.join(", "));
        }
    }
    table
}

/// An action as the table prints it: without the wrapper that says whose it is.
fn name(action: &Action) -> String {
    match action {
        Live(step) => format!("{step:?}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn every_pair_is_as_the_architecture_page_prints_it() {
    let page = include_str!("../../../ARCHITECTURE.md");
    let table = table();
    assert!(
        page.contains(&table),
        "ARCHITECTURE.md should hold this table:\n\n{table}"
    );
}

#[test]
fn hup_while_reloading_is_remembered_once() {
    let (phase, _) = step(Reloading(Serve), Hup);
    let (phase, _) = step(phase, Hup);
    let (phase, actions) = step(phase, Built);
    assert_eq!((phase, actions), (Reloading(Serve), vec![GoLive, Build]));
    assert_eq!(step(phase, Built), (Serving, vec![GoLive]));
}

#[test]
fn a_reload_that_is_refused_changes_nothing() {
    assert_eq!(step(Reloading(Serve), BuildFailed), (Serving, vec![]));
}

#[test]
fn term_waits_out_the_lame_duck_and_int_does_not() {
    assert_eq!(step(Serving, Term).0, LameDuck(Firmly));
    assert_eq!(step(Serving, Int).0, LastCall(Firmly));
    assert_eq!(step(Serving, Quit).0, LastCall(Gently));
}

#[test]
fn term_after_quit_goes_on_leaving_and_the_next_one_cuts() {
    let (phase, _) = step(Serving, Quit);
    let (phase, actions) = step(phase, Term);
    assert_eq!((phase, actions), (LastCall(Firmly), vec![]));
    assert_eq!(step(phase, Term).0, Gone);
}

fn any_event() -> impl Strategy<Value = Event> {
    proptest::sample::select(&EVENTS[..])
}

fn any_phase() -> impl Strategy<Value = Phase> {
    proptest::sample::select(&PHASES[..])
}

fn is_leaving(phase: Phase) -> bool {
    match phase {
        LameDuck(_) | LastCall(_) | Draining(_) | GivingBack(_) | Stopping(_) | Gone => true,
        Starting(_) | Succeeding(_) | Phase::Ready(_) | Proving(_) | Beside(_) => false,
        Serving | Reloading(_) | Paused => false,
        // these may still come back, if the new process dies
        Upgrading(_) | Swapping(_) | HandingOver(_) | Confirming(_) | Phase::Sharing | Standby => {
            false
        }
    }
}

proptest! {
    #[test]
    fn whoever_leaves_never_comes_back(phase in any_phase(), events in prop::collection::vec(any_event(), 0..40)) {
        let mut phase = phase;
        for event in events {
            let (next, actions) = step(phase, event);
            if is_leaving(phase) {
                prop_assert!(is_leaving(next));
                prop_assert!(!actions.contains(&Live(Accept)) && !actions.contains(&Build) && !actions.contains(&GoLive));
            }
            phase = next;
        }
    }

    #[test]
    fn term_and_time_end_every_process(phase in any_phase(), events in prop::collection::vec(any_event(), 0..40)) {
        let before = events.into_iter().fold(phase, |phase, event| step(phase, event).0);
        let told = step(before, Term).0;
        // an upgrade that is past its point of no return first ends, one way or the other
        let after = (0..6).fold(told, |phase, _| step(phase, TimeOver).0);
        prop_assert_eq!(after, Gone);
    }

    #[test]
    fn what_waits_has_a_timer(phase in any_phase(), event in any_event()) {
        let (next, actions) = step(phase, event);
        let enters = |p: Phase| match p {
            LameDuck(_) | LastCall(_) | Draining(_) | GivingBack(_) | Stopping(_) => true,
            Upgrading(_) | Swapping(_) | HandingOver(_) | Confirming(_) => true,
            Starting(_) | Succeeding(_) | Phase::Ready(_) | Proving(_) | Serving | Reloading(_) => false,
            // a person decides how long
            Beside(_) | Phase::Sharing | Standby => false,
            Paused | Gone => false,
        };
        let stays = std::mem::discriminant(&phase) == std::mem::discriminant(&next);
        if enters(next) && !stays {
            prop_assert!(actions.iter().any(|action| matches!(action, Arm(_))));
        }
    }

    #[test]
    fn nothing_goes_live_that_was_not_built(phase in any_phase(), event in any_event()) {
        let (_, actions) = step(phase, event);
        prop_assert!(!actions.contains(&GoLive) || event == Built || matches!(phase, Phase::Ready(_)));
    }

    #[test]
    fn listeners_are_closed_only_on_the_way_out(phase in any_phase(), event in any_event()) {
        let (next, actions) = step(phase, event);
        prop_assert!(!actions.contains(&Live(CloseListeners)) || is_leaving(next));
    }
}

#[test]
fn an_upgrade_goes_through_its_steps() {
    let (phase, actions) = step(Serving, Usr2);
    assert_eq!(
        (phase, actions),
        (Upgrading(Serve), vec![Arm(Timer::Ready), Spawn])
    );
    let (phase, actions) = step(phase, SuccessorReady);
    assert_eq!(
        (phase, actions),
        (Swapping(Gently), vec![Say(Word::Live), Arm(Timer::Swap)])
    );
    let (phase, _) = step(phase, SuccessorAccepts);
    assert_eq!(phase, HandingOver(Gently));
    let (phase, actions) = step(phase, TimeOver);
    assert_eq!(
        (phase, actions),
        (
            Confirming(Gently),
            vec![Say(Word::Probe), Arm(Timer::Answer)]
        )
    );
    assert_eq!(step(phase, SuccessorAnswers).0, Draining(Gently));
}

#[test]
fn a_new_process_that_dies_brings_the_old_one_back_unless_that_was_told_to_stop() {
    let (phase, actions) = step(HandingOver(Gently), SuccessorGone);
    assert_eq!(
        (phase, actions),
        (
            Serving,
            vec![
                Disarm,
                KillSuccessor,
                Live(TakeBack),
                Live(Accept),
                Live(TakePidFile)
            ]
        )
    );
    assert_eq!(step(HandingOver(Firmly), SuccessorGone).0, LastCall(Firmly));
    // and so does one that no longer answers
    assert_eq!(
        step(Confirming(Gently), TimeOver),
        step(HandingOver(Gently), SuccessorGone)
    );
}

#[test]
fn a_new_process_that_is_told_to_stop_is_no_death() {
    assert_eq!(
        step(HandingOver(Gently), SuccessorStops).0,
        LastCall(Gently)
    );
    let (_, actions) = step(Proving(Serve), Term);
    assert_eq!(actions.first(), Some(&Say(Word::Stopping)));
}

#[test]
fn a_successor_whose_predecessor_dies_serves() {
    assert_eq!(step(Succeeding(Serve), PredecessorGone).0, Starting(Serve));
    assert_eq!(
        step(Phase::Ready(Serve), PredecessorGone),
        (Serving, go_live())
    );
    assert_eq!(
        step(Proving(Serve), PredecessorGone),
        (Serving, vec![Live(Settle)])
    );
}

proptest! {
    #[test]
    fn nobody_serves_twice_after_a_cancel(phase in any_phase()) {
        let (next, actions) = step(phase, ToldCancel);
        prop_assert!(!actions.contains(&GoLive) && !actions.contains(&Live(Accept)));
        if matches!(phase, Succeeding(_) | Phase::Ready(_)) {
            prop_assert_eq!(next, Gone);
        }
    }
}

#[test]
fn an_upgrade_by_hand_is_committed_by_quit_to_the_old_process() {
    let (phase, actions) = step(Swapping(Gently), SuccessorShares);
    assert_eq!(
        (phase, actions),
        (Phase::Sharing, vec![Disarm, Live(Share)])
    );
    assert_eq!(step(phase, Winch).0, Standby);
    assert_eq!(
        step(Standby, Hup),
        (Phase::Sharing, vec![Live(Keep), Live(Accept)])
    );
    for phase in [Phase::Sharing, Standby] {
        let (next, actions) = step(phase, Quit);
        // not before it is written down who is the newest: the new one may be replaced at once
        let place = |wanted| actions.iter().position(|action| *action == wanted);
        assert!(
            next == Draining(Gently) && place(Live(LetGo)) < place(Say(Word::Confirmed)),
            "{actions:?}"
        );
    }
}

#[test]
fn an_upgrade_by_hand_is_taken_back_by_quit_to_the_new_process() {
    let (phase, actions) = step(Beside(Serve), Quit);
    assert_eq!(
        (phase, actions.first()),
        (GivingBack(Gently), Some(&Say(Word::Stopping)))
    );
    assert_eq!(step(Phase::Sharing, SuccessorStops).0, Serving);
    let (phase, actions) = step(Standby, SuccessorStops);
    assert!(
        phase == Serving && actions.contains(&Live(Accept)),
        "{phase:?} {actions:?}"
    );
}

proptest! {
    #[test]
    fn time_alone_ends_no_upgrade_by_hand(times in 0..10) {
        for phase in [Phase::Sharing, Standby, Beside(Serve)] {
            prop_assert_eq!((0..times).fold(phase, |phase, _| step(phase, TimeOver).0), phase);
        }
    }
}

#[test]
fn an_operator_s_rollback_has_the_new_process_give_everything_back() {
    for phase in [
        HandingOver(Gently),
        Confirming(Gently),
        Phase::Sharing,
        Standby,
    ] {
        let (next, actions) = step(phase, Rollback);
        assert_eq!((next, actions.first()), (Serving, Some(&Say(Word::Recall))));
        // one that does not go is made to
        assert!(actions.contains(&Arm(Timer::Return)));
        assert_eq!(step(next, TimeOver).1, [KillSuccessor, Live(Recover)]);
    }
    for phase in [Proving(Serve), Beside(Serve)] {
        assert_eq!(step(phase, ToldRecall).0, GivingBack(Gently));
    }
}
