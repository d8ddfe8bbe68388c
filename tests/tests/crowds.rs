//! Crowds of hostile clients: memory stays bounded, and whoever is honest is served all the while.

use std::thread;
use std::time::Duration;

use slackwater_tests::conn::{Conn, Fate, PATIENCE};
use slackwater_tests::idle::{Before, Idle};
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern, Running};
use slackwater_tests::process::Process;
use slackwater_tests::tally::Failure;
use slackwater_tests::wait::until;

use crate::help::ms;

const LONG: Duration = Duration::from_secs(30);

fn with_http(settings: &str) -> Process {
    Launch::playground()
        .settings(&format!("[http]\n{settings}\n"))
        .serve()
}

/// Honest clients of every kind, who are patient with a loaded machine.
fn honest(process: &Process) -> Running {
    Load::on(&process.addr())
        .patience(LONG)
        .clients(4, Pattern::KeepAlive)
        .clients(2, Pattern::NewConnection)
        .clients(2, Pattern::Thinking(ms(20)))
        .start()
}

/// The crowd does what it does while honest clients get at least `requests` answers, and not one failure.
fn all_the_while(process: &Process, requests: u64, crowd: impl FnOnce()) {
    let load = honest(process);
    load.wait_for(50, LONG);
    crowd();
    load.wait_for(requests, LONG);
    load.stop().assert_flawless();
}

/// How much more memory it takes, in KiB, for what `crowd` does.
fn growth(process: &Process, crowd: impl FnOnce()) -> u64 {
    let before = process.proc().rss_kib();
    crowd();
    process.proc().rss_kib().saturating_sub(before)
}

/// So many connections that have each sent the same.
fn crowd(process: &Process, count: usize, sent: &str) -> Vec<Conn> {
    let addr = process.addr();
    let open = |_| {
        let mut conn = Conn::open_patient(&addr, PATIENCE).unwrap();
        conn.send(sent).unwrap();
        conn
    };
    (0..count).map(open).collect()
}

/// Sends a byte on each, again and again, until all are answered or closed; gives how many rounds that took.
fn drip(conns: &mut [Conn], byte: &str) -> usize {
    let mut rounds = 0;
    until(LONG, "nobody drips any more", || {
        rounds += 1;
        let open = conns
            .iter_mut()
            .filter(|conn| conn.glance() == Fate::KeptOpen);
        let dripping = open.filter_map(|conn| conn.send(byte).ok()).count();
        thread::sleep(ms(50));
        (dripping == 0).then_some(rounds)
    })
}

#[test]
fn ten_thousand_connections_that_say_nothing_cost_little_and_hinder_nobody() {
    let process = with_http("idle_release = \"100ms\"");
    all_the_while(&process, 200, || {
        let mut silent = None;
        let grown = growth(&process, || {
            silent = Some(Idle::open(&process.addr(), 10_000, Before::Nothing));
            load_settles(&process);
        });
        assert_eq!(silent.map(|idle| idle.fates().open), Some(10_000));
        // parked they are an entry each, and what the allocator keeps of the time before that, in which all may have been
        // active at once
        assert!(
            grown < 10_000 * 24,
            "{grown} KiB more for 10,000 connections"
        );
    });
}

/// Waits until memory does not grow any more.
fn load_settles(process: &Process) {
    let mut last = 0;
    until(LONG, "memory settles", || {
        thread::sleep(ms(200));
        let now = process.proc().rss_kib();
        let settled = now <= last;
        last = now;
        settled.then_some(())
    });
}

#[test]
fn a_crowd_of_slow_heads_is_let_go_at_the_deadline_and_hinders_nobody() {
    let process = with_http("header_timeout = \"1s\"");
    all_the_while(&process, 200, || {
        let mut slow = crowd(&process, 1000, "GET / HTTP/1.1\r\nHost: x\r\nA: ");
        let grown = growth(&process, || assert!(drip(&mut slow, "b") > 1));
        let refused = slow
            .iter_mut()
            .filter_map(|conn| conn.answer().ok())
            .filter(|answer| answer.status == 408);
        assert_eq!(refused.count(), 1000, "each is told why");
        assert!(grown < 64 << 10, "{grown} KiB more for 1000 slow heads");
    });
}

