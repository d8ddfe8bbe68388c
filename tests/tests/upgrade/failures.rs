//! Upgrades that fail: the old process keeps serving and logs the reason, and a later upgrade succeeds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Instant;

use slackwater_tests::conn::Conn;
use slackwater_tests::idle::{History, IdleConnections};
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::log_texts;
use slackwater_tests::proc::Proc;
use slackwater_tests::process::Signal;
use slackwater_tests::process_chain::{signal_to, ProcessChain};
use slackwater_tests::program;
use slackwater_tests::tally::Failure;
use slackwater_tests::tools::{namespaces, or_skip};
use slackwater_tests::wait::until;

use super::{LONG, SOON, WINDOW};
use crate::help::{ms, pid_of_server, pid_on};

/// Starts the playground from a copy of its binary, so that the test can replace the file.
fn installed() -> ProcessChain {
    let launch = Launch::playground().settings(WINDOW);
    launch.dir().install(&program::playground(), "app");
    ProcessChain::serve(&launch.with_program("./app"))
}

/// Replaces the program by a script.
fn script(chain: &ProcessChain, text: &str) {
    program::script(&chain.dir().path().join("app"), text);
}

/// Makes the next upgrade fail with `damage`, sends USR2, and checks that the old process logs each of `words` and keeps
/// serving. Then repairs the program and the settings, and checks that an upgrade succeeds.
fn fails_then_succeeds(
    mut chain: ProcessChain,
    words: &[&str],
    damage: impl FnOnce(&ProcessChain),
) {
    let (old, mark) = (chain.newest(), chain.mark());
    let mut idle = IdleConnections::open(&chain.addr(), 10, History::OneRequest);
    let load = Load::on(&chain.addr())
        .clients(2, Pattern::KeepAlive)
        .clients(1, Pattern::NewConnection);
    let load = load.start();
    damage(&chain);
    chain.signal(Signal::USR2);
    for word in words {
        chain.wait_for_log(mark, word);
    }
    load.wait_for(50, LONG);
    assert_eq!(pid_of_server(&chain), old);
    until(LONG, "the new process has exited", || {
        (chain.alive() == [old]).then_some(())
    });
    assert_eq!(chain.zombies(), [0; 0], "the new process is reaped");
    idle.fetch_all_from(old).assert_flawless();

    chain.settings(WINDOW);
    if chain.dir().path().join("app.ok").exists() {
        chain.dir().install(&program::playground(), "app");
    }
    let new = chain.upgrade();
    load.wait_for(50, LONG);
    load.stop().assert_flawless();
    idle.wait_served_by(new);
    chain.wait_gone(old, SOON);
}

/// Does the same for an upgrade that fails because `damage` replaces the program.
fn broken_program(words: &[&str], damage: impl FnOnce(&ProcessChain)) {
    let chain = installed();
    chain.dir().write("app.ok", "to be repaired");
    fails_then_succeeds(chain, words, damage);
}

#[test]
fn an_upgrade_to_a_missing_program_is_refused() {
    broken_program(&[log_texts::UPGRADE_REFUSED, "/app"], |chain| {
        fs::remove_file(chain.dir().path().join("app")).unwrap();
    });
}

#[test]
fn an_upgrade_to_a_file_that_is_not_executable_is_refused() {
    broken_program(&[log_texts::UPGRADE_REFUSED, "/app"], |chain| {
        let path = chain.dir().write("app", "#!/bin/sh\n");
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    });
}

#[test]
fn an_upgrade_to_an_executable_text_file_is_refused() {
    broken_program(&["upgrade", "/app"], |chain| {
        script(chain, "just some words\n");
    });
}

#[test]
fn an_upgrade_to_an_empty_file_is_refused() {
    broken_program(&["upgrade"], |chain| script(chain, ""));
}

#[test]
fn an_upgrade_to_a_program_for_another_machine_is_refused() {
    broken_program(&["upgrade", "/app"], |chain| {
        let mut bytes = fs::read(program::hello()).unwrap();
        // e_machine in the ELF header: a value that no kernel accepts
        bytes[18..20].copy_from_slice(&[0xfe, 0xfe]);
        program::script(&chain.dir().path().join("app"), bytes);
    });
}

