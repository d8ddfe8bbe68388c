//! SIGKILL and SIGSTOP at each step of the protocol in turn: the fixture holds it there while the test strikes.

use std::fs;

use slackwater_tests::idle::{Before, Idle};
use slackwater_tests::launch::Launch;
use slackwater_tests::lineage::{signal_to, Lineage};
use slackwater_tests::proc::Proc;
use slackwater_tests::process::Signal;
use slackwater_tests::tally::Failure;
use slackwater_tests::wait::until;

use super::kills::{survivor, Markers};
use super::LONG;

/// Each step, by what is logged at it, in the order in which they come; those of the old process and of the new.
const STEPS: [&str; 14] = [
    "started the new process",
    "starts, pid",
    "ready; waiting",
    "the new process (pid",
    "and goes live",
    "the old process sent Live",
    "listening on",
    "live; the old process hands over",
    "handing over",
    "the old process sent Connections",
    "sent Ack",
    "the old process sent Probe",
    ANSWERED,
    CONFIRMING,
];

/// The new process has answered all that it was asked: there is no deadline left for it.
const ANSWERED: &str = "sent Alive";

/// From here on the old process leaves, whatever becomes of the new one.
const CONFIRMING: &str = "upgrade: confirmed";

/// Short enough to be waited out, long enough to strike in.
const SETTINGS: &str =
    "[upgrade]\nrollback_window = \"500ms\"\nready_timeout = \"10s\"\n[log]\nlevel = \"debug\"\n";

struct Held {
    lineage: Lineage,
    markers: Markers,
    /// Silent all the while.
    idle: Idle,
    /// Whom the test strikes has them, or may have them, with a byte read.
    spoilt: bool,
}

impl Held {
    fn serve() -> Self {
        let lineage = Lineage::serve(
            &Launch::fixture()
                .settings(SETTINGS)
                .env("FIXTURE_HOLDS", "1"),
        );
        let markers = Markers::start(&lineage.addr(), 3);
        let idle = Idle::open(&lineage.addr(), 30, Before::Nothing);
        Held {
            lineage,
            markers,
            idle,
            spoilt: false,
        }
    }

    /// Begins an upgrade and has it held at `step`. Gives the two pids, the old one's first.
    fn at(&self, step: &str) -> (u32, u32) {
        self.lineage.dir().write("hold", step);
        let (old, new) = (self.lineage.newest(), self.lineage.begin());
        let held = self.lineage.dir().path().join("held");
        until(LONG, &format!("an upgrade is held at {step:?}"), || {
            held.exists().then_some(())
        });
        (old, new)
    }

    fn release(&self) {
        fs::remove_file(self.lineage.dir().path().join("held")).unwrap();
    }

    /// `pid` alone is left, serves, and answers those that were silent.
    fn is_survived_by(&mut self, pid: u32, step: &str) {
        assert_eq!(survivor(&self.lineage, step), pid, "{step}");
        self.lineage.is_now(pid);
        let answered = self.markers.answered();
        until(LONG, "requests are answered", || {
            (self.markers.answered() > answered + 10).then_some(())
        });
        let tally = self.idle.ask_all_of(pid);
        assert_eq!(
            tally.count(Failure::TimedOut),
            0,
            "{step}: nobody is left hanging: {tally}"
        );
        if !self.spoilt {
            tally.assert_flawless();
        }
        self.idle = Idle::open(&self.lineage.addr(), 30, Before::Nothing);
    }

    fn end(self) {
        self.markers.assert_handled_once(&self.lineage);
    }
}

/// Kills it, and waits until it and the last of its threads are dead, if not reaped.
fn kill(pid: u32) {
    signal_to(pid, Signal::KILL);
    let is_dead = || !Proc(pid).is_alive() && Proc(pid).threads() <= 1;
    until(LONG, "it is dead", || is_dead().then_some(()));
}

/// The steps at which the old process still takes over again.
fn before_the_confirmation() -> impl Iterator<Item = &'static str> {
    STEPS.into_iter().filter(|step| *step != CONFIRMING)
}

#[test]
fn a_new_process_that_is_killed_at_a_step_is_survived_by_the_old_one() {
    let mut held = Held::serve();
    for step in before_the_confirmation() {
        let (old, new) = held.at(step);
        kill(new);
        held.release();
        held.lineage.gone(new, LONG);
        held.is_survived_by(old, step);
    }
    held.end();
}

#[test]
fn an_old_process_that_is_killed_at_a_step_is_survived_by_the_new_one() {
    let mut held = Held::serve();
    // what it had not given away yet ends with it
    held.spoilt = true;
    for step in STEPS {
        let (old, new) = held.at(step);
        kill(old);
        held.release();
        held.lineage.gone(old, LONG);
        held.is_survived_by(new, step);
    }
    held.end();
}

#[test]
fn a_new_process_that_is_stopped_at_a_step_is_given_up() {
    // nobody wakes it again: a deadline ends it. Those are waited for side by side
    let steps: Vec<&str> = before_the_confirmation()
        .filter(|step| *step != ANSWERED)
        .collect();
    std::thread::scope(|scope| {
        for steps in steps.chunks(3) {
            scope.spawn(move || {
                let mut held = Held::serve();
                for step in steps {
                    let (old, new) = held.at(step);
                    signal_to(new, Signal::STOP);
                    held.release();
                    held.is_survived_by(old, step);
                }
                held.end();
            });
        }
    });
}

#[test]
fn an_old_process_that_is_stopped_at_a_step_does_not_come_back_as_a_second_one() {
    let mut held = Held::serve();
    for step in STEPS {
        let (old, new) = held.at(step);
        signal_to(old, Signal::STOP);
        held.release();
        std::thread::sleep(std::time::Duration::from_millis(300));
        signal_to(old, Signal::CONT);
        // it goes on where it was
        held.is_survived_by(new, step);
    }
    held.end();
}
