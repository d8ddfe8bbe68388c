//! Upgrades that fail: the old process keeps serving and logs the reason, and a later upgrade succeeds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Instant;

use slackwater_tests::conn::Conn;
use slackwater_tests::idle::{Before, Idle};
use slackwater_tests::launch::Launch;
use slackwater_tests::lineage::{signal_to, Lineage};
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::proc::Proc;
use slackwater_tests::process::Signal;
use slackwater_tests::program;
use slackwater_tests::said;
use slackwater_tests::tally::Failure;
use slackwater_tests::tools::{namespaces, or_skip};
use slackwater_tests::wait::until;

use super::{LONG, SOON, WINDOW};
use crate::help::{ms, pid_of_server, pid_on};

/// Starts the playground from a copy of its binary, so that the test can replace the file.
fn installed() -> Lineage {
    let launch = Launch::playground().settings(WINDOW);
    launch.dir().install(&program::playground(), "app");
    Lineage::serve(&launch.called("./app"))
}

/// Replaces the program by a script.
fn script(lineage: &Lineage, text: &str) {
    program::script(&lineage.dir().path().join("app"), text);
}

/// Makes the next upgrade fail with `damage`, sends USR2, and checks that the old process logs each of `words` and keeps
/// serving. Then repairs the program and the settings, and checks that an upgrade succeeds.
fn fails_then_succeeds(mut lineage: Lineage, words: &[&str], damage: impl FnOnce(&Lineage)) {
    let (old, mark) = (lineage.newest(), lineage.mark());
    let mut idle = Idle::open(&lineage.addr(), 10, Before::OneRequest);
    let load = Load::on(&lineage.addr())
        .clients(2, Pattern::KeepAlive)
        .clients(1, Pattern::NewConnection);
    let load = load.start();
    damage(&lineage);
    lineage.signal(Signal::USR2);
    for word in words {
        lineage.wait_for_log(mark, word);
    }
    load.wait_for(50, LONG);
    assert_eq!(pid_of_server(&lineage), old);
    until(LONG, "the new process has exited", || {
        (lineage.alive() == [old]).then_some(())
    });
    assert_eq!(lineage.zombies(), [0; 0], "the new process is reaped");
    idle.ask_all_of(old).assert_flawless();

    lineage.settings(WINDOW);
    if lineage.dir().path().join("app.ok").exists() {
        lineage.dir().install(&program::playground(), "app");
    }
    let new = lineage.upgrade();
    load.wait_for(50, LONG);
    load.stop().assert_flawless();
    idle.arrive_at(new);
    lineage.gone(old, SOON);
}

/// Does the same for an upgrade that fails because `damage` replaces the program.
fn broken_program(words: &[&str], damage: impl FnOnce(&Lineage)) {
    let lineage = installed();
    lineage.dir().write("app.ok", "to be repaired");
    fails_then_succeeds(lineage, words, damage);
}

#[test]
fn an_upgrade_to_a_missing_program_is_refused() {
    broken_program(&[said::UPGRADE_REFUSED, "/app"], |lineage| {
        fs::remove_file(lineage.dir().path().join("app")).unwrap();
    });
}

#[test]
fn an_upgrade_to_a_file_that_is_not_executable_is_refused() {
    broken_program(&[said::UPGRADE_REFUSED, "/app"], |lineage| {
        let path = lineage.dir().write("app", "#!/bin/sh\n");
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    });
}

#[test]
fn an_upgrade_to_an_executable_text_file_is_refused() {
    broken_program(&["upgrade", "/app"], |lineage| {
        script(lineage, "just some words\n");
    });
}

#[test]
fn an_upgrade_to_an_empty_file_is_refused() {
    broken_program(&["upgrade"], |lineage| script(lineage, ""));
}

#[test]
fn an_upgrade_to_a_program_for_another_machine_is_refused() {
    broken_program(&["upgrade", "/app"], |lineage| {
        let mut bytes = fs::read(program::hello()).unwrap();
        // e_machine in the ELF header: a value that no kernel accepts
        bytes[18..20].copy_from_slice(&[0xfe, 0xfe]);
        program::script(&lineage.dir().path().join("app"), bytes);
    });
}

