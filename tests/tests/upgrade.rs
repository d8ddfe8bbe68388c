//! Upgrades that succeed: no request fails, connections move to the new process, the old process exits, and nothing leaks.

mod deploys;
mod failures;
mod first;
mod kills;
mod manual;
mod sockets;
mod steps;
mod strangers;

use std::thread;
use std::time::{Duration, Instant};

use slackwater_tests::conn::SocketState;
use slackwater_tests::idle::{History, IdleConnections, StateCounts};
use slackwater_tests::in_flight::InFlightClients;
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::log_texts;
use slackwater_tests::proc::Proc;
use slackwater_tests::process::Signal;
use slackwater_tests::process_chain::ProcessChain;
use slackwater_tests::wait::until;

use crate::help::{ms, pid_of_server, pid_on};

const LONG: Duration = Duration::from_secs(60);
/// The time limit on an exit. It allows for a busy machine, but is shorter than `shutdown.grace` (20 s), so that a process
/// which waits for a connection without need is found.
const SOON: Duration = Duration::from_secs(15);
/// A rollback window that is long enough for a debug build on a busy machine, and short enough to wait for.
const WINDOW: &str = "[upgrade]\nrollback_window = \"300ms\"\n";

#[test]
fn upgrades_in_a_row_fail_no_request_and_close_no_connection() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let addr = chain.addr();
    let mut kept = IdleConnections::open(&addr, 100, History::OneRequest);
    let mut ahead = IdleConnections::open(&addr, 100, History::NoRequest);
    let load = Load::on(&addr)
        .clients(8, Pattern::KeepAlive)
        .clients(2, Pattern::NewConnection)
        .clients(10, Pattern::Thinking(ms(20)))
        .start();
    load.wait_for(100, LONG);
    for number in 1..=4 {
        let old = chain.newest();
        let passengers = InFlightClients::start(&addr, 3).expect("passengers before the upgrade");
        let new = chain.upgrade();
        passengers.finish(new).assert_flawless();
        chain.wait_gone(old, SOON);
        assert_eq!(pid_of_server(&chain), new, "upgrade {number}");
        load.wait_for(100, LONG);
    }
    let tally = load.stop();
    tally.assert_flawless();
    assert_eq!(tally.announced_closes(), 0, "{tally}");
    for idle in [&mut kept, &mut ahead] {
        assert_eq!(
            idle.states(),
            StateCounts {
                open: 100,
                ..StateCounts::default()
            }
        );
        idle.fetch_all_from(chain.newest()).assert_flawless();
    }
}

#[test]
fn idle_connections_are_answered_by_the_new_process_before_it_is_confirmed() {
    let chain = ProcessChain::serve(
        &Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"),
    );
    let mut idle = IdleConnections::open(&chain.addr(), 300, History::OneRequest);
    let mark = chain.mark();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    idle.wait_served_by(new);
}

#[test]
fn a_request_in_progress_is_answered_by_the_old_process_and_the_next_by_the_new() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let old = chain.newest();
    let mut conn = chain.conn();
    conn.get("/sleep/2000").unwrap();
    let begun = Instant::now();
    let new = chain.upgrade();
    let answer = conn.answer().unwrap();
    assert!(answer.text() == "slept" && !answer.closes(), "{answer:?}");
    assert!(
        begun.elapsed() >= ms(1800),
        "the old process answered the whole request: {:?}",
        begun.elapsed()
    );
    assert_eq!(pid_on(&mut conn), new);
    chain.wait_gone(old, SOON);
    assert_eq!(pid_on(&mut conn), new);
}

#[test]
fn the_old_process_sends_a_response_to_its_end_and_then_hands_the_connection_over() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let mut conn = chain.conn();
    conn.get("/stream/15").unwrap();
    let mut answer = conn.head().unwrap();
    conn.chunk().unwrap();
    let new = chain.upgrade();
    conn.body(&mut answer).unwrap();
    assert!(answer.text().ends_with("chunk\n"), "{answer:?}");
    assert_eq!(pid_on(&mut conn), new);
}

#[test]
fn the_old_process_reads_a_request_body_to_its_end() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let mut conn = chain.conn();
    conn.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
        .unwrap();
    let new = chain.upgrade();
    conn.send("56789").unwrap();
    assert_eq!(conn.answer().unwrap().text(), "10");
    assert_eq!(pid_on(&mut conn), new);
}

