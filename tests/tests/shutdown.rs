//! Shutdown: requests in progress are answered, idle connections are closed, and connections that do not end in time are
//! cut and logged.

use std::time::{Duration, Instant};

use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::idle::{History, IdleConnections};
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::log_texts;
use slackwater_tests::process::Signal;
use slackwater_tests::tally::Failure;
use slackwater_tests::wait::until;

use crate::help::{held_socket, ms, timed};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_shutdown_answers_requests_in_progress_closes_idle_connections_and_logs_those_it_cut() {
    let settings =
        "[shutdown]\nkeepalive_grace = \"200ms\"\ngrace = \"5s\"\nforce_after = \"300ms\"\n";
    let mut process = Launch::playground().settings(settings).serve();
    let idle = IdleConnections::open(&process.addr(), 100, History::OneRequest);
    let (mut sleeper, mut stream) = (process.conn(), process.conn());
    sleeper.get("/sleep/4000").unwrap();
    stream.get("/stream/600").unwrap();
    assert_eq!(stream.head().unwrap().status, 200);
    stream.chunk().unwrap();

    let begun = Instant::now();
    process.signal(Signal::TERM);
    until(LONG, "the idle connections are closed", || {
        (idle.states().closed == 100).then_some(())
    });
    assert!(
        begun.elapsed() >= ms(190),
        "idle connections stay open for keepalive_grace: {:?}",
        begun.elapsed()
    );
    assert_eq!(
        sleeper.state(),
        SocketState::Open,
        "idle connections are closed before the requests in progress end"
    );
    let slept = sleeper.answer().unwrap();
    assert!(slept.text() == "slept" && slept.closes(), "{slept:?}");
    let end = loop {
        match stream.chunk() {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(
        matches!(
            end,
            Ok(None) | Err(Failure::CutInTheMiddle | Failure::Reset)
        ),
        "{end:?}"
    );
    assert!(
        process.log().contains("/stream/"),
        "the log names the connection that was cut:\n{}",
        process.log()
    );
}

#[test]
fn a_shutdown_answers_every_request_that_was_read() {
    let mut process = Launch::playground()
        .settings("[shutdown]\ngrace = \"20s\"\n")
        .serve();
    let mut conns: Vec<Conn> = (0..30).map(|_| process.conn()).collect();
    conns
        .iter_mut()
        .for_each(|conn| conn.get("/sleep/5000").unwrap());
    until(LONG, "the process has read all requests", || {
        process.get("/").contains("Hello").then_some(())
    });
    process.signal(Signal::TERM);
    for conn in &mut conns {
        let answer = conn.answer().unwrap();
        assert!(answer.status == 200 && answer.closes(), "{answer:?}");
        assert_eq!(conn.state_after(LONG), SocketState::Closed);
    }
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}

#[test]
fn an_idle_connection_may_send_one_last_request() {
    let mut process = Launch::playground()
        .settings("[shutdown]\nkeepalive_grace = \"10s\"\ngrace = \"20s\"\n")
        .serve();
    let (mut kept, mut opened_ahead) = (process.conn(), process.conn());
    kept.fetch("/").unwrap();
    let mark = process.mark();
    process.signal(Signal::TERM);
    process.wait_for_log(mark, log_texts::DRAINING);
    for conn in [&mut kept, &mut opened_ahead] {
        let answer = conn.fetch("/").unwrap();
        assert!(answer.status == 200 && answer.closes(), "{answer:?}");
        assert_eq!(conn.state_after(LONG), SocketState::Closed);
    }
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}

#[test]
fn a_silent_connection_does_not_delay_the_exit() {
    let mut process = Launch::playground()
        .settings("[shutdown]\nkeepalive_grace = \"100ms\"\ngrace = \"20s\"\n")
        .serve();
    let silent = IdleConnections::open(&process.addr(), 20, History::NoRequest);
    assert_eq!(process.get("/"), "Hello, world!");
    process.signal(Signal::TERM);
    let (took, status) = timed(|| process.wait_exit(LONG));
    assert_eq!(status.code(), Some(0));
    assert!(
        took < Duration::from_secs(15),
        "the exit does not wait for shutdown.grace: {took:?}"
    );
    assert_eq!(silent.states().closed, 20);
}

#[test]
fn an_incomplete_head_delays_the_exit_only_until_its_timeout() {
    let settings =
        "[http]\nheader_timeout = \"1s\"\n[shutdown]\nkeepalive_grace = \"100ms\"\ngrace = \"60s\"\n";
    let mut process = Launch::playground().settings(settings).serve();
    let mut half = process.conn();
    half.send("GET / HTTP/1.1\r\nHo").unwrap();
    assert_eq!(process.get("/"), "Hello, world!");
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}

#[test]
fn during_the_shutdown_delay_a_process_is_not_ready_and_still_accepts() {
    let settings = "[shutdown]\ndelay = \"5s\"\nkeepalive_grace = \"50ms\"\ngrace = \"20s\"\n";
    let mut process = Launch::playground().settings(settings).serve();
    let begun = Instant::now();
    process.signal(Signal::TERM);
    until(LONG, "the process is no longer ready", || {
        (process.conn().fetch("/readyz").ok()?.status == 503).then_some(())
    });
    assert_eq!(process.get("/"), "Hello, world!");
    assert_eq!(process.conn().fetch("/livez").unwrap().status, 200);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(begun.elapsed() >= ms(5000), "{:?}", begun.elapsed());
}

#[test]
fn sigint_skips_the_shutdown_delay() {
    let mut process = Launch::playground()
        .settings("[shutdown]\ndelay = \"30s\"\n")
        .serve();
    process.signal(Signal::INT);
    assert_eq!(process.wait_exit(Duration::from_secs(15)).code(), Some(0));
}

#[test]
fn connections_in_the_accept_queue_are_answered_before_the_exit() {
    let mut process = Launch::playground().serve();
    let addr = process.addr();
    process.signal(Signal::STOP);
    let mut waiting: Vec<Conn> = (0..20).map(|_| Conn::open(&addr).unwrap()).collect();
    waiting.iter_mut().for_each(|conn| conn.get("/").unwrap());
    process.signal(Signal::TERM);
    process.signal(Signal::CONT);
    for conn in &mut waiting {
        assert_eq!(conn.answer().unwrap().text(), "Hello, world!");
    }
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}

#[test]
fn connections_in_the_accept_queue_of_an_inherited_socket_wait_for_the_next_process() {
    let (listener, addr) = held_socket();
    let launch = Launch::playground().socket("web", &listener);
    let mut process = launch.serve();
    process.signal(Signal::STOP);
    let mut waiting: Vec<Conn> = (0..20).map(|_| Conn::open(&addr).unwrap()).collect();
    waiting.iter_mut().for_each(|conn| conn.get("/").unwrap());
    process.signal(Signal::TERM);
    process.signal(Signal::CONT);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    let _next = launch.serve();
    for conn in &mut waiting {
        assert_eq!(conn.answer().unwrap().text(), "Hello, world!");
    }
}

#[test]
fn no_request_fails_in_a_loop_of_stops_on_an_inherited_socket() {
    let (listener, addr) = held_socket();
    // long enough for every busy client to receive `Connection: close`; the process exits as soon as they all have
    let settings = "[shutdown]\nkeepalive_grace = \"10s\"\ngrace = \"20s\"\n";
    let launch = Launch::playground()
        .settings(settings)
        .socket("web", &listener);
    let mut process = launch.serve();
    let load = Load::on(&addr)
        .clients(8, Pattern::KeepAlive)
        .clients(2, Pattern::NewConnection);
    let load = load.patience(Duration::from_secs(30)).start();
    for _ in 0..5 {
        load.wait_for(100, Duration::from_secs(30));
        process.signal(Signal::TERM);
        assert_eq!(process.wait_exit(Duration::from_secs(30)).code(), Some(0));
        process = launch.serve();
    }
    load.wait_for(100, Duration::from_secs(30));
    let tally = load.stop();
    tally.assert_flawless();
    assert!(
        tally.announced_closes() >= 8,
        "busy clients receive Connection: close: {tally}"
    );
}

#[test]
fn a_debug_build_cuts_a_request_that_does_not_end_soon_after_term() {
    let mut process = Launch::playground().serve();
    let mut asked = process.conn();
    asked.get("/sleep/30000").unwrap();
    until(LONG, "the request is in its handler", || {
        process.get("/").contains("Hello").then_some(())
    });
    let mark = process.mark();
    process.signal(Signal::TERM);
    // a release build waits 20 s for the request
    assert_eq!(process.wait_exit(Duration::from_secs(10)).code(), Some(0));
    assert!(
        process.log_since(mark).contains("/sleep/30000"),
        "the log names the request that was cut: {}",
        process.log()
    );
}

#[test]
fn closing_an_idle_connection_neither_cuts_the_last_response_nor_resets_the_next_request() {
    let settings =
        "[log]\naccess = true\n[shutdown]\nkeepalive_grace = \"50ms\"\ngrace = \"20s\"\n";
    for round in 0..5 {
        let mut process = Launch::playground().settings(settings).serve();
        let mut conns: Vec<Conn> = (0..10).map(|_| process.conn()).collect();
        // the responses wait in the send queues
        for conn in &mut conns {
            conn.get("/bytes/2000000").unwrap();
        }
        until(LONG, "all requests are answered", || {
            (process.log().matches("GET /bytes/2000000 200").count() == 10).then_some(())
        });
        let mark = process.mark();
        process.signal(Signal::TERM);
        process.wait_for_log(mark, "idle connections closed: ");
        for conn in &mut conns {
            conn.get("/").unwrap();
        }
        for conn in &mut conns {
            let answer = conn.answer().map(|answer| answer.body.len());
            assert_eq!(answer, Ok(2_000_000), "round {round}");
            // the process answers a request only if it reads it before the close
            match conn.answer() {
                Ok(answer) => assert!(answer.closes(), "round {round}: {answer:?}"),
                Err(failure) => {
                    assert_eq!(failure, Failure::ClosedBeforeAnswer, "round {round}");
                }
            }
        }
        drop(conns);
        assert_eq!(process.wait_exit(LONG).code(), Some(0));
    }
}

#[test]
fn a_connection_that_is_cut_during_its_close_is_logged() {
    let settings = "[log]\naccess = true\n[shutdown]\ngrace = \"1s\"\nforce_after = \"100ms\"\n";
    let mut process = Launch::playground().settings(settings).serve();
    let mut conn = process.conn();
    conn.send("GET /bytes/2000000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    process.wait_for_log(0, "/bytes/2000000");
    let mark = process.mark();
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    let log = process.log_since(mark);
    assert!(log.contains("(closing, "), "{log}");
}