#[test]
fn a_crowd_of_bodies_that_stop_coming_is_let_go_at_the_deadline_and_hinders_nobody() {
    let process = with_http("body_timeout = \"1s\"");
    all_the_while(&process, 200, || {
        let sent =
            "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nso far, so good";
        let mut slow = crowd(&process, 1000, sent);
        let refused = slow
            .iter_mut()
            .filter_map(|conn| conn.answer().ok())
            .filter(|answer| answer.status == 408);
        assert_eq!(refused.count(), 1000, "each is told why");
    });
}

#[test]
fn a_crowd_of_bodies_that_trickle_hinders_nobody() {
    let process = Launch::playground().serve();
    all_the_while(&process, 200, || {
        let grown = growth(&process, || {
            let mut slow = crowd(
                &process,
                1000,
                "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n",
            );
            let rounds = drip(&mut slow, "b");
            assert!(rounds >= 20, "each sent its 20 bytes one by one");
            let served = slow.iter_mut().filter_map(|conn| conn.answer().ok());
            assert_eq!(
                served.filter(|answer| answer.text() == "20").count(),
                1000,
                "slow is no crime"
            );
        });
        assert!(grown < 128 << 10, "{grown} KiB more for 1000 slow bodies");
    });
}

#[test]
fn a_crowd_that_reads_nothing_is_let_go_at_the_deadline_and_hinders_nobody() {
    let process = with_http("write_timeout = \"1s\"");
    all_the_while(&process, 200, || {
        let before = process.proc().open_fds();
        let mut slow = Vec::new();
        let grown = growth(&process, || {
            slow = crowd(
                &process,
                50,
                "GET /bytes/1000000000 HTTP/1.1\r\nHost: x\r\n\r\n",
            );
            until(LONG, "all are in", || {
                (process.proc().open_fds() > 50).then_some(())
            });
            // honest clients come and go meanwhile, but a few
            until(LONG, "they are let go", || {
                (process.proc().open_fds() < before + 5).then_some(())
            });
        });
        assert!(grown < 32 << 10, "{grown} KiB more for 50 who read nothing");
        let was_cut = |conn: &mut Conn| {
            assert_eq!(conn.head().unwrap().status, 200);
            matches!(
                conn.discard(1_000_000_000),
                Err(Failure::CutInTheMiddle | Failure::Reset)
            )
        };
        let cut = slow.iter_mut().map(was_cut).filter(|&cut| cut).count();
        assert!(cut > 40, "{cut} of 50 were cut");
    });
}

#[test]
fn past_the_last_seat_newcomers_wait_and_those_who_are_in_are_served() {
    let process = with_http("max_connections = 20\nidle_timeout = \"3s\"\nidle_release = \"50ms\"");
    let load = Load::on(&process.addr())
        .patience(LONG)
        .clients(4, Pattern::KeepAlive)
        .start();
    load.wait_for(50, LONG);
    // more than there are seats for, and none of them says a word until its seat is taken away
    let flood = Idle::open(&process.addr(), 60, Before::Nothing);
    let mut newcomer = Conn::open_patient(&process.addr(), LONG).unwrap();
    newcomer.get("/").unwrap();
    load.wait_for(200, LONG);
    assert_eq!(
        newcomer.answer().unwrap().text(),
        "Hello, world!",
        "it waited, and was neither refused nor reset"
    );
    let fates = flood.fates();
    assert_eq!(
        (fates.reset, fates.spoken, fates.open + fates.closed),
        (0, 0, 60)
    );
    assert!(
        fates.closed >= 20,
        "the silent ones before it lost their seats: {fates:?}"
    );
    load.stop().assert_flawless();
}
