//! Every transition of the state machine, compared with `transitions.txt`, and the properties that hold on every path.

#![expect(clippy::match_same_arms, reason = "tables: one arm for each row")]

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

const PHASES: [Phase; 35] = [
    Starting(Nothing),
    Starting(Reload),
    Succeeding(Nothing),
    Succeeding(Reload),
    Phase::Ready(Nothing),
    Phase::Ready(Reload),
    Proving(Nothing),
    Proving(Reload),
    Proving(Pause),
    AwaitingCommit(Nothing),
    AwaitingCommit(Reload),
    AwaitingCommit(Pause),
    Serving,
    Reloading(Nothing),
    Reloading(Reload),
    Reloading(Pause),
    Upgrading(Nothing),
    Upgrading(Reload),
    Swapping(Graceful),
    Swapping(Fast),
    HandingOver(Graceful),
    HandingOver(Fast),
    Confirming(Graceful),
    Confirming(Fast),
    Phase::Sharing,
    Standby,
    Paused,
    ShutdownDelay(Fast),
    KeepaliveGrace(Graceful),
    KeepaliveGrace(Fast),
    Draining(Fast),
    GivingBack(Graceful),
    GivingBack(Fast),
    Stopping(Fast),
    Gone,
];

const INPUTS: [Input; 26] = [
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
    TimerExpired,
    Drained,
    SuccessorReady,
    ForeignAccepts,
    SuccessorAccepts,
    SuccessorShares,
    SuccessorAlive,
    SuccessorStops,
    SuccessorGone,
    LiveReceived,
    ShareReceived,
    CancelReceived,
    RecallReceived,
    Confirmed,
    PredecessorGone,
];

/// Prints the state machine as a table: one row for each phase and for all inputs with the same effect. Pairs without
/// any effect are left out.
fn table() -> String {
    let mut table = String::from("| phase | inputs | next phase | actions |\n|---|---|---|---|\n");
    for phase in PHASES {
        let mut rows: Vec<(String, Vec<String>)> = vec![];
        for input in INPUTS {
            let (next, actions) = step(phase, input);
            if next == phase && actions.is_empty() {
                continue;
            }
            let actions: Vec<String> = actions.iter().map(name).collect();
            let outcome = format!("{next:?} | {}", actions.join(", "));
            match rows.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, inputs)) => inputs.push(format!("{input:?}")),
                None => rows.push((outcome, vec![format!("{input:?}")])),
            }
        }
        for (outcome, inputs) in rows {
            let _ = writeln!(table, "| {phase:?} | {} | {outcome} |", inputs.join(", "));
        }
    }
    table
}

/// Returns the name of an action without the `Instance` around it.
fn name(action: &Action) -> String {
    match action {
        Instance(step) => format!("{step:?}"),
        other => format!("{other:?}"),
    }
}

/// Compares the table with `transitions.txt`. `SLACKWATER_WRITE_TRANSITIONS=1 cargo test -p slackwater transitions`
/// writes the file anew.
#[test]
fn the_transitions_are_those_in_the_snapshot() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/lifecycle/machine/transitions.txt"
    );
    let table = table();
    if std::env::var_os("SLACKWATER_WRITE_TRANSITIONS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let snapshot = std::fs::read_to_string(path).unwrap();
    let changed: Vec<&str> = table
        .lines()
        .filter(|line| !snapshot.lines().any(|known| known == *line))
        .collect();
    assert!(
        snapshot == table,
        "transitions.txt is out of date: run this test with SLACKWATER_WRITE_TRANSITIONS=1; changed rows:\n{}",
        changed.join("\n")
    );
}

#[test]
fn hup_while_reloading_is_remembered_once() {
    let (phase, _) = step(Reloading(Nothing), Hup);
    let (phase, _) = step(phase, Hup);
    let (phase, actions) = step(phase, Built);
    assert_eq!((phase, actions), (Reloading(Nothing), vec![GoLive, Build]));
    assert_eq!(step(phase, Built), (Serving, vec![GoLive]));
}

#[test]
fn a_refused_reload_changes_nothing() {
    assert_eq!(step(Reloading(Nothing), BuildFailed), (Serving, vec![]));
}

#[test]
fn term_waits_for_the_shutdown_delay_and_int_does_not() {
    assert_eq!(step(Serving, Term).0, ShutdownDelay(Fast));
    assert_eq!(step(Serving, Int).0, KeepaliveGrace(Fast));
    assert_eq!(step(Serving, Quit).0, KeepaliveGrace(Graceful));
}