#[test]
fn an_endless_response_is_cut_after_the_grace_while_the_new_process_serves() {
    let settings =
        format!("{WINDOW}[shutdown]\nkeepalive_grace = \"100ms\"\ngrace = \"2s\"\nforce_after = \"200ms\"\n");
    let mut chain = ProcessChain::serve(&Launch::playground().settings(&settings));
    let old = chain.newest();
    let mut stream = chain.conn();
    stream.get("/stream/100000").unwrap();
    stream.head().unwrap();
    stream.chunk().unwrap();
    let new = chain.upgrade();
    let confirmed = Instant::now();
    assert!(
        stream.chunk().unwrap().is_some(),
        "the old process continues to send"
    );
    assert_eq!(pid_of_server(&chain), new);
    // a second upgrade is possible while the first process still drains
    let newer = chain.upgrade();
    assert_eq!(pid_of_server(&chain), newer);
    chain.wait_gone(new, SOON);
    chain.wait_gone(old, SOON);
    assert!(
        confirmed.elapsed() >= ms(1500),
        "the stream lasted for shutdown.grace: {:?}",
        confirmed.elapsed()
    );
}

#[test]
fn the_new_process_receives_the_peer_address_of_a_connection() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let (mut kept, mut ahead) = (chain.conn(), chain.conn());
    let before = kept.fetch("/peer").unwrap().text();
    let new = chain.upgrade();
    assert_eq!(kept.fetch("/peer").unwrap().text(), before);
    let peer = ahead.fetch("/peer").unwrap().text();
    assert!(peer.starts_with("127.0.0.1:") && peer != before, "{peer:?}");
    assert_eq!(pid_on(&mut kept), new);
}

#[test]
fn an_upgrade_does_not_extend_the_timeout_of_a_head_that_has_begun() {
    let settings = format!("{WINDOW}[http]\nheader_timeout = \"12s\"\n");
    let mut chain = ProcessChain::serve(&Launch::playground().settings(&settings));
    let mut conn = chain.conn();
    let begun = Instant::now();
    conn.send("GET / HTTP/1.1\r\nHo").unwrap();
    thread::sleep(ms(9000));
    chain.upgrade();
    let _ = conn.answer();
    let took = begun.elapsed();
    assert!(
        took > ms(11_500) && took < ms(20_900),
        "the timeout runs from the first byte, not from the handover: {took:?}"
    );
}

#[test]
fn a_request_that_lasts_for_two_upgrades_is_answered() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let mut conn = chain.conn();
    conn.get("/sleep/3000").unwrap();
    let first = chain.newest();
    let second = chain.upgrade();
    let third = chain.upgrade();
    let answer = conn.answer().unwrap();
    assert_eq!(answer.text(), "slept");
    if !answer.closes() {
        assert_eq!(
            pid_on(&mut conn),
            third,
            "a connection that is kept open reaches the newest process"
        );
    }
    chain.wait_gone(first, SOON);
    chain.wait_gone(second, SOON);
}

#[test]
fn a_process_that_drains_for_long_hands_its_connections_to_the_newest_and_delays_no_other() {
    let settings = "[upgrade]\nrollback_window = \"50ms\"\n[shutdown]\ngrace = \"120s\"\n";
    let mut chain = ProcessChain::serve(&Launch::playground().settings(settings));
    let first = chain.newest();
    // one request with an incomplete body for each upgrade
    let half = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234";
    let mut incomplete: Vec<_> = (0..4).map(|_| chain.conn()).collect();
    incomplete
        .iter_mut()
        .for_each(|conn| conn.send(half).unwrap());
    let mut between = chain.upgrade();
    while let Some(mut conn) = incomplete.pop() {
        let newest = chain.upgrade();
        chain.wait_gone(between, SOON);
        conn.send("56789").unwrap();
        let answer = conn.answer().unwrap();
        assert!(answer.text() == "10" && !answer.closes(), "{answer:?}");
        assert_eq!(pid_on(&mut conn), newest, "the output:\n{}", chain.log());
        between = newest;
    }
    chain.wait_gone(first, SOON);
    assert_eq!(chain.alive(), [chain.newest()]);
}