#[test]
fn an_upgrade_to_a_program_whose_loader_is_missing_is_refused() {
    broken_program(
        &[log_texts::UPGRADE_REFUSED, "loader is missing"],
        |chain| {
            script(chain, "#!/nonexistent/loader\n");
        },
    );
}

#[test]
fn an_upgrade_fails_if_the_new_process_exits_with_0_at_once() {
    broken_program(
        &[log_texts::UPGRADE_FAILED, "exited with status 0"],
        |chain| {
            script(chain, "#!/bin/sh\nexit 0\n");
        },
    );
}

#[test]
fn an_upgrade_fails_if_a_shared_library_of_the_program_is_missing() {
    // the output and the status of the dynamic loader when a library is missing
    broken_program(
        &[log_texts::UPGRADE_FAILED, "exited with status 127"],
        |chain| {
            script(
                chain,
                "#!/bin/sh\necho 'error while loading shared libraries' >&2; exit 127\n",
            );
        },
    );
}

#[test]
fn an_upgrade_fails_if_the_new_process_exits_although_its_child_holds_its_descriptors() {
    let mut chain = installed();
    let (old, mark) = (chain.newest(), chain.mark());
    script(&chain, "#!/bin/sh\nsleep 600 &\nexit 0\n");
    chain.signal(Signal::USR2);
    chain.wait_for_log(mark, log_texts::UPGRADE_FAILED);
    assert_eq!(pid_of_server(&chain), old);
    chain.dir().install(&program::playground(), "app");
    let new = chain.upgrade();
    assert_eq!(pid_of_server(&chain), new);
}

#[test]
fn an_upgrade_fails_with_the_error_of_an_application_that_cannot_start() {
    let words = [
        log_texts::UPGRADE_REFUSED,
        "the database is gone",
        log_texts::UPGRADE_FAILED,
    ];
    fails_then_succeeds(installed(), &words, |chain| {
        chain.settings(&format!(
            "{WINDOW}[app]\nfail_start = \"the database is gone\"\n"
        ));
    });
}

#[test]
fn an_upgrade_fails_if_the_new_process_panics_in_app() {
    let chain = ProcessChain::serve(&Launch::fixture().settings(WINDOW));
    fails_then_succeeds_on_fixture(
        chain,
        &["panics as configured", log_texts::UPGRADE_FAILED],
        "panic = true\n",
    );
}

#[test]
fn an_upgrade_fails_if_on_ready_of_the_new_process_returns_an_error() {
    let chain = ProcessChain::serve(&Launch::fixture().settings(WINDOW));
    let words = [
        log_texts::UPGRADE_REFUSED,
        "refuses as configured",
        log_texts::UPGRADE_FAILED,
    ];
    fails_then_succeeds_on_fixture(chain, &words, "refuse = true\n");
}

/// Does the same as `fails_then_succeeds` without load, with settings of the fixture.
fn fails_then_succeeds_on_fixture(mut chain: ProcessChain, words: &[&str], app: &str) {
    let (old, mark) = (chain.newest(), chain.mark());
    chain.settings(&format!("{WINDOW}[app]\n{app}"));
    chain.signal(Signal::USR2);
    for word in words {
        chain.wait_for_log(mark, word);
    }
    assert_eq!(chain.get("/made"), "1");
    until(LONG, "the new process has exited", || {
        (chain.alive() == [old]).then_some(())
    });
    chain.settings(WINDOW);
    chain.upgrade();
    chain.wait_gone(old, SOON);
}

#[test]
fn an_upgrade_with_invalid_settings_fails_and_names_the_key() {
    let words = [log_texts::UPGRADE_FAILED, "keep_alive_timeouts"];
    fails_then_succeeds(installed(), &words, |chain| {
        chain.settings(&format!("{WINDOW}[http]\nkeep_alive_timeouts = \"1s\"\n"));
    });
}

