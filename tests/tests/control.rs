//! The commands of an operator: each does what it says, waits for what comes of it, and says it with an exit code.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use slackwater_tests::idle::{Before, Idle};
use slackwater_tests::launch::Launch;
use slackwater_tests::lineage::{signal_to, Lineage};
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::operator::Operator;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::program;
use slackwater_tests::said;
use slackwater_tests::wait::until;

use crate::help::pid_of_server;

const LONG: Duration = Duration::from_secs(20);

/// The control socket in the directory of the test, and a short window.
const SETTINGS: &str = "control.socket = \"app.control\"\nshutdown.keepalive_grace = \"50ms\"\n\
                        upgrade.rollback_window = \"300ms\"\n";

/// The same with a window that a test can do things in.
const WIDE: &str = "control.socket = \"app.control\"\nupgrade.rollback_window = \"60s\"\n";

fn playground(settings: &str) -> (Launch, Operator) {
    let launch = Launch::playground()
        .settings(settings)
        .env("PLAYGROUND_BUILD", "one");
    let operator = Operator::of(&launch);
    (launch, operator)
}

fn sockets(process: &Process) -> Vec<String> {
    let entries = fs::read_dir(process.dir().path()).unwrap().flatten();
    let sockets = entries.filter(|entry| entry.file_type().unwrap().is_socket());
    let mut names: Vec<String> = sockets
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn status_tells_how_the_process_stands() {
    let (launch, operator) = playground(SETTINGS);
    let process = launch.serve();
    let mut slow = process.conn();
    slow.get("/sleep/60000").unwrap();
    let _idle = Idle::open(&process.addr(), 3, Before::OneRequest);
    let first = until(LONG, "the request is seen", || {
        let first = operator.first();
        (first["connections"]["active"] == 1).then_some(first)
    });
    assert_eq!(first["pid"], process.pid());
    assert_eq!(first["build"], "0.1.0");
    assert_eq!(
        (&first["phase"], &first["generation"]),
        (&"serving".into(), &1.into())
    );
    assert_eq!(first["listening"][0], process.addr().to_string());
    let waiting = first["connections"]["idle"].as_u64().unwrap()
        + first["connections"]["parked"].as_u64().unwrap();
    assert!(waiting >= 3, "{first}");
    assert!(first["requests"].as_u64().unwrap() >= 4, "{first}");
    assert_eq!(first["oldest_request"]["request"], "GET /sleep/60000");
    let text = operator.ok(&["status"]);
    assert!(
        text.contains("serving") && text.contains("GET /sleep/60000"),
        "{text}"
    );
}

#[test]
fn where_nothing_runs_commands_say_so_with_3_and_name_what_they_tried() {
    let (launch, operator) = playground(SETTINGS);
    launch.dir().write("slackwater.toml", SETTINGS);
    for command in [
        "status", "reload", "upgrade", "rollback", "pause", "resume", "drain", "stop", "reopen",
    ] {
        let finished = operator.run(&[command]);
        assert_eq!(finished.code(), Some(3), "{command}: {finished:?}");
        assert!(
            finished.stderr.contains("nothing is running"),
            "{command}: {finished:?}"
        );
        assert!(
            finished.stderr.contains("app.control: No such file"),
            "{command}: {finished:?}"
        );
    }
}

#[test]
fn a_mistake_in_the_file_keeps_nobody_from_asking() {
    let (launch, operator) = playground(SETTINGS);
    let process = launch.serve();
    process.settings(&format!("{SETTINGS}http.body_limitt = 7\n"));
    assert_eq!(operator.first()["pid"], process.pid());
    let why = operator.fails(&["reload"]);
    assert!(
        why.contains("slackwater.toml:5") && why.contains("http.body_limitt"),
        "{why}"
    );
    assert_eq!(operator.first()["generation"], 1);
}

#[test]
fn reload_tells_what_changed() {
    let (launch, operator) = playground(SETTINGS);
    let process = launch.serve();
    process.settings(&format!("{SETTINGS}http.body_limit = \"7MiB\"\n"));
    let said = operator.ok(&["reload"]);
    assert!(
        said.contains("generation 2 is live") && said.contains("http.body_limit"),
        "{said}"
    );
    assert_eq!(operator.first()["generation"], 2);
}

#[test]
fn upgrade_waits_until_it_is_confirmed_and_the_socket_is_the_new_ones() {
    let (launch, operator) = playground(SETTINGS);
    let mut lineage = Lineage::serve(&launch);
    let old = lineage.newest();
    let mut idle = Idle::open(&lineage.addr(), 20, Before::OneRequest);
    let said = operator.ok(&["upgrade"]);
    let new = pid_of_server(&lineage);
    assert!(
        said.contains(&format!("(pid {new})")) && new != old,
        "{said}"
    );
    assert_eq!(operator.first()["pid"], new);
    idle.arrive_at(new);
    assert_eq!(operator.first()["connections"]["taken"], 20);
    lineage.gone(old, LONG);
    assert_eq!(
        sockets(&lineage),
        ["app.control".to_owned(), format!("app.control.{new}")]
    );
    operator.ok(&["stop"]);
    lineage.gone(new, LONG);
    assert_eq!(sockets(&lineage), [""; 0]);
}

#[test]
fn an_upgrade_to_a_build_that_panics_prints_the_panic_and_the_old_one_serves() {
    let launch = Launch::fixture().settings(SETTINGS);
    let operator = Operator::of(&launch);
    let lineage = Lineage::serve(&launch);
    lineage.settings(&format!("{SETTINGS}[app]\npanic = true\n"));
    let why = operator.fails(&["upgrade"]);
    assert!(why.contains("told to panic"), "{why}");
    assert_eq!(pid_of_server(&lineage), lineage.newest());
    assert_eq!(operator.first()["pid"], lineage.newest());
}

#[test]
fn a_reload_during_an_upgrade_that_fails_is_answered() {
    let settings = format!("{SETTINGS}upgrade.ready_timeout = \"30s\"\n");
    let launch = Launch::fixture()
        .settings(&settings)
        .env("FIXTURE_HOLDS", "1");
    let operator = Operator::of(&launch);
    let lineage = Lineage::serve(&launch);
    lineage.dir().write("hold", "starts, pid");
    let new = lineage.begin();
    let mark = lineage.mark();
    let reload = operator.begin(&["reload"], "reload");
    lineage.wait_for_log(mark, "command reload received");
    signal_to(new, Signal::KILL);
    lineage.wait_for_log(mark, said::UPGRADE_FAILED);
    let (code, said) = reload.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(said::RELOADED), "{said}");
}

