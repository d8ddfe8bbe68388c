//! Manual upgrades with the signals of nginx: both processes accept until QUIT to one of them decides.

use std::collections::BTreeSet;
use std::time::Duration;

use slackwater_tests::idle::{History, IdleConnections, StateCounts};
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern, RunningLoad};
use slackwater_tests::log_texts;
use slackwater_tests::process::Signal;
use slackwater_tests::process_chain::{signal_to, ProcessChain};
use slackwater_tests::tally::Failure;
use slackwater_tests::wait::until;

use super::LONG;
use crate::help::{pid_of_server, pid_on};

const MANUAL: &str = "pid_file = \"app.pid\"\n[upgrade]\nmode = \"manual\"\n\
                      [shutdown]\nkeepalive_grace = \"100ms\"\ngrace = \"5s\"\n";

/// A manual upgrade while both processes accept.
struct BothAccept {
    chain: ProcessChain,
    old: u32,
    new: u32,
    mark: usize,
}

impl BothAccept {
    /// Starts an upgrade, and waits until both processes accept.
    fn begin(chain: ProcessChain) -> Self {
        let (old, mark) = (chain.newest(), chain.mark());
        let new = chain.begin_upgrade();
        chain.wait_for_log(mark, log_texts::BOTH_ACCEPT);
        BothAccept {
            chain,
            old,
            new,
            mark,
        }
    }

    fn wait_for_log(&self, text: &str) {
        self.chain.wait_for_log(self.mark, text);
    }

    /// Waits until exactly these processes answer new connections.
    fn answers(&self, by: &[u32]) {
        let expected: BTreeSet<u32> = by.iter().copied().collect();
        until(LONG, "exactly the expected processes answer", || {
            let asked: BTreeSet<u32> = (0..60).map(|_| pid_of_server(&self.chain)).collect();
            (asked == expected).then_some(())
        });
    }

    /// Waits until the pid file contains `current`, and the pid file of the old process `old`.
    fn pid_files(&self, current: u32, old: Option<u32>) {
        let named = |name| self.chain.dir().read(name).trim().parse::<u32>().ok();
        let both = || (named("app.pid"), named("app.pid.oldbin"));
        until(LONG, "the pid files are right", || {
            (both() == (Some(current), old)).then_some(())
        });
    }

    /// Waits until the old process has exited and the new one serves alone.
    fn committed(mut self) -> ProcessChain {
        self.chain.set_newest(self.new);
        self.chain.wait_gone(self.old, LONG);
        self.pid_files(self.new, None);
        self.answers(&[self.new]);
        self.chain
    }

    /// Waits until the new process has exited and the old one serves alone.
    fn rolled_back(mut self) -> ProcessChain {
        self.chain.wait_gone(self.new, LONG);
        self.pid_files(self.old, None);
        self.answers(&[self.old]);
        assert_eq!(self.chain.zombies(), Vec::<u32>::new());
        self.chain
    }
}

fn serve() -> ProcessChain {
    ProcessChain::serve(&Launch::playground().settings(MANUAL))
}

fn load(chain: &ProcessChain) -> RunningLoad {
    let load = Load::on(&chain.addr())
        .clients(8, Pattern::KeepAlive)
        .clients(3, Pattern::NewConnection)
        .clients(8, Pattern::Thinking(Duration::from_millis(20)))
        .start();
    load.wait_for(100, LONG);
    load
}

fn is_flawless(load: RunningLoad) {
    load.wait_for(200, LONG);
    let tally = load.stop();
    tally.assert_flawless();
    assert_eq!(tally.announced_closes(), 0, "{tally}");
}

#[test]
fn both_processes_accept_and_the_pid_files_have_the_names_of_nginx() {
    let both = BothAccept::begin(serve());
    both.answers(&[both.old, both.new]);
    both.pid_files(both.new, Some(both.old));
    for pid in [both.old, both.new] {
        let mark = both.chain.mark();
        signal_to(pid, Signal::USR2);
        both.chain.wait_for_log(mark, log_texts::USR2_REFUSED);
    }
    let mark = both.chain.mark();
    signal_to(both.old, Signal::HUP);
    both.chain.wait_for_log(mark, "HUP refused");
    both.answers(&[both.old, both.new]);
}

