//! A first process whose pid is supervised: it stays across upgrades, forwards signals, and exits with the status of the
//! newest process.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use slackwater_tests::idle::{History, IdleConnections};
use slackwater_tests::launch::Launch;
use slackwater_tests::log_texts;
use slackwater_tests::proc::Proc;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::process_chain::signal_to;
use slackwater_tests::program;
use slackwater_tests::tools::{namespaces, or_skip, tini};
use slackwater_tests::wait::until;

use super::{LONG, WINDOW};

/// A program whose first process is the child of a supervising program.
struct Watched {
    watcher: Process,
    first: u32,
}

impl Watched {
    /// Starts the playground as the child of `watcher`, whose last argument is its path.
    fn by(watcher: &Launch) -> Self {
        let mut watcher = watcher.clone().settings(WINDOW).start();
        watcher.ready();
        let first = until(LONG, "the first process is started", || {
            only_child(watcher.pid())
        });
        Watched { watcher, first }
    }

    /// Sends USR2 to the first process, and waits until the upgrade is confirmed and the first process only forwards signals.
    fn upgrade(&self) -> String {
        let (mark, before) = (self.watcher.mark(), self.watcher.get("/pid"));
        signal_to(self.first, Signal::USR2);
        self.watcher.wait_for_log(mark, log_texts::CONFIRMED);
        self.watcher.wait_for_log(mark, log_texts::STOPPED);
        // a signal that arrives during its execve may be lost
        until(LONG, "the first process only forwards signals", || {
            (Proc(self.first).threads() == 1).then_some(())
        });
        let after = self.watcher.get("/pid");
        assert_ne!(
            after,
            before,
            "another process serves: {}",
            self.watcher.log()
        );
        after
    }

    /// Sends HUP to the first process, and checks that the newest process reloads.
    fn reloads(&self, greeting: &str) {
        self.watcher
            .settings(&format!("{WINDOW}[app]\ngreeting = \"{greeting}\"\n"));
        let mark = self.watcher.mark();
        signal_to(self.first, Signal::HUP);
        self.watcher.wait_for_log(mark, log_texts::RELOADED);
        assert_eq!(self.watcher.get("/greet/you"), format!("{greeting}, you!"));
    }
}

