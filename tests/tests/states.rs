//! The states of a connection in ARCHITECTURE.md: the test brings a connection into each state and waits for its end.

use std::time::Duration;

use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::process_chain::{signal_to, ProcessChain};
use slackwater_tests::wait::until;

use crate::help::ms;

const LONG: Duration = Duration::from_secs(60);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Returns a HEADERS frame with END_STREAM on stream 1: a GET of the path, by HPACK's static table (RFC 7541, appendix A).
fn get(path: &str) -> Vec<u8> {
    let mut block = b"\x82\x86\x41\x01x\x04".to_vec();
    block.push(u8::try_from(path.len()).unwrap());
    block.extend(path.as_bytes());
    let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1];
    frame.extend(block);
    frame
}

const WS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Returns the names in the table of states.
fn listed() -> Vec<&'static str> {
    let page = include_str!("../../framework/ARCHITECTURE.md");
    let (_, table) = page
        .split_once("| state | meaning | clock |\n|---|---|---|\n")
        .expect("the table of states");
    let rows = table.lines().take_while(|line| line.starts_with("| "));
    rows.filter_map(|row| row.split(" | ").next()?.strip_prefix("| "))
        .collect()
}

/// Starts the fixture with these settings, and with 1 h for every other timeout.
fn with(settings: &str) -> Process {
    let others: String = [
        "header_timeout",
        "idle_timeout",
        "body_timeout",
        "request_timeout",
        "write_timeout",
        "idle_release",
    ]
    .iter()
    .filter(|other| !settings.contains(**other))
    .map(|other| format!("{other} = \"1h\"\n"))
    .collect();
    let settings = format!("[http]\n{others}{settings}\n");
    Launch::fixture().settings(&settings).serve()
}

fn sent(process: &Process, bytes: impl AsRef<[u8]>) -> Conn {
    let mut conn = process.conn();
    conn.send(bytes).unwrap();
    conn
}

/// Waits until the server has closed the descriptor of the connection, although the client keeps its own open.
fn ends(process: &Process, before: usize) {
    until(LONG, "the server closes the connection", || {
        (process.proc().open_fds() <= before).then_some(())
    });
}

/// Reads from the connection until it ends.
fn closes(conn: &mut Conn) {
    loop {
        match conn.state_after(LONG) {
            SocketState::Sent(_) => {}
            SocketState::Closed | SocketState::Reset => return,
            SocketState::Open => panic!("it is still open"),
        }
    }
}

