//! Upgrades by hand, with nginx' signals: both accept until QUIT to one of the two decides.

use std::collections::BTreeSet;
use std::time::Duration;

use slackwater_tests::idle::{Before, Fates, Idle};
use slackwater_tests::launch::Launch;
use slackwater_tests::lineage::{signal_to, Lineage};
use slackwater_tests::load::{Load, Pattern, Running};
use slackwater_tests::process::Signal;
use slackwater_tests::said;
use slackwater_tests::tally::Failure;
use slackwater_tests::wait::until;

use super::LONG;
use crate::help::{pid_of_server, pid_on};

const MANUAL: &str = "pid_file = \"app.pid\"\n[upgrade]\nmode = \"manual\"\n\
                      [shutdown]\nkeepalive_grace = \"100ms\"\ngrace = \"5s\"\n";

/// An upgrade by hand in the state in which both accept.
struct Both {
    lineage: Lineage,
    old: u32,
    new: u32,
    mark: usize,
}

impl Both {
    fn accept(lineage: Lineage) -> Self {
        let (old, mark) = (lineage.newest(), lineage.mark());
        let new = lineage.begin();
        lineage.wait_for_log(mark, said::BOTH_ACCEPT);
        Both {
            lineage,
            old,
            new,
            mark,
        }
    }

    fn says(&self, words: &str) {
        self.lineage.wait_for_log(self.mark, words);
    }

    /// Waits until new connections are answered by these processes, and by no others.
    fn answers(&self, by: &[u32]) {
        let expected: BTreeSet<u32> = by.iter().copied().collect();
        until(LONG, "those answer who are to", || {
            let asked: BTreeSet<u32> = (0..60).map(|_| pid_of_server(&self.lineage)).collect();
            (asked == expected).then_some(())
        });
    }

    /// Waits until the pid file and that of the old process name these.
    fn pid_files(&self, current: u32, old: Option<u32>) {
        let named = |name| self.lineage.dir().read(name).trim().parse::<u32>().ok();
        let both = || (named("app.pid"), named("app.pid.oldbin"));
        until(LONG, "the pid files are right", || {
            (both() == (Some(current), old)).then_some(())
        });
    }

    /// The old one is gone, and the new one goes on as any other would.
    fn committed(mut self) -> Lineage {
        self.lineage.is_now(self.new);
        self.lineage.gone(self.old, LONG);
        self.pid_files(self.new, None);
        self.answers(&[self.new]);
        self.lineage
    }

    /// The new one is gone, and the old one goes on as if nothing had been.
    fn taken_back(mut self) -> Lineage {
        self.lineage.gone(self.new, LONG);
        self.pid_files(self.old, None);
        self.answers(&[self.old]);
        assert_eq!(self.lineage.zombies(), Vec::<u32>::new());
        self.lineage
    }
}

fn serve() -> Lineage {
    Lineage::serve(&Launch::playground().settings(MANUAL))
}

fn load(lineage: &Lineage) -> Running {
    let load = Load::on(&lineage.addr())
        .clients(8, Pattern::KeepAlive)
        .clients(3, Pattern::NewConnection)
        .clients(8, Pattern::Thinking(Duration::from_millis(20)))
        .start();
    load.wait_for(100, LONG);
    load
}

fn is_flawless(load: Running) {
    load.wait_for(200, LONG);
    let tally = load.stop();
    tally.assert_flawless();
    assert_eq!(tally.polite_closes(), 0, "{tally}");
}

#[test]
fn both_accept_and_the_pid_files_are_those_of_nginx() {
    let both = Both::accept(serve());
    both.answers(&[both.old, both.new]);
    both.pid_files(both.new, Some(both.old));
    for pid in [both.old, both.new] {
        let mark = both.lineage.mark();
        signal_to(pid, Signal::USR2);
        both.lineage.wait_for_log(mark, said::USR2_REFUSED);
    }
    let mark = both.lineage.mark();
    signal_to(both.old, Signal::HUP);
    both.lineage.wait_for_log(mark, "HUP refused");
    both.answers(&[both.old, both.new]);
}

