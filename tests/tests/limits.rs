//! Clients that are slow, huge, or never done: a status or a close at the deadline, and memory that does not grow.

use std::thread;
use std::time::{Duration, Instant};

use slackwater_tests::conn::{Conn, Fate};
use slackwater_tests::idle::{Before, Idle};
use slackwater_tests::launch::Launch;
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

#[test]
fn a_head_that_comes_a_byte_at_a_time_is_408_at_its_deadline() {
    let process = with_http("header_timeout = \"500ms\"");
    let mut conn = process.conn();
    let mut sender = conn.try_clone().unwrap();
    let begun = Instant::now();
    let slow = thread::spawn(move || {
        sender.send_in_pieces(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nA: bcdefghijklmnopqrstuvwxyz\r\n",
            1,
            ms(50),
        )
    });
    let (answer, took) = (conn.answer().unwrap(), begun.elapsed());
    assert_eq!((answer.status, answer.closes()), (408, true));
    assert!((ms(450)..LONG).contains(&took), "{took:?}");
    assert_eq!(conn.fate(LONG), Fate::Closed);
    // the sender ends when its connection does
    let _ = slow.join().unwrap();
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn the_clock_of_a_head_starts_with_its_first_byte() {
    let process = with_http("header_timeout = \"400ms\"\nidle_release = \"50ms\"");
    let mut conn = process.conn();
    assert_eq!(conn.fate(ms(700)), Fate::KeptOpen, "nothing was sent yet");
    assert_eq!(conn.ask("/").unwrap().status, 200);
    assert_eq!(
        conn.fate(ms(700)),
        Fate::KeptOpen,
        "nothing of the next one was sent yet"
    );
    let begun = Instant::now();
    conn.send("G").unwrap();
    let (answer, took) = (conn.answer().unwrap(), begun.elapsed());
    assert_eq!(answer.status, 408);
    assert!((ms(350)..LONG).contains(&took), "{took:?}");
}

#[test]
fn an_idle_connection_is_closed_at_its_deadline() {
    let process = with_http("idle_timeout = \"3s\"\nidle_release = \"50ms\"");
    for before in [Before::OneRequest, Before::Nothing] {
        let idle = Idle::open(&process.addr(), 10, before);
        assert_eq!(idle.fates().open, 10);
        until(LONG, &format!("all are closed, {before:?}"), || {
            (idle.fates().closed == 10).then_some(())
        });
    }
}

#[test]
fn a_body_that_never_comes_is_408_at_its_deadline() {
    let process = with_http("body_timeout = \"400ms\"");
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let mut conn = process.conn();
        let begun = Instant::now();
        conn.send(format!(
            "POST /upload HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n"
        ))
        .unwrap();
        let (answer, took) = (conn.answer().unwrap(), begun.elapsed());
        assert_eq!(answer.status, 408, "{framing}");
        assert!((ms(350)..LONG).contains(&took), "{took:?}");
        assert_eq!(conn.fate(LONG), Fate::Closed);
    }
}

#[test]
fn a_body_of_a_gibibyte_that_nobody_wants_is_refused_unread() {
    let process = with_http("body_timeout = \"1h\"");
    for path in ["/", "/greet/x", "/nowhere"] {
        let mut conn = process.conn();
        conn.send(format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\nabc"
        ))
        .unwrap();
        // it does not wait for the body, which would take an hour
        let answer = conn.answer().unwrap();
        assert!(
            (400..500).contains(&answer.status) && answer.closes(),
            "{path}: {answer:?}"
        );
        assert_eq!(conn.fate(LONG), Fate::Closed);
    }
}

