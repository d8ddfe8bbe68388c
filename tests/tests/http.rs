//! HTTP/1 requests over real connections: answers in order, bodies in both directions, connections kept open.

use std::time::Duration;

use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::process::Process;

use crate::help::ms;

/// Starts two servers: one moves its connections to the `IdleSet` almost at once, the other after an hour.
fn short_and_long_idle_release() -> [Process; 2] {
    ["\"10ms\"", "\"1h\""].map(|release| {
        Launch::playground()
            .settings(&format!("[http]\nidle_release = {release}\n"))
            .serve()
    })
}

#[test]
fn the_routes_of_the_playground_answer() {
    let process = Launch::playground()
        .env("PLAYGROUND_BUILD", "b7")
        .settings("[app]\ngreeting = \"Moin\"\n")
        .serve();
    assert_eq!(process.get("/"), "Hello, world!");
    assert_eq!(process.get("/greet/Ada"), "Moin, Ada!");
    assert_eq!(process.get("/pid"), process.pid().to_string());
    assert_eq!(process.get("/sleep/5"), "slept");
    assert_eq!(process.get("/bytes/100000").len(), 100_000);
    assert!(
        process.get("/peer").starts_with("127.0.0.1:"),
        "{}",
        process.get("/peer")
    );
    let generation = process.conn().fetch("/generation").unwrap().json();
    assert_eq!(
        (&generation["pid"], &generation["build"]),
        (&process.pid().into(), &"b7".into())
    );
    assert_eq!(generation["greeting"], "Moin");
    assert_eq!(process.conn().fetch("/nowhere").unwrap().status, 404);
    assert_eq!(process.conn().fetch("/livez").unwrap().status, 200);
}

#[test]
fn a_connection_is_kept_open_and_its_requests_are_answered_in_order() {
    for process in short_and_long_idle_release() {
        let mut conn = process.conn();
        for number in 0..50 {
            assert_eq!(
                conn.fetch(&format!("/greet/{number}")).unwrap().text(),
                format!("Hello, {number}!")
            );
        }
        assert_eq!(conn.state_after(ms(50)), SocketState::Open);
        assert_eq!(conn.fetch("/bytes/3").unwrap().body.len(), 3);
    }
}

#[test]
fn forty_requests_in_one_segment_are_answered_in_order() {
    for process in short_and_long_idle_release() {
        let mut conn = process.conn();
        for round in 0..3 {
            let all: String = (0..40)
                .map(|number| format!("GET /greet/{round}-{number} HTTP/1.1\r\nHost: x\r\n\r\n"))
                .collect();
            conn.send(all).unwrap();
            for number in 0..40 {
                assert_eq!(
                    conn.answer().unwrap().text(),
                    format!("Hello, {round}-{number}!")
                );
            }
            assert_eq!(conn.state_after(ms(40)), SocketState::Open);
        }
    }
}