#[test]
fn a_reload_that_a_pause_takes_the_place_of_is_answered() {
    let (launch, operator) = playground(&format!("{SETTINGS}[app]\nstart_delay = \"3s\"\n"));
    let lineage = Lineage::serve(&launch);
    let asked = |name: &str| {
        let mark = lineage.mark();
        let asked = operator.begin(&["reload"], name);
        lineage.wait_for_log(mark, "command reload received");
        asked
    };
    let (first, second) = (asked("first"), asked("second"));
    operator.ok(&["pause"]);
    let (code, said) = first.end();
    assert!(code == Some(0) && said.contains(said::RELOADED), "{said}");
    let (code, said) = second.end();
    assert!(
        code == Some(1) && said.contains("this process does not reload"),
        "{said}"
    );
}

#[test]
fn a_change_of_the_settings_does_not_end_a_pause() {
    let settings = format!("{SETTINGS}reload.watch = true\n");
    let (launch, operator) = playground(&settings);
    let lineage = Lineage::serve(&launch);
    operator.ok(&["pause"]);
    let mark = lineage.mark();
    lineage.settings(&format!("{settings}http.max_headers = 50\n"));
    lineage.wait_for_log(mark, "a reload is not possible now");
    assert_eq!(operator.first()["phase"], "paused");
    operator.ok(&["resume"]);
    operator.ok(&["reload"]);
    assert!(operator.ok(&["config", "http.max_headers"]).contains("50"));
}

#[test]
fn an_upgrade_to_settings_that_are_wrong_names_file_line_and_key() {
    let (launch, operator) = playground(SETTINGS);
    let lineage = Lineage::serve(&launch);
    lineage.settings(&format!("{SETTINGS}http.body_limitt = 7\n"));
    let why = operator.fails(&["upgrade"]);
    assert!(
        why.contains("slackwater.toml:5") && why.contains("http.body_limitt"),
        "{why}"
    );
}

#[test]
fn an_upgrade_to_a_program_that_says_nothing_tells_how_it_ended() {
    let launch = Launch::playground().settings(SETTINGS);
    launch.dir().install(&program::playground(), "app");
    let launch = launch.called("./app");
    let lineage = Lineage::serve(&launch);
    let operator = Operator::of(&Launch::clone(&launch).called(program::playground()));
    let path = lineage.dir().path().join("app");
    program::script(&path, "#!/bin/sh\nexit 7\n");
    let why = operator.fails(&["upgrade"]);
    assert!(why.contains("exited with status 7"), "{why}");
    fs::remove_file(&path).unwrap();
    let why = operator.fails(&["upgrade"]);
    assert!(
        why.contains("/app") && why.contains("No such file"),
        "{why}"
    );
    assert_eq!(pid_of_server(&lineage), lineage.newest());
}