#[test]
fn a_refusal_reaches_a_client_that_still_sends() {
    let process = Launch::playground().serve();
    for _ in 0..5 {
        let mut conn = process.conn();
        let mut sender = conn.try_clone().unwrap();
        sender
            .send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
            .unwrap();
        let upload =
            thread::spawn(move || sender.send_in_pieces(&vec![b'x'; 1 << 20], 16 << 10, ms(2)));
        let answer = conn.answer().unwrap();
        assert!(
            (400..500).contains(&answer.status) && answer.closes(),
            "{answer:?}"
        );
        // what it sent meanwhile was taken and thrown away, until it was told that nobody listens
        let _ = upload.join().unwrap();
    }
}

#[test]
fn a_head_past_its_size_is_431() {
    let process = with_http("max_header_bytes = \"16KiB\"");
    let huge = "x".repeat(40 << 10);
    let mut conn = process.conn();
    conn.send(format!("GET / HTTP/1.1\r\nHost: x\r\nA: {huge}\r\n\r\n"))
        .unwrap();
    assert_eq!(conn.answer().unwrap().status, 431);
    assert_eq!(conn.fate(LONG), Fate::Closed);
    let mut conn = process.conn();
    conn.send(format!(
        "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
        &huge[..10 << 10]
    ))
    .unwrap();
    assert_eq!(conn.answer().unwrap().status, 200);
}

#[test]
fn more_headers_than_allowed_are_431() {
    let process = Launch::playground().serve();
    let many: String = (0..150).map(|number| format!("A{number}: b\r\n")).collect();
    let mut conn = process.conn();
    conn.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"))
        .unwrap();
    assert_eq!(conn.answer().unwrap().status, 431);
}

