//! Logs: lines that machines read, files that are reopened, an output that is gone.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Signal;
use slackwater_tests::said;
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
fn pretty_lines_say_the_same() {
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
fn a_log_that_is_off_says_nothing() {
    let (listener, addr) = held_socket();
    let launch = Launch::playground()
        .env("SLACKWATER_LOG__FORMAT", "off")
        .socket("web", &listener);
    let process = launch.start();
    assert_eq!(
        Conn::open(&addr).unwrap().ask("/").unwrap().text(),
        "Hello, world!"
    );
    assert_eq!(process.log(), "");
}

#[test]
fn a_log_file_is_reopened_when_told() {
    let (listener, addr) = held_socket();
    let settings = "[log]\nfile = \"app.log\"\naccess = true\n";
    let process = Launch::playground()
        .settings(settings)
        .socket("web", &listener)
        .start();
    assert_eq!(
        Conn::open(&addr).unwrap().ask("/greet/one").unwrap().status,
        200
    );
    let dir = process.dir();
    until(LONG, "the file has the first request", || {
        dir.read("app.log").contains("/greet/one").then_some(())
    });
    fs::rename(dir.path().join("app.log"), dir.path().join("app.log.1")).unwrap();
    process.signal(Signal::USR1);
    until(LONG, "a new file", || {
        dir.path().join("app.log").exists().then_some(())
    });
    assert_eq!(
        Conn::open(&addr).unwrap().ask("/greet/two").unwrap().status,
        200
    );
    until(LONG, "the new file has the second", || {
        dir.read("app.log").contains("/greet/two").then_some(())
    });
    assert!(!dir.read("app.log.1").contains("/greet/two"));
    assert!(
        dir.read("app.log").contains(said::REOPENED),
        "{}",
        dir.read("app.log")
    );
}

#[test]
fn requests_are_logged_when_asked_for_and_from_the_next_one_on() {
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
fn a_client_that_goes_away_is_no_error_of_the_log() {
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
fn an_output_that_nobody_reads_any_more_kills_neither_process_nor_request() {
    for format in ["json", "pretty"] {
        let (listener, addr) = held_socket();
        let (gone, stdout) = UnixStream::pair().unwrap();
        drop(gone);
        let launch = Launch::playground()
            .settings("[log]\naccess = true\n")
            .env("SLACKWATER_LOG__FORMAT", format);
        let mut process = launch.stdout(&stdout).socket("web", &listener).start();
        let mut conn = Conn::open(&addr).unwrap();
        for _ in 0..5 {
            assert_eq!(conn.ask("/").unwrap().text(), "Hello, world!", "{format}");
        }
        process.signal(Signal::HUP);
        assert_eq!(conn.ask("/").unwrap().text(), "Hello, world!", "{format}");
        process.signal(Signal::TERM);
        assert_eq!(process.wait_exit(LONG).code(), Some(0), "{format}");
    }
}

#[test]
fn an_output_whose_reader_hangs_holds_up_neither_process_nor_request() {
    for format in ["json", "pretty"] {
        let (listener, addr) = held_socket();
        let (_hangs, mut stdout) = UnixStream::pair().unwrap();
        // what it holds is the same for all who have it: so the program under test finds it full
        stdout.set_nonblocking(true).unwrap();
        while stdout.write(&[b'x'; 4096]).is_ok() {}
        stdout.set_nonblocking(false).unwrap();
        let launch = Launch::playground()
            .settings("[log]\naccess = true\n")
            .env("SLACKWATER_LOG__FORMAT", format);
        let mut process = launch.stdout(&stdout).socket("web", &listener).start();
        let mut conn = Conn::open(&addr).unwrap();
        for _ in 0..5 {
            assert_eq!(conn.ask("/").unwrap().text(), "Hello, world!", "{format}");
        }
        process.signal(Signal::TERM);
        assert_eq!(process.wait_exit(LONG).code(), Some(0), "{format}");
    }
}

#[test]
fn a_log_file_that_cannot_be_opened_is_refused_with_its_key() {
    let finished = Launch::playground()
        .settings("[log]\nfile = \"no/such/dir/app.log\"\n")
        .run(LONG);
    assert_ne!(finished.code(), Some(0));
    let said = finished.stdout + &finished.stderr;
    assert!(
        said.contains("log.file") && said.contains("no/such/dir"),
        "{said}"
    );
}

#[test]
fn a_whole_life_is_told_in_one_line_a_step() {
    let mut process = Launch::playground().serve();
    process.reload();
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    let log = process.log();
    for step in ["listening on", said::RELOADED, said::LEAVING] {
        assert_eq!(
            log.to_lowercase().matches(step).count(),
            1,
            "{step}:\n{log}"
        );
    }
}