/// Brings a connection into a state and waits for its end.
fn hold(state: &str) {
    match state {
        "Idle" => {
            let process = with("idle_timeout = \"300ms\"");
            closes(&mut process.conn());
        }
        "IdleWithoutTask" => {
            let process = with("idle_timeout = \"500ms\"\nidle_release = \"10ms\"");
            closes(&mut process.conn());
        }
        "Head" => {
            let process = with("header_timeout = \"300ms\"");
            let mut conn = sent(&process, "GET /pid HTTP/1.1\r\nHost:");
            assert_eq!(conn.answer().unwrap().status, 408);
            closes(&mut conn);
        }
        "Handler" => {
            let process = with("request_timeout = \"300ms\"");
            let mut conn = sent(&process, "GET /slow/3600000 HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(conn.answer().unwrap().status, 503);
        }
        "Body" => {
            let process = with("body_timeout = \"300ms\"");
            let head = "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe";
            let mut conn = sent(&process, head);
            assert_eq!(conn.answer().unwrap().status, 408);
            closes(&mut conn);
        }
        "Response" => {
            // the client disconnects, and sending the next part of the response fails
            let process = with("");
            let before = process.proc().open_fds();
            let mut conn = sent(&process, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(conn.head().unwrap().status, 200);
            drop(conn);
            ends(&process, before);
        }
        "Stalled" => {
            let process = with("write_timeout = \"300ms\"");
            let before = process.proc().open_fds();
            let echo = format!("GET /switch HTTP/1.1\r\nHost: x\r\n{WS}\r\n");
            let mut conn = sent(&process, echo);
            assert_eq!(conn.head().unwrap().status, 101);
            while conn.send(vec![b'x'; 1 << 16]).is_ok() {}
            ends(&process, before);
        }
        "BodyHeld" => {
            let process = with("body_timeout = \"300ms\"");
            let head = "POST /keeps HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe";
            let mut conn = sent(&process, head);
            assert_eq!(conn.answer().unwrap().text(), "kept");
            closes(&mut conn);
        }
        "BeforeSwitch" => {
            let process = with("body_timeout = \"300ms\"");
            let head =
                format!("GET /switch HTTP/1.1\r\nHost: x\r\n{WS}Content-Length: 5\r\n\r\nhe");
            let mut conn = sent(&process, head);
            assert_eq!(conn.answer().unwrap().status, 408);
            closes(&mut conn);
        }
        "Switching" => {
            let process = with("");
            let head = format!("GET /switch-unused HTTP/1.1\r\nHost: x\r\n{WS}\r\n");
            let mut conn = sent(&process, head);
            assert_eq!(conn.head().unwrap().status, 101);
            closes(&mut conn);
        }
        "Tunnel" => {
            // this handler sends pings, and the client does not answer them
            let process = with("");
            let mut conn = sent(
                &process,
                format!("GET /pinging HTTP/1.1\r\nHost: x\r\n{WS}\r\n"),
            );
            assert_eq!(conn.head().unwrap().status, 101);
            closes(&mut conn);
        }
        "WebSocketClosing" => {
            let process = with("");
            let before = process.proc().open_fds();
            let head = format!("GET /ws-fails HTTP/1.1\r\nHost: x\r\n{WS}\r\n");
            let mut conn = sent(&process, head);
            assert_eq!(conn.head().unwrap().status, 101);
            assert!(matches!(conn.state_after(LONG), SocketState::Sent(frame) if frame[0] == 0x88));
            // the client does not answer the close frame
            ends(&process, before);
            drop(conn);
        }
        "Lingering" => {
            let process = with("");
            let before = process.proc().open_fds();
            let head = "GET /pid HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let mut conn = sent(&process, head);
            assert_eq!(conn.answer().unwrap().status, 200);
            assert_eq!(
                conn.state_after(LONG),
                SocketState::Closed,
                "the server ends its sending side"
            );
            ends(&process, before);
            drop(conn);
        }
        "LingeringIdle" => {
            let process = with("idle_timeout = \"300ms\"");
            let before = process.proc().open_fds();
            let mut conn = process.conn();
            assert_eq!(
                conn.state_after(LONG),
                SocketState::Closed,
                "the server ends its sending side"
            );
            ends(&process, before);
            drop(conn);
        }
        "HandedOver" => {
            // the test stops the new process while it receives a connection; only the time limit on the acknowledgement is
            // short
            let settings = "[upgrade]\nrollback_window = \"1h\"\n[log]\nlevel = \"debug\"\n";
            let launch = Launch::fixture().settings(settings);
            let chain = ProcessChain::serve(&launch.env("FIXTURE_HOLDS", "1"));
            let mut conn = chain.conn();
            let old = conn.fetch("/pid").unwrap().text();
            chain
                .dir()
                .write("hold", "the old process sent Connections");
            let (new, held) = (chain.begin_upgrade(), chain.dir().path().join("held"));
            until(LONG, "the connection is sent", || {
                held.exists().then_some(())
            });
            signal_to(new, Signal::STOP);
            std::fs::remove_file(held).unwrap();
            assert_eq!(conn.fetch("/pid").unwrap().text(), old);
        }
        "Http2Busy" => {
            let process = with("request_timeout = \"300ms\"");
            let mut conn = sent(&process, [PREFACE, &get("/until-drained")].concat());
            let (mut all, answer) = (vec![], b"Service Unavailable");
            until(LONG, "503", || {
                if let SocketState::Sent(bytes) = conn.state_after(ms(50)) {
                    all.extend(bytes);
                }
                all.windows(answer.len())
                    .any(|window| window == answer)
                    .then_some(())
            });
        }
        "Http2Idle" | "Http2Left" => {
            // the client does not answer GOAWAY
            let process = with("idle_timeout = \"300ms\"");
            closes(&mut sent(&process, PREFACE));
        }
        "Http2Leaving" => {
            let process = with("request_timeout = \"2s\"");
            let mut conn = sent(&process, [PREFACE, &get("/until-drained")].concat());
            assert!(matches!(conn.state_after(LONG), SocketState::Sent(_)));
            process.signal(Signal::TERM);
            closes(&mut conn);
        }
        unknown => panic!("no test brings a connection into the state {unknown}"),
    }
}

#[test]
fn a_connection_in_any_listed_state_ends() {
    let states = listed();
    assert!(states.len() > 10, "{states:?}");
    std::thread::scope(|scope| {
        for state in states {
            std::thread::Builder::new()
                .name(state.to_owned())
                .spawn_scoped(scope, move || hold(state))
                .unwrap();
        }
    });
}