#[test]
fn a_term_after_quit_continues_the_shutdown_and_a_second_one_closes_connections() {
    let (phase, _) = step(Serving, Quit);
    let (phase, actions) = step(phase, Term);
    assert_eq!((phase, actions), (KeepaliveGrace(Fast), vec![]));
    assert_eq!(step(phase, Term).0, Gone);
}

fn any_input() -> impl Strategy<Value = Input> {
    proptest::sample::select(&INPUTS[..])
}

fn any_phase() -> impl Strategy<Value = Phase> {
    proptest::sample::select(&PHASES[..])
}

fn is_leaving(phase: Phase) -> bool {
    match phase {
        ShutdownDelay(_) | KeepaliveGrace(_) | Draining(_) | GivingBack(_) | Stopping(_) | Gone => {
            true
        }
        Starting(_) | Succeeding(_) | Phase::Ready(_) | Proving(_) | AwaitingCommit(_) => false,
        Serving | Reloading(_) | Paused => false,
        // these serve again if the new process dies
        Upgrading(_) | Swapping(_) | HandingOver(_) | Confirming(_) | Phase::Sharing | Standby => {
            false
        }
    }
}

proptest! {
    #[test]
    fn a_process_that_shuts_down_never_serves_again(phase in any_phase(), inputs in prop::collection::vec(any_input(), 0..40)) {
        let mut phase = phase;
        for input in inputs {
            let (next, actions) = step(phase, input);
            if is_leaving(phase) {
                prop_assert!(is_leaving(next));
                prop_assert!(!actions.contains(&Instance(Accept)) && !actions.contains(&Build) && !actions.contains(&GoLive));
            }
            phase = next;
        }
    }

    #[test]
    fn after_a_term_every_process_ends_by_its_timeouts(phase in any_phase(), inputs in prop::collection::vec(any_input(), 0..40)) {
        let before = inputs.into_iter().fold(phase, |phase, input| step(phase, input).0);
        let stopping = step(before, Term).0;
        // a process that hands over first waits for the end of the upgrade
        let after = (0..6).fold(stopping, |phase, _| step(phase, TimerExpired).0);
        prop_assert_eq!(after, Gone);
    }

    #[test]
    fn every_phase_that_waits_has_a_timeout(phase in any_phase(), input in any_input()) {
        let (next, actions) = step(phase, input);
        let enters = |p: Phase| match p {
            ShutdownDelay(_) | KeepaliveGrace(_) | Draining(_) | GivingBack(_) | Stopping(_) => true,
            Upgrading(_) | Swapping(_) | HandingOver(_) | Confirming(_) => true,
            Starting(_) | Succeeding(_) | Phase::Ready(_) | Proving(_) | Serving | Reloading(_) => false,
            // an operator decides how long
            AwaitingCommit(_) | Phase::Sharing | Standby => false,
            Paused | Gone => false,
        };
        let stays = std::mem::discriminant(&phase) == std::mem::discriminant(&next);
        if enters(next) && !stays {
            prop_assert!(actions.iter().any(|action| matches!(action, Arm(_))));
        }
    }

    #[test]
    fn only_a_generation_that_was_built_goes_live(phase in any_phase(), input in any_input()) {
        let (_, actions) = step(phase, input);
        prop_assert!(!actions.contains(&GoLive) || input == Built || matches!(phase, Phase::Ready(_)));
    }

    #[test]
    fn listeners_are_closed_only_during_a_shutdown(phase in any_phase(), input in any_input()) {
        let (next, actions) = step(phase, input);
        prop_assert!(!actions.contains(&Instance(CloseListeners)) || is_leaving(next));
    }
}

#[test]
fn an_upgrade_goes_through_its_steps() {
    let (phase, actions) = step(Serving, Usr2);
    assert_eq!(
        (phase, actions),
        (Upgrading(Nothing), vec![Arm(Timeout::Ready), Spawn])
    );
    let (phase, actions) = step(phase, SuccessorReady);
    assert_eq!(
        (phase, actions),
        (
            Swapping(Graceful),
            vec![Send(MessageKind::Live), Arm(Timeout::Swap)]
        )
    );
    let (phase, _) = step(phase, SuccessorAccepts);
    assert_eq!(phase, HandingOver(Graceful));
    let (phase, actions) = step(phase, TimerExpired);
    assert_eq!(
        (phase, actions),
        (
            Confirming(Graceful),
            vec![Send(MessageKind::Probe), Arm(Timeout::Answer)]
        )
    );
    assert_eq!(step(phase, SuccessorAlive).0, Draining(Graceful));
}