#[test]
fn an_upgrade_to_a_program_whose_loader_is_missing_is_refused() {
    broken_program(&[said::UPGRADE_REFUSED, "loader is missing"], |lineage| {
        script(lineage, "#!/nonexistent/loader\n");
    });
}

#[test]
fn an_upgrade_fails_if_the_new_process_exits_with_0_at_once() {
    broken_program(&[said::UPGRADE_FAILED, "exited with status 0"], |lineage| {
        script(lineage, "#!/bin/sh\nexit 0\n");
    });
}

#[test]
fn an_upgrade_fails_if_a_shared_library_of_the_program_is_missing() {
    // the output and the status of the dynamic loader when a library is missing
    broken_program(
        &[said::UPGRADE_FAILED, "exited with status 127"],
        |lineage| {
            script(
                lineage,
                "#!/bin/sh\necho 'error while loading shared libraries' >&2; exit 127\n",
            );
        },
    );
}

#[test]
fn an_upgrade_fails_if_the_new_process_exits_although_its_child_holds_its_descriptors() {
    let mut lineage = installed();
    let (old, mark) = (lineage.newest(), lineage.mark());
    script(&lineage, "#!/bin/sh\nsleep 600 &\nexit 0\n");
    lineage.signal(Signal::USR2);
    lineage.wait_for_log(mark, said::UPGRADE_FAILED);
    assert_eq!(pid_of_server(&lineage), old);
    lineage.dir().install(&program::playground(), "app");
    let new = lineage.upgrade();
    assert_eq!(pid_of_server(&lineage), new);
}

#[test]
fn an_upgrade_fails_with_the_error_of_an_application_that_cannot_start() {
    let words = [
        said::UPGRADE_REFUSED,
        "the database is gone",
        said::UPGRADE_FAILED,
    ];
    fails_then_succeeds(installed(), &words, |lineage| {
        lineage.settings(&format!(
            "{WINDOW}[app]\nfail_start = \"the database is gone\"\n"
        ));
    });
}

#[test]
fn an_upgrade_fails_if_the_new_process_panics_in_app() {
    let lineage = Lineage::serve(&Launch::fixture().settings(WINDOW));
    fails_then_succeeds_on_fixture(
        lineage,
        &["told to panic", said::UPGRADE_FAILED],
        "panic = true\n",
    );
}

#[test]
fn an_upgrade_fails_if_on_ready_of_the_new_process_returns_an_error() {
    let lineage = Lineage::serve(&Launch::fixture().settings(WINDOW));
    let words = [
        said::UPGRADE_REFUSED,
        "told to refuse",
        said::UPGRADE_FAILED,
    ];
    fails_then_succeeds_on_fixture(lineage, &words, "refuse = true\n");
}

/// Does the same as `fails_then_succeeds` without load, with settings of the fixture.
fn fails_then_succeeds_on_fixture(mut lineage: Lineage, words: &[&str], app: &str) {
    let (old, mark) = (lineage.newest(), lineage.mark());
    lineage.settings(&format!("{WINDOW}[app]\n{app}"));
    lineage.signal(Signal::USR2);
    for word in words {
        lineage.wait_for_log(mark, word);
    }
    assert_eq!(lineage.get("/made"), "1");
    until(LONG, "the new process has exited", || {
        (lineage.alive() == [old]).then_some(())
    });
    lineage.settings(WINDOW);
    lineage.upgrade();
    lineage.gone(old, SOON);
}

#[test]
fn an_upgrade_with_invalid_settings_fails_and_names_the_key() {
    let words = [said::UPGRADE_FAILED, "keep_alive_timeouts"];
    fails_then_succeeds(installed(), &words, |lineage| {
        lineage.settings(&format!("{WINDOW}[http]\nkeep_alive_timeouts = \"1s\"\n"));
    });
}

#[test]
fn a_new_process_that_is_not_ready_within_ready_timeout_is_killed() {
    let settings = "[upgrade]\nrollback_window = \"300ms\"\nready_timeout = \"5s\"\n";
    let lineage = Lineage::serve(&Launch::playground().settings(settings));
    fails_then_succeeds(
        lineage,
        &[said::UPGRADE_FAILED, "ready_timeout"],
        |lineage| {
            lineage.settings(&format!("{settings}[app]\nstart_delay = \"10m\"\n"));
        },
    );
}

