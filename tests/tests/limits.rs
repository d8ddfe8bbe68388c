//! Limits on slow clients and large requests: each ends with a status or a close, and memory does not grow.

use std::thread;
use std::time::{Duration, Instant};

use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::idle::{History, IdleConnections};
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
fn a_head_that_arrives_byte_by_byte_is_rejected_with_408_at_its_deadline() {
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
    assert_eq!(conn.state_after(LONG), SocketState::Closed);
    // the sender stops after the connection is closed
    let _ = slow.join().unwrap();
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn the_deadline_of_a_head_starts_with_its_first_byte() {
    let process = with_http("header_timeout = \"400ms\"\nidle_release = \"50ms\"");
    let mut conn = process.conn();
    assert_eq!(
        conn.state_after(ms(700)),
        SocketState::Open,
        "no byte was sent yet"
    );
    assert_eq!(conn.fetch("/").unwrap().status, 200);
    assert_eq!(
        conn.state_after(ms(700)),
        SocketState::Open,
        "no byte of the next request was sent yet"
    );
    let begun = Instant::now();
    conn.send("G").unwrap();
    let (answer, took) = (conn.answer().unwrap(), begun.elapsed());
    assert_eq!(answer.status, 408);
    assert!((ms(350)..LONG).contains(&took), "{took:?}");
}

#[test]
fn an_idle_connection_is_closed_at_idle_timeout() {
    let process = with_http("idle_timeout = \"3s\"\nidle_release = \"50ms\"");
    for before in [History::OneRequest, History::NoRequest] {
        let idle = IdleConnections::open(&process.addr(), 10, before);
        assert_eq!(idle.states().open, 10);
        until(
            LONG,
            &format!("all connections are closed, {before:?}"),
            || (idle.states().closed == 10).then_some(()),
        );
    }
}

#[test]
fn a_body_that_does_not_arrive_is_rejected_with_408_at_its_deadline() {
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
        assert_eq!(conn.state_after(LONG), SocketState::Closed);
    }
}

#[test]
fn a_gibibyte_body_that_no_handler_reads_is_rejected_unread() {
    let process = with_http("body_timeout = \"1h\"");
    for path in ["/", "/greet/x", "/nowhere"] {
        let mut conn = process.conn();
        conn.send(format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\nabc"
        ))
        .unwrap();
        // the server does not wait for the body, whose timeout is an hour
        let answer = conn.answer().unwrap();
        assert!(
            (400..500).contains(&answer.status) && answer.closes(),
            "{path}: {answer:?}"
        );
        assert_eq!(conn.state_after(LONG), SocketState::Closed);
    }
}

#[test]
fn a_client_that_is_still_sending_receives_the_rejection() {
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
        // the server discards the bytes that arrive meanwhile, and then closes the connection
        let _ = upload.join().unwrap();
    }
}

#[test]
fn a_head_over_max_header_bytes_is_rejected_with_431() {
    let process = with_http("max_header_bytes = \"16KiB\"");
    let huge = "x".repeat(40 << 10);
    let mut conn = process.conn();
    conn.send(format!("GET / HTTP/1.1\r\nHost: x\r\nA: {huge}\r\n\r\n"))
        .unwrap();
    assert_eq!(conn.answer().unwrap().status, 431);
    assert_eq!(conn.state_after(LONG), SocketState::Closed);
    let mut conn = process.conn();
    conn.send(format!(
        "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
        &huge[..10 << 10]
    ))
    .unwrap();
    assert_eq!(conn.answer().unwrap().status, 200);
}

#[test]
fn a_request_with_too_many_headers_is_rejected_with_431() {
    let process = Launch::playground().serve();
    let many: String = (0..150).map(|number| format!("A{number}: b\r\n")).collect();
    let mut conn = process.conn();
    conn.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"))
        .unwrap();
    assert_eq!(conn.answer().unwrap().status, 431);
}

#[test]
fn an_endless_head_does_not_fill_memory() {
    let process = Launch::playground().serve();
    assert_eq!(process.get("/"), "Hello, world!");
    let before = process.proc().rss_kib();
    for start in ["GET /", "GET / HTTP/1.1\r\nHost: x\r\nA: "] {
        let mut conn = process.conn();
        conn.send(start).unwrap();
        let flood = vec![b'x'; 1 << 20];
        // the server rejects the head early: then sending fails, or the server discards the bytes
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
fn a_request_past_request_timeout_is_answered_with_503() {
    let process = with_http("request_timeout = \"300ms\"");
    let mut conn = process.conn();
    conn.get("/sleep/3600000").unwrap();
    assert_eq!(conn.answer().unwrap().status, 503);
    assert_eq!(process.get("/sleep/10"), "slept");
}

#[test]
fn a_client_that_reads_nothing_is_closed_at_write_timeout() {
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
fn idle_connections_do_not_wake_the_process() {
    let process = with_http("idle_release = \"50ms\"");
    let idle = IdleConnections::open(&process.addr(), 300, History::OneRequest);
    // once all connections are in the `IdleSet`, the process wakes up only to check deadlines; one wake-up for each
    // connection would be at least 300
    let asleep = || {
        let (before, begun) = (process.proc().switches(), Instant::now());
        thread::sleep(ms(500));
        let per_second =
            (process.proc().switches() - before) * 1000 / begun.elapsed().as_millis() as u64;
        (per_second < 100).then_some(())
    };
    until(LONG, "the process sleeps", asleep);
    assert_eq!(idle.states().open, 300);
}

/// Opens a connection, sends a request on it, and then reloads the server from the limits `before` to `after`.
fn serve_then_reload(before: &str, after: &str) -> (Process, Conn) {
    let process = with_http(before);
    let mut conn = process.conn();
    assert_eq!(conn.fetch("/").unwrap().status, 200);
    process.settings(&format!("[http]\n{after}\n"));
    process.reload();
    (process, conn)
}

#[test]
fn a_reload_changes_each_timeout_of_open_connections() {
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
        let (_process, mut conn) = serve_then_reload(long, &format!("{setting} = \"200ms\""));
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
        let (_process, mut conn) = serve_then_reload(&format!("{long}{release}"), &after);
        // a connection that is already idle keeps its old deadline; the new timeout applies when it is idle again
        let _ = conn.fetch("/");
        assert_eq!(
            conn.state_after(LONG),
            SocketState::Closed,
            "idle_timeout, {release}"
        );
    }
    let (process, mut conn) =
        serve_then_reload("write_timeout = \"1h\"", "write_timeout = \"200ms\"");
    let before = process.proc().open_fds();
    conn.get("/bytes/100000000").unwrap();
    assert_eq!(conn.head().unwrap().status, 200);
    until(LONG, "write_timeout", || {
        (process.proc().open_fds() < before).then_some(())
    });
}

#[test]
fn a_reload_changes_each_size_limit_of_open_connections() {
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
        let (process, mut conn) = serve_then_reload("", setting);
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
fn a_reload_that_raises_max_connections_admits_waiting_clients() {
    let process = with_http("max_connections = 2");
    let connected = IdleConnections::open(&process.addr(), 2, History::OneRequest);
    let mut waiting = process.conn();
    waiting.get("/").unwrap();
    assert_eq!(
        waiting.state_after(ms(300)),
        SocketState::Open,
        "no permit is free"
    );
    process.settings("[http]\nmax_connections = 3\n");
    process.reload();
    assert_eq!(waiting.answer().unwrap().text(), "Hello, world!");
    assert_eq!(connected.states().open, 2);
}
