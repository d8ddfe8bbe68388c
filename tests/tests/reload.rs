//! A reload takes effect completely or not at all, and fails no request.

use std::time::Duration;

use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::idle::{History, IdleConnections, StateCounts};
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::log_texts;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::tally::Failure;
use slackwater_tests::wait::until;

use crate::help::held_socket;

fn greeting(word: &str) -> String {
    format!("[app]\ngreeting = \"{word}\"\n")
}

fn generation(process: &Process) -> u64 {
    let answer = process.conn().fetch("/generation").unwrap();
    answer.json()["generation"]
        .as_u64()
        .unwrap_or_else(|| panic!("no generation in {}", answer.text()))
}

#[test]
fn a_request_after_the_reload_was_logged_sees_the_new_settings() {
    let process = Launch::playground().settings(&greeting("Hello")).serve();
    let mut kept = process.conn();
    assert_eq!(kept.fetch("/greet/Ada").unwrap().text(), "Hello, Ada!");
    for word in ["Moin", "Servus", "Ahoi"] {
        process.settings(&greeting(word));
        let line = process.reload();
        assert_eq!(
            kept.fetch("/greet/Ada").unwrap().text(),
            format!("{word}, Ada!")
        );
        assert!(
            line.contains("app.greeting") || process.log().contains("app.greeting"),
            "the key is named: {line}"
        );
    }
}

#[test]
fn reloads_under_load_fail_no_request_and_close_no_connection() {
    let process = Launch::playground().settings(&greeting("0")).serve();
    let addr = process.addr();
    let before = generation(&process);
    let mut idle = IdleConnections::open(&addr, 200, History::OneRequest);
    let load = Load::on(&addr)
        .clients(16, Pattern::KeepAlive)
        .clients(4, Pattern::NewConnection)
        .start();
    for number in 1..=20 {
        load.wait_for(20, Duration::from_secs(20));
        process.settings(&greeting(&number.to_string()));
        process.reload();
        assert_eq!(process.get("/greet/you"), format!("{number}, you!"));
    }
    let tally = load.stop();
    tally.assert_flawless();
    assert_eq!(
        tally.announced_closes(),
        0,
        "no keep-alive connection is closed: {tally}"
    );
    assert_eq!(
        idle.states(),
        StateCounts {
            open: 200,
            ..StateCounts::default()
        }
    );
    idle.fetch_all("/").assert_flawless();
    assert_eq!(generation(&process), before + 20);
}

#[test]
fn a_reload_of_an_invalid_file_changes_nothing_and_names_file_line_and_key() {
    let process = Launch::playground().settings(&greeting("Hello")).serve();
    let before = generation(&process);
    process.settings(&format!(
        "{}[http]\nidle_timeout = \"soon\"\n",
        greeting("Moin")
    ));
    let mark = process.mark();
    process.reload_refused();
    let log = process.log_since(mark);
    assert!(log.contains("slackwater.toml:5"), "file and line: {log}");
    assert!(log.contains("http.idle_timeout"), "key: {log}");
    process.settings("listen = [\n");
    process.reload_refused();
    assert_eq!(
        (process.get("/greet/Ada").as_str(), generation(&process)),
        ("Hello, Ada!", before)
    );
    process.settings(&greeting("Servus"));
    process.reload();
    assert_eq!(
        process.get("/greet/Ada"),
        "Servus, Ada!",
        "the refused reloads have no effect on the next one"
    );
}

#[test]
fn a_reload_with_a_taken_port_changes_nothing() {
    let process = Launch::playground().settings(&greeting("Hello")).serve();
    let (_theirs, taken) = held_socket();
    let listen = format!("listen = [\"127.0.0.1:0\", \"127.0.0.2:0\", \"{taken}\"]\n");
    let fds = process.proc().open_fds();
    process.whole_settings(&(listen + &greeting("Moin")));
    let line = process.reload_refused();
    assert!(
        line.contains(&taken.to_string()) && line.contains("listen"),
        "{line}"
    );
    assert_eq!(process.get("/greet/Ada"), "Hello, Ada!");
    until(
        Duration::from_secs(5),
        "the process has closed the new sockets",
        || (process.proc().open_fds() <= fds).then_some(()),
    );
}

#[test]
fn a_reload_whose_application_fails_changes_nothing() {
    let process = Launch::playground().settings(&greeting("Hello")).serve();
    let before = generation(&process);
    process.settings(&(greeting("Moin") + "fail_start = true\n[http]\nmax_headers = 1\n"));
    process.reload_refused();
    assert_eq!(
        (process.get("/greet/Ada").as_str(), generation(&process)),
        ("Hello, Ada!", before)
    );
    let mut conn = process.conn();
    conn.send("GET /pid HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")
        .unwrap();
    assert_eq!(
        conn.answer().unwrap().status,
        200,
        "the limit of the refused settings has no effect"
    );
}

