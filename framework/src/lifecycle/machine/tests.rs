//! The policy pair by pair, as ARCHITECTURE.md prints it, and what must hold of every path through it.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

const PHASES: [Phase; 15] = [
    Starting(Serve),
    Starting(Reload),
    Serving,
    Reloading(Serve),
    Reloading(Reload),
    Reloading(Pause),
    Paused,
    LameDuck(Gently),
    LameDuck(Firmly),
    LastCall(Gently),
    LastCall(Firmly),
    Draining(Gently),
    Draining(Firmly),
    Stopping(Firmly),
    Gone,
];

const EVENTS: [Event; 12] =
    [Hup, Usr1, Usr2, Winch, Quit, Term, Int, Close, Built, BuildFailed, TimeOver, Drained];

/// The whole function as a table: a line for each phase and event that changes anything.
fn table() -> String {
    let mut table = String::from("| phase | event | next phase | actions |\n|---|---|---|---|\n");
    for phase in PHASES {
        for event in EVENTS {
            let (next, actions) = step(phase, event);
            if next == phase && actions.is_empty() {
                continue;
            }
            let actions: Vec<String> = actions.iter().map(name).collect();
            let actions = actions.join(", ");
            let _ = writeln!(table, "| {phase:?} | {event:?} | {next:?} | {actions} |");
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
    assert!(page.contains(&table), "ARCHITECTURE.md should hold this table:\n\n{table}");
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
        LameDuck(_) | LastCall(_) | Draining(_) | Stopping(_) | Gone => true,
        Starting(_) | Serving | Reloading(_) | Paused => false,
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
        let after = (0..4).fold(told, |phase, _| step(phase, TimeOver).0);
        prop_assert_eq!(after, Gone);
    }

    #[test]
    fn what_waits_has_a_timer(phase in any_phase(), event in any_event()) {
        let (next, actions) = step(phase, event);
        let enters = |p: Phase| matches!(p, LameDuck(_) | LastCall(_) | Draining(_) | Stopping(_));
        let stays = std::mem::discriminant(&phase) == std::mem::discriminant(&next);
        if enters(next) && !stays {
            prop_assert!(actions.iter().any(|action| matches!(action, Arm(_))));
        }
    }

    #[test]
    fn nothing_goes_live_that_was_not_built(phase in any_phase(), event in any_event()) {
        let (_, actions) = step(phase, event);
        prop_assert!(!actions.contains(&GoLive) || event == Built);
    }

    #[test]
    fn listeners_are_closed_only_on_the_way_out(phase in any_phase(), event in any_event()) {
        let (next, actions) = step(phase, event);
        prop_assert!(!actions.contains(&Live(CloseListeners)) || is_leaving(next));
    }
}