fn only_child(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Returns a launch of the playground as pid 1 of a new pid namespace, or `None` without namespaces.
fn contained() -> Option<Launch> {
    let unshare = or_skip(namespaces())?;
    let args = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    Some(
        Launch::program(&unshare)
            .args(args)
            .args([program::playground()]),
    )
}

#[test]
fn pid_1_stays_across_upgrades_and_releases_its_memory() {
    let Some(launch) = contained() else { return };
    let mut contained = Watched::by(&launch);
    let served_in = Proc(contained.first).rss_kib();
    let mut idle = IdleConnections::open(&contained.watcher.addr(), 50, History::OneRequest);
    assert_eq!(contained.watcher.get("/pid"), "1");
    for round in 0..3 {
        let newest = contained.upgrade();
        idle.fetch_all("/").assert_flawless();
        contained.reloads(&format!("Hello {round}"));
        assert_eq!(
            contained.watcher.get("/pid"),
            newest,
            "the reload has started no process"
        );
    }
    let waits_in = Proc(contained.first).rss_kib();
    assert!(
        waits_in < served_in,
        "{waits_in} KiB while it waits, {served_in} KiB while it served"
    );
    // only the first process and the newest are left, and no zombie
    let children =
        || std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", contained.first));
    until(LONG, "one child is left", || {
        (children().ok()?.split_whitespace().count() == 1).then_some(())
    });
    signal_to(contained.first, Signal::TERM);
    assert_eq!(
        contained.watcher.wait_exit(LONG).code(),
        Some(0),
        "{}",
        contained.watcher.log()
    );
}

#[test]
fn pid_1_exits_with_the_status_of_the_newest_process_when_that_dies() {
    let Some(launch) = contained() else { return };
    let mut contained = Watched::by(&launch);
    contained.upgrade();
    let newest = only_child(contained.first).unwrap();
    signal_to(newest, Signal::KILL);
    // the status that a shell returns: 128 plus the signal
    assert_eq!(
        contained.watcher.wait_exit(LONG).code(),
        Some(137),
        "{}",
        contained.watcher.log()
    );
}

#[test]
fn pid_1_stops_if_the_signal_arrives_between_live_and_accepting() {
    for signal in [Signal::TERM, Signal::QUIT, Signal::INT] {
        let Some(unshare) = or_skip(namespaces()) else {
            return;
        };
        let args = ["--pid", "--fork", "--kill-child", "--mount-proc"];
        let launch = Launch::program(&unshare)
            .args(args)
            .args([program::fixture()]);
        let launch = launch
            .settings("[log]\nlevel = \"debug\"\n")
            .env("FIXTURE_HOLDS", "1");
        let mut watcher = launch.start();
        watcher.ready();
        let first = until(LONG, "the first process is started", || {
            only_child(watcher.pid())
        });
        let held = watcher.dir().path().join("held");
        watcher.dir().write("hold", "the old process sent Live");
        signal_to(first, Signal::USR2);
        until(LONG, "the new process pauses", || {
            held.exists().then_some(())
        });
        let mark = watcher.mark();
        signal_to(first, signal);
        watcher.wait_for_log(mark, "from pid 0");
        std::fs::remove_file(&held).unwrap();
        assert_eq!(
            watcher.wait_exit(LONG).code(),
            Some(0),
            "{signal:?}: {}",
            watcher.log()
        );
    }
}

#[test]
fn the_first_process_stays_under_tini_and_tini_exits_with_it() {
    let Some(tini) = or_skip(tini()) else { return };
    // tini is a subreaper here, not pid 1
    let launch = Launch::program(&tini)
        .args(["-s", "--"])
        .args([program::playground()]);
    let mut under = Watched::by(&launch);
    let mut idle = IdleConnections::open(&under.watcher.addr(), 20, History::OneRequest);
    for _ in 0..2 {
        under.upgrade();
        idle.fetch_all("/").assert_flawless();
    }
    under.reloads("Moin");
    // tini forwards the signal to its child, which forwards it to the newest process
    under.watcher.signal(Signal::TERM);
    assert_eq!(
        under.watcher.wait_exit(LONG).code(),
        Some(0),
        "{}",
        under.watcher.log()
    );
}

#[test]
fn the_first_process_stays_in_the_foreground_of_a_terminal_until_ctrl_c() {
    let Some(script) = or_skip(slackwater_tests::tools::script()) else {
        return;
    };
    let keys = Launch::program(Path::new("/bin/sh"));
    let fifo = keys.dir().path().join("keys");
    assert!(Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap()
        .success());
    let typed = r#"exec "$0" -qefc "exec $1" /dev/null <keys"#;
    let keys = keys
        .args(["-c", typed])
        .args([script, program::playground()]);
    // opening a FIFO blocks until the other side opens it
    let typist = std::thread::spawn(move || OpenOptions::new().write(true).open(fifo).unwrap());
    let mut foreground = Watched::by(&keys);
    let mut typist = typist.join().unwrap();
    for _ in 0..2 {
        foreground.upgrade();
    }
    foreground.reloads("Moin");
    let mark = foreground.watcher.mark();
    typist.write_all(b"\x03").unwrap();
    assert_eq!(
        foreground.watcher.wait_exit(LONG).code(),
        Some(0),
        "{}",
        foreground.watcher.log()
    );
    assert_eq!(
        foreground.watcher.log_since(mark).matches("SIGINT").count(),
        1,
        "one process receives SIGINT, and only once"
    );
}

#[test]
fn the_first_process_handles_signals_itself_until_a_manual_upgrade_is_committed() {
    let Some(launch) = contained() else { return };
    let mut watcher = launch.settings("[upgrade]\nmode = \"manual\"\n").start();
    watcher.ready();
    let first = until(LONG, "the first process is started", || {
        only_child(watcher.pid())
    });
    let mark = watcher.mark();
    signal_to(first, Signal::USR2);
    watcher.wait_for_log(mark, log_texts::BOTH_ACCEPT);
    signal_to(first, Signal::WINCH);
    watcher.wait_for_log(mark, log_texts::PAUSED);
    signal_to(first, Signal::HUP);
    watcher.wait_for_log(mark, log_texts::RESUMED);
    signal_to(first, Signal::QUIT);
    watcher.wait_for_log(mark, log_texts::CONFIRMED);
    watcher.wait_for_log(mark, log_texts::STOPPED);
    // a signal that arrives during its execve may be lost
    until(LONG, "the first process only forwards signals", || {
        (Proc(first).threads() == 1).then_some(())
    });
    assert_ne!(watcher.get("/pid"), "1");
    signal_to(first, Signal::TERM);
    assert_eq!(watcher.wait_exit(LONG).code(), Some(0), "{}", watcher.log());
}
