//! Event streams: their contents, and their orderly end together with their generation.

use std::time::Duration;

use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::process_chain::ProcessChain;

use crate::help::pid_on;

const LONG: Duration = Duration::from_secs(20);
const SPREAD: &str = "[shutdown]\ngrace = \"20s\"\nclose_spread = \"400ms\"\n";

/// Opens an event stream and waits for its first event.
fn open_stream(process: &Process, path: &str) -> Conn {
    let mut conn = process.conn();
    conn.get(path).unwrap();
    let head = conn.head().unwrap();
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("text/event-stream"))
    );
    assert_eq!(head.header("cache-control"), Some("no-cache"));
    conn.chunk().unwrap().expect("an event");
    conn
}

/// Reads a stream to its orderly end, and returns the rest of it.
fn rest(conn: &mut Conn) -> String {
    let mut rest = Vec::new();
    while let Some(chunk) = conn.chunk().unwrap() {
        rest.extend(chunk);
    }
    String::from_utf8(rest).unwrap()
}

/// Returns the reconnection time (`retry`) at the end of a stream, in milliseconds.
fn hint(rest: &str) -> u64 {
    let last = rest.trim_end().lines().last().unwrap_or_default();
    let millis = last
        .strip_prefix("retry: ")
        .and_then(|millis| millis.parse().ok());
    millis.unwrap_or_else(|| panic!("no retry field at the end of {rest:?}"))
}

#[test]
fn a_stop_ends_all_streams_with_different_reconnection_times() {
    let mut process = Launch::playground().settings(SPREAD).serve();
    let mut streams: Vec<_> = (0..8).map(|_| open_stream(&process, "/events")).collect();
    process.signal(Signal::TERM);
    let mut hints: Vec<_> = streams
        .iter_mut()
        .map(|stream| hint(&rest(stream)))
        .collect();
    assert!(
        hints.iter().all(|hint| (100..=500).contains(hint)),
        "{hints:?}"
    );
    hints.sort_unstable();
    hints.dedup();
    assert!(
        hints.len() > 1,
        "all clients would reconnect at once: {hints:?}"
    );
    for stream in &mut streams {
        assert_eq!(stream.state_after(LONG), SocketState::Closed);
    }
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(
        !process.log().contains("closed before its end"),
        "{}",
        process.log()
    );
}

#[test]
fn a_reload_ends_streams_and_keeps_their_connections_open() {
    let process = Launch::playground().settings(SPREAD).serve();
    let mut stream = open_stream(&process, "/events");
    process.reload();
    hint(&rest(&mut stream));
    assert_eq!(stream.fetch("/").unwrap().text(), "Hello, world!");
}

#[test]
fn an_upgrade_ends_streams_and_hands_their_connections_over() {
    let settings = format!("{SPREAD}[upgrade]\nrollback_window = \"300ms\"\n");
    let mut chain = ProcessChain::serve(&Launch::playground().settings(&settings));
    let old = chain.newest();
    let mut stream = open_stream(&chain, "/events");
    let new = chain.upgrade();
    hint(&rest(&mut stream));
    assert_eq!(pid_on(&mut stream), new);
    chain.wait_gone(old, LONG);
}

#[test]
fn a_stream_of_tide_ends_when_its_handler_receives_the_drain_notification() {
    let mut process = Launch::fixture().serve();
    let mut stream = open_stream(&process, "/tide-events");
    process.signal(Signal::TERM);
    let rest = rest(&mut stream);
    assert!(
        rest.contains("event:last") && rest.contains("data:2"),
        "{rest:?}"
    );
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}
