//! Logs: JSON lines, log files that are opened again, and an output that is closed or blocked.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::log_texts;
use slackwater_tests::process::Signal;
use slackwater_tests::wait::until;

use crate::help::held_socket;

const LONG: Duration = Duration::from_secs(30);

#[test]
fn each_line_is_json_with_time_level_and_message() {
    let mut process = Launch::playground().serve();
    process.signal(Signal::TERM);
    process.wait_exit(LONG);
    let log = process.log();
    assert!(log.lines().count() >= 2, "{log}");
    for line in log.lines() {
        let fields: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let keys: Vec<&String> = fields.as_object().unwrap().keys().collect();
        assert!(fields["level"].is_string() && keys.len() >= 3, "{line}");
    }
}

#[test]
fn pretty_lines_have_the_same_messages() {
    let process = Launch::playground()
        .env("SLACKWATER_LOG__FORMAT", "pretty")
        .serve();
    assert!(
        process.log().contains("listening on 127.0.0.1:"),
        "{}",
        process.log()
    );
}

#[test]
fn the_log_format_off_prints_nothing() {
    let (listener, addr) = held_socket();
    let launch = Launch::playground()
        .env("SLACKWATER_LOG__FORMAT", "off")
        .socket("web", &listener);
    let process = launch.start();
    assert_eq!(
        Conn::open(&addr).unwrap().fetch("/").unwrap().text(),
        "Hello, world!"
    );
    assert_eq!(process.log(), "");
}

#[test]
fn sigusr1_opens_the_log_file_again() {
    let (listener, addr) = held_socket();
    let settings = "[log]\nfile = \"app.log\"\naccess = true\n";
    let process = Launch::playground()
        .settings(settings)
        .socket("web", &listener)
        .start();
    assert_eq!(
        Conn::open(&addr)
            .unwrap()
            .fetch("/greet/one")
            .unwrap()
            .status,
        200
    );
    let dir = process.dir();
    until(LONG, "the file contains the first request", || {
        dir.read("app.log").contains("/greet/one").then_some(())
    });
    fs::rename(dir.path().join("app.log"), dir.path().join("app.log.1")).unwrap();
    process.signal(Signal::USR1);
    until(LONG, "the new file exists", || {
        dir.path().join("app.log").exists().then_some(())
    });
    assert_eq!(
        Conn::open(&addr)
            .unwrap()
            .fetch("/greet/two")
            .unwrap()
            .status,
        200
    );
    until(LONG, "the new file contains the second request", || {
        dir.read("app.log").contains("/greet/two").then_some(())
    });
    assert!(!dir.read("app.log.1").contains("/greet/two"));
    assert!(
        dir.read("app.log").contains(log_texts::REOPENED),
        "{}",
        dir.read("app.log")
    );
}

#[test]
fn a_reload_that_enables_the_access_log_applies_to_the_next_request() {
    let process = Launch::playground().serve();
    process.get("/greet/quiet");
    process.settings("[log]\naccess = true\n");
    process.reload();
    let mark = process.mark();
    process.get("/greet/loud");
    let line = process.wait_for_log(mark, "/greet/loud");
    assert!(line.contains("200") && line.contains("GET"), "{line}");
    assert!(!process.log().contains("/greet/quiet"));
}

#[test]
fn a_client_that_disconnects_is_not_logged_as_an_error() {
    let mut process = Launch::playground().serve();
    for path in ["/echo", "/upload"] {
        let mut conn = process.conn();
        conn.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc"
        ))
        .unwrap();
        drop(conn);
    }
    process.get("/");
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(
        !process.log().contains("\"level\":\"error\""),
        "{}",
        process.log()
    );
}

#[test]
fn a_closed_standard_output_fails_neither_the_process_nor_a_request() {
    for format in ["json", "pretty"] {
        let (listener, addr) = held_socket();
        let (reader, stdout) = UnixStream::pair().unwrap();
        drop(reader);
        let launch = Launch::playground()
            .settings("[log]\naccess = true\n")
            .env("SLACKWATER_LOG__FORMAT", format);
        let mut process = launch.stdout(&stdout).socket("web", &listener).start();
        let mut conn = Conn::open(&addr).unwrap();
        for _ in 0..5 {
            assert_eq!(conn.fetch("/").unwrap().text(), "Hello, world!", "{format}");
        }
        process.signal(Signal::HUP);
        assert_eq!(conn.fetch("/").unwrap().text(), "Hello, world!", "{format}");
        process.signal(Signal::TERM);
        assert_eq!(process.wait_exit(LONG).code(), Some(0), "{format}");
    }
}

#[test]
fn a_blocked_standard_output_delays_neither_the_process_nor_a_request() {
    for format in ["json", "pretty"] {
        let (listener, addr) = held_socket();
        let (_reader, mut stdout) = UnixStream::pair().unwrap();
        // the send buffer is shared by all descriptors of the socket, so it is also full for the program under test
        stdout.set_nonblocking(true).unwrap();
        while stdout.write(&[b'x'; 4096]).is_ok() {}
        stdout.set_nonblocking(false).unwrap();
        let launch = Launch::playground()
            .settings("[log]\naccess = true\n")
            .env("SLACKWATER_LOG__FORMAT", format);
        let mut process = launch.stdout(&stdout).socket("web", &listener).start();
        let mut conn = Conn::open(&addr).unwrap();
        for _ in 0..5 {
            assert_eq!(conn.fetch("/").unwrap().text(), "Hello, world!", "{format}");
        }
        process.signal(Signal::TERM);
        assert_eq!(process.wait_exit(LONG).code(), Some(0), "{format}");
    }
}

#[test]
fn a_start_fails_with_the_key_of_a_log_file_that_cannot_be_opened() {
    let finished = Launch::playground()
        .settings("[log]\nfile = \"no/such/dir/app.log\"\n")
        .run(LONG);
    assert_ne!(finished.code(), Some(0));
    let output = finished.stdout + &finished.stderr;
    assert!(
        output.contains("log.file") && output.contains("no/such/dir"),
        "{output}"
    );
}

#[test]
fn start_reload_and_stop_are_logged_with_one_line_each() {
    let mut process = Launch::playground().serve();
    process.reload();
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    let log = process.log();
    for step in ["listening on", log_texts::RELOADED, log_texts::DRAINING] {
        assert_eq!(
            log.to_lowercase().matches(step).count(),
            1,
            "{step}:\n{log}"
        );
    }
}