#[test]
fn a_new_process_that_is_not_ready_within_ready_timeout_is_killed() {
    let settings = "[upgrade]\nrollback_window = \"300ms\"\nready_timeout = \"5s\"\n";
    let chain = ProcessChain::serve(&Launch::playground().settings(settings));
    fails_then_succeeds(
        chain,
        &[log_texts::UPGRADE_FAILED, "ready_timeout"],
        |chain| {
            chain.settings(&format!("{settings}[app]\nstart_delay = \"10m\"\n"));
        },
    );
}

#[test]
fn a_new_process_that_is_paused_with_sigstop_before_it_is_ready_is_killed() {
    let launch = Launch::playground().settings(&format!("{WINDOW}ready_timeout = \"5s\"\n"));
    launch.dir().install(&program::playground(), "app");
    let chain = ProcessChain::serve(&launch.with_program("./app"));
    chain.dir().write("app.ok", "");
    fails_then_succeeds(
        chain,
        &[log_texts::UPGRADE_FAILED, "ready_timeout"],
        |chain| {
            script(chain, "#!/bin/sh\nkill -STOP $$\n");
        },
    );
}

#[test]
fn an_upgrade_fails_if_the_new_process_is_killed_during_its_start() {
    let mut chain = installed();
    let (old, mark) = (chain.newest(), chain.mark());
    chain.settings(&format!("{WINDOW}[app]\nstart_delay = \"10m\"\n"));
    let new = chain.begin_upgrade();
    signal_to(new, Signal::KILL);
    chain.wait_for_log(mark, &format!("(pid {new}) was killed by SIGKILL"));
    chain.wait_for_log(mark, log_texts::UPGRADE_FAILED);
    assert_eq!(pid_of_server(&chain), old);
    chain.settings(WINDOW);
    chain.upgrade();
}

#[test]
fn an_upgrade_fails_if_the_new_process_receives_term_during_its_start() {
    let mut chain = installed();
    let (old, mark) = (chain.newest(), chain.mark());
    chain.settings(&format!("{WINDOW}[app]\nstart_delay = \"10m\"\n"));
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, &format!("starts, pid {new}"));
    signal_to(new, Signal::TERM);
    chain.wait_for_log(mark, log_texts::UPGRADE_FAILED);
    assert_eq!(pid_of_server(&chain), old);
    chain.settings(WINDOW);
    chain.upgrade();
}

#[test]
fn an_upgrade_is_rolled_back_if_the_new_process_dies_in_its_rollback_window() {
    let settings = "pid_file = \"app.pid\"\n[upgrade]\nrollback_window = \"60s\"\n";
    let mut chain = ProcessChain::serve(&Launch::playground().settings(settings));
    let (old, mark) = (chain.newest(), chain.mark());
    let mut idle = IdleConnections::open(&chain.addr(), 200, History::OneRequest);
    let mut ahead = IdleConnections::open(&chain.addr(), 50, History::NoRequest);
    let load = Load::on(&chain.addr())
        .clients(4, Pattern::KeepAlive)
        .clients(2, Pattern::NewConnection)
        .clients(4, Pattern::Thinking(ms(20)))
        .start();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    load.wait_for(200, LONG);
    assert_eq!(pid_of_server(&chain), new);
    signal_to(new, Signal::KILL);
    chain.wait_for_log(mark, log_texts::ROLLED_BACK);
    load.wait_for(200, LONG);
    let tally = load.stop();
    assert_eq!(
        tally.count(Failure::Refused) + tally.count(Failure::TimedOut),
        0,
        "{tally}"
    );
    // the requests that the new process had read are cut, and connections that it had accepted: at most one for each client
    assert!(tally.failed() <= 10, "{tally}");
    assert_eq!(pid_of_server(&chain), old);
    idle.fetch_all_from(old).assert_flawless();
    ahead.fetch_all_from(old).assert_flawless();
    assert_eq!(chain.dir().read("app.pid").trim(), old.to_string());
    assert_eq!((chain.alive(), chain.zombies()), (vec![old], vec![]));

    chain.settings(WINDOW);
    chain.reload();
    let next = chain.upgrade();
    idle.wait_served_by(next);
}

