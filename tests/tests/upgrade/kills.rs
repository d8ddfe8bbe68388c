//! SIGKILL and SIGSTOP at random moments of the handover protocol: one process serves, and no silent connection is lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::idle::{History, IdleConnections};
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::log_texts;
use slackwater_tests::process::Signal;
use slackwater_tests::process_chain::{signal_to, ProcessChain};
use slackwater_tests::tally::Failure;
use slackwater_tests::wait::{maybe, until};

use super::{LONG, WINDOW};
use crate::help::ms;

const ROUNDS: u32 = 20;
/// The longest delay of a signal, in microseconds. It covers the whole protocol in a debug build.
const WITHIN_MICROS: u64 = 60_000;

/// A generator of random delays, seeded by the clock. A failed round prints its delay.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Dice(u64::try_from(now.as_nanos() & 0xffff_ffff).unwrap_or(1) | 1)
    }

    fn moment(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(self.0 % WITHIN_MICROS)
    }
}

/// Waits until one process of the process chain is left and answers requests, and returns its pid.
pub(super) fn survivor(chain: &ProcessChain, about: &str) -> u32 {
    let alone = || {
        let alive = chain.alive();
        (alive.len() == 1).then(|| alive[0])
    };
    let left = maybe(LONG, alone);
    let left =
        left.unwrap_or_else(|| panic!("{about}: alive: {:?}; {}", chain.alive(), chain.log()));
    let serving = maybe(LONG, || {
        let answer = Conn::open(&chain.addr())
            .and_then(|mut conn| conn.fetch("/pid"))
            .ok()?;
        answer.text().parse().ok()
    });
    assert_eq!(serving, Some(left), "{about}; the output:\n{}", chain.log());
    left
}

#[test]
fn no_silent_connection_is_lost_when_the_new_process_is_killed_at_any_moment() {
    let mut chain = ProcessChain::serve(
        &Launch::playground().settings("[upgrade]\nrollback_window = \"10s\"\n"),
    );
    let old = chain.newest();
    let mut idle = IdleConnections::open(&chain.addr(), 50, History::OneRequest);
    let mut ahead = IdleConnections::open(&chain.addr(), 20, History::NoRequest);
    let mut dice = Dice::new();
    let load = Load::on(&chain.addr())
        .clients(3, Pattern::KeepAlive)
        .clients(1, Pattern::NewConnection)
        .clients(3, Pattern::Thinking(ms(5)))
        .start();
    for round in 0..ROUNDS {
        let moment = dice.moment();
        let new = chain.begin_upgrade();
        thread::sleep(moment);
        signal_to(new, Signal::KILL);
        let about = format!("round {round}, {moment:?} after the start");
        chain.wait_gone(new, LONG);
        assert_eq!(survivor(&chain, &about), old, "{about}");
        load.wait_for(20, LONG);
    }
    let tally = load.stop();
    assert_eq!(
        tally.count(Failure::Refused) + tally.count(Failure::TimedOut),
        0,
        "{tally}"
    );
    // each client fails at most once for each killed process
    assert!(tally.failed() <= u64::from(ROUNDS) * 7, "{tally}");
    idle.fetch_all_from(old).assert_flawless();
    ahead.fetch_all_from(old).assert_flawless();
    chain.settings(WINDOW);
    chain.reload();
    let new = chain.upgrade();
    idle.wait_served_by(new);
}

#[test]
fn the_new_process_serves_when_the_old_one_is_killed_at_any_moment() {
    let mut chain = ProcessChain::serve(
        &Launch::playground().settings("[upgrade]\nrollback_window = \"200ms\"\n"),
    );
    let mut dice = Dice::new();
    let load = Load::on(&chain.addr())
        .clients(2, Pattern::NewConnection)
        .start();
    for round in 0..ROUNDS {
        let moment = dice.moment();
        let new = chain.begin_upgrade();
        thread::sleep(moment);
        let old = chain.newest();
        signal_to(old, Signal::KILL);
        chain.wait_gone(old, LONG);
        let about = format!("round {round}, {moment:?} after the start");
        assert_eq!(survivor(&chain, &about), new, "{about}");
        chain.set_newest(new);
        load.wait_for(20, LONG);
    }
    let tally = load.stop();
    // the socket is never closed, so only connections that the old process had accepted are cut
    assert_eq!(
        tally.count(Failure::Refused) + tally.count(Failure::TimedOut),
        0,
        "{tally}"
    );
    assert!(tally.failed() <= u64::from(ROUNDS) * 2, "{tally}");
}

#[test]
fn connections_at_the_new_process_survive_a_kill_of_the_old_one_at_any_later_moment() {
    let mut chain = ProcessChain::serve(
        &Launch::playground().settings("[upgrade]\nrollback_window = \"10s\"\n"),
    );
    let mut idle = IdleConnections::open(&chain.addr(), 50, History::OneRequest);
    let mut dice = Dice::new();
    for round in 0..ROUNDS / 2 {
        let (mark, old) = (chain.mark(), chain.newest());
        let new = chain.begin_upgrade();
        chain.wait_for_log(mark, log_texts::HANDING_OVER);
        idle.wait_served_by(new);
        let moment = dice.moment();
        thread::sleep(moment);
        signal_to(old, Signal::KILL);
        chain.wait_gone(old, LONG);
        let about = format!("round {round}, {moment:?} after the handover");
        assert_eq!(survivor(&chain, &about), new, "{about}");
        chain.set_newest(new);
        idle.fetch_all_from(new).assert_flawless();
    }
}

