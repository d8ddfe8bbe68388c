//! SIGKILL and SIGSTOP at each step of the handover protocol. The fixture pauses the process at the step.

use std::fs;

use slackwater_tests::idle::{History, IdleConnections};
use slackwater_tests::launch::Launch;
use slackwater_tests::proc::Proc;
use slackwater_tests::process::Signal;
use slackwater_tests::process_chain::{signal_to, ProcessChain};
use slackwater_tests::tally::Failure;
use slackwater_tests::wait::until;

use super::kills::{survivor, Markers};
use super::LONG;

/// The steps in their order, each as a part of the line that the old or the new process logs at it.
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

/// The step after which no deadline runs for the new process, because it has answered every message.
const ANSWERED: &str = "sent Alive";

/// The step from which on the old process exits even if the new one dies.
const CONFIRMING: &str = "upgrade: confirmed";

/// Timeouts that are short enough to wait for, and long enough to send a signal before they end.
const SETTINGS: &str =
    "[upgrade]\nrollback_window = \"500ms\"\nready_timeout = \"10s\"\n[log]\nlevel = \"debug\"\n";

/// A program whose upgrades pause at a step.
struct PausedUpgrades {
    chain: ProcessChain,
    markers: Markers,
    /// Connections on which nothing has been sent.
    idle: IdleConnections,
    /// True if the process that receives the signal may hold the silent connections, so that some may be lost.
    may_lose: bool,
}

impl PausedUpgrades {
    fn serve() -> Self {
        let chain = ProcessChain::serve(
            &Launch::fixture()
                .settings(SETTINGS)
                .env("FIXTURE_HOLDS", "1"),
        );
        let markers = Markers::start(&chain.addr(), 3);
        let idle = IdleConnections::open(&chain.addr(), 30, History::NoRequest);
        PausedUpgrades {
            chain,
            markers,
            idle,
            may_lose: false,
        }
    }

    /// Starts an upgrade and waits until it pauses at `step`. Returns the pids of the old and the new process.
    fn pause_at(&self, step: &str) -> (u32, u32) {
        self.chain.dir().write("hold", step);
        let (old, new) = (self.chain.newest(), self.chain.begin_upgrade());
        let held = self.chain.dir().path().join("held");
        until(LONG, &format!("an upgrade pauses at {step:?}"), || {
            held.exists().then_some(())
        });
        (old, new)
    }

    /// Lets the paused process continue.
    fn release(&self) {
        fs::remove_file(self.chain.dir().path().join("held")).unwrap();
    }

    /// Waits until only `pid` is left and serves, and checks that it answers on the silent connections.
    fn assert_serves_alone(&mut self, pid: u32, step: &str) {
        assert_eq!(survivor(&self.chain, step), pid, "{step}");
        self.chain.set_newest(pid);
        let answered = self.markers.answered();
        until(LONG, "requests are answered", || {
            (self.markers.answered() > answered + 10).then_some(())
        });
        let tally = self.idle.fetch_all_from(pid);
        assert_eq!(
            tally.count(Failure::TimedOut),
            0,
            "{step}: every client is answered or closed: {tally}"
        );
        if !self.may_lose {
            tally.assert_flawless();
        }
        self.idle = IdleConnections::open(&self.chain.addr(), 30, History::NoRequest);
    }

    fn end(self) {
        self.markers.assert_handled_once(&self.chain);
    }
}

/// Kills a process, and waits until all of its threads are dead. It may still be a zombie.
fn kill(pid: u32) {
    signal_to(pid, Signal::KILL);
    let is_dead = || !Proc(pid).is_alive() && Proc(pid).threads() <= 1;
    until(LONG, "the process is dead", || is_dead().then_some(()));
}

/// Returns the steps at which the old process still takes over if the new one dies.
fn before_the_confirmation() -> impl Iterator<Item = &'static str> {
    STEPS.into_iter().filter(|step| *step != CONFIRMING)
}

#[test]
fn the_old_process_serves_when_the_new_one_is_killed_at_any_step() {
    let mut upgrades = PausedUpgrades::serve();
    for step in before_the_confirmation() {
        let (old, new) = upgrades.pause_at(step);
        kill(new);
        upgrades.release();
        upgrades.chain.wait_gone(new, LONG);
        upgrades.assert_serves_alone(old, step);
    }
    upgrades.end();
}

#[test]
fn the_new_process_serves_when_the_old_one_is_killed_at_any_step() {
    let mut upgrades = PausedUpgrades::serve();
    // connections that the old process has not handed over end with it
    upgrades.may_lose = true;
    for step in STEPS {
        let (old, new) = upgrades.pause_at(step);
        kill(old);
        upgrades.release();
        upgrades.chain.wait_gone(old, LONG);
        upgrades.assert_serves_alone(new, step);
    }
    upgrades.end();
}

#[test]
fn the_old_process_serves_when_the_new_one_is_paused_with_sigstop_at_any_step() {
    // the new process gets no SIGCONT, so a deadline ends it. The threads wait for the deadlines concurrently
    let steps: Vec<&str> = before_the_confirmation()
        .filter(|step| *step != ANSWERED)
        .collect();
    std::thread::scope(|scope| {
        for steps in steps.chunks(3) {
            scope.spawn(move || {
                let mut upgrades = PausedUpgrades::serve();
                for step in steps {
                    let (old, new) = upgrades.pause_at(step);
                    signal_to(new, Signal::STOP);
                    upgrades.release();
                    upgrades.assert_serves_alone(old, step);
                }
                upgrades.end();
            });
        }
    });
}

#[test]
fn the_new_process_serves_when_the_old_one_is_paused_with_sigstop_at_any_step() {
    let mut upgrades = PausedUpgrades::serve();
    for step in STEPS {
        let (old, new) = upgrades.pause_at(step);
        signal_to(old, Signal::STOP);
        upgrades.release();
        std::thread::sleep(std::time::Duration::from_millis(300));
        signal_to(old, Signal::CONT);
        // the old process continues at the same step
        upgrades.assert_serves_alone(new, step);
    }
    upgrades.end();
}