#[test]
fn several_rollbacks_lose_no_idle_connection() {
    let chain = ProcessChain::serve(
        &Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"),
    );
    let old = chain.newest();
    let mut idle = IdleConnections::open(&chain.addr(), 100, History::OneRequest);
    let fds = chain.proc().open_fds();
    for _ in 0..5 {
        let mark = chain.mark();
        let new = chain.begin_upgrade();
        chain.wait_for_log(mark, log_texts::HANDING_OVER);
        until(LONG, "the new process serves", || {
            (pid_of_server(&chain) == new).then_some(())
        });
        signal_to(new, Signal::KILL);
        chain.wait_for_log(mark, log_texts::ROLLED_BACK);
    }
    idle.fetch_all_from(old).assert_flawless();
    until(LONG, "no descriptor is left open", || {
        (chain.proc().open_fds() <= fds + 1).then_some(())
    });
}

#[test]
fn requests_in_progress_at_the_old_process_survive_a_rollback() {
    let chain = ProcessChain::serve(
        &Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"),
    );
    let (old, mark) = (chain.newest(), chain.mark());
    let mut conns: Vec<Conn> = (0..10).map(|_| chain.conn()).collect();
    conns
        .iter_mut()
        .for_each(|conn| conn.get("/sleep/1500").unwrap());
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    signal_to(new, Signal::KILL);
    chain.wait_for_log(mark, log_texts::ROLLED_BACK);
    for conn in &mut conns {
        let answer = conn.answer().unwrap();
        assert!(answer.text() == "slept" && !answer.closes(), "{answer:?}");
        assert_eq!(pid_on(conn), old);
    }
}

#[test]
fn a_request_that_the_new_process_had_read_is_cut_when_it_dies() {
    let chain = ProcessChain::serve(
        &Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"),
    );
    let mark = chain.mark();
    let mut conn = chain.conn();
    conn.fetch("/").unwrap();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
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
    let mut chain = ProcessChain::serve(
        &Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"),
    );
    let (old, mark) = (chain.newest(), chain.mark());
    let mut idle = IdleConnections::open(&chain.addr(), 100, History::OneRequest);
    let load = Load::on(&chain.addr())
        .clients(4, Pattern::Thinking(ms(5)))
        .start();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    load.wait_for(200, LONG);
    idle.wait_served_by(new);
    signal_to(old, Signal::KILL);
    chain.wait_gone(old, LONG);
    load.wait_for(200, LONG);
    load.stop().assert_flawless();
    idle.fetch_all_from(new).assert_flawless();
    // the new process can start the next upgrade
    chain.set_newest(new);
    chain.settings(WINDOW);
    chain.reload();
    let newer = chain.upgrade();
    idle.wait_served_by(newer);
}

#[test]
fn the_new_process_serves_when_the_old_one_is_killed_during_its_start() {
    let settings = format!("{WINDOW}[app]\nstart_delay = \"3s\"\n");
    let mut chain = ProcessChain::serve(&Launch::playground().settings(&settings));
    let old = chain.newest();
    let new = chain.begin_upgrade();
    signal_to(old, Signal::KILL);
    chain.wait_gone(old, LONG);
    // the socket was never closed, so new connections wait in its accept queue
    assert_eq!(pid_of_server(&chain), new);
    chain.set_newest(new);
    chain.upgrade();
}

#[test]
fn term_before_live_ends_the_new_process_and_drains_the_old_one() {
    let settings = format!("{WINDOW}[shutdown]\ngrace = \"20s\"\n");
    let mut chain = ProcessChain::serve(&Launch::playground().settings(&settings));
    chain.settings(&format!("{settings}[app]\nstart_delay = \"30s\"\n"));
    let old = chain.newest();
    let mut conn = chain.conn();
    conn.get("/sleep/5000").unwrap();
    let new = chain.begin_upgrade();
    chain.signal(Signal::TERM);
    chain.wait_gone(new, SOON);
    let answer = conn.answer().unwrap();
    assert!(answer.text() == "slept" && answer.closes(), "{answer:?}");
    chain.wait_gone(old, LONG);
    assert_eq!(chain.alive(), [0; 0]);
}