#[test]
fn a_new_process_that_is_paused_with_sigstop_before_it_is_ready_is_killed() {
    let launch = Launch::playground().settings(&format!("{WINDOW}ready_timeout = \"5s\"\n"));
    launch.dir().install(&program::playground(), "app");
    let lineage = Lineage::serve(&launch.called("./app"));
    lineage.dir().write("app.ok", "");
    fails_then_succeeds(
        lineage,
        &[said::UPGRADE_FAILED, "ready_timeout"],
        |lineage| {
            script(lineage, "#!/bin/sh\nkill -STOP $$\n");
        },
    );
}

#[test]
fn an_upgrade_fails_if_the_new_process_is_killed_during_its_start() {
    let mut lineage = installed();
    let (old, mark) = (lineage.newest(), lineage.mark());
    lineage.settings(&format!("{WINDOW}[app]\nstart_delay = \"10m\"\n"));
    let new = lineage.begin();
    signal_to(new, Signal::KILL);
    lineage.wait_for_log(mark, &format!("(pid {new}) was killed by SIGKILL"));
    lineage.wait_for_log(mark, said::UPGRADE_FAILED);
    assert_eq!(pid_of_server(&lineage), old);
    lineage.settings(WINDOW);
    lineage.upgrade();
}

#[test]
fn an_upgrade_fails_if_the_new_process_receives_term_during_its_start() {
    let mut lineage = installed();
    let (old, mark) = (lineage.newest(), lineage.mark());
    lineage.settings(&format!("{WINDOW}[app]\nstart_delay = \"10m\"\n"));
    let new = lineage.begin();
    lineage.wait_for_log(mark, &format!("starts, pid {new}"));
    signal_to(new, Signal::TERM);
    lineage.wait_for_log(mark, said::UPGRADE_FAILED);
    assert_eq!(pid_of_server(&lineage), old);
    lineage.settings(WINDOW);
    lineage.upgrade();
}

#[test]
fn an_upgrade_is_rolled_back_if_the_new_process_dies_in_its_rollback_window() {
    let settings = "pid_file = \"app.pid\"\n[upgrade]\nrollback_window = \"60s\"\n";
    let mut lineage = Lineage::serve(&Launch::playground().settings(settings));
    let (old, mark) = (lineage.newest(), lineage.mark());
    let mut idle = Idle::open(&lineage.addr(), 200, Before::OneRequest);
    let mut ahead = Idle::open(&lineage.addr(), 50, Before::Nothing);
    let load = Load::on(&lineage.addr())
        .clients(4, Pattern::KeepAlive)
        .clients(2, Pattern::NewConnection)
        .clients(4, Pattern::Thinking(ms(20)))
        .start();
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
    load.wait_for(200, LONG);
    assert_eq!(pid_of_server(&lineage), new);
    signal_to(new, Signal::KILL);
    lineage.wait_for_log(mark, said::ROLLED_BACK);
    load.wait_for(200, LONG);
    let tally = load.stop();
    assert_eq!(
        tally.count(Failure::Refused) + tally.count(Failure::TimedOut),
        0,
        "{tally}"
    );
    // the requests that the new process had read are cut, and connections that it had accepted: at most one for each client
    assert!(tally.failed() <= 10, "{tally}");
    assert_eq!(pid_of_server(&lineage), old);
    idle.ask_all_of(old).assert_flawless();
    ahead.ask_all_of(old).assert_flawless();
    assert_eq!(lineage.dir().read("app.pid").trim(), old.to_string());
    assert_eq!((lineage.alive(), lineage.zombies()), (vec![old], vec![]));

    lineage.settings(WINDOW);
    lineage.reload();
    let next = lineage.upgrade();
    idle.arrive_at(next);
}

