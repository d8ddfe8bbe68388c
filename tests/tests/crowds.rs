//! Crowds of hostile clients: memory stays bounded, and honest clients are served meanwhile.

use std::thread;
use std::time::Duration;

use slackwater_tests::conn::{Conn, SocketState, PATIENCE};
use slackwater_tests::idle::{History, IdleConnections};
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern, RunningLoad};
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

/// Honest clients of every kind, with timeouts that are long enough for a loaded machine.
fn honest(process: &Process) -> RunningLoad {
    Load::on(&process.addr())
        .patience(LONG)
        .clients(4, Pattern::KeepAlive)
        .clients(2, Pattern::NewConnection)
        .clients(2, Pattern::Thinking(ms(20)))
        .start()
}

/// Runs `crowd` under the load of honest clients, which must receive at least `requests` answers and no failure.
fn while_honest_clients_are_served(process: &Process, requests: u64, crowd: impl FnOnce()) {
    let load = honest(process);
    load.wait_for(50, LONG);
    crowd();
    load.wait_for(requests, LONG);
    load.stop().assert_flawless();
}

/// Returns the growth of the resident memory of the process during `crowd`, in KiB.
fn growth(process: &Process, crowd: impl FnOnce()) -> u64 {
    let before = process.proc().rss_kib();
    crowd();
    process.proc().rss_kib().saturating_sub(before)
}

/// Opens `count` connections and sends `sent` on each.
fn crowd(process: &Process, count: usize, sent: &str) -> Vec<Conn> {
    let addr = process.addr();
    let open = |_| {
        let mut conn = Conn::open_patient(&addr, PATIENCE).unwrap();
        conn.send(sent).unwrap();
        conn
    };
    (0..count).map(open).collect()
}

/// Sends a byte on each connection, again and again, until all are answered or closed. Returns the number of rounds.
fn drip(conns: &mut [Conn], byte: &str) -> usize {
    let mut rounds = 0;
    until(LONG, "all connections are answered or closed", || {
        rounds += 1;
        let open = conns
            .iter_mut()
            .filter(|conn| conn.state() == SocketState::Open);
        let sent = open.filter_map(|conn| conn.send(byte).ok()).count();
        thread::sleep(ms(50));
        (sent == 0).then_some(rounds)
    })
}

#[test]
fn ten_thousand_silent_connections_cost_little_memory_and_do_not_disturb_honest_clients() {
    let process = with_http("idle_release = \"100ms\"");
    while_honest_clients_are_served(&process, 200, || {
        let mut silent = None;
        let grown = growth(&process, || {
            silent = Some(IdleConnections::open(
                &process.addr(),
                10_000,
                History::NoRequest,
            ));
            wait_until_memory_settles(&process);
        });
        assert_eq!(silent.map(|idle| idle.states().open), Some(10_000));
        // an idle connection is one entry of the `IdleSet`; the rest is memory that the allocator keeps from the time when
        // all connections may have been active at once
        assert!(
            grown < 10_000 * 24,
            "{grown} KiB more for 10,000 connections"
        );
    });
}

/// Waits until the resident memory of the process no longer grows.
fn wait_until_memory_settles(process: &Process) {
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
fn a_crowd_of_slow_heads_is_rejected_at_the_deadline_and_does_not_disturb_honest_clients() {
    let process = with_http("header_timeout = \"1s\"");
    while_honest_clients_are_served(&process, 200, || {
        let mut slow = crowd(&process, 1000, "GET / HTTP/1.1\r\nHost: x\r\nA: ");
        let grown = growth(&process, || assert!(drip(&mut slow, "b") > 1));
        let refused = slow
            .iter_mut()
            .filter_map(|conn| conn.answer().ok())
            .filter(|answer| answer.status == 408);
        assert_eq!(refused.count(), 1000, "each client receives 408");
        assert!(grown < 64 << 10, "{grown} KiB more for 1000 slow heads");
    });
}

#[test]
fn a_crowd_of_stalled_bodies_is_rejected_at_the_deadline_and_does_not_disturb_honest_clients() {
    let process = with_http("body_timeout = \"1s\"");
    while_honest_clients_are_served(&process, 200, || {
        let sent =
            "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nso far, so good";
        let mut slow = crowd(&process, 1000, sent);
        let refused = slow
            .iter_mut()
            .filter_map(|conn| conn.answer().ok())
            .filter(|answer| answer.status == 408);
        assert_eq!(refused.count(), 1000, "each client receives 408");
    });
}

#[test]
fn a_crowd_of_slow_bodies_is_served_and_does_not_disturb_honest_clients() {
    let process = Launch::playground().serve();
    while_honest_clients_are_served(&process, 200, || {
        let grown = growth(&process, || {
            let mut slow = crowd(
                &process,
                1000,
                "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n",
            );
            let rounds = drip(&mut slow, "b");
            assert!(rounds >= 20, "each client sent its 20 bytes one by one");
            let served = slow.iter_mut().filter_map(|conn| conn.answer().ok());
            assert_eq!(
                served.filter(|answer| answer.text() == "20").count(),
                1000,
                "each slow body is read to its end"
            );
        });
        assert!(grown < 128 << 10, "{grown} KiB more for 1000 slow bodies");
    });
}

#[test]
fn a_crowd_that_reads_nothing_is_closed_at_the_deadline_and_does_not_disturb_honest_clients() {
    let process = with_http("write_timeout = \"1s\"");
    while_honest_clients_are_served(&process, 200, || {
        let before = process.proc().open_fds();
        let mut slow = Vec::new();
        let grown = growth(&process, || {
            slow = crowd(
                &process,
                50,
                "GET /bytes/1000000000 HTTP/1.1\r\nHost: x\r\n\r\n",
            );
            until(LONG, "all connections are accepted", || {
                (process.proc().open_fds() > 50).then_some(())
            });
            // honest clients open and close connections meanwhile, so a few descriptors more are allowed
            until(LONG, "the crowd is closed", || {
                (process.proc().open_fds() < before + 5).then_some(())
            });
        });
        assert!(
            grown < 32 << 10,
            "{grown} KiB more for 50 clients that read nothing"
        );
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
fn past_max_connections_new_clients_wait_and_connected_clients_are_served() {
    let process = with_http("max_connections = 20\nidle_timeout = \"3s\"\nidle_release = \"50ms\"");
    let load = Load::on(&process.addr())
        .patience(LONG)
        .clients(4, Pattern::KeepAlive)
        .start();
    load.wait_for(50, LONG);
    // more connections than permits; each is silent until it is closed at `idle_timeout`
    let flood = IdleConnections::open(&process.addr(), 60, History::NoRequest);
    let mut waiting = Conn::open_patient(&process.addr(), LONG).unwrap();
    waiting.get("/").unwrap();
    load.wait_for(200, LONG);
    assert_eq!(
        waiting.answer().unwrap().text(),
        "Hello, world!",
        "the client waited and was neither refused nor reset"
    );
    let fates = flood.states();
    assert_eq!(
        (fates.reset, fates.with_data, fates.open + fates.closed),
        (0, 0, 60)
    );
    assert!(
        fates.closed >= 20,
        "silent connections before it were closed: {fates:?}"
    );
    load.stop().assert_flawless();
}