#[test]
fn term_after_live_lets_the_old_process_finish_its_handover() {
    let mut chain = ProcessChain::serve(
        &Launch::playground().settings("[upgrade]\nrollback_window = \"2s\"\n"),
    );
    let (old, mark) = (chain.newest(), chain.mark());
    let mut idle = IdleConnections::open(&chain.addr(), 50, History::OneRequest);
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    chain.signal(Signal::TERM);
    chain.wait_gone(old, LONG);
    assert_eq!(pid_of_server(&chain), new);
    idle.fetch_all_from(new).assert_flawless();
    assert_eq!(chain.alive(), [new]);
}

#[test]
fn a_second_term_after_live_ends_the_old_process_at_once_and_the_new_one_serves() {
    let mut chain = ProcessChain::serve(
        &Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"),
    );
    let (old, mark) = (chain.newest(), chain.mark());
    let mut idle = IdleConnections::open(&chain.addr(), 50, History::OneRequest);
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    until(LONG, "the new process serves", || {
        (pid_of_server(&chain) == new).then_some(())
    });
    idle.wait_served_by(new);
    let mark = chain.mark();
    chain.signal(Signal::TERM);
    // wait, because the kernel merges pending signals of the same number (signal(7))
    chain.wait_for_log(mark, "SIGTERM");
    chain.signal(Signal::TERM);
    chain.wait_gone(old, SOON);
    idle.fetch_all_from(new).assert_flawless();
}

#[test]
fn hup_during_an_upgrade_reloads_the_new_process_after_the_confirmation() {
    let settings =
        |greeting| format!("{WINDOW}[app]\nstart_delay = \"3s\"\ngreeting = \"{greeting}\"\n");
    let mut chain = ProcessChain::serve(&Launch::playground().settings(&settings("one")));
    let mark = chain.mark();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, &format!("starts, pid {new}"));
    chain.settings(&settings("two"));
    chain.signal(Signal::HUP);
    chain.wait_confirmed(mark, new);
    chain.wait_for_log(mark, log_texts::RELOADED);
    assert_eq!(chain.get("/greet/you"), "two, you!");
    assert_eq!(pid_of_server(&chain), new);
}

#[test]
fn hup_during_an_upgrade_that_fails_reloads_the_old_process() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let (old, mark) = (chain.newest(), chain.mark());
    chain.settings(&format!("{WINDOW}[app]\nstart_delay = \"10m\"\n"));
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, &format!("starts, pid {new}"));
    chain.settings(&format!("{WINDOW}[app]\ngreeting = \"two\"\n"));
    chain.signal(Signal::HUP);
    signal_to(new, Signal::KILL);
    chain.wait_for_log(mark, log_texts::RELOADED);
    assert_eq!(chain.get("/greet/you"), "two, you!");
    assert_eq!(pid_of_server(&chain), old);
    chain.upgrade();
}

#[test]
fn hup_to_an_old_process_that_hands_over_is_refused_and_to_the_new_one_is_queued() {
    let settings = |greeting| {
        format!("[upgrade]\nrollback_window = \"8s\"\n[app]\ngreeting = \"{greeting}\"\n")
    };
    let mut chain = ProcessChain::serve(&Launch::playground().settings(&settings("one")));
    let (old, mark) = (chain.newest(), chain.mark());
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    chain.settings(&settings("two"));
    chain.signal(Signal::HUP);
    chain.wait_for_log(mark, "refused: the process is shutting down");
    signal_to(new, Signal::HUP);
    chain.wait_confirmed(mark, new);
    chain.wait_gone(old, LONG);
    chain.wait_for_log(mark, log_texts::RELOADED);
    assert_eq!(chain.get("/greet/you"), "two, you!");
}

