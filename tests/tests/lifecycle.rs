//! The resources of a process: pid file, descriptors, threads, memory.

use std::time::Duration;

use slackwater_tests::launch::Launch;
use slackwater_tests::process::Signal;
use slackwater_tests::wait::until;

use crate::help::held_socket;

const LONG: Duration = Duration::from_secs(30);
const QUICK: &str = "[shutdown]\nkeepalive_grace = \"50ms\"\n";

#[test]
fn the_pid_file_exists_as_long_as_the_process() {
    let settings = format!("pid_file = \"app.pid\"\n{QUICK}");
    let mut process = Launch::playground().settings(&settings).serve();
    until(LONG, "the pid file", || {
        (process.dir().read("app.pid").trim() == process.pid().to_string()).then_some(())
    });
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(!process.dir().path().join("app.pid").exists());
}

#[test]
fn a_process_that_cannot_write_its_pid_file_warns_and_serves() {
    let process = Launch::playground()
        .settings("pid_file = \"no/such/dir/app.pid\"\n")
        .serve();
    process.wait_for_log(0, "no/such/dir/app.pid");
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn a_failed_start_leaves_no_pid_file() {
    let (_listener, taken) = held_socket();
    let launch = Launch::playground()
        .whole_settings(&format!("listen = \"{taken}\"\npid_file = \"app.pid\"\n"));
    assert_eq!(launch.run(LONG).code(), Some(1));
    assert!(!launch.dir().path().join("app.pid").exists());
}

#[test]
fn many_reloads_leave_no_descriptors_threads_or_memory_behind() {
    let process = Launch::playground().serve();
    for _ in 0..10 {
        process.reload();
    }
    let (fds, threads, memory) = (
        process.proc().open_fds(),
        process.proc().threads(),
        process.proc().rss_kib(),
    );
    for _ in 0..100 {
        process.reload();
    }
    until(LONG, "descriptors and threads as before", || {
        (process.proc().open_fds() <= fds && process.proc().threads() <= threads).then_some(())
    });
    let grown = process.proc().rss_kib().saturating_sub(memory);
    assert!(grown < 4 << 10, "{grown} KiB more after 100 reloads");
}

#[test]
fn the_setting_threads_is_the_number_of_executor_threads() {
    let one = Launch::playground()
        .settings("threads = 1\n")
        .serve()
        .proc()
        .threads();
    let eight = Launch::playground()
        .settings("threads = 8\n")
        .serve()
        .proc()
        .threads();
    assert_eq!(eight, one + 7);
}
