//! The parts of an application besides its routes: hooks, background tasks, values that survive a reload, commands,
//! body limits.

use std::time::Duration;

use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Signal;
use slackwater_tests::wait::until;

use crate::help::ms;

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_reused_value_survives_reloads_until_its_key_changes() {
    let process = Launch::fixture().settings("[app]\npool = \"a\"\n").serve();
    assert_eq!(
        (process.get("/made"), process.get("/reason")),
        ("1".into(), "Start".into())
    );
    process.reload();
    assert_eq!(
        (process.get("/made"), process.get("/reason")),
        ("1".into(), "Reload".into())
    );
    process.settings("[app]\npool = \"b\"\n");
    process.reload();
    assert_eq!(process.get("/made"), "2");
    process.settings("[app]\npool = \"c\"\nrefuse = true\n");
    process.reload_refused();
    assert_eq!(
        process.get("/made"),
        "2",
        "the value of a refused generation is discarded"
    );
}

#[test]
fn an_error_of_on_ready_refuses_the_reload_or_the_start() {
    let process = Launch::fixture().serve();
    process.settings("[app]\nrefuse = true\n");
    let line = process.reload_refused();
    assert!(line.contains("refuses as configured"), "{line}");
    assert_eq!(process.get("/made"), "1");
    let finished = Launch::fixture()
        .settings("[app]\nrefuse = true\n")
        .run(LONG);
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    assert!((finished.stdout + &finished.stderr).contains("refuses as configured"));
}

#[test]
fn a_panic_of_the_app_function_refuses_only_the_reload_or_the_start() {
    let process = Launch::fixture().serve();
    process.settings("[app]\npanic = true\n");
    let line = process.reload_refused();
    assert!(line.contains("panics as configured"), "{line}");
    assert_eq!(process.get("/made"), "1");
    assert_eq!(
        Launch::fixture()
            .settings("[app]\npanic = true\n")
            .run(LONG)
            .code(),
        Some(1)
    );
}

#[test]
fn a_panic_of_on_ready_refuses_only_the_reload_or_the_start() {
    let process = Launch::fixture().serve();
    process.settings("[app]\npanic_late = true\n");
    let line = process.reload_refused();
    assert!(line.contains("panics late as configured"), "{line}");
    process.settings("");
    process.reload();
    assert_eq!(
        Launch::fixture()
            .settings("[app]\npanic_late = true\n")
            .run(LONG)
            .code(),
        Some(1)
    );
}

#[test]
fn a_reload_whose_app_function_hangs_does_not_delay_a_stop() {
    let mut process = Launch::fixture()
        .settings("[shutdown]\nkeepalive_grace = \"50ms\"\n")
        .serve();
    process.settings("[app]\nhang = true\n[shutdown]\nkeepalive_grace = \"50ms\"\n");
    process.signal(Signal::HUP);
    assert_eq!(
        process.get("/made"),
        "1",
        "the old generation serves meanwhile"
    );
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}

#[test]
fn background_tasks_stop_with_their_generation_and_the_process_waits_for_them() {
    let mut process = Launch::fixture()
        .settings("[shutdown]\nkeepalive_grace = \"50ms\"\n")
        .serve();
    process.wait_for_log(0, "sweeper 1 begins");
    process.reload();
    process.wait_for_log(0, "sweeper 2 begins");
    process.wait_for_log(0, "sweeper 1 ends");
    process.wait_for_log(0, "generation 1 drains");
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    let log = process.log();
    assert!(
        log.contains("sweeper 2 ends") && log.contains("generation 2 drains"),
        "{log}"
    );
}

#[test]
fn a_background_task_that_does_not_stop_is_aborted_and_named_in_the_log() {
    let settings =
        "[shutdown]\nkeepalive_grace = \"50ms\"\ngrace = \"500ms\"\nforce_after = \"200ms\"\n\
                    [app]\nignores_stop = true\n";
    let mut process = Launch::fixture().settings(settings).serve();
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    let named = process
        .log()
        .lines()
        .any(|line| line.contains("sweeper") && !line.contains("begins"));
    assert!(named, "the log names the aborted task:\n{}", process.log());
}

#[test]
fn a_handler_is_notified_when_its_generation_drains() {
    let mut process = Launch::fixture().serve();
    let (mut first, mut second) = (process.conn(), process.conn());
    first.get("/until-drained").unwrap();
    assert_eq!(first.state_after(ms(100)), SocketState::Open);
    process.reload();
    let answer = first.answer().unwrap();
    assert!(answer.text() == "drained" && !answer.closes(), "{answer:?}");
    second.get("/until-drained").unwrap();
    assert_eq!(second.state_after(ms(100)), SocketState::Open);
    process.signal(Signal::TERM);
    let answer = second.answer().unwrap();
    assert!(answer.text() == "drained" && answer.closes(), "{answer:?}");
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}