#[test]
fn a_pid_file_that_cannot_be_written_does_not_stop_an_upgrade() {
    let launch = Launch::playground();
    fs::create_dir(launch.dir().path().join("run")).unwrap();
    let settings = format!("pid_file = \"run/app.pid\"\n{WINDOW}");
    let mut chain = ProcessChain::serve(&launch.settings(&settings));
    let (old, mark) = (chain.newest(), chain.mark());
    let is_written = || chain.dir().read("run/app.pid").trim() == old.to_string();
    until(LONG, "the pid file is written", || {
        is_written().then_some(())
    });
    // a removed directory, because root ignores file permissions
    fs::remove_dir_all(chain.dir().path().join("run")).unwrap();
    let new = chain.upgrade();
    assert_eq!(pid_of_server(&chain), new);
    chain.wait_for_log(mark, "app.pid");
    chain.wait_gone(old, SOON);
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
    let mut chain =
        ProcessChain::serve(&launch.settings(&format!("pid_file = \"small/app.pid\"\n{WINDOW}")));
    let (old, mark) = (chain.newest(), chain.mark());
    let pid_file = |chain: &ProcessChain, pid: u32| {
        let path = chain.dir().path().join("small/app.pid");
        fs::read_to_string(format!("/proc/{pid}/root{}", path.display())).ok()
    };
    let is_written = || pid_file(&chain, old) == Some(format!("{old}\n"));
    until(LONG, "the pid file is written", || {
        is_written().then_some(())
    });
    let new = chain.upgrade();
    let line = chain.wait_for_log(mark, "app.pid");
    assert!(line.contains("No space left"), "{line}");
    assert_eq!(
        pid_file(&chain, new),
        None,
        "the pid file is removed, because it would name the wrong process"
    );
    chain.wait_gone(old, SOON);
    // the removed file has made room
    let next = chain.upgrade();
    assert_eq!(pid_file(&chain, next), Some(format!("{next}\n")));
}

#[test]
fn an_upgrade_is_rolled_back_if_the_new_process_is_paused_with_sigstop_during_the_handover() {
    let chain = ProcessChain::serve(
        &Launch::playground().settings("[upgrade]\nrollback_window = \"60s\"\n"),
    );
    let (old, mark) = (chain.newest(), chain.mark());
    let mut idle = IdleConnections::open(&chain.addr(), 50, History::OneRequest);
    let mut conn = chain.conn();
    conn.get("/sleep/5000").unwrap();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    until(LONG, "the new process serves", || {
        (pid_of_server(&chain) == new).then_some(())
    });
    signal_to(new, Signal::STOP);
    // the old process hands this connection over, and the new one does not acknowledge it
    assert_eq!(conn.answer().unwrap().text(), "slept");
    chain.wait_for_log(mark, log_texts::ROLLED_BACK);
    assert!(!Proc(new).exists());
    idle.fetch_all_from(old).assert_flawless();
    assert_eq!(pid_on(&mut conn), old);
}

#[test]
fn a_fifth_process_is_not_started_while_four_still_drain() {
    let settings = "[upgrade]\nrollback_window = \"50ms\"\n[shutdown]\ngrace = \"60s\"\n";
    let mut chain = ProcessChain::serve(&Launch::playground().settings(settings));
    let endless = |chain: &ProcessChain| {
        let mut conn = chain.conn();
        conn.get("/stream/100000").unwrap();
        conn.head().unwrap();
        conn
    };
    let mut conns = Vec::new();
    let first = chain.newest();
    for _ in 0..4 {
        conns.push(endless(&chain));
        chain.upgrade();
    }
    let fifth = chain.newest();
    let line = loop {
        let mark = chain.mark();
        chain.signal(Signal::USR2);
        // the newest process may not have received its confirmation yet
        let line = chain.wait_for_any(
            mark,
            &[log_texts::UPGRADE_REFUSED, log_texts::REFUSED_UNCONFIRMED],
        );
        if line.contains(log_texts::UPGRADE_REFUSED) {
            break line;
        }
    };
    assert!(
        line.contains("still drain") && line.contains(&first.to_string()),
        "{line}"
    );
    assert_eq!((pid_of_server(&chain), chain.alive().len()), (fifth, 5));
    // the exit of one process makes room; the signals differ, because the kernel merges pending signals of the same number
    signal_to(first, Signal::TERM);
    signal_to(first, Signal::INT);
    chain.wait_gone(first, SOON);
    chain.upgrade();
}