#[test]
fn a_new_process_can_be_seen_before_it_accepts_and_an_upgrade_be_rolled_back_then() {
    let (launch, operator) = playground(SETTINGS);
    let lineage = Lineage::serve(&launch);
    let old = lineage.newest();
    lineage.settings(&format!("{SETTINGS}[app]\nstart_delay = \"10m\"\n"));
    let upgrade = operator.begin(&["upgrade"], "upgrade");
    let new = until(LONG, "the new process starts", || {
        let status = operator.status();
        let new = &status["processes"][1];
        (new["phase"] == "succeeding").then(|| new["pid"].as_u64().unwrap())
    });
    let first = operator.first();
    assert_eq!(
        (&first["phase"], &first["successor"]),
        (&"upgrading".into(), &new.into())
    );
    let why = operator.fails(&["upgrade"]);
    assert!(why.contains("an upgrade is in progress"), "{why}");
    let said = operator.ok(&["rollback"]);
    assert!(said.contains(&format!("pid {old} serves again")), "{said}");
    assert_eq!(upgrade.end().0, Some(1));
    assert_eq!(pid_of_server(&lineage), old);
    assert_eq!(
        sockets(&lineage),
        ["app.control".to_owned(), format!("app.control.{old}")]
    );
}

#[test]
fn a_rollback_in_the_window_brings_the_old_process_back_with_its_socket() {
    let (launch, operator) = playground(WIDE);
    let lineage = Lineage::serve(&launch);
    let (old, mark) = (lineage.newest(), lineage.mark());
    let mut idle = Idle::open(&lineage.addr(), 20, Before::OneRequest);
    let load = Load::on(&lineage.addr())
        .clients(4, Pattern::KeepAlive)
        .clients(2, Pattern::NewConnection)
        .clients(4, Pattern::Thinking(Duration::from_millis(20)))
        .start();
    let upgrade = operator.begin(&["upgrade"], "upgrade");
    lineage.wait_for_log(mark, said::HANDING_OVER);
    until(LONG, "the new one has the socket", || {
        (operator.first()["pid"] != old).then_some(())
    });
    assert_eq!(operator.first()["phase"], "proving");
    let new = pid_of_server(&lineage);
    idle.arrive_at(new);
    let mut in_flight = lineage.conn();
    in_flight.get("/sleep/1000").unwrap();
    load.wait_for(100, LONG);
    operator.ok(&["rollback"]);
    load.wait_for(100, LONG);
    let tally = load.stop();
    tally.assert_flawless();
    assert_eq!(
        tally.polite_closes(),
        0,
        "what the new one had read comes back as well: {tally}"
    );
    assert_eq!(in_flight.answer().unwrap().text(), "slept");
    assert_eq!(in_flight.ask("/pid").unwrap().text(), old.to_string());
    let (code, said) = upgrade.end();
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(operator.first()["pid"], old);
    assert_eq!(pid_of_server(&lineage), old);
    idle.ask_all_of(old).assert_flawless();
    let why = operator.fails(&["rollback"]);
    assert!(why.contains("there is no upgrade to roll back"), "{why}");
}

