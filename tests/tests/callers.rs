//! Clients that disconnect while a handler works: the server notices at once, and the handler runs to its end.

use std::fs;
use std::time::Duration;

use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Process;
use slackwater_tests::wait::until;

use crate::help::ms;

const LONG: Duration = Duration::from_secs(30);

/// Settings with one permit for a connection, an access log and the debug level.
const SETTINGS: &str =
    "metrics.path = \"/metrics\"\n[http]\nmax_connections = 1\n[log]\naccess = true\nlevel = \"debug\"\n";

/// The fixture logs this line when its long-running handler begins.
const BEGINS: &str = "work has started";
/// The fixture logs this line when its long-running handler ends.
const DONE: &str = "the work is done";

/// Lets the long-running handler finish and waits until it has.
fn finish(process: &Process, mark: usize) {
    assert!(!process.log().contains(DONE), "the handler still works");
    fs::write(process.dir().path().join("enough"), "").unwrap();
    process.wait_for_log(mark, DONE);
}

#[test]
fn the_server_notices_a_reset_while_the_handler_works_and_the_handler_runs_to_its_end() {
    let process = Launch::fixture().settings(SETTINGS).serve();
    let mut conn = process.conn();
    conn.get("/work").unwrap();
    process.wait_for_log(0, BEGINS);
    conn.reset();
    let line = process.wait_for_log(0, "/work 499");
    assert!(line.contains("access"), "{line}");
    let scrape = process.get("/metrics");
    assert!(
        scrape.contains("{route=\"/work\",method=\"GET\",status=\"499\"} 1"),
        "the request is counted with 499:\n{scrape}"
    );
    assert!(
        scrape.contains("slackwater_connections{state=\"active\"} 1"),
        "only the connection of the scrape is active:\n{scrape}"
    );
    finish(&process, 0);
}

#[test]
fn a_handler_runs_to_its_end_if_its_client_closes_the_connection() {
    let process = Launch::fixture().settings(SETTINGS).serve();
    let mut conn = process.conn();
    conn.get("/work").unwrap();
    process.wait_for_log(0, BEGINS);
    drop(conn);
    finish(&process, 0);
    process.wait_for_log(0, "/work 200");
}

/// Starts the fixture on a Unix socket.
fn start_on_unix_socket() -> Process {
    let launch = Launch::fixture();
    let path = launch.dir().path().join("app.sock");
    launch
        .whole_settings(&format!("listen = \"unix:{}\"\n{SETTINGS}", path.display()))
        .serve()
}

#[test]
fn the_server_notices_a_closed_unix_socket_while_the_handler_works() {
    let process = start_on_unix_socket();
    let mut conn = process.conn();
    conn.get("/work").unwrap();
    process.wait_for_log(0, BEGINS);
    drop(conn);
    process.wait_for_log(0, "/work 499");
    assert_eq!(process.get("/made"), "1", "its permit is free");
    finish(&process, 0);
}

#[test]
fn a_client_that_half_closes_keeps_its_connection_and_gets_its_answer() {
    check_half_close(&Launch::fixture().settings(SETTINGS).serve());
    check_half_close(&start_on_unix_socket());
}

/// Checks requests after which the client half-closes its connection.
fn check_half_close(process: &Process) {
    for sent in [
        "GET /work HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
        "GET /work HTTP/1.1\r\nHost: x\r\n\r\nGET /work HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mark = process.mark();
        let _ = fs::remove_file(process.dir().path().join("enough"));
        let mut conn = process.conn();
        conn.send(sent).unwrap();
        conn.half_close().unwrap();
        process.wait_for_log(mark, BEGINS);
        assert_eq!(conn.state_after(ms(50)), SocketState::Open);
        fs::write(process.dir().path().join("enough"), "").unwrap();
        for _ in sent.matches("/work") {
            assert_eq!(conn.answer().unwrap().text(), "done", "{sent:?}");
        }
        assert_eq!(conn.state_after(LONG), SocketState::Closed, "{sent:?}");
    }
    assert!(!process.log().contains("/work 499"), "{}", process.log());
}

/// A name and a function that disconnects a client.
type Disconnect = (&'static str, fn(Conn));

#[test]
fn hung_up_resolves_if_the_client_closes_resets_or_half_closes() {
    let process = Launch::fixture().serve();
    let notified = || process.log().matches("the client has disconnected").count();
    let ways: [Disconnect; 3] = [
        ("closes", drop),
        ("resets", Conn::reset),
        ("half-closes", |mut conn| {
            conn.half_close().unwrap();
            assert_eq!(conn.answer().unwrap().text(), "client disconnected");
        }),
    ];
    for (before, (name, disconnect)) in ways.into_iter().enumerate() {
        let mut conn = process.conn();
        conn.get("/until-disconnect").unwrap();
        assert_eq!(
            conn.state_after(ms(50)),
            SocketState::Open,
            "the handler waits"
        );
        assert_eq!(notified(), before, "{name}");
        disconnect(conn);
        until(LONG, name, || (notified() > before).then_some(()));
    }
}

#[test]
fn a_reset_during_an_endless_answer_releases_the_permit_at_once() {
    let process = Launch::fixture().settings(SETTINGS).serve();
    let mut conn = process.conn();
    conn.get("/silent").unwrap();
    assert_eq!(conn.head().unwrap().status, 200);
    conn.reset();
    process.wait_for_log(0, "/silent 200");
    assert_eq!(process.get("/made"), "1");
}

#[test]
fn a_connection_stays_open_for_a_hundred_pipelined_requests() {
    let process = Launch::fixture().settings(SETTINGS).serve();
    let mut conn = process.conn();
    fs::write(process.dir().path().join("enough"), "").unwrap();
    for _ in 0..20 {
        conn.send("GET /work HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5))
            .unwrap();
        for _ in 0..5 {
            assert_eq!(conn.answer().unwrap().text(), "done");
        }
    }
    assert_eq!(conn.fetch("/made").unwrap().text(), "1");
}
