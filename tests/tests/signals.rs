//! The effect of each signal in each phase.

use std::time::Duration;

use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::log_texts;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::tally::Failure;
use slackwater_tests::wait::until;

use crate::help::ms;

const QUICK: &str = "[shutdown]\nkeepalive_grace = \"100ms\"\ngrace = \"20s\"\n";

fn exit_code(process: &mut Process) -> Option<i32> {
    process.wait_exit(Duration::from_secs(10)).code()
}

#[test]
fn an_idle_process_exits_with_0_after_term_int_or_quit() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut process = Launch::playground().settings(QUICK).serve();
        process.signal(signal);
        assert_eq!(exit_code(&mut process), Some(0), "{signal:?}");
    }
}

#[test]
fn usr2_is_refused_while_paused_and_changes_nothing() {
    let process = Launch::playground().settings(QUICK).serve();
    let mark = process.mark();
    process.signal(Signal::WINCH);
    process.wait_for_log(mark, log_texts::PAUSED);
    process.signal(Signal::USR2);
    process.wait_for_log(mark, log_texts::REFUSED_PAUSED);
    process.signal(Signal::HUP);
    process.wait_for_log(mark, log_texts::RESUMED);
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn winch_pauses_a_process_and_hup_resumes_it() {
    let process = Launch::playground().settings(QUICK).serve();
    let addr = process.addr();
    let mut idle = process.conn();
    idle.fetch("/").unwrap();
    let mark = process.mark();
    process.signal(Signal::WINCH);
    process.wait_for_log(mark, log_texts::PAUSED);
    until(
        Duration::from_secs(5),
        "the idle connection is closed",
        || (idle.state() == SocketState::Closed).then_some(()),
    );
    // the socket is still open: the kernel accepts the connection, and no process answers the request
    let mut waiting = Conn::open(&addr).unwrap();
    waiting.get("/").unwrap();
    assert_eq!(waiting.state_after(ms(300)), SocketState::Open);
    let mark = process.mark();
    process.signal(Signal::HUP);
    process.wait_for_log(mark, log_texts::RESUMED);
    assert_eq!(
        waiting.answer().unwrap().text(),
        "Hello, world!",
        "the waiting request is answered"
    );
    assert_eq!(process.conn().fetch("/readyz").unwrap().status, 200);
}

#[test]
fn a_paused_process_exits_after_quit() {
    let mut process = Launch::playground().settings(QUICK).serve();
    let mark = process.mark();
    process.signal(Signal::WINCH);
    process.wait_for_log(mark, log_texts::PAUSED);
    process.signal(Signal::QUIT);
    assert_eq!(exit_code(&mut process), Some(0));
}

#[test]
fn a_paused_process_refuses_usr2_and_ignores_another_winch() {
    let process = Launch::playground().settings(QUICK).serve();
    let mark = process.mark();
    process.signal(Signal::WINCH);
    process.wait_for_log(mark, log_texts::PAUSED);
    let mark = process.mark();
    process.signal(Signal::WINCH);
    process.signal(Signal::USR2);
    process.wait_for_log(mark, "paused");
    process.signal(Signal::HUP);
    process.wait_for_log(mark, log_texts::RESUMED);
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn a_second_term_cuts_all_connections_at_once() {
    let mut process = Launch::playground().settings(QUICK).serve();
    let mut asked = process.conn();
    asked.get("/sleep/60000").unwrap();
    until(
        Duration::from_secs(5),
        "the request is in its handler",
        || process.get("/").contains("Hello").then_some(()),
    );
    let mark = process.mark();
    process.signal(Signal::TERM);
    process.wait_for_log(mark, log_texts::DRAINING);
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(Duration::from_secs(15)).code(), Some(0));
    let log = process.log_since(mark);
    assert!(
        log.contains("/sleep/"),
        "the log names the request that was cut: {log}"
    );
    assert!(matches!(
        asked.answer(),
        Err(Failure::ClosedBeforeAnswer | Failure::Reset)
    ));
}

#[test]
fn a_term_after_quit_cuts_no_request() {
    let mut process = Launch::playground().settings(QUICK).serve();
    let mut asked = process.conn();
    asked.get("/sleep/3000").unwrap();
    let mark = process.mark();
    until(
        Duration::from_secs(5),
        "the request is in its handler",
        || process.get("/").contains("Hello").then_some(()),
    );
    process.signal(Signal::QUIT);
    process.wait_for_log(mark, log_texts::DRAINING);
    process.signal(Signal::TERM);
    assert_eq!(
        asked.answer().unwrap().text(),
        "slept",
        "the first TERM after QUIT cuts nothing"
    );
    assert_eq!(exit_code(&mut process), Some(0));
}

#[test]
fn a_process_that_shuts_down_refuses_hup_and_usr2() {
    let mut process = Launch::playground().settings(QUICK).serve();
    let mut asked = process.conn();
    asked.get("/sleep/5000").unwrap();
    until(
        Duration::from_secs(5),
        "the request is in its handler",
        || process.get("/").contains("Hello").then_some(()),
    );
    let mark = process.mark();
    process.signal(Signal::TERM);
    process.wait_for_log(mark, log_texts::DRAINING);
    let mark = process.mark();
    process.signal(Signal::HUP);
    process.wait_for_log(mark, "refused");
    let mark = process.mark();
    process.signal(Signal::USR2);
    process.wait_for_log(mark, "refused");
    assert_eq!(asked.answer().unwrap().text(), "slept");
    assert_eq!(exit_code(&mut process), Some(0));
}

#[test]
fn hup_usr1_usr2_and_winch_do_not_kill_a_process_during_its_start() {
    let mut process = Launch::playground()
        .settings("[app]\nstart_delay = \"5s\"\n")
        .start();
    until(Duration::from_secs(10), "handlers are installed", || {
        caught(&process)
            .contains(&Signal::HUP.as_raw())
            .then_some(())
    });
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::WINCH] {
        process.signal(signal);
    }
    process.wait_for_log(0, "refused");
    process.ready();
    // the reload for this HUP runs after the start
    process.wait_for_log(0, log_texts::RELOADED);
}

#[test]
fn a_process_exits_after_term_during_its_start() {
    let mut process = Launch::playground()
        .settings("[app]\nstart_delay = \"60s\"\n")
        .start();
    until(Duration::from_secs(10), "handlers are installed", || {
        caught(&process)
            .contains(&Signal::TERM.as_raw())
            .then_some(())
    });
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(Duration::from_secs(15)).code(), Some(0));
}

/// Returns the numbers of the signals that a process catches.
fn caught(process: &Process) -> Vec<i32> {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .unwrap_or_default();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap_or(0);
    (1..=64)
        .filter(|number| mask & (1 << (number - 1)) != 0)
        .collect()
}