#[test]
fn a_pipeline_with_a_slow_request_and_half_a_request_at_its_end_loses_nothing() {
    for process in short_and_long_idle_release() {
        let mut conn = process.conn();
        conn.send(
            "GET /sleep/100 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nGET /pi",
        )
        .unwrap();
        assert_eq!(conn.answer().unwrap().text(), "slept");
        assert_eq!(conn.answer().unwrap().text(), "Hello, world!");
        assert_eq!(conn.state_after(ms(60)), SocketState::Open);
        conn.send("d HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(conn.answer().unwrap().text(), process.pid().to_string());
    }
}

#[test]
fn a_request_may_arrive_byte_by_byte_or_in_two_parts() {
    let request = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    for process in short_and_long_idle_release() {
        let mut conn = process.conn();
        conn.send_in_pieces(request, 1, ms(1)).unwrap();
        assert_eq!(conn.answer().unwrap().text(), "hello");
        for split in (1..request.len()).step_by(5) {
            conn.send(&request[..split]).unwrap();
            std::thread::sleep(ms(15));
            conn.send(&request[split..]).unwrap();
            assert_eq!(conn.answer().unwrap().text(), "hello", "split at {split}");
        }
    }
}

#[test]
fn a_client_that_half_closes_after_its_request_receives_the_answer() {
    for process in short_and_long_idle_release() {
        for path in ["/", "/sleep/100", "/stream/2"] {
            let mut conn = process.conn();
            conn.get(path).unwrap();
            conn.half_close().unwrap();
            assert_eq!(conn.answer().unwrap().status, 200, "{path}");
            assert_eq!(
                conn.state_after(Duration::from_secs(5)),
                SocketState::Closed,
                "{path}"
            );
        }
    }
}

#[test]
fn an_answer_to_head_has_the_length_and_no_body() {
    let process = Launch::playground().serve();
    let mut conn = process.conn();
    conn.send("HEAD /bytes/1000 HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let head = conn.head().unwrap();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("1000"))
    );
    assert_eq!(
        conn.fetch("/").unwrap().text(),
        "Hello, world!",
        "no byte of a body follows the head"
    );
}

#[test]
fn bodies_stream_in_both_directions_at_once() {
    let process = Launch::playground().serve();
    let mut conn = process.conn();
    conn.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .unwrap();
    let mut answer = conn.head().unwrap();
    assert_eq!(
        conn.chunk().unwrap().unwrap(),
        b"first",
        "the answer begins before the request has ended"
    );
    conn.send("6\r\nsecond\r\n0\r\n\r\n").unwrap();
    conn.body(&mut answer).unwrap();
    assert_eq!(answer.text(), "second");
    assert_eq!(conn.fetch("/").unwrap().text(), "Hello, world!");
}

#[test]
fn a_large_upload_is_read_without_filling_memory() {
    let process = Launch::playground().serve();
    assert_eq!(process.get("/"), "Hello, world!");
    let (before, length) = (process.proc().rss_kib(), 64 << 20);
    let mut conn = process.conn();
    conn.send(format!(
        "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
    ))
    .unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..length / piece.len() {
        conn.send(&piece).unwrap();
    }
    assert_eq!(conn.answer().unwrap().text(), length.to_string());
    let grown = process.proc().rss_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more after 64 MiB");
}

#[test]
fn chunks_of_a_stream_are_sent_as_they_are_produced() {
    let process = Launch::playground().serve();
    let mut conn = process.conn();
    // this stream lasts about 28 hours
    conn.get("/stream/1000000").unwrap();
    assert_eq!(conn.head().unwrap().status, 200);
    assert!(
        conn.chunk().unwrap().is_some(),
        "the first chunk does not wait for the last"
    );
    conn = process.conn();
    conn.get("/stream/5").unwrap();
    assert_eq!(conn.head().unwrap().status, 200);
    let mut chunks = 0;
    while conn.chunk().unwrap().is_some() {
        chunks += 1;
    }
    assert_eq!(chunks, 5);
}

#[test]
fn server_sent_events_are_streamed() {
    let process = Launch::playground().serve();
    let mut conn = process.conn();
    conn.get("/events").unwrap();
    let head = conn.head().unwrap();
    assert!(
        head.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/event-stream")),
        "{head:?}"
    );
    assert!(conn.chunk().unwrap().is_some());
}

#[test]
fn a_panic_of_a_handler_is_answered_with_500_and_the_process_serves_on() {
    let process = Launch::playground().serve();
    let mark = process.mark();
    assert_eq!(process.conn().fetch("/panic").unwrap().status, 500);
    process.wait_for_log(mark, "/panic");
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn a_panic_of_a_handler_before_it_reads_the_body_closes_the_connection() {
    let process = Launch::playground().serve();
    let mut conn = process.conn();
    let body = "x".repeat(300_000);
    conn.send(format!(
        "GET /panic HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .unwrap();
    let answer = conn.answer().unwrap();
    assert!(answer.status == 500 && answer.closes(), "{answer:?}");
    let end = conn.state_after(Duration::from_secs(20));
    assert!(
        matches!(end, SocketState::Closed | SocketState::Reset),
        "{end:?}"
    );
}

#[test]
fn the_server_sends_100_continue_when_the_handler_reads_the_body() {
    let process = Launch::playground().serve();
    let mut conn = process.conn();
    conn.send(
        "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
    )
    .unwrap();
    assert_eq!(conn.answer().unwrap().status, 100);
    conn.send("ok").unwrap();
    assert_eq!(conn.answer().unwrap().text(), "2");
}

#[test]
fn http_1_0_requests_are_answered_with_and_without_keep_alive() {
    let process = Launch::playground().serve();
    let mut conn = process.conn();
    conn.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .unwrap();
    assert_eq!(conn.answer().unwrap().text(), "Hello, world!");
    conn.send("GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(conn.answer().unwrap().text(), "Hello, world!");
    assert_eq!(
        conn.state_after(Duration::from_secs(5)),
        SocketState::Closed
    );
}

#[test]
fn many_clients_of_all_kinds_are_served_without_a_failure() {
    for process in short_and_long_idle_release() {
        let load = Load::on(&process.addr())
            .clients(8, Pattern::KeepAlive)
            .clients(4, Pattern::NewConnection);
        let load = load
            .clients(8, Pattern::Thinking(ms(12)))
            .clients(4, Pattern::Thinking(ms(9)))
            .start();
        load.wait_for(1500, Duration::from_secs(60));
        let tally = load.stop();
        tally.assert_flawless();
        assert_eq!(tally.announced_closes(), 0, "{tally}");
    }
}

#[test]
fn closed_connections_leave_no_descriptor_open() {
    let process = Launch::playground()
        .settings("[http]\nidle_release = \"10ms\"\n")
        .serve();
    assert_eq!(process.get("/"), "Hello, world!");
    let before = process.proc().open_fds();
    for _ in 0..3 {
        let mut conns: Vec<Conn> = (0..50).map(|_| process.conn()).collect();
        conns
            .iter_mut()
            .for_each(|conn| drop(conn.fetch("/").unwrap()));
    }
    slackwater_tests::wait::until(
        Duration::from_secs(10),
        "all descriptors are closed",
        || (process.proc().open_fds() <= before).then_some(()),
    );
}