#[test]
fn a_head_without_end_does_not_fill_memory() {
    let process = Launch::playground().serve();
    assert_eq!(process.get("/"), "Hello, world!");
    let before = process.proc().rss_kib();
    for start in ["GET /", "GET / HTTP/1.1\r\nHost: x\r\nA: "] {
        let mut conn = process.conn();
        conn.send(start).unwrap();
        let flood = vec![b'x'; 1 << 20];
        // it is refused long before: then sending fails, or what is sent is thrown away
        let sent = (0..32).take_while(|_| conn.send(&flood).is_ok()).count();
        let grown = process.proc().rss_kib().saturating_sub(before);
        assert!(
            grown < 8 << 10,
            "{grown} KiB more after {sent} MiB of {start:?}"
        );
    }
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn a_request_that_takes_too_long_is_503() {
    let process = with_http("request_timeout = \"300ms\"");
    let mut conn = process.conn();
    conn.get("/sleep/3600000").unwrap();
    assert_eq!(conn.answer().unwrap().status, 503);
    assert_eq!(process.get("/sleep/10"), "slept");
}

#[test]
fn a_client_that_takes_nothing_is_let_go() {
    let process = with_http("write_timeout = \"500ms\"\n[log]\naccess = true");
    let mut conn = Conn::open(&process.addr()).unwrap();
    conn.get("/bytes/100000000").unwrap();
    let mut head = conn.head().unwrap();
    assert_eq!(head.status, 200);
    process.wait_for_log(0, "/bytes/100000000");
    assert!(matches!(
        conn.body(&mut head),
        Err(Failure::CutInTheMiddle | Failure::Reset)
    ));
}

#[test]
fn clients_that_do_nothing_cost_nothing() {
    let process = with_http("idle_release = \"50ms\"");
    let idle = Idle::open(&process.addr(), 300, Before::OneRequest);
    // once all are parked nothing is left to do but to look at the clock now and then: a wake-up for each of them
    // would be at least 300
    let asleep = || {
        let (before, begun) = (process.proc().switches(), Instant::now());
        thread::sleep(ms(500));
        let a_second =
            (process.proc().switches() - before) * 1000 / begun.elapsed().as_millis() as u64;
        (a_second < 100).then_some(())
    };
    until(LONG, "it sleeps", asleep);
    assert_eq!(idle.fates().open, 300);
}

/// A connection that was open and served before the limits changed.
fn reloaded(before: &str, after: &str) -> (Process, Conn) {
    let process = with_http(before);
    let mut conn = process.conn();
    assert_eq!(conn.ask("/").unwrap().status, 200);
    process.settings(&format!("[http]\n{after}\n"));
    process.reload();
    (process, conn)
}

#[test]
fn each_timeout_changes_with_a_reload_for_connections_that_are_open() {
    let long = "header_timeout = \"1h\"\nbody_timeout = \"1h\"\nidle_timeout = \"1h\"\n";
    for (setting, sent, expected) in [
        ("header_timeout", "GET / HTTP/1.1\r\n", 408),
        (
            "body_timeout",
            "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe",
            408,
        ),
        (
            "request_timeout",
            "GET /sleep/3600000 HTTP/1.1\r\nHost: x\r\n\r\n",
            503,
        ),
    ] {
        let (_process, mut conn) = reloaded(long, &format!("{setting} = \"200ms\""));
        conn.send(sent).unwrap();
        assert_eq!(
            conn.answer().map(|answer| answer.status),
            Ok(expected),
            "{setting}"
        );
    }
    for release in ["20ms", "1h"] {
        let release = format!("idle_release = \"{release}\"\n");
        let after = format!("{release}idle_timeout = \"200ms\"");
        let (_process, mut conn) = reloaded(&format!("{long}{release}"), &after);
        // one that has been silent since before the reload is looked at by the old clock; the next silence by the new
        let _ = conn.ask("/");
        assert_eq!(conn.fate(LONG), Fate::Closed, "idle_timeout, {release}");
    }
    let (process, mut conn) = reloaded("write_timeout = \"1h\"", "write_timeout = \"200ms\"");
    let before = process.proc().open_fds();
    conn.get("/bytes/100000000").unwrap();
    assert_eq!(conn.head().unwrap().status, 200);
    until(LONG, "write_timeout", || {
        (process.proc().open_fds() < before).then_some(())
    });
}

#[test]
fn each_size_changes_with_a_reload_for_connections_that_are_open() {
    let many: String = (0..60).map(|number| format!("A{number}: b\r\n")).collect();
    for (setting, sent, expected) in [
        (
            "max_headers = 50",
            format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
            431,
        ),
        (
            "max_header_bytes = \"9KiB\"",
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(10_000)),
            431,
        ),
        (
            "request_timeout = \"none\"",
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            200,
        ),
    ] {
        let (process, mut conn) = reloaded("", setting);
        conn.send(&sent).unwrap();
        assert_eq!(
            conn.answer().map(|answer| answer.status),
            Ok(expected),
            "{setting}"
        );
        assert_eq!(process.get("/"), "Hello, world!");
    }
    let process = Launch::fixture()
        .settings("[http]\nbody_limit = \"1KiB\"\n")
        .serve();
    let mut conn = process.conn();
    let mut collect = |length: usize| {
        let body = "x".repeat(length);
        conn.send(format!(
            "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .unwrap();
        conn.answer().map(|answer| answer.status)
    };
    assert_eq!(collect(1000), Ok(200));
    process.settings("[http]\nbody_limit = \"2KiB\"\n");
    process.reload();
    assert_eq!(collect(2000), Ok(200));
    process.settings("[http]\nbody_limit = \"100B\"\n");
    process.reload();
    assert_eq!(collect(101), Ok(413));
}

#[test]
fn more_seats_by_a_reload_let_in_who_waits() {
    let process = with_http("max_connections = 2");
    let inside = Idle::open(&process.addr(), 2, Before::OneRequest);
    let mut waiting = process.conn();
    waiting.get("/").unwrap();
    assert_eq!(
        waiting.fate(ms(300)),
        Fate::KeptOpen,
        "there is no seat for it"
    );
    process.settings("[http]\nmax_connections = 3\n");
    process.reload();
    assert_eq!(waiting.answer().unwrap().text(), "Hello, world!");
    assert_eq!(inside.fates().open, 2);
}