#[test]
fn after_the_death_of_the_new_process_the_old_one_serves_again_unless_it_was_stopped() {
    let (phase, actions) = step(HandingOver(Graceful), SuccessorGone);
    assert_eq!(
        (phase, actions),
        (
            Serving,
            vec![
                Disarm,
                KillSuccessor,
                Instance(TakeBack),
                Instance(Accept),
                Instance(TakePidFile)
            ]
        )
    );
    assert_eq!(
        step(HandingOver(Fast), SuccessorGone).0,
        KeepaliveGrace(Fast)
    );
    // the same happens when the new process stops answering
    assert_eq!(
        step(Confirming(Graceful), TimerExpired),
        step(HandingOver(Graceful), SuccessorGone)
    );
}

#[test]
fn a_new_process_that_is_stopped_does_not_count_as_failed() {
    assert_eq!(
        step(HandingOver(Graceful), SuccessorStops).0,
        KeepaliveGrace(Graceful)
    );
    let (_, actions) = step(Proving(Nothing), Term);
    assert_eq!(actions.first(), Some(&Send(MessageKind::Stopping)));
}

#[test]
fn a_new_process_serves_when_the_old_one_dies() {
    assert_eq!(
        step(Succeeding(Nothing), PredecessorGone).0,
        Starting(Nothing)
    );
    assert_eq!(
        step(Phase::Ready(Nothing), PredecessorGone),
        (Serving, go_live())
    );
    assert_eq!(
        step(Proving(Nothing), PredecessorGone),
        (Serving, vec![Instance(CloseUnused)])
    );
}

proptest! {
    #[test]
    fn a_cancelled_process_does_not_go_live(phase in any_phase()) {
        let (next, actions) = step(phase, CancelReceived);
        prop_assert!(!actions.contains(&GoLive) && !actions.contains(&Instance(Accept)));
        if matches!(phase, Succeeding(_) | Phase::Ready(_)) {
            prop_assert_eq!(next, Gone);
        }
    }
}

#[test]
fn a_manual_upgrade_is_committed_by_quit_to_the_old_process() {
    let (phase, actions) = step(Swapping(Graceful), SuccessorShares);
    assert_eq!(
        (phase, actions),
        (Phase::Sharing, vec![Disarm, Instance(AnnounceSharing)])
    );
    assert_eq!(step(phase, Winch).0, Standby);
    assert_eq!(
        step(Standby, Hup),
        (
            Phase::Sharing,
            vec![Instance(KeepConnections), Instance(Accept)]
        )
    );
    for phase in [Phase::Sharing, Standby] {
        let (next, actions) = step(phase, Quit);
        // the record of the active process comes first, because the new process may be replaced at once
        let position = |wanted| actions.iter().position(|action| *action == wanted);
        assert!(
            next == Draining(Graceful)
                && position(Instance(Release)) < position(Send(MessageKind::Confirmed)),
            "{actions:?}"
        );
    }
}

#[test]
fn a_manual_upgrade_is_rolled_back_by_quit_to_the_new_process() {
    let (phase, actions) = step(AwaitingCommit(Nothing), Quit);
    assert_eq!(
        (phase, actions.first()),
        (GivingBack(Graceful), Some(&Send(MessageKind::Stopping)))
    );
    assert_eq!(step(Phase::Sharing, SuccessorStops).0, Serving);
    let (phase, actions) = step(Standby, SuccessorStops);
    assert!(
        phase == Serving && actions.contains(&Instance(Accept)),
        "{phase:?} {actions:?}"
    );
}

proptest! {
    #[test]
    fn no_timeout_ends_a_manual_upgrade(times in 0..10) {
        for phase in [Phase::Sharing, Standby, AwaitingCommit(Nothing)] {
            prop_assert_eq!((0..times).fold(phase, |phase, _| step(phase, TimerExpired).0), phase);
        }
    }
}

#[test]
fn after_a_rollback_the_new_process_returns_everything() {
    for phase in [
        HandingOver(Graceful),
        Confirming(Graceful),
        Phase::Sharing,
        Standby,
    ] {
        let (next, actions) = step(phase, Rollback);
        assert_eq!(
            (next, actions.first()),
            (Serving, Some(&Send(MessageKind::Recall)))
        );
        // a new process that does not exit in time is killed
        assert!(actions.contains(&Arm(Timeout::Return)));
        assert_eq!(
            step(next, TimerExpired).1,
            [KillSuccessor, Instance(Recover)]
        );
    }
    for phase in [Proving(Nothing), AwaitingCommit(Nothing)] {
        assert_eq!(step(phase, RecallReceived).0, GivingBack(Graceful));
    }
}
