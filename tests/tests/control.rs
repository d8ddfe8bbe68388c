//! The commands of an operator: each waits until it has taken effect or has failed, prints the result, and reports it
//! with its exit code.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use slackwater_tests::idle::{History, IdleConnections};
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::log_texts;
use slackwater_tests::operator::Operator;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::process_chain::{signal_to, ProcessChain};
use slackwater_tests::program;
use slackwater_tests::wait::until;

use crate::help::pid_of_server;

const LONG: Duration = Duration::from_secs(20);

/// Settings with the control socket in the directory of the test and a short rollback window.
const SETTINGS: &str = "control.socket = \"app.control\"\nshutdown.keepalive_grace = \"50ms\"\n\
                        upgrade.rollback_window = \"300ms\"\n";

/// Settings with a rollback window that is longer than a test.
const LONG_WINDOW: &str = "control.socket = \"app.control\"\nupgrade.rollback_window = \"60s\"\n";

fn playground(settings: &str) -> (Launch, Operator) {
    let launch = Launch::playground()
        .settings(settings)
        .env("PLAYGROUND_BUILD", "one");
    let operator = Operator::of(&launch);
    (launch, operator)
}

/// Returns the names of the sockets in the directory of the process, sorted.
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
fn status_shows_the_phase_connections_and_requests_of_the_process() {
    let (launch, operator) = playground(SETTINGS);
    let process = launch.serve();
    let mut slow = process.conn();
    slow.get("/sleep/60000").unwrap();
    let _idle = IdleConnections::open(&process.addr(), 3, History::OneRequest);
    let first = until(LONG, "status shows the request", || {
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
fn without_a_running_process_commands_exit_with_3_and_name_the_socket_path() {
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
fn an_invalid_configuration_file_does_not_prevent_commands() {
    let (launch, operator) = playground(SETTINGS);
    let process = launch.serve();
    process.settings(&format!("{SETTINGS}http.body_limitt = 7\n"));
    assert_eq!(operator.first()["pid"], process.pid());
    let error = operator.fails(&["reload"]);
    assert!(
        error.contains("slackwater.toml:5") && error.contains("http.body_limitt"),
        "{error}"
    );
    assert_eq!(operator.first()["generation"], 1);
}

#[test]
fn reload_prints_the_changed_settings() {
    let (launch, operator) = playground(SETTINGS);
    let process = launch.serve();
    process.settings(&format!("{SETTINGS}http.body_limit = \"7MiB\"\n"));
    let output = operator.ok(&["reload"]);
    assert!(
        output.contains("generation 2 is live") && output.contains("http.body_limit"),
        "{output}"
    );
    assert_eq!(operator.first()["generation"], 2);
}

#[test]
fn upgrade_waits_for_the_confirmation_and_the_new_process_owns_the_control_socket() {
    let (launch, operator) = playground(SETTINGS);
    let mut chain = ProcessChain::serve(&launch);
    let old = chain.newest();
    let mut idle = IdleConnections::open(&chain.addr(), 20, History::OneRequest);
    let output = operator.ok(&["upgrade"]);
    let new = pid_of_server(&chain);
    assert!(
        output.contains(&format!("(pid {new})")) && new != old,
        "{output}"
    );
    assert_eq!(operator.first()["pid"], new);
    idle.wait_served_by(new);
    assert_eq!(operator.first()["connections"]["taken"], 20);
    chain.wait_gone(old, LONG);
    assert_eq!(
        sockets(&chain),
        ["app.control".to_owned(), format!("app.control.{new}")]
    );
    operator.ok(&["stop"]);
    chain.wait_gone(new, LONG);
    assert_eq!(sockets(&chain), [""; 0]);
}

#[test]
fn upgrade_prints_the_panic_of_the_new_process_and_the_old_process_serves() {
    let launch = Launch::fixture().settings(SETTINGS);
    let operator = Operator::of(&launch);
    let chain = ProcessChain::serve(&launch);
    chain.settings(&format!("{SETTINGS}[app]\npanic = true\n"));
    let error = operator.fails(&["upgrade"]);
    assert!(error.contains("panics as configured"), "{error}");
    assert_eq!(pid_of_server(&chain), chain.newest());
    assert_eq!(operator.first()["pid"], chain.newest());
}

#[test]
fn a_reload_command_during_an_upgrade_runs_after_the_upgrade_fails() {
    let settings = format!("{SETTINGS}upgrade.ready_timeout = \"30s\"\n");
    let launch = Launch::fixture()
        .settings(&settings)
        .env("FIXTURE_HOLDS", "1");
    let operator = Operator::of(&launch);
    let chain = ProcessChain::serve(&launch);
    chain.dir().write("hold", "starts, pid");
    let new = chain.begin_upgrade();
    let mark = chain.mark();
    let reload = operator.begin(&["reload"], "reload");
    chain.wait_for_log(mark, "command reload received");
    signal_to(new, Signal::KILL);
    chain.wait_for_log(mark, log_texts::UPGRADE_FAILED);
    let (code, output) = reload.end();
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains(log_texts::RELOADED), "{output}");
}

#[test]
fn a_pause_lets_the_running_reload_finish_and_rejects_the_queued_one() {
    let (launch, operator) = playground(&format!("{SETTINGS}[app]\nstart_delay = \"3s\"\n"));
    let chain = ProcessChain::serve(&launch);
    let begin_reload = |name: &str| {
        let mark = chain.mark();
        let reload = operator.begin(&["reload"], name);
        chain.wait_for_log(mark, "command reload received");
        reload
    };
    let (first, second) = (begin_reload("first"), begin_reload("second"));
    operator.ok(&["pause"]);
    let (code, output) = first.end();
    assert!(
        code == Some(0) && output.contains(log_texts::RELOADED),
        "{output}"
    );
    let (code, output) = second.end();
    assert!(
        code == Some(1) && output.contains("this process does not reload"),
        "{output}"
    );
}

#[test]
fn a_changed_configuration_file_does_not_end_a_pause() {
    let settings = format!("{SETTINGS}reload.watch = true\n");
    let (launch, operator) = playground(&settings);
    let chain = ProcessChain::serve(&launch);
    operator.ok(&["pause"]);
    let mark = chain.mark();
    chain.settings(&format!("{settings}http.max_headers = 50\n"));
    chain.wait_for_log(mark, "a reload is not possible now");
    assert_eq!(operator.first()["phase"], "paused");
    operator.ok(&["resume"]);
    operator.ok(&["reload"]);
    assert!(operator.ok(&["config", "http.max_headers"]).contains("50"));
}

#[test]
fn an_upgrade_to_invalid_settings_prints_file_line_and_key() {
    let (launch, operator) = playground(SETTINGS);
    let chain = ProcessChain::serve(&launch);
    chain.settings(&format!("{SETTINGS}http.body_limitt = 7\n"));
    let error = operator.fails(&["upgrade"]);
    assert!(
        error.contains("slackwater.toml:5") && error.contains("http.body_limitt"),
        "{error}"
    );
}

#[test]
fn upgrade_prints_the_exit_status_of_a_program_that_exits_without_output() {
    let launch = Launch::playground().settings(SETTINGS);
    launch.dir().install(&program::playground(), "app");
    let launch = launch.with_program("./app");
    let chain = ProcessChain::serve(&launch);
    let operator = Operator::of(&Launch::clone(&launch).with_program(program::playground()));
    let path = chain.dir().path().join("app");
    program::script(&path, "#!/bin/sh\nexit 7\n");
    let error = operator.fails(&["upgrade"]);
    assert!(error.contains("exited with status 7"), "{error}");
    fs::remove_file(&path).unwrap();
    let error = operator.fails(&["upgrade"]);
    assert!(
        error.contains("/app") && error.contains("No such file"),
        "{error}"
    );
    assert_eq!(pid_of_server(&chain), chain.newest());
}

#[test]
fn status_shows_a_new_process_before_it_accepts_and_rollback_ends_the_upgrade() {
    let (launch, operator) = playground(SETTINGS);
    let chain = ProcessChain::serve(&launch);
    let old = chain.newest();
    chain.settings(&format!("{SETTINGS}[app]\nstart_delay = \"10m\"\n"));
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
    let error = operator.fails(&["upgrade"]);
    assert!(error.contains("an upgrade is in progress"), "{error}");
    let output = operator.ok(&["rollback"]);
    assert!(
        output.contains(&format!("pid {old} serves again")),
        "{output}"
    );
    assert_eq!(upgrade.end().0, Some(1));
    assert_eq!(pid_of_server(&chain), old);
    assert_eq!(
        sockets(&chain),
        ["app.control".to_owned(), format!("app.control.{old}")]
    );
}

#[test]
fn a_rollback_within_the_window_returns_connections_and_control_socket_to_the_old_process() {
    let (launch, operator) = playground(LONG_WINDOW);
    let chain = ProcessChain::serve(&launch);
    let (old, mark) = (chain.newest(), chain.mark());
    let mut idle = IdleConnections::open(&chain.addr(), 20, History::OneRequest);
    let load = Load::on(&chain.addr())
        .clients(4, Pattern::KeepAlive)
        .clients(2, Pattern::NewConnection)
        .clients(4, Pattern::Thinking(Duration::from_millis(20)))
        .start();
    let upgrade = operator.begin(&["upgrade"], "upgrade");
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    until(LONG, "the new process owns the control socket", || {
        (operator.first()["pid"] != old).then_some(())
    });
    assert_eq!(operator.first()["phase"], "proving");
    let new = pid_of_server(&chain);
    idle.wait_served_by(new);
    let mut in_flight = chain.conn();
    in_flight.get("/sleep/1000").unwrap();
    load.wait_for(100, LONG);
    operator.ok(&["rollback"]);
    load.wait_for(100, LONG);
    let tally = load.stop();
    tally.assert_flawless();
    assert_eq!(
        tally.announced_closes(),
        0,
        "bytes that the new process had read are returned with their connections: {tally}"
    );
    assert_eq!(in_flight.answer().unwrap().text(), "slept");
    assert_eq!(in_flight.fetch("/pid").unwrap().text(), old.to_string());
    let (code, output) = upgrade.end();
    assert_eq!(code, Some(1), "{output}");
    assert_eq!(operator.first()["pid"], old);
    assert_eq!(pid_of_server(&chain), old);
    idle.fetch_all_from(old).assert_flawless();
    let error = operator.fails(&["rollback"]);
    assert!(
        error.contains("there is no upgrade to roll back"),
        "{error}"
    );
}

#[test]
fn a_pause_lasts_until_resume() {
    let (launch, operator) = playground(SETTINGS);
    let process = launch.serve();
    assert!(operator.fails(&["resume"]).contains("not paused"));
    operator.ok(&["pause"]);
    operator.ok(&["pause"]);
    assert_eq!(operator.first()["phase"], "paused");
    assert!(
        operator.fails(&["reload"]).contains("paused"),
        "reload does not end a pause"
    );
    assert_eq!(operator.first()["phase"], "paused");
    operator.ok(&["resume"]);
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn drain_waits_for_requests_in_progress() {
    let (launch, operator) = playground(SETTINGS);
    let mut process = launch.serve();
    let mut slow = process.conn();
    slow.get("/sleep/1500").unwrap();
    let output = operator.ok(&["drain"]);
    assert!(
        output.contains("has ended") && output.contains("connections closed before their end: 0"),
        "{output}"
    );
    assert_eq!(slow.answer().unwrap().text(), "slept");
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}

#[test]
fn stop_observes_the_shutdown_delay_and_a_second_stop_closes_no_connection() {
    // the grace period is set here because a debug build has a shorter default
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
fn stop_lists_the_connections_that_the_process_had_to_close() {
    let settings =
        format!("{SETTINGS}shutdown.grace = \"300ms\"\nshutdown.force_after = \"200ms\"\n");
    let (launch, operator) = playground(&settings);
    let process = launch.serve();
    let mut slow = process.conn();
    slow.get("/sleep/60000").unwrap();
    let output = operator.ok(&["stop"]);
    assert!(
        output.contains("connections closed before their end: 1")
            && output.contains("GET /sleep/60000"),
        "{output}"
    );
}

#[test]
fn reopen_opens_the_log_file_again_and_keeps_the_open_one_on_failure() {
    let (launch, operator) = playground(&format!(
        "{SETTINGS}log.file = \"app.log\"\nlog.format = \"json\"\n"
    ));
    let process = launch.start();
    let log = process.dir().path().join("app.log");
    until(LONG, "the process serves", || {
        fs::read_to_string(&log)
            .ok()?
            .contains("listening on")
            .then_some(())
    });
    fs::rename(&log, log.with_extension("log.1")).unwrap();
    operator.ok(&["reopen"]);
    assert!(fs::read_to_string(&log)
        .unwrap()
        .contains(log_texts::REOPENED));
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    let error = operator.fails(&["reopen"]);
    assert!(
        error.contains("app.log") && error.contains("stays open as it was"),
        "{error}"
    );
}

#[test]
fn a_start_replaces_the_control_socket_of_a_killed_process() {
    let (launch, operator) = playground(SETTINGS);
    let mut first = launch.serve();
    until(LONG, "the control socket exists", || {
        (sockets(&first).len() == 2).then_some(())
    });
    first.kill();
    assert_eq!(
        sockets(&first).len(),
        2,
        "a killed process leaves its sockets behind"
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
fn a_second_process_takes_the_control_socket_only_after_the_first_has_exited() {
    let (launch, operator) = playground(SETTINGS);
    let first = launch.serve();
    // started through `Operator`, so that its output does not go to the file of the first process
    let other = Launch::clone(&launch).args(["--set", "listen=127.0.0.1:0"]);
    let second = Operator::of(&other).begin(&["serve"], "second");
    until(
        LONG,
        "the second process warns that the socket is in use",
        || {
            second
                .output()
                .contains(&format!(
                    "app.control belongs to process {}, which is running",
                    first.pid()
                ))
                .then_some(())
        },
    );
    assert_eq!(operator.first()["pid"], first.pid());
    operator.ok(&["stop"]);
    until(LONG, "the second process owns the control socket", || {
        let status = operator.run(&["status", "--json"]);
        (status.code() == Some(0) && !status.stdout.contains(&format!("\"pid\":{},", first.pid())))
            .then_some(())
    });
}

#[test]
fn a_process_without_a_control_socket_warns_with_every_path_and_serves() {
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
fn a_command_of_another_user_is_rejected_and_prints_the_owner() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can run a command as another user");
        return;
    }
    let (launch, _operator) = playground(SETTINGS);
    let process = launch.serve();
    let dir = process.dir().path();
    until(LONG, "the control socket exists", || {
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
    // a copy of the program, which the other user can read
    let program = dir.join("app");
    // copied by a child process: if this process had it open for writing while another test forks, the child of that
    // test would inherit the descriptor and execve would fail with ETXTBSY
    assert!(Command::new("cp")
        .arg(program::playground())
        .arg(&program)
        .status()
        .unwrap()
        .success());
    let stop_as_other_user = |mode| {
        fs::set_permissions(dir.join("app.control"), fs::Permissions::from_mode(mode)).unwrap();
        Command::new(&program)
            .arg("stop")
            .current_dir(dir)
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap()
    };
    let output = stop_as_other_user(0o600);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("belongs to user 0, not to 65534"), "{error}");
    // the process checks the user of the command even if the mode of the socket lets everyone connect
    let output = stop_as_other_user(0o666);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("user 65534 may not control it"), "{error}");
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn malformed_commands_are_rejected_and_the_process_serves_on() {
    let (launch, operator) = playground(SETTINGS);
    let process = launch.serve();
    let send = |line: &[u8]| {
        let path = process.dir().path().join("app.control");
        let mut stream = until(LONG, "the control socket exists", || {
            UnixStream::connect(&path).ok()
        });
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(line).unwrap();
        let mut answer = String::new();
        // the process closes a connection that sends too much, which can be an error here
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer
    };
    assert!(send(b"nonsense\n").contains("not a request"));
    assert!(send(b"\xff\xfe\n").contains("not a request"));
    assert!(send(b"{\"slackwater\":99,\"ask\":\"stop\"}\n").contains("uses version 1"));
    assert!(send(b"{\"slackwater\":1,\"ask\":\"dance\"}\n").contains("dance"));
    assert_eq!(send(&[b'x'; 70_000]), "");
    assert_eq!(operator.first()["pid"], process.pid());
}

#[test]
fn status_shows_no_answer_for_a_process_stopped_by_sigstop() {
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
fn status_watch_shows_the_phases_and_connections_of_an_upgrade() {
    let (launch, operator) =
        playground("control.socket = \"app.control\"\nupgrade.rollback_window = \"4s\"\n");
    let chain = ProcessChain::serve(&launch);
    let old = chain.newest();
    let _idle = IdleConnections::open(&chain.addr(), 50, History::OneRequest);
    let load = Load::on(&chain.addr())
        .clients(2, Pattern::KeepAlive)
        .start();
    let watch = operator.begin(&["status", "--watch", "--json"], "watch");
    until(LONG, "the first status", || {
        watch.output().contains("\"serving\"").then_some(())
    });
    operator.ok(&["upgrade"]);
    let new = pid_of_server(&chain);
    until(LONG, "only the new process serves", || {
        let output = watch.output();
        let last = output.lines().last()?;
        (last.contains("\"serving\"") && last.contains(&format!("\"pid\":{new}"))).then_some(())
    });
    load.stop().assert_flawless();
    let statuses: Vec<serde_json::Value> = watch
        .output()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let is_shown = |pid: u32, phase: &str, count: &str| {
        let all = statuses
            .iter()
            .filter_map(|status| status["processes"].as_array())
            .flatten();
        let matching = all.filter(|process| process["pid"] == pid && process["phase"] == phase);
        matching
            .filter_map(|process| process["connections"][count].as_u64())
            .any(|count| count >= 50)
    };
    assert!(
        is_shown(old, "handing_over", "given"),
        "status shows the old process handing over: {}",
        watch.output()
    );
    assert!(
        is_shown(new, "proving", "taken"),
        "status shows the new process before its confirmation: {}",
        watch.output()
    );
    operator.ok(&["stop"]);
    let (code, output) = watch.end();
    assert_eq!(code, Some(3), "{output}");
}

#[test]
fn status_shows_a_first_process_that_stays_as_waiter() {
    let (launch, operator) = playground(SETTINGS);
    let mut chain = ProcessChain::serve(&launch.args(["--set", "first_process=stay"]));
    let first = chain.newest();
    for _ in 0..2 {
        operator.ok(&["upgrade"]);
        let new = pid_of_server(&chain);
        until(
            LONG,
            "only the new process is left below the waiter",
            || {
                let status = operator.status();
                let processes = status["processes"].as_array()?;
                (status["waiter"] == first && processes.len() == 1 && processes[0]["pid"] == new)
                    .then_some(())
            },
        );
    }
    assert!(operator.ok(&["status"]).contains(&format!("{first}  ")));
    operator.ok(&["stop"]);
    chain.wait_gone(first, LONG);
}

#[test]
fn a_start_does_not_replace_the_socket_of_another_program() {
    let (launch, _) = playground(SETTINGS);
    let path: PathBuf = launch.dir().path().join("app.control");
    let foreign = UnixListener::bind(&path).unwrap();
    let mut process = launch.serve();
    process.wait_for_log(0, "the control socket");
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(path.exists() && UnixStream::connect(&path).is_ok());
    drop(foreign);
}
