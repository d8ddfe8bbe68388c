//! Resident memory of an idle connection, before and after `http.idle_release`, measured with 8,000 connections.

use std::time::Duration;

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use slackwater_tests::idle::{History, IdleConnections};
use slackwater_tests::process::Process;
use slackwater_tests::wait;

use crate::playground;
use crate::table::Table;

const CONNECTIONS: usize = 8000;
const ROUNDS: usize = 5;
const KIB: f64 = 1024.0;
/// The change of resident memory, in KiB, that a single request may cause.
const REQUEST_NOISE: u64 = 128;

pub fn run() -> Table {
    raise_open_files();
    let mut table = Table::default();
    let released = cost("500ms", &mut table);
    table.goal(
        "after idle_release: bytes each, at most 1,024",
        format!("{released:.0}"),
        || released <= KIB,
    );
    let active = cost("1h", &mut table);
    table.note("before idle_release: bytes each", format!("{active:.0}"));
    table
}

/// Returns the resident memory in bytes for each idle connection: memory with the connections minus memory after their
/// end, the median of some rounds. A single round is not enough, because the allocator may keep more memory of the round
/// before than is measured.
fn cost(idle_release: &str, table: &mut Table) -> f64 {
    let settings = format!("[http]\nidle_release = \"{idle_release}\"\nidle_timeout = \"1h\"\n");
    let process = playground::launch().settings(&settings).serve();
    let (fds, fresh) = (process.proc().open_fds(), process.proc().rss_kib());
    round(&process, fds);
    let rounds: Vec<(u64, u64)> = (0..ROUNDS).map(|_| round(&process, fds)).collect();
    table.note(
        &format!("idle_release {idle_release}: KiB with 8,000 and after"),
        format!("{fresh} {rounds:?}"),
    );
    #[allow(clippy::cast_precision_loss)]
    let each =
        |(with, after): &(u64, u64)| (*with as f64 - *after as f64) * KIB / CONNECTIONS as f64;
    let mut each: Vec<f64> = rounds.iter().map(each).collect();
    each.sort_unstable_by(f64::total_cmp);
    each[ROUNDS / 2]
}

/// Opens and closes the connections; returns the memory with them and after them, in KiB.
fn round(process: &Process, fds: usize) -> (u64, u64) {
    let idle = IdleConnections::open(&process.addr(), CONNECTIONS, History::OneRequest);
    let with = settled(process);
    assert_eq!(idle.states().open, CONNECTIONS, "all are still open");
    drop(idle);
    wait::until(
        Duration::from_secs(60),
        "the server closes its side of the connections",
        || (process.proc().open_fds() <= fds + 1).then_some(()),
    );
    (with, settled(process))
}

/// Waits until the resident memory has not changed for two seconds, and returns it in KiB.
///
/// Sends a request now and then, because an allocator returns memory to the kernel only while it is used.
fn settled(process: &Process) -> u64 {
    let (mut last, mut since) = (process.proc().rss_kib(), std::time::Instant::now());
    wait::until(
        Duration::from_secs(60),
        "the resident memory is stable",
        || {
            process.get("/");
            let now = process.proc().rss_kib();
            if now.abs_diff(last) > REQUEST_NOISE {
                (last, since) = (now, std::time::Instant::now());
            }
            (since.elapsed() > Duration::from_secs(2)).then_some(now)
        },
    )
}

/// Raises the limit of open files to the hard limit. This process and the server need a descriptor for each connection.
pub fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .expect("the soft limit can be raised to the hard limit");
}