#[test]
fn one_process_serves_after_the_new_one_is_paused_with_sigstop_at_any_moment() {
    one_serves_after_sigstop_at_any_moment(|_, new| new);
}

#[test]
fn one_process_serves_after_the_old_one_is_paused_with_sigstop_at_any_moment() {
    one_serves_after_sigstop_at_any_moment(|old, _| old);
}

/// Sends SIGSTOP to the process that `choose` picks, at random moments of upgrades, and SIGCONT after 1.5 s.
fn one_serves_after_sigstop_at_any_moment(choose: fn(u32, u32) -> u32) {
    let settings = "[upgrade]\nrollback_window = \"400ms\"\nready_timeout = \"1s\"\n";
    let mut chain = ProcessChain::serve(&Launch::playground().settings(settings));
    let mut idle = IdleConnections::open(&chain.addr(), 30, History::OneRequest);
    let mut dice = Dice::new();
    for round in 0..ROUNDS / 2 {
        let (moment, old) = (dice.moment(), chain.newest());
        let new = chain.begin_upgrade();
        thread::sleep(moment);
        let stopped = choose(old, new);
        signal_to(stopped, Signal::STOP);
        // longer than ready_timeout, but shorter than the timeout of a process that is live
        thread::sleep(ms(1500));
        signal_to(stopped, Signal::CONT);
        let about = format!("round {round}, {moment:?} after the start");
        let serving = survivor(&chain, &about);
        assert!(serving == old || serving == new, "{about}");
        chain.set_newest(serving);
        idle.fetch_all_from(serving).assert_flawless();
    }
    let last = chain.newest();
    chain.signal(Signal::TERM);
    chain.wait_gone(last, LONG);
}

#[test]
fn no_request_is_handled_twice_when_either_process_is_killed() {
    let launch = Launch::fixture().settings("[upgrade]\nrollback_window = \"10s\"\n");
    let mut chain = ProcessChain::serve(&launch);
    let markers = Markers::start(&chain.addr(), 6);
    let mut dice = Dice::new();
    for round in 0..ROUNDS {
        let (moment, old) = (dice.moment(), chain.newest());
        let new = chain.begin_upgrade();
        thread::sleep(moment);
        let (killed, left) = if round % 2 == 0 {
            (new, old)
        } else {
            (old, new)
        };
        signal_to(killed, Signal::KILL);
        chain.wait_gone(killed, LONG);
        let alone = || (chain.alive() == [left]).then_some(());
        until(
            LONG,
            &format!("round {round}, {moment:?} after the start: {left} serves"),
            alone,
        );
        chain.set_newest(left);
        let answered = markers.answered();
        until(LONG, "requests are answered", || {
            (markers.answered() > answered + 20).then_some(())
        });
    }
    markers.assert_handled_once(&chain);
}

/// Clients that send each request once, with a unique number.
pub(super) struct Markers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<Vec<u64>>>,
}

impl Markers {
    pub(super) fn start(addr: &Addr, clients: u64) -> Self {
        let (stop, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let spawn = |client: u64| {
            let (addr, stop, count) = (addr.clone(), stop.clone(), answered.clone());
            thread::spawn(move || {
                let (mut conn, mut answered) = (None, Vec::new());
                for number in 0.. {
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    let id = client * 1_000_000_000 + number;
                    let Ok(mut open) = conn.take().map_or_else(|| Conn::open(&addr), Ok) else {
                        thread::sleep(ms(5));
                        continue;
                    };
                    if open
                        .fetch(&format!("/mark/{id}"))
                        .is_ok_and(|answer| answer.is_success())
                    {
                        answered.push(id);
                        count.fetch_add(1, Ordering::Relaxed);
                        conn = Some(open);
                    }
                }
                answered
            })
        };
        let threads = (1..=clients).map(spawn).collect();
        Markers {
            stop,
            answered,
            threads,
        }
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Stops the clients, and checks that every answered request was handled and that no request was handled twice.
    pub(super) fn assert_handled_once(mut self, chain: &ProcessChain) {
        self.stop.store(true, Ordering::Release);
        let answered: Vec<u64> = self
            .threads
            .drain(..)
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        let mut handled: BTreeMap<u64, u32> = BTreeMap::new();
        for line in chain.dir().read("marks").lines() {
            *handled.entry(line.parse().unwrap()).or_default() += 1;
        }
        let twice: Vec<_> = handled.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "handled more than once: {twice:?}");
        let lost: Vec<_> = answered
            .iter()
            .filter(|id| !handled.contains_key(id))
            .collect();
        assert!(lost.is_empty(), "answered, but never handled: {lost:?}");
    }
}

impl Drop for Markers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}