#[test]
fn a_pause_lasts_until_it_is_resumed() {
    let (launch, operator) = playground(SETTINGS);
    let process = launch.serve();
    assert!(operator.fails(&["resume"]).contains("not paused"));
    operator.ok(&["pause"]);
    operator.ok(&["pause"]);
    assert_eq!(operator.first()["phase"], "paused");
    assert!(
        operator.fails(&["reload"]).contains("paused"),
        "a reload is no resume"
    );
    assert_eq!(operator.first()["phase"], "paused");
    operator.ok(&["resume"]);
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn drain_waits_for_what_has_begun() {
    let (launch, operator) = playground(SETTINGS);
    let mut process = launch.serve();
    let mut slow = process.conn();
    slow.get("/sleep/1500").unwrap();
    let said = operator.ok(&["drain"]);
    assert!(
        said.contains("has ended") && said.contains("connections closed before their end: 0"),
        "{said}"
    );
    assert_eq!(slow.answer().unwrap().text(), "slept");
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}

#[test]
fn stop_has_the_lame_ducks_delay_and_a_second_one_does_not_cut() {
    // (a debug build that is told to stop has less than that by default)
    let (launch, operator) = playground(&format!(
        "{SETTINGS}shutdown.delay = \"1s\"\nshutdown.grace = \"20s\"\n"
    ));
    let mut process = launch.serve();
    let mut slow = process.conn();
    slow.get("/sleep/6000").unwrap();
    let first = operator.begin(&["stop"], "first");
    process.wait_for_log(0, "/readyz answers 503");
    let second = operator.ok(&["stop"]);
    assert!(
        second.contains("connections closed before their end: 0"),
        "{second}"
    );
    assert_eq!(first.end().0, Some(0));
    assert_eq!(slow.answer().unwrap().text(), "slept");
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}

#[test]
fn stop_names_what_had_to_be_cut() {
    let settings =
        format!("{SETTINGS}shutdown.grace = \"300ms\"\nshutdown.force_after = \"200ms\"\n");
    let (launch, operator) = playground(&settings);
    let process = launch.serve();
    let mut slow = process.conn();
    slow.get("/sleep/60000").unwrap();
    let said = operator.ok(&["stop"]);
    assert!(
        said.contains("connections closed before their end: 1")
            && said.contains("GET /sleep/60000"),
        "{said}"
    );
}

#[test]
fn reopen_opens_the_log_anew() {
    let (launch, operator) = playground(&format!(
        "{SETTINGS}log.file = \"app.log\"\nlog.format = \"json\"\n"
    ));
    let process = launch.start();
    let log = process.dir().path().join("app.log");
    until(LONG, "it serves", || {
        fs::read_to_string(&log)
            .ok()?
            .contains("listening on")
            .then_some(())
    });
    fs::rename(&log, log.with_extension("log.1")).unwrap();
    operator.ok(&["reopen"]);
    assert!(fs::read_to_string(&log).unwrap().contains(said::REOPENED));
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    let why = operator.fails(&["reopen"]);
    assert!(
        why.contains("app.log") && why.contains("stays open as it was"),
        "{why}"
    );
}

#[test]
fn a_stale_socket_is_replaced() {
    let (launch, operator) = playground(SETTINGS);
    let mut first = launch.serve();
    until(LONG, "its socket is in place", || {
        (sockets(&first).len() == 2).then_some(())
    });
    first.kill();
    assert_eq!(
        sockets(&first).len(),
        2,
        "nobody was there to take them away"
    );
    let second = launch.serve();
    assert_eq!(operator.first()["pid"], second.pid());
    assert_eq!(
        sockets(&second),
        [
            "app.control".to_owned(),
            format!("app.control.{}", second.pid())
        ]
    );
}

#[test]
fn a_live_socket_is_respected_and_taken_once_it_is_free() {
    let (launch, operator) = playground(SETTINGS);
    let first = launch.serve();
    // its output goes elsewhere, or it would take the first one's
    let other = Launch::clone(&launch).args(["--set", "listen=127.0.0.1:0"]);
    let second = Operator::of(&other).begin(&["serve"], "second");
    until(LONG, "it is warned of", || {
        second
            .said()
            .contains(&format!("that of process {}", first.pid()))
            .then_some(())
    });
    assert_eq!(operator.first()["pid"], first.pid());
    operator.ok(&["stop"]);
    until(LONG, "the second one has it", || {
        let status = operator.run(&["status", "--json"]);
        (status.code() == Some(0) && !status.stdout.contains(&format!("\"pid\":{},", first.pid())))
            .then_some(())
    });
}

#[test]
fn no_place_for_the_socket_is_warned_of_with_every_path_and_no_more() {
    let process = Launch::playground()
        .settings("control.socket = \"no/such/app.control\"\n")
        .serve();
    let warning = process.wait_for_log(0, "cannot create a control socket");
    assert!(
        warning.contains("no/such/app.control: No such file"),
        "{warning}"
    );
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn another_user_is_told_whose_it_is() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let (launch, _operator) = playground(SETTINGS);
    let process = launch.serve();
    let dir = process.dir().path();
    until(LONG, "its socket is in place", || {
        dir.join("app.control").exists().then_some(())
    });
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        fs::metadata(dir.join("app.control"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    // the program in a place that everybody may read
    let program = dir.join("app");
    // by a child: open for writing here, it would be busy for whoever another test forks meanwhile
    assert!(Command::new("cp")
        .arg(program::playground())
        .arg(&program)
        .status()
        .unwrap()
        .success());
    let ask = |mode| {
        fs::set_permissions(dir.join("app.control"), fs::Permissions::from_mode(mode)).unwrap();
        Command::new(&program)
            .arg("stop")
            .current_dir(dir)
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap()
    };
    let output = ask(0o600);
    let why = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(why.contains("belongs to user 0, not to 65534"), "{why}");
    // were its mode another, who asks is looked at all the same
    let output = ask(0o666);
    let why = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(why.contains("user 65534 may not control it"), "{why}");
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn what_is_no_request_is_refused_and_the_process_lives() {
    let (launch, operator) = playground(SETTINGS);
    let process = launch.serve();
    let say = |line: &[u8]| {
        let path = process.dir().path().join("app.control");
        let mut stream = until(LONG, "its socket is in place", || {
            UnixStream::connect(&path).ok()
        });
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(line).unwrap();
        let mut answer = String::new();
        // one that says too much is not listened to, and cut
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer
    };
    assert!(say(b"nonsense\n").contains("not a request"));
    assert!(say(b"\xff\xfe\n").contains("not a request"));
    assert!(say(b"{\"slackwater\":99,\"ask\":\"stop\"}\n").contains("uses version 1"));
    assert!(say(b"{\"slackwater\":1,\"ask\":\"dance\"}\n").contains("dance"));
    assert_eq!(say(&[b'x'; 70_000]), "");
    assert_eq!(operator.first()["pid"], process.pid());
}

#[test]
fn a_stopped_process_is_said_not_to_answer() {
    let (launch, operator) = playground(SETTINGS);
    let process = launch.serve();
    process.signal(Signal::STOP);
    let text = operator.ok(&["status"]);
    process.signal(Signal::CONT);
    assert!(
        text.contains(&process.pid().to_string()) && text.contains("no answer"),
        "{text}"
    );
}

#[test]
fn watching_shows_an_upgrade_with_its_connections_as_it_happens() {
    let (launch, operator) =
        playground("control.socket = \"app.control\"\nupgrade.rollback_window = \"4s\"\n");
    let lineage = Lineage::serve(&launch);
    let old = lineage.newest();
    let _idle = Idle::open(&lineage.addr(), 50, Before::OneRequest);
    let load = Load::on(&lineage.addr())
        .clients(2, Pattern::KeepAlive)
        .start();
    let watch = operator.begin(&["status", "--watch", "--json"], "watch");
    until(LONG, "the first look", || {
        watch.said().contains("\"serving\"").then_some(())
    });
    operator.ok(&["upgrade"]);
    let new = pid_of_server(&lineage);
    until(LONG, "the new one serves alone", || {
        let said = watch.said();
        let last = said.lines().last()?;
        (last.contains("\"serving\"") && last.contains(&format!("\"pid\":{new}"))).then_some(())
    });
    load.stop().assert_flawless();
    let looks: Vec<serde_json::Value> = watch
        .said()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let is_seen = |pid: u32, phase: &str, count: &str| {
        let all = looks
            .iter()
            .filter_map(|look| look["processes"].as_array())
            .flatten();
        let of_it = all.filter(|process| process["pid"] == pid && process["phase"] == phase);
        of_it
            .filter_map(|process| process["connections"][count].as_u64())
            .any(|count| count >= 50)
    };
    assert!(
        is_seen(old, "handing_over", "given"),
        "the old one is seen handing over: {}",
        watch.said()
    );
    assert!(
        is_seen(new, "proving", "taken"),
        "the new one is seen on trial: {}",
        watch.said()
    );
    operator.ok(&["stop"]);
    let (code, said) = watch.end();
    assert_eq!(code, Some(3), "{said}");
}

#[test]
fn a_first_process_that_stays_is_shown_as_waiter() {
    let (launch, operator) = playground(SETTINGS);
    let mut lineage = Lineage::serve(&launch.clone().args(["--set", "first_process=stay"]));
    let first = lineage.newest();
    for _ in 0..2 {
        operator.ok(&["upgrade"]);
        let new = pid_of_server(&lineage);
        until(LONG, "only the new one is left below the waiter", || {
            let status = operator.status();
            let processes = status["processes"].as_array()?;
            (status["waiter"] == first && processes.len() == 1 && processes[0]["pid"] == new)
                .then_some(())
        });
    }
    assert!(operator.ok(&["status"]).contains(&format!("{first}  ")));
    operator.ok(&["stop"]);
    lineage.gone(first, LONG);
}

#[test]
fn a_socket_of_another_program_is_left_alone() {
    let (launch, _) = playground(SETTINGS);
    let path: PathBuf = launch.dir().path().join("app.control");
    let theirs = UnixListener::bind(&path).unwrap();
    let mut process = launch.serve();
    process.wait_for_log(0, "the control socket");
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(path.exists() && UnixStream::connect(&path).is_ok());
    drop(theirs);
}