#[test]
fn quit_to_the_old_process_commits_without_a_failed_request() {
    let chain = serve();
    let mut idle = IdleConnections::open(&chain.addr(), 100, History::OneRequest);
    let load = load(&chain);
    let both = BothAccept::begin(chain);
    let mut new_ones = IdleConnections::open(&both.chain.addr(), 50, History::OneRequest);
    signal_to(both.old, Signal::QUIT);
    both.wait_for_log(log_texts::CONFIRMED);
    let chain = both.committed();
    is_flawless(load);
    for idle in [&mut idle, &mut new_ones] {
        assert_eq!(idle.states().closed, 0);
        idle.fetch_all_from(chain.newest()).assert_flawless();
    }
    // the new process can start the next upgrade
    let old = chain.newest();
    chain.signal(Signal::HUP);
    chain.wait_for_log(0, log_texts::RELOADED);
    let both = BothAccept::begin(chain);
    assert_eq!(both.old, old);
    signal_to(both.old, Signal::QUIT);
    both.committed();
}

#[test]
fn term_to_the_old_process_commits_as_well() {
    let both = BothAccept::begin(serve());
    let mut conn = both.chain.conn();
    let of = pid_on(&mut conn);
    signal_to(both.old, Signal::TERM);
    let new = both.new;
    let _lineage = both.committed();
    assert_eq!(pid_on(&mut conn), new, "the connection was at process {of}");
}

#[test]
fn winch_to_the_old_process_pauses_it_and_hup_resumes_it() {
    let chain = serve();
    let mut idle = IdleConnections::open(&chain.addr(), 100, History::OneRequest);
    let load = load(&chain);
    let both = BothAccept::begin(chain);
    for _ in 0..3 {
        signal_to(both.old, Signal::WINCH);
        both.answers(&[both.new]);
        idle.wait_served_by(both.new);
        signal_to(both.old, Signal::HUP);
        both.answers(&[both.old, both.new]);
    }
    both.pid_files(both.new, Some(both.old));
    signal_to(both.old, Signal::WINCH);
    both.answers(&[both.new]);
    signal_to(both.old, Signal::QUIT);
    let chain = both.committed();
    is_flawless(load);
    idle.fetch_all_from(chain.newest()).assert_flawless();
}

#[test]
fn hup_to_the_old_and_quit_to_the_new_process_roll_back_without_a_failed_request() {
    let chain = serve();
    let mut idle = IdleConnections::open(&chain.addr(), 100, History::OneRequest);
    let mut ahead = IdleConnections::open(&chain.addr(), 50, History::NoRequest);
    let load = load(&chain);
    let both = BothAccept::begin(chain);
    signal_to(both.old, Signal::WINCH);
    both.answers(&[both.new]);
    idle.wait_served_by(both.new);
    signal_to(both.old, Signal::HUP);
    both.answers(&[both.old, both.new]);
    signal_to(both.new, Signal::QUIT);
    both.wait_for_log(log_texts::RETURNING_CONNECTIONS);
    let mut chain = both.rolled_back();
    is_flawless(load);
    for idle in [&mut idle, &mut ahead] {
        assert_eq!(idle.states().closed, 0);
        idle.fetch_all_from(chain.newest()).assert_flawless();
    }
    chain.settings("[upgrade]\nrollback_window = \"300ms\"\n");
    chain.reload();
    chain.upgrade();
}

#[test]
fn a_paused_old_process_serves_again_when_the_new_one_receives_quit_term_or_int() {
    for signal in [Signal::QUIT, Signal::TERM, Signal::INT] {
        let chain = serve();
        let mut idle = IdleConnections::open(&chain.addr(), 60, History::OneRequest);
        let mut in_flight = chain.conn();
        let both = BothAccept::begin(chain);
        signal_to(both.old, Signal::WINCH);
        both.answers(&[both.new]);
        let mut at_new = both.chain.conn();
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
                "the connection returns to the old process after its response",
                is_back,
            );
        }
        let _lineage = both.rolled_back();
        idle.fetch_all_from(old).assert_flawless();
        assert_eq!(
            idle.states(),
            StateCounts {
                open: 60,
                ..StateCounts::default()
            }
        );
    }
}