#[test]
fn quit_to_the_old_process_commits_and_no_client_notices() {
    let lineage = serve();
    let mut idle = Idle::open(&lineage.addr(), 100, Before::OneRequest);
    let load = load(&lineage);
    let both = Both::accept(lineage);
    let mut new_ones = Idle::open(&both.lineage.addr(), 50, Before::OneRequest);
    signal_to(both.old, Signal::QUIT);
    both.says(said::CONFIRMED);
    let lineage = both.committed();
    is_flawless(load);
    for idle in [&mut idle, &mut new_ones] {
        assert_eq!(idle.fates().closed, 0);
        idle.ask_all_of(lineage.newest()).assert_flawless();
    }
    // and the next one, begun by the process that was new
    let old = lineage.newest();
    lineage.signal(Signal::HUP);
    lineage.wait_for_log(0, said::RELOADED);
    let both = Both::accept(lineage);
    assert_eq!(both.old, old);
    signal_to(both.old, Signal::QUIT);
    both.committed();
}

#[test]
fn term_to_the_old_process_commits_as_well() {
    let both = Both::accept(serve());
    let mut conn = both.lineage.conn();
    let of = pid_on(&mut conn);
    signal_to(both.old, Signal::TERM);
    let new = both.new;
    let _lineage = both.committed();
    assert_eq!(pid_on(&mut conn), new, "it was at {of}");
}

#[test]
fn winch_to_the_old_process_pauses_it_and_hup_resumes_it() {
    let lineage = serve();
    let mut idle = Idle::open(&lineage.addr(), 100, Before::OneRequest);
    let load = load(&lineage);
    let both = Both::accept(lineage);
    for _ in 0..3 {
        signal_to(both.old, Signal::WINCH);
        both.answers(&[both.new]);
        idle.arrive_at(both.new);
        signal_to(both.old, Signal::HUP);
        both.answers(&[both.old, both.new]);
    }
    both.pid_files(both.new, Some(both.old));
    signal_to(both.old, Signal::WINCH);
    both.answers(&[both.new]);
    signal_to(both.old, Signal::QUIT);
    let lineage = both.committed();
    is_flawless(load);
    idle.ask_all_of(lineage.newest()).assert_flawless();
}

#[test]
fn hup_to_the_old_and_quit_to_the_new_takes_it_back_and_no_client_notices() {
    let lineage = serve();
    let mut idle = Idle::open(&lineage.addr(), 100, Before::OneRequest);
    let mut ahead = Idle::open(&lineage.addr(), 50, Before::Nothing);
    let load = load(&lineage);
    let both = Both::accept(lineage);
    signal_to(both.old, Signal::WINCH);
    both.answers(&[both.new]);
    idle.arrive_at(both.new);
    signal_to(both.old, Signal::HUP);
    both.answers(&[both.old, both.new]);
    signal_to(both.new, Signal::QUIT);
    both.says(said::TAKEN_BACK);
    let mut lineage = both.taken_back();
    is_flawless(load);
    for idle in [&mut idle, &mut ahead] {
        assert_eq!(idle.fates().closed, 0);
        idle.ask_all_of(lineage.newest()).assert_flawless();
    }
    lineage.settings("[upgrade]\nrollback_window = \"300ms\"\n");
    lineage.reload();
    lineage.upgrade();
}

#[test]
fn a_new_process_that_is_told_to_stop_while_the_old_one_rests_has_it_serve_again() {
    for signal in [Signal::QUIT, Signal::TERM, Signal::INT] {
        let lineage = serve();
        let mut idle = Idle::open(&lineage.addr(), 60, Before::OneRequest);
        let mut in_flight = lineage.conn();
        let both = Both::accept(lineage);
        signal_to(both.old, Signal::WINCH);
        both.answers(&[both.new]);
        let mut at_new = both.lineage.conn();
        at_new.get("/sleep/1000").unwrap();
        in_flight.get("/sleep/700").unwrap();
        both.answers(&[both.new]);
        signal_to(both.new, signal);
        let old = both.old;
        for conn in [&mut at_new, &mut in_flight] {
            let answer = conn.answer().unwrap();
            assert!(answer.text() == "slept" && !answer.closes(), "{answer:?}");
            let is_back = || (pid_on(conn) == old).then_some(());
            until(
                LONG,
                "what was in flight at the new one goes back as well",
                is_back,
            );
        }
        let _lineage = both.taken_back();
        idle.ask_all_of(old).assert_flawless();
        assert_eq!(
            idle.fates(),
            Fates {
                open: 60,
                ..Fates::default()
            }
        );
    }
}