#[test]
fn a_task_reads_the_whole_body_after_the_answer_and_the_connection_stays_open() {
    for release in ["10ms", "1h"] {
        let process = Launch::fixture()
            .settings(&format!("[http]\nidle_release = \"{release}\"\n"))
            .serve();
        let mut conn = process.conn();
        conn.send("POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
            .unwrap();
        assert_eq!(conn.answer().unwrap().text(), "taken");
        assert_eq!(conn.state_after(ms(60)), SocketState::Open);
        conn.send("worldGET /made HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        assert_eq!(conn.answer().unwrap().text(), "1");
        let read = || (process.get("/read-later") == "10").then_some(());
        until(LONG, "the task has read the whole body", read);
        assert_eq!(conn.fetch("/made").unwrap().text(), "1");
    }
}

#[test]
fn a_route_can_replace_the_body_limit_of_the_settings() {
    let process = Launch::fixture()
        .settings("[http]\nbody_limit = \"64B\"\n")
        .serve();
    let status = |path: &str, length: usize| {
        let mut conn = process.conn();
        let body = "x".repeat(length);
        conn.send(format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .unwrap();
        conn.answer().unwrap().status
    };
    assert_eq!((status("/collect", 64), status("/collect", 65)), (200, 413));
    assert_eq!((status("/small", 16), status("/small", 17)), (200, 413));
    assert_eq!(status("/any", 100_000), 200);
}

#[test]
fn a_chunked_body_over_the_limit_is_rejected_with_413() {
    let process = Launch::fixture()
        .settings("[http]\nbody_limit = \"64B\"\n")
        .serve();
    let mut conn = process.conn();
    let chunk = format!("32\r\n{}\r\n", "x".repeat(0x32));
    conn.send(format!(
        "POST /collect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}"
    ))
    .unwrap();
    let answer = conn.answer().unwrap();
    assert_eq!((answer.status, answer.closes()), (413, true), "{answer:?}");
    assert_eq!(conn.state_after(LONG), SocketState::Closed);
}

#[test]
fn a_client_that_is_still_sending_receives_the_413() {
    let process = Launch::fixture()
        .settings("[http]\nbody_limit = \"1KiB\"\n")
        .serve();
    for length in ["Content-Length: 50000000", "Transfer-Encoding: chunked"] {
        let mut conn = process.conn();
        let mut sender = conn.try_clone().unwrap();
        sender
            .send(format!(
                "POST /collect HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n100000\r\n"
            ))
            .unwrap();
        let upload = std::thread::spawn(move || {
            sender.send_in_pieces(&vec![b'x'; 1 << 20], 16 << 10, ms(2))
        });
        let answer = conn.answer().unwrap();
        assert_eq!((answer.status, answer.closes()), (413, true), "{length}");
        let _ = upload.join().unwrap();
    }
}

#[test]
fn the_unread_rest_of_a_body_is_not_parsed_as_a_request() {
    let process = Launch::fixture().serve();
    let mut conn = process.conn();
    let rest = "GET /made HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = 4 + rest.len();
    conn.send(format!(
        "POST /part HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nfour{rest}"
    ))
    .unwrap();
    let answer = conn.answer().unwrap();
    assert_eq!(answer.text(), "four");
    if !answer.closes() {
        assert_eq!(
            conn.state_after(ms(100)),
            SocketState::Open,
            "the server sends no second answer"
        );
        assert_eq!(conn.fetch("/reason").unwrap().text(), "Start");
    }
}

#[test]
fn the_server_closes_a_connection_whose_client_disconnects_in_the_middle_of_a_body() {
    let process = Launch::fixture().serve();
    assert_eq!(process.get("/made"), "1");
    let before = process.proc().open_fds();
    for _ in 0..20 {
        let mut conn = process.conn();
        conn.send("POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
            .unwrap();
    }
    until(LONG, "all connections are closed", || {
        (process.proc().open_fds() <= before).then_some(())
    });
    let _ = Conn::open(&process.addr()).unwrap();
}

#[test]
fn an_application_can_add_commands() {
    let run = |args: &[&str]| {
        Launch::fixture()
            .settings("[app]\npool = \"p\"\n")
            .args(args)
            .run(LONG)
    };
    let printed = run(&["say", "a", "b"]);
    assert_eq!(
        (printed.code(), printed.stdout.as_str()),
        (Some(0), "[\"a\", \"b\"] p\n")
    );
    let failed = run(&["say"]);
    assert_eq!(failed.code(), Some(1));
    assert!(failed.stderr.contains("nothing to say"), "{failed:?}");
    assert!(run(&["--help"]).stdout.contains("print the arguments"));
}

#[test]
fn the_check_command_builds_the_app_and_runs_on_ready_without_serving() {
    let check = |settings: &str| {
        Launch::fixture()
            .settings(settings)
            .args(["check"])
            .run(LONG)
    };
    let valid = check("");
    assert_eq!(valid.code(), Some(0), "{valid:?}");
    assert_eq!(check("[app]\nrefuse = true\n").code(), Some(1));
    assert_eq!(check("[app]\npool = 5\n").code(), Some(78));
}

#[test]
fn the_routes_command_lists_the_routes() {
    let finished = Launch::fixture().args(["routes"]).run(LONG);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    for route in ["/made", "/until-drained", "/collect"] {
        assert!(
            finished.stdout.contains(route),
            "{route}: {}",
            finished.stdout
        );
    }
}