#[test]
fn the_old_process_refuses_usr2_and_winch_until_the_new_one_has_returned_its_connections() {
    let both = BothAccept::begin(serve());
    signal_to(both.old, Signal::WINCH);
    both.answers(&[both.new]);
    let mut at_new = both.chain.conn();
    at_new.get("/sleep/5000").unwrap();
    both.answers(&[both.new]);
    signal_to(both.new, Signal::QUIT);
    both.wait_for_log(log_texts::RETURNING_CONNECTIONS);
    for signal in [Signal::USR2, Signal::WINCH] {
        let mark = both.chain.mark();
        signal_to(both.old, signal);
        both.chain
            .wait_for_log(mark, "still returns its connections");
    }
    assert_eq!(at_new.answer().unwrap().text(), "slept");
    let mut chain = both.rolled_back();
    chain.settings("[upgrade]\nrollback_window = \"300ms\"\n");
    chain.reload();
    chain.upgrade();
}

#[test]
fn the_old_process_serves_when_the_new_one_dies_while_both_accept() {
    for paused in [false, true] {
        let chain = serve();
        let mut idle = IdleConnections::open(&chain.addr(), 60, History::OneRequest);
        let both = BothAccept::begin(chain);
        if paused {
            signal_to(both.old, Signal::WINCH);
            both.answers(&[both.new]);
        }
        signal_to(both.new, Signal::KILL);
        both.wait_for_log(log_texts::UPGRADE_FAILED);
        let old = both.old;
        let _lineage = both.rolled_back();
        idle.fetch_all_from(old).assert_flawless();
    }
}

#[test]
fn a_new_process_that_dies_while_it_returns_connections_loses_only_those_it_had_read_from() {
    for _ in 0..5 {
        let chain = serve();
        let mut idle = IdleConnections::open(&chain.addr(), 300, History::OneRequest);
        let both = BothAccept::begin(chain);
        signal_to(both.old, Signal::WINCH);
        both.answers(&[both.new]);
        signal_to(both.new, Signal::QUIT);
        signal_to(both.new, Signal::KILL);
        let old = both.old;
        let _lineage = both.rolled_back();
        let tally = idle.fetch_all_from(old);
        // a connection that it was just handling is closed, so no client waits for a response in vain
        assert_eq!(
            tally.count(Failure::TimedOut) + tally.count(Failure::Refused),
            0,
            "{tally}"
        );
        assert_eq!(tally.answered() + tally.failed(), 300, "{tally}");
    }
}

#[test]
fn the_new_process_serves_alone_when_the_old_one_dies_while_both_accept() {
    for paused in [false, true] {
        let chain = serve();
        let mut both = BothAccept::begin(chain);
        if paused {
            signal_to(both.old, Signal::WINCH);
            both.answers(&[both.new]);
        }
        signal_to(both.old, Signal::KILL);
        both.chain.wait_gone(both.old, LONG);
        both.answers(&[both.new]);
        both.chain.set_newest(both.new);
        both.wait_for_log(log_texts::OLD_GONE);
        both.pid_files(both.new, None);
        // the new process can be upgraded
        let both = BothAccept::begin(both.chain);
        signal_to(both.old, Signal::QUIT);
        both.committed();
    }
}

#[test]
fn a_manual_upgrade_without_the_slackwater_handshake_is_refused() {
    let settings = "[upgrade]\nmode = \"manual\"\nhandshake = \"none\"\n";
    let chain = ProcessChain::serve(&Launch::playground().settings(settings));
    let mark = chain.mark();
    chain.signal(Signal::USR2);
    let line = chain.wait_for_log(mark, log_texts::UPGRADE_REFUSED);
    assert!(
        line.contains("upgrade.mode") && line.contains("upgrade.handshake"),
        "{line}"
    );
    assert_eq!(pid_of_server(&chain), chain.newest());
    assert_eq!(chain.alive(), [chain.newest()]);
}