#[test]
fn an_old_process_hands_over_its_last_connection_before_it_exits() {
    let mut chain = ProcessChain::serve(
        &Launch::playground().settings("[upgrade]\nrollback_window = \"50ms\"\n"),
    );
    for round in 0..15 {
        let old = chain.newest();
        // the old process sends this response when it has no other connection left and could exit
        let mut conn = chain.conn();
        conn.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
            .unwrap();
        let new = chain.upgrade();
        conn.send("56789").unwrap();
        assert_eq!(conn.answer().unwrap().text(), "10");
        let next = conn.fetch("/pid").map(|answer| answer.text());
        assert_eq!(
            next,
            Ok(new.to_string()),
            "round {round}; the output:\n{}",
            chain.log()
        );
        chain.wait_gone(old, SOON);
    }
}

#[test]
fn an_http_1_0_connection_with_keep_alive_is_handed_over() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let request = "GET /pid HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let mut conn = chain.conn();
    conn.send(request).unwrap();
    assert_eq!(conn.answer().unwrap().text(), chain.newest().to_string());
    let new = chain.upgrade();
    conn.send(request).unwrap();
    assert_eq!(conn.answer().unwrap().text(), new.to_string());
}

#[test]
fn a_connection_is_handed_over_with_the_part_of_a_long_head_that_was_read() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let mut conn = chain.conn();
    let padding = "x".repeat(30_000);
    conn.send(format!(
        "GET /pid HTTP/1.1\r\nHost: a\r\nPadding: {padding}"
    ))
    .unwrap();
    thread::sleep(ms(100));
    let new = chain.upgrade();
    conn.send("\r\n\r\n").unwrap();
    assert_eq!(conn.answer().unwrap().text(), new.to_string());
}

#[test]
fn the_new_process_can_end_a_connection_while_the_old_one_holds_its_descriptor() {
    let settings =
        "[upgrade]\nrollback_window = \"300s\"\n[http]\nidle_timeout = \"5s\"\nidle_release = \"100ms\"\n";
    let chain = ProcessChain::serve(&Launch::playground().settings(settings));
    let (mut idle, mut done) = (chain.conn(), chain.conn());
    let mark = chain.mark();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    for conn in [&mut idle, &mut done] {
        until(LONG, "the new process answers on the connection", || {
            (pid_on(conn) == new).then_some(())
        });
    }
    done.get("/pid").unwrap();
    done.half_close().unwrap();
    assert_eq!(done.answer().unwrap().text(), new.to_string());
    assert_eq!(done.state_after(LONG), SocketState::Closed);
    assert_eq!(
        idle.state_after(LONG),
        SocketState::Closed,
        "at its idle_timeout"
    );
}

#[test]
fn connections_beyond_a_lowered_max_connections_are_kept() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let mut idle = IdleConnections::open(&chain.addr(), 20, History::OneRequest);
    chain.settings(&format!("{WINDOW}[http]\nmax_connections = 4\n"));
    let new = chain.upgrade();
    idle.wait_served_by(new);
}

#[test]
fn usr2_during_a_reload_is_refused() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    chain.settings(&format!("{WINDOW}[app]\nstart_delay = \"3s\"\n"));
    let mark = chain.mark();
    chain.signal(Signal::HUP);
    // wait, because two pending signals may be delivered in either order
    chain.wait_for_log(mark, "SIGHUP");
    chain.signal(Signal::USR2);
    let line = chain.wait_for_log(mark, "refused");
    assert!(line.contains("reload"), "{line}");
    chain.wait_for_log(mark, log_texts::RELOADED);
    chain.upgrade();
}

#[test]
fn the_pid_file_names_the_newest_process() {
    let mut chain = ProcessChain::serve(
        &Launch::playground().settings(&format!("pid_file = \"app.pid\"\n{WINDOW}")),
    );
    let file = |chain: &ProcessChain| chain.dir().read("app.pid").trim().parse::<u32>().ok();
    until(LONG, "the pid file is written", || {
        (file(&chain) == Some(chain.newest())).then_some(())
    });
    for _ in 0..2 {
        let old = chain.newest();
        let new = chain.upgrade();
        assert_eq!(file(&chain), Some(new));
        chain.wait_gone(old, SOON);
        assert_eq!(
            file(&chain),
            Some(new),
            "the old process does not change the pid file when it exits"
        );
    }
    chain.signal(Signal::TERM);
    chain.wait_gone(chain.newest(), LONG);
    assert_eq!(file(&chain), None);
}