#[test]
fn a_reload_adds_and_removes_listeners() {
    let process = Launch::playground().serve();
    let first = process.addr();
    let socket = process.dir().path().join("web.sock");
    process.whole_settings("listen = [\"127.0.0.1:0\", \"127.0.0.2:0\", \"unix:web.sock\"]\n");
    process.reload();
    let addrs = process.addresses();
    let second = addrs
        .iter()
        .find(|addr| addr.to_string().starts_with("127.0.0.2:"))
        .unwrap()
        .clone();
    let unix = slackwater_tests::addr::Addr::Unix(socket.clone());
    let mut kept = Conn::open(&second).unwrap();
    for addr in [&first, &second, &unix] {
        assert_eq!(
            Conn::open(addr).unwrap().fetch("/").unwrap().text(),
            "Hello, world!",
            "{addr}"
        );
    }
    kept.fetch("/").unwrap();
    process.settings("");
    process.reload();
    until(
        Duration::from_secs(5),
        "the second listener is closed",
        || (Conn::open(&second).err() == Some(Failure::Refused)).then_some(()),
    );
    until(
        Duration::from_secs(5),
        "the path of the Unix socket is removed",
        || (!socket.exists()).then_some(()),
    );
    assert_eq!(
        kept.fetch("/").unwrap().text(),
        "Hello, world!",
        "a connection stays open when its listener is closed"
    );
    assert_eq!(
        Conn::open(&first).unwrap().fetch("/").unwrap().text(),
        "Hello, world!"
    );
}

#[test]
fn a_request_in_progress_ends_on_the_generation_on_which_it_began() {
    let process = Launch::playground().settings(&greeting("Hello")).serve();
    let (mut sleeper, mut stream) = (process.conn(), process.conn());
    sleeper.get("/sleep/600").unwrap();
    stream.get("/stream/8").unwrap();
    assert_eq!(stream.head().unwrap().status, 200);
    process.settings(&greeting("Moin"));
    process.reload();
    assert_eq!(process.get("/greet/Ada"), "Moin, Ada!");
    let slept = sleeper.answer().unwrap();
    assert!(slept.text() == "slept" && !slept.closes(), "{slept:?}");
    let mut chunks = 0;
    while stream.chunk().unwrap().is_some() {
        chunks += 1;
    }
    assert_eq!(chunks, 8);
    assert_eq!(
        stream.fetch("/greet/Ada").unwrap().text(),
        "Moin, Ada!",
        "the connection then serves the new generation"
    );
}

#[test]
fn several_hups_during_a_reload_cause_one_more_reload() {
    let settings = "[app]\nstart_delay = \"2s\"\n";
    let process = Launch::playground().settings(settings).serve();
    let before = generation(&process);
    let mark = process.mark();
    process.signal(Signal::HUP);
    process.wait_for_log(mark, "SIGHUP");
    // all are sent during the first reload, with pauses, because the kernel merges pending signals of the same number
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(10));
        process.signal(Signal::HUP);
    }
    until(Duration::from_secs(30), "two reloads", || {
        (process.log_since(mark).matches(log_texts::RELOADED).count() >= 2).then_some(())
    });
    // a third reload would be live by then
    assert_eq!(
        Conn::open(&process.addr())
            .unwrap()
            .state_after(Duration::from_secs(3)),
        SocketState::Open
    );
    assert_eq!(generation(&process), before + 2);
}

#[test]
fn a_reload_names_a_key_that_needs_a_new_process_and_applies_the_rest() {
    let process = Launch::playground().settings("").serve();
    process.settings(&format!("threads = 3\n{}", greeting("Moin")));
    let mark = process.mark();
    process.reload();
    assert_eq!(process.get("/greet/Ada"), "Moin, Ada!");
    assert!(
        process.log_since(mark).contains("threads"),
        "{}",
        process.log_since(mark)
    );
}

#[test]
fn a_reload_changes_health_routes_and_the_log_level() {
    let process = Launch::playground().serve();
    process.settings("[health]\nready = \"/up\"\n[log]\nlevel = \"debug\"\n");
    process.reload();
    assert_eq!(process.conn().fetch("/up").unwrap().status, 200);
    assert_eq!(process.conn().fetch("/readyz").unwrap().status, 404);
    let mark = process.mark();
    process.reload();
    // the end of a generation is logged at this level
    process.wait_for_log(mark, "\"level\":\"debug\"");
}

#[test]
fn a_listener_in_both_configurations_keeps_its_accept_queue() {
    let process = Launch::playground().settings(&greeting("Hello")).serve();
    let addr = process.addr();
    process.settings(&greeting("Moin"));
    let mark = process.mark();
    process.signal(Signal::STOP);
    let mut waiting: Vec<Conn> = (0..20).map(|_| Conn::open(&addr).unwrap()).collect();
    waiting.iter_mut().for_each(|conn| conn.get("/").unwrap());
    process.signal(Signal::HUP);
    process.signal(Signal::CONT);
    for conn in &mut waiting {
        assert_eq!(conn.answer().unwrap().text(), "Hello, world!");
    }
    process.wait_for_log(mark, log_texts::RELOADED);
    assert_eq!(process.addr(), addr);
}