#[test]
fn nobody_takes_the_place_of_a_process_that_still_gives_back() {
    let both = Both::accept(serve());
    signal_to(both.old, Signal::WINCH);
    both.answers(&[both.new]);
    let mut at_new = both.lineage.conn();
    at_new.get("/sleep/5000").unwrap();
    both.answers(&[both.new]);
    signal_to(both.new, Signal::QUIT);
    both.says(said::TAKEN_BACK);
    for signal in [Signal::USR2, Signal::WINCH] {
        let mark = both.lineage.mark();
        signal_to(both.old, signal);
        both.lineage
            .wait_for_log(mark, "still returns its connections");
    }
    assert_eq!(at_new.answer().unwrap().text(), "slept");
    let mut lineage = both.taken_back();
    lineage.settings("[upgrade]\nrollback_window = \"300ms\"\n");
    lineage.reload();
    lineage.upgrade();
}

#[test]
fn a_new_process_that_dies_while_both_accept_taken_back() {
    for rests in [false, true] {
        let lineage = serve();
        let mut idle = Idle::open(&lineage.addr(), 60, Before::OneRequest);
        let both = Both::accept(lineage);
        if rests {
            signal_to(both.old, Signal::WINCH);
            both.answers(&[both.new]);
        }
        signal_to(both.new, Signal::KILL);
        both.says(said::UPGRADE_FAILED);
        let old = both.old;
        let _lineage = both.taken_back();
        idle.ask_all_of(old).assert_flawless();
    }
}

#[test]
fn a_new_process_that_dies_while_it_gives_back_costs_only_what_it_had_read() {
    for _ in 0..5 {
        let lineage = serve();
        let mut idle = Idle::open(&lineage.addr(), 300, Before::OneRequest);
        let both = Both::accept(lineage);
        signal_to(both.old, Signal::WINCH);
        both.answers(&[both.new]);
        signal_to(both.new, Signal::QUIT);
        signal_to(both.new, Signal::KILL);
        let old = both.old;
        let _lineage = both.taken_back();
        let tally = idle.ask_all_of(old);
        // what it had in its hands at that very moment is closed then: nobody is left hanging
        assert_eq!(
            tally.count(Failure::TimedOut) + tally.count(Failure::Refused),
            0,
            "{tally}"
        );
        assert_eq!(tally.answered() + tally.failed(), 300, "{tally}");
    }
}

#[test]
fn an_old_process_that_dies_while_both_accept_is_replaced_by_the_new_one() {
    for rests in [false, true] {
        let lineage = serve();
        let mut both = Both::accept(lineage);
        if rests {
            signal_to(both.old, Signal::WINCH);
            both.answers(&[both.new]);
        }
        signal_to(both.old, Signal::KILL);
        both.lineage.gone(both.old, LONG);
        both.answers(&[both.new]);
        both.lineage.is_now(both.new);
        both.says(said::OLD_GONE);
        both.pid_files(both.new, None);
        // and it can be upgraded itself
        let both = Both::accept(both.lineage);
        signal_to(both.old, Signal::QUIT);
        both.committed();
    }
}

#[test]
fn by_hand_goes_with_programs_on_slackwater_only() {
    let settings = "[upgrade]\nmode = \"manual\"\nhandshake = \"none\"\n";
    let lineage = Lineage::serve(&Launch::playground().settings(settings));
    let mark = lineage.mark();
    lineage.signal(Signal::USR2);
    let line = lineage.wait_for_log(mark, said::UPGRADE_REFUSED);
    assert!(
        line.contains("upgrade.mode") && line.contains("upgrade.handshake"),
        "{line}"
    );
    assert_eq!(pid_of_server(&lineage), lineage.newest());
    assert_eq!(lineage.alive(), [lineage.newest()]);
}
