//! A server sends a 101 only after it has read the whole request, and closes a tunnel that its handler does not use.

use std::time::Duration;

use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::wait::until;

use crate::help::ms;

const LONG: Duration = Duration::from_secs(30);
const LIMIT: usize = 20;

fn settings(more: &str) -> String {
    format!("[http]\nmax_connections = {LIMIT}\n{more}\n")
}

fn handshake(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

/// Headers that announce a body of five bytes, each with the parts of the body that are sent.
const WITH_CONTENT: [(&str, &[&str]); 7] = [
    ("Expect: 100-continue\r\nContent-Length: 5\r\n", &[]),
    ("Content-Length: 5\r\n", &[]),
    ("Content-Length: 5\r\n", &["he"]),
    ("Content-Length: 5\r\n", &["he", "llo"]),
    ("Transfer-Encoding: chunked\r\n", &[]),
    ("Transfer-Encoding: chunked\r\n", &["5\r\nhello\r\n"]),
    (
        "Transfer-Encoding: chunked\r\n",
        &["5\r\nhello\r\n", "0\r\n\r\n"],
    ),
];

/// Uses every permit once: opens a connection, sends the same request on it, and closes it at once.
fn fill(process: &Process, head: &str, pieces: &[&str]) {
    for _ in 0..LIMIT {
        let mut conn = process.conn();
        conn.send(head).unwrap();
        for piece in pieces {
            std::thread::sleep(ms(5));
            // sending may fail, because the server may have rejected the request and closed
            let _ = conn.send(piece);
        }
    }
}

#[test]
fn clients_that_close_at_once_after_a_handshake_with_content_use_up_no_permit() {
    let process = Launch::playground().settings(&settings("")).serve();
    for (lines, pieces) in WITH_CONTENT {
        fill(&process, &handshake("/ws", lines), pieces);
        assert_eq!(process.get("/"), "Hello, world!", "{lines:?} {pieces:?}");
    }
}

#[test]
fn clients_that_close_at_once_before_a_plain_tide_101_use_up_no_permit() {
    let process = Launch::fixture().settings(&settings("")).serve();
    for (lines, pieces) in WITH_CONTENT {
        fill(&process, &handshake("/switch", lines), pieces);
        let pid = process.pid().to_string();
        assert_eq!(process.get("/pid"), pid, "{lines:?} {pieces:?}");
    }
}

#[test]
fn a_websocket_handshake_with_content_is_answered_with_400() {
    let process = Launch::playground().serve();
    for (lines, pieces) in WITH_CONTENT {
        let mut conn = process.conn();
        conn.send(handshake("/ws", lines)).unwrap();
        for piece in pieces {
            let _ = conn.send(piece);
        }
        assert_eq!(conn.answer().unwrap().status, 400, "{lines:?} {pieces:?}");
    }
    let mut conn = process.conn();
    conn.send(handshake("/ws", "Content-Length: 0\r\n"))
        .unwrap();
    assert_eq!(
        conn.head().unwrap().status,
        101,
        "a Content-Length of 0 is no content"
    );
}

#[test]
fn a_101_follows_the_whole_request_and_no_byte_of_the_request_reaches_the_tunnel() {
    let process = Launch::fixture().serve();
    for (lines, pieces) in [
        ("Content-Length: 5\r\n", ["he", "llo"]),
        (
            "Transfer-Encoding: chunked\r\n",
            ["5\r\nhello\r\n", "0\r\n\r\n"],
        ),
    ] {
        let mut conn = process.conn();
        conn.send(handshake("/switch", lines)).unwrap();
        conn.send(pieces[0]).unwrap();
        assert_eq!(conn.state_after(ms(300)), SocketState::Open, "{lines:?}");
        conn.send(format!("{}tunnel", pieces[1])).unwrap();
        assert_eq!(conn.head().unwrap().status, 101, "{lines:?}");
        assert_eq!(
            conn.state_after(LONG),
            SocketState::Sent(b"tunnel".to_vec()),
            "{lines:?}"
        );
    }
}

#[test]
fn a_client_that_expects_a_100_receives_it_before_the_101() {
    let process = Launch::fixture().serve();
    let mut conn = process.conn();
    conn.send(handshake(
        "/switch",
        "Expect: 100-continue\r\nContent-Length: 5\r\n",
    ))
    .unwrap();
    assert_eq!(conn.answer().unwrap().status, 100);
    conn.send("hellotunnel").unwrap();
    assert_eq!(conn.head().unwrap().status, 101);
    assert_eq!(
        conn.state_after(LONG),
        SocketState::Sent(b"tunnel".to_vec())
    );
}

#[test]
fn a_request_that_cannot_be_read_to_its_end_is_answered_with_an_error_instead_of_101() {
    let process = Launch::fixture()
        .settings("[http]\nbody_timeout = \"300ms\"\n")
        .serve();
    let large = "x".repeat(70_000);
    let in_chunks = format!("11170\r\n{large}\r\n0\r\n\r\n");
    for (lines, body, status) in [
        ("Content-Length: 5\r\n", "he", 408),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n", 408),
        ("Content-Length: 70000\r\n", "", 413),
        ("Transfer-Encoding: chunked\r\n", &in_chunks, 413),
        ("Transfer-Encoding: chunked\r\n", "no chunk\r\n", 400),
    ] {
        let mut conn = process.conn();
        conn.send(handshake("/switch", lines)).unwrap();
        let _ = conn.send(body);
        let answer = conn.answer().unwrap();
        assert_eq!(answer.status, status, "{lines:?}");
        assert!(answer.closes(), "{answer:?}");
        assert_eq!(conn.state_after(LONG), SocketState::Closed, "{lines:?}");
    }
}

#[test]
fn a_slow_body_before_a_101_does_not_extend_its_deadline() {
    let process = Launch::fixture()
        .settings("[http]\nbody_timeout = \"500ms\"\n")
        .serve();
    let mut conn = process.conn();
    conn.send(handshake("/switch", "Content-Length: 1000\r\n"))
        .unwrap();
    let mut sender = conn.try_clone().unwrap();
    let trickle = std::thread::spawn(move || sender.send_in_pieces(&[b'x'; 400], 1, ms(50)));
    assert_eq!(conn.answer().unwrap().status, 408);
    // the thread ends when its connection is closed
    drop(conn);
    let _ = trickle.join().unwrap();
}

#[test]
fn a_stop_does_not_wait_for_the_rest_of_a_request_before_a_101() {
    let settings = "[shutdown]\ngrace = \"300ms\"\nforce_after = \"10s\"\n";
    let mut process = Launch::fixture().settings(settings).serve();
    let mut conn = process.conn();
    conn.send(handshake("/switch", "Content-Length: 5\r\n"))
        .unwrap();
    assert_eq!(conn.state_after(ms(200)), SocketState::Open);
    process.signal(Signal::TERM);
    assert_eq!(conn.answer().unwrap().status, 503);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(
        !process.log().contains("closed before its end"),
        "{}",
        process.log()
    );
}

#[test]
fn a_tunnel_that_its_handler_does_not_use_is_closed_and_releases_its_permit() {
    let process = Launch::fixture().settings(&settings("")).serve();
    let mut conns: Vec<Conn> = (0..LIMIT)
        .map(|_| {
            let mut conn = process.conn();
            conn.send(handshake("/switch-unused", "")).unwrap();
            assert_eq!(conn.head().unwrap().status, 101);
            conn
        })
        .collect();
    for conn in &mut conns {
        assert_eq!(conn.state_after(LONG), SocketState::Closed);
    }
    assert_eq!(process.get("/pid"), process.pid().to_string());
    process.wait_for_log(0, "has not used the connection");
}

#[test]
fn a_generation_ends_when_its_unused_tunnel_is_closed() {
    let process = Launch::fixture().serve();
    let mut conn = process.conn();
    conn.send(handshake("/switch-unused", "")).unwrap();
    assert_eq!(conn.head().unwrap().status, 101);
    let mark = process.mark();
    process.reload();
    process.wait_for_log(mark, "has ended after");
    assert_eq!(conn.state_after(LONG), SocketState::Closed);
}

#[test]
fn a_body_that_its_handler_keeps_after_the_response_does_not_keep_the_permit() {
    let process = Launch::fixture()
        .settings(&settings("body_timeout = \"300ms\""))
        .serve();
    let pid = process.pid().to_string();
    for (lines, pieces) in WITH_CONTENT {
        for _ in 0..LIMIT {
            let mut conn = process.conn();
            let head = format!("POST /keeps HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
            conn.send(head).unwrap();
            pieces.iter().for_each(|piece| conn.send(piece).unwrap());
            // the client has read the whole response, so it closes without a reset
            assert_eq!(conn.answer().unwrap().text(), "kept");
        }
        assert_eq!(process.get("/pid"), pid, "{lines:?} {pieces:?}");
    }
    let before = process.proc().open_fds();
    let mut conn = process.conn();
    conn.send("POST /keeps HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        .unwrap();
    assert_eq!(conn.answer().unwrap().text(), "kept");
    // the body has arrived completely, so the next request on the connection is answered
    assert_eq!(
        conn.fetch("/pid").unwrap().text(),
        process.pid().to_string()
    );
    drop(conn);
    until(LONG, "the server has closed the descriptor", || {
        (process.proc().open_fds() <= before).then_some(())
    });
}