#[test]
fn several_rollbacks_lose_no_idle_connection() {
    let lineage =
        Lineage::serve(&Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"));
    let old = lineage.newest();
    let mut idle = Idle::open(&lineage.addr(), 100, Before::OneRequest);
    let fds = lineage.proc().open_fds();
    for _ in 0..5 {
        let mark = lineage.mark();
        let new = lineage.begin();
        lineage.wait_for_log(mark, said::HANDING_OVER);
        until(LONG, "the new process serves", || {
            (pid_of_server(&lineage) == new).then_some(())
        });
        signal_to(new, Signal::KILL);
        lineage.wait_for_log(mark, said::ROLLED_BACK);
    }
    idle.ask_all_of(old).assert_flawless();
    until(LONG, "no descriptor is left open", || {
        (lineage.proc().open_fds() <= fds + 1).then_some(())
    });
}

#[test]
fn requests_in_progress_at_the_old_process_survive_a_rollback() {
    let lineage =
        Lineage::serve(&Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"));
    let (old, mark) = (lineage.newest(), lineage.mark());
    let mut conns: Vec<Conn> = (0..10).map(|_| lineage.conn()).collect();
    conns
        .iter_mut()
        .for_each(|conn| conn.get("/sleep/1500").unwrap());
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
    signal_to(new, Signal::KILL);
    lineage.wait_for_log(mark, said::ROLLED_BACK);
    for conn in &mut conns {
        let answer = conn.answer().unwrap();
        assert!(answer.text() == "slept" && !answer.closes(), "{answer:?}");
        assert_eq!(pid_on(conn), old);
    }
}

#[test]
fn a_request_that_the_new_process_had_read_is_cut_when_it_dies() {
    let lineage =
        Lineage::serve(&Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"));
    let mark = lineage.mark();
    let mut conn = lineage.conn();
    conn.ask("/").unwrap();
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
    until(LONG, "the new process has the connection", || {
        (pid_on(&mut conn) == new).then_some(())
    });
    conn.get("/sleep/60000").unwrap();
    thread::sleep(ms(300));
    let begun = Instant::now();
    signal_to(new, Signal::KILL);
    let end = conn.answer().unwrap_err();
    assert!(
        matches!(end, Failure::ClosedBeforeAnswer | Failure::Reset),
        "{end:?}"
    );
    assert!(
        begun.elapsed() < SOON,
        "the connection is closed at once: {:?}",
        begun.elapsed()
    );
}

#[test]
fn no_request_fails_when_the_old_process_is_killed_after_the_handover() {
    let mut lineage =
        Lineage::serve(&Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"));
    let (old, mark) = (lineage.newest(), lineage.mark());
    let mut idle = Idle::open(&lineage.addr(), 100, Before::OneRequest);
    let load = Load::on(&lineage.addr())
        .clients(4, Pattern::Thinking(ms(5)))
        .start();
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
    load.wait_for(200, LONG);
    idle.arrive_at(new);
    signal_to(old, Signal::KILL);
    lineage.gone(old, LONG);
    load.wait_for(200, LONG);
    load.stop().assert_flawless();
    idle.ask_all_of(new).assert_flawless();
    // the new process can start the next upgrade
    lineage.is_now(new);
    lineage.settings(WINDOW);
    lineage.reload();
    let newer = lineage.upgrade();
    idle.arrive_at(newer);
}

#[test]
fn the_new_process_serves_when_the_old_one_is_killed_during_its_start() {
    let settings = format!("{WINDOW}[app]\nstart_delay = \"3s\"\n");
    let mut lineage = Lineage::serve(&Launch::playground().settings(&settings));
    let old = lineage.newest();
    let new = lineage.begin();
    signal_to(old, Signal::KILL);
    lineage.gone(old, LONG);
    // the socket was never closed, so new connections wait in its accept queue
    assert_eq!(pid_of_server(&lineage), new);
    lineage.is_now(new);
    lineage.upgrade();
}

#[test]
fn term_before_live_ends_the_new_process_and_drains_the_old_one() {
    let settings = format!("{WINDOW}[shutdown]\ngrace = \"20s\"\n");
    let mut lineage = Lineage::serve(&Launch::playground().settings(&settings));
    lineage.settings(&format!("{settings}[app]\nstart_delay = \"30s\"\n"));
    let old = lineage.newest();
    let mut conn = lineage.conn();
    conn.get("/sleep/5000").unwrap();
    let new = lineage.begin();
    lineage.signal(Signal::TERM);
    lineage.gone(new, SOON);
    let answer = conn.answer().unwrap();
    assert!(answer.text() == "slept" && answer.closes(), "{answer:?}");
    lineage.gone(old, LONG);
    assert_eq!(lineage.alive(), [0; 0]);
}

#[test]
fn term_after_live_lets_the_old_process_finish_its_handover() {
    let mut lineage =
        Lineage::serve(&Launch::playground().settings("[upgrade]\nrollback_window = \"2s\"\n"));
    let (old, mark) = (lineage.newest(), lineage.mark());
    let mut idle = Idle::open(&lineage.addr(), 50, Before::OneRequest);
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
    lineage.signal(Signal::TERM);
    lineage.gone(old, LONG);
    assert_eq!(pid_of_server(&lineage), new);
    idle.ask_all_of(new).assert_flawless();
    assert_eq!(lineage.alive(), [new]);
}

#[test]
fn a_second_term_after_live_ends_the_old_process_at_once_and_the_new_one_serves() {
    let mut lineage =
        Lineage::serve(&Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"));
    let (old, mark) = (lineage.newest(), lineage.mark());
    let mut idle = Idle::open(&lineage.addr(), 50, Before::OneRequest);
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
    until(LONG, "the new process serves", || {
        (pid_of_server(&lineage) == new).then_some(())
    });
    idle.arrive_at(new);
    let mark = lineage.mark();
    lineage.signal(Signal::TERM);
    // wait, because the kernel merges pending signals of the same number (signal(7))
    lineage.wait_for_log(mark, "SIGTERM");
    lineage.signal(Signal::TERM);
    lineage.gone(old, SOON);
    idle.ask_all_of(new).assert_flawless();
}

#[test]
fn hup_during_an_upgrade_reloads_the_new_process_after_the_confirmation() {
    let settings =
        |greeting| format!("{WINDOW}[app]\nstart_delay = \"3s\"\ngreeting = \"{greeting}\"\n");
    let mut lineage = Lineage::serve(&Launch::playground().settings(&settings("one")));
    let mark = lineage.mark();
    let new = lineage.begin();
    lineage.wait_for_log(mark, &format!("starts, pid {new}"));
    lineage.settings(&settings("two"));
    lineage.signal(Signal::HUP);
    lineage.confirmed(mark, new);
    lineage.wait_for_log(mark, said::RELOADED);
    assert_eq!(lineage.get("/greet/you"), "two, you!");
    assert_eq!(pid_of_server(&lineage), new);
}

#[test]
fn hup_during_an_upgrade_that_fails_reloads_the_old_process() {
    let mut lineage = Lineage::serve(&Launch::playground().settings(WINDOW));
    let (old, mark) = (lineage.newest(), lineage.mark());
    lineage.settings(&format!("{WINDOW}[app]\nstart_delay = \"10m\"\n"));
    let new = lineage.begin();
    lineage.wait_for_log(mark, &format!("starts, pid {new}"));
    lineage.settings(&format!("{WINDOW}[app]\ngreeting = \"two\"\n"));
    lineage.signal(Signal::HUP);
    signal_to(new, Signal::KILL);
    lineage.wait_for_log(mark, said::RELOADED);
    assert_eq!(lineage.get("/greet/you"), "two, you!");
    assert_eq!(pid_of_server(&lineage), old);
    lineage.upgrade();
}

#[test]
fn hup_to_an_old_process_that_hands_over_is_refused_and_to_the_new_one_is_queued() {
    let settings = |greeting| {
        format!("[upgrade]\nrollback_window = \"8s\"\n[app]\ngreeting = \"{greeting}\"\n")
    };
    let mut lineage = Lineage::serve(&Launch::playground().settings(&settings("one")));
    let (old, mark) = (lineage.newest(), lineage.mark());
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
    lineage.settings(&settings("two"));
    lineage.signal(Signal::HUP);
    lineage.wait_for_log(mark, "refused: the process is shutting down");
    signal_to(new, Signal::HUP);
    lineage.confirmed(mark, new);
    lineage.gone(old, LONG);
    lineage.wait_for_log(mark, said::RELOADED);
    assert_eq!(lineage.get("/greet/you"), "two, you!");
}

#[test]
fn a_pid_file_that_cannot_be_written_does_not_stop_an_upgrade() {
    let launch = Launch::playground();
    fs::create_dir(launch.dir().path().join("run")).unwrap();
    let settings = format!("pid_file = \"run/app.pid\"\n{WINDOW}");
    let mut lineage = Lineage::serve(&launch.settings(&settings));
    let (old, mark) = (lineage.newest(), lineage.mark());
    let is_written = || lineage.dir().read("run/app.pid").trim() == old.to_string();
    until(LONG, "the pid file is written", || {
        is_written().then_some(())
    });
    // a removed directory, because root ignores file permissions
    fs::remove_dir_all(lineage.dir().path().join("run")).unwrap();
    let new = lineage.upgrade();
    assert_eq!(pid_of_server(&lineage), new);
    lineage.wait_for_log(mark, "app.pid");
    lineage.gone(old, SOON);
}

#[test]
fn a_full_disk_is_logged_and_does_not_stop_an_upgrade() {
    let Some(unshare) = or_skip(namespaces()) else {
        return;
    };
    // a file system of one page, mounted for this program only. One pid file fits, but not the temporary file of a second
    let mounted = "mkdir small && mount -t tmpfs -o size=4k tmpfs small && exec \"$0\"";
    let launch = Launch::program(&unshare)
        .args(["--mount", "sh", "-c", mounted])
        .args([program::playground()]);
    let mut lineage =
        Lineage::serve(&launch.settings(&format!("pid_file = \"small/app.pid\"\n{WINDOW}")));
    let (old, mark) = (lineage.newest(), lineage.mark());
    let pid_file = |lineage: &Lineage, pid: u32| {
        let path = lineage.dir().path().join("small/app.pid");
        fs::read_to_string(format!("/proc/{pid}/root{}", path.display())).ok()
    };
    let is_written = || pid_file(&lineage, old) == Some(format!("{old}\n"));
    until(LONG, "the pid file is written", || {
        is_written().then_some(())
    });
    let new = lineage.upgrade();
    let line = lineage.wait_for_log(mark, "app.pid");
    assert!(line.contains("No space left"), "{line}");
    assert_eq!(
        pid_file(&lineage, new),
        None,
        "the pid file is removed, because it would name the wrong process"
    );
    lineage.gone(old, SOON);
    // the removed file has made room
    let next = lineage.upgrade();
    assert_eq!(pid_file(&lineage, next), Some(format!("{next}\n")));
}

#[test]
fn an_upgrade_is_rolled_back_if_the_new_process_is_paused_with_sigstop_during_the_handover() {
    let lineage =
        Lineage::serve(&Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"));
    let (old, mark) = (lineage.newest(), lineage.mark());
    let mut idle = Idle::open(&lineage.addr(), 50, Before::OneRequest);
    let mut conn = lineage.conn();
    conn.get("/sleep/5000").unwrap();
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
    until(LONG, "the new process serves", || {
        (pid_of_server(&lineage) == new).then_some(())
    });
    signal_to(new, Signal::STOP);
    // the old process hands this connection over, and the new one does not acknowledge it
    assert_eq!(conn.answer().unwrap().text(), "slept");
    lineage.wait_for_log(mark, said::ROLLED_BACK);
    assert!(!Proc(new).exists());
    idle.ask_all_of(old).assert_flawless();
    assert_eq!(pid_on(&mut conn), old);
}

#[test]
fn a_fifth_process_is_not_started_while_four_still_drain() {
    let settings = "[upgrade]\nrollback_window = \"50ms\"\n[shutdown]\ngrace = \"60s\"\n";
    let mut lineage = Lineage::serve(&Launch::playground().settings(settings));
    let endless = |lineage: &Lineage| {
        let mut conn = lineage.conn();
        conn.get("/stream/100000").unwrap();
        conn.head().unwrap();
        conn
    };
    let mut conns = Vec::new();
    let first = lineage.newest();
    for _ in 0..4 {
        conns.push(endless(&lineage));
        lineage.upgrade();
    }
    let fifth = lineage.newest();
    let line = loop {
        let mark = lineage.mark();
        lineage.signal(Signal::USR2);
        // the newest process may not have received its confirmation yet
        let line = lineage.wait_for_any(mark, &[said::UPGRADE_REFUSED, said::REFUSED_UNCONFIRMED]);
        if line.contains(said::UPGRADE_REFUSED) {
            break line;
        }
    };
    assert!(
        line.contains("still drain") && line.contains(&first.to_string()),
        "{line}"
    );
    assert_eq!((pid_of_server(&lineage), lineage.alive().len()), (fifth, 5));
    // the exit of one process makes room; the signals differ, because the kernel merges pending signals of the same number
    signal_to(first, Signal::TERM);
    signal_to(first, Signal::INT);
    lineage.gone(first, SOON);
    lineage.upgrade();
}
