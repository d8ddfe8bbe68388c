//! Clients that go away while a handler works: noticed at once, and the handler runs to its end.

use std::fs;
use std::time::Duration;

use slackwater_tests::conn::{Conn, Fate};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Process;
use slackwater_tests::wait::until;

use crate::help::ms;

const LONG: Duration = Duration::from_secs(30);

/// One seat, and everything is told.
const SETTINGS: &str =
    "metrics.path = \"/metrics\"\n[http]\nmax_connections = 1\n[log]\naccess = true\nlevel = \"debug\"\n";

/// What the fixture's handler that only works says.
const BEGINS: &str = "begins to work";
const DONE: &str = "the work is done";

/// Lets the handler come to its end, and waits for it.
fn finish(process: &Process, mark: usize) {
    assert!(!process.log().contains(DONE), "it still works");
    fs::write(process.dir().path().join("enough"), "").unwrap();
    process.wait_for_log(mark, DONE);
}

#[test]
fn a_client_that_resets_is_noticed_while_the_handler_works_which_runs_to_its_end() {
    let process = Launch::fixture().settings(SETTINGS).serve();
    let mut conn = process.conn();
    conn.get("/works").unwrap();
    process.wait_for_log(0, BEGINS);
    conn.reset();
    let line = process.wait_for_log(0, "/works 499");
    assert!(line.contains("access"), "{line}");
    let scrape = process.get("/metrics");
    assert!(
        scrape.contains("{route=\"/works\",method=\"GET\",status=\"499\"} 1"),
        "its seat is free:\n{scrape}"
    );
    assert!(
        scrape.contains("slackwater_connections{state=\"active\"} 1"),
        "the scrape itself:\n{scrape}"
    );
    finish(&process, 0);
}

#[test]
fn a_handler_whose_client_closes_runs_to_its_end() {
    let process = Launch::fixture().settings(SETTINGS).serve();
    let mut conn = process.conn();
    conn.get("/works").unwrap();
    process.wait_for_log(0, BEGINS);
    drop(conn);
    finish(&process, 0);
    process.wait_for_log(0, "/works 200");
}

/// One that listens on a Unix socket.
fn on_unix() -> Process {
    let launch = Launch::fixture();
    let path = launch.dir().path().join("app.sock");
    launch
        .whole_settings(&format!("listen = \"unix:{}\"\n{SETTINGS}", path.display()))
        .serve()
}

#[test]
fn a_client_that_closes_a_unix_socket_is_noticed_while_the_handler_works() {
    let process = on_unix();
    let mut conn = process.conn();
    conn.get("/works").unwrap();
    process.wait_for_log(0, BEGINS);
    drop(conn);
    process.wait_for_log(0, "/works 499");
    assert_eq!(process.get("/made"), "1", "its seat is free");
    finish(&process, 0);
}

#[test]
fn a_client_that_half_closes_keeps_its_seat_and_gets_its_answer() {
    half_closes(&Launch::fixture().settings(SETTINGS).serve());
    half_closes(&on_unix());
}

fn half_closes(process: &Process) {
    for sent in [
        "GET /works HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /works HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
        "GET /works HTTP/1.1\r\nHost: x\r\n\r\nGET /works HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mark = process.mark();
        let _ = fs::remove_file(process.dir().path().join("enough"));
        let mut conn = process.conn();
        conn.send(sent).unwrap();
        conn.half_close().unwrap();
        process.wait_for_log(mark, BEGINS);
        assert_eq!(conn.fate(ms(50)), Fate::KeptOpen);
        fs::write(process.dir().path().join("enough"), "").unwrap();
        for _ in sent.matches("/works") {
            assert_eq!(conn.answer().unwrap().text(), "done", "{sent:?}");
        }
        assert_eq!(conn.fate(LONG), Fate::Closed, "{sent:?}");
    }
    assert!(!process.log().contains("/works 499"), "{}", process.log());
}

/// How a client hangs up, in words and in deed.
type Way = (&'static str, fn(Conn));

#[test]
fn a_handler_that_asks_hears_of_each_way_to_hang_up() {
    let process = Launch::fixture().serve();
    let heard = || process.log().matches("the client has hung up").count();
    let ways: [Way; 3] = [
        ("closes", drop),
        ("resets", Conn::reset),
        ("half-closes", |mut conn| {
            conn.half_close().unwrap();
            assert_eq!(conn.answer().unwrap().text(), "you hung up");
        }),
    ];
    for (before, (way, hang_up)) in ways.into_iter().enumerate() {
        let mut conn = process.conn();
        conn.get("/hears").unwrap();
        assert_eq!(conn.fate(ms(50)), Fate::KeptOpen, "it waits");
        assert_eq!(heard(), before, "{way}");
        hang_up(conn);
        until(LONG, way, || (heard() > before).then_some(()));
    }
}

#[test]
fn a_client_that_reads_an_answer_without_end_and_resets_gives_its_seat_back_at_once() {
    let process = Launch::fixture().settings(SETTINGS).serve();
    let mut conn = process.conn();
    conn.get("/silent").unwrap();
    assert_eq!(conn.head().unwrap().status, 200);
    conn.reset();
    process.wait_for_log(0, "/silent 200");
    assert_eq!(process.get("/made"), "1");
}

#[test]
fn a_connection_is_kept_and_pipelined_while_handlers_wait() {
    let process = Launch::fixture().settings(SETTINGS).serve();
    let mut conn = process.conn();
    fs::write(process.dir().path().join("enough"), "").unwrap();
    for _ in 0..20 {
        conn.send("GET /works HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5))
            .unwrap();
        for _ in 0..5 {
            assert_eq!(conn.answer().unwrap().text(), "done");
        }
    }
    assert_eq!(conn.ask("/made").unwrap().text(), "1");
}