#[test]
fn the_new_process_uses_the_changed_settings() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    chain.settings(&format!("{WINDOW}[app]\ngreeting = \"Moin\"\n"));
    chain.upgrade();
    assert_eq!(chain.get("/greet/you"), "Moin, you!");
}

#[test]
fn usr2_before_the_last_upgrade_is_confirmed_is_refused() {
    let settings = "[upgrade]\nrollback_window = \"8s\"\n";
    let mut chain = ProcessChain::serve(&Launch::playground().settings(settings));
    let old = chain.newest();
    let mark = chain.mark();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    chain.set_newest(new);
    chain.signal(Signal::USR2);
    let line = chain.wait_for_log(mark, log_texts::USR2_REFUSED);
    assert!(line.contains("not confirmed"), "{line}");
    chain.wait_confirmed(mark, new);
    chain.wait_gone(old, SOON);
    assert_eq!(chain.alive(), [new], "nothing else was started");
    chain.upgrade();
}

#[test]
fn usr2_while_the_new_process_starts_is_refused_and_the_upgrade_goes_on() {
    let settings = format!("{WINDOW}[app]\nstart_delay = \"3s\"\n");
    let mut chain = ProcessChain::serve(&Launch::playground().settings(&settings));
    let mark = chain.mark();
    let new = chain.begin_upgrade();
    chain.signal(Signal::USR2);
    chain.wait_for_log(mark, log_texts::USR2_REFUSED);
    chain.wait_confirmed(mark, new);
    assert_eq!(pid_of_server(&chain), new);
}

#[test]
fn a_stop_of_the_new_process_in_its_rollback_window_stops_both_and_is_not_rolled_back() {
    let settings =
        "[upgrade]\nrollback_window = \"30s\"\n[shutdown]\nkeepalive_grace = \"100ms\"\n";
    let mut chain = ProcessChain::serve(&Launch::playground().settings(settings));
    let (old, mark) = (chain.newest(), chain.mark());
    let idle = IdleConnections::open(&chain.addr(), 20, History::OneRequest);
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    chain.set_newest(new);
    chain.signal(Signal::TERM);
    chain.wait_gone(old, LONG);
    chain.wait_gone(new, LONG);
    assert!(
        !chain.log_since(mark).contains(log_texts::ROLLED_BACK),
        "{}",
        chain.log()
    );
    assert_eq!(idle.states().closed, 20, "in the orderly way");
}

#[test]
fn ten_upgrades_leak_no_descriptor_process_thread_or_memory() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let _idle = IdleConnections::open(&chain.addr(), 50, History::OneRequest);
    let settle = |chain: &mut ProcessChain| {
        let old = chain.newest();
        chain.upgrade();
        chain.wait_gone(old, SOON);
        measure(chain)
    };
    let first = settle(&mut chain);
    for _ in 0..9 {
        settle(&mut chain);
    }
    // the descriptor of a client that has just disconnected may still be open
    let last = until(LONG, "no descriptor is left open", || {
        let last = measure(&chain);
        (last.fds <= first.fds).then_some(last)
    });
    assert_eq!(
        (last.listening, last.zombies),
        (first.listening, 0),
        "{first:?} {last:?}"
    );
    assert!(last.rss_kib < first.rss_kib * 12 / 10, "{first:?} {last:?}");
    assert!(last.threads <= first.threads + 1, "{first:?} {last:?}");
    assert_eq!(chain.alive(), [chain.newest()]);
}

#[derive(Clone, Copy, Debug)]
struct Resources {
    fds: usize,
    listening: usize,
    zombies: usize,
    rss_kib: u64,
    threads: u64,
}

fn measure(chain: &ProcessChain) -> Resources {
    let proc: Proc = chain.proc();
    Resources {
        fds: proc.open_fds(),
        listening: proc.listening(),
        zombies: chain.zombies().len(),
        rss_kib: proc.rss_kib(),
        threads: proc.threads(),
    }
}
