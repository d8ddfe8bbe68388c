//! Event streams: what is on them, and that they end in the orderly way when their generation does.

use std::time::Duration;

use slackwater_tests::conn::{Conn, Fate};
use slackwater_tests::launch::Launch;
use slackwater_tests::lineage::Lineage;
use slackwater_tests::process::{Process, Signal};

use crate::help::pid_on;

const LONG: Duration = Duration::from_secs(20);
const SPREAD: &str = "[shutdown]\ngrace = \"20s\"\nclose_spread = \"400ms\"\n";

/// A stream of events whose first one has come.
fn listening(process: &Process, path: &str) -> Conn {
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

/// All that is still sent on it, up to its end in the orderly way.
fn rest(conn: &mut Conn) -> String {
    let mut rest = Vec::new();
    while let Some(chunk) = conn.chunk().unwrap() {
        rest.extend(chunk);
    }
    String::from_utf8(rest).unwrap()
}

/// The hint that a stream ends with, in milliseconds.
fn hint(rest: &str) -> u64 {
    let last = rest.trim_end().lines().last().unwrap_or_default();
    let millis = last
        .strip_prefix("retry: ")
        .and_then(|millis| millis.parse().ok());
    millis.unwrap_or_else(|| panic!("no hint at the end of {rest:?}"))
}

#[test]
fn a_stop_ends_all_streams_with_hints_that_differ() {
    let mut process = Launch::playground().settings(SPREAD).serve();
    let mut streams: Vec<_> = (0..8).map(|_| listening(&process, "/events")).collect();
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
    assert!(hints.len() > 1, "all of them come back at once: {hints:?}");
    for stream in &mut streams {
        assert_eq!(stream.fate(LONG), Fate::Closed);
    }
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(
        !process.log().contains("closed before its end"),
        "{}",
        process.log()
    );
}

#[test]
fn a_reload_ends_streams_and_the_connection_goes_on() {
    let process = Launch::playground().settings(SPREAD).serve();
    let mut stream = listening(&process, "/events");
    process.reload();
    hint(&rest(&mut stream));
    assert_eq!(stream.ask("/").unwrap().text(), "Hello, world!");
}

#[test]
fn after_an_upgrade_streams_end_and_their_connections_travel() {
    let settings = format!("{SPREAD}[upgrade]\nrollback_window = \"300ms\"\n");
    let mut lineage = Lineage::serve(&Launch::playground().settings(&settings));
    let old = lineage.newest();
    let mut stream = listening(&lineage, "/events");
    let new = lineage.upgrade();
    hint(&rest(&mut stream));
    assert_eq!(pid_on(&mut stream), new);
    lineage.gone(old, LONG);
}

#[test]
fn the_events_of_tide_itself_end_when_their_handler_hears_of_the_drain() {
    let mut process = Launch::fixture().serve();
    let mut stream = listening(&process, "/tide-events");
    process.signal(Signal::TERM);
    let rest = rest(&mut stream);
    assert!(
        rest.contains("event:last") && rest.contains("data:2"),
        "{rest:?}"
    );
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}
