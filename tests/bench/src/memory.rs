//! What an idle connection costs, parked and not: resident memory for each of 8,000.

use std::time::Duration;

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use slackwater_tests::idle::{Before, Idle};
use slackwater_tests::process::Process;
use slackwater_tests::wait;

use crate::playground;
use crate::table::Table;

const CONNECTIONS: usize = 8000;
const ROUNDS: usize = 5;
const KIB: f64 = 1024.0;
/// What one request more or less makes of it, in KiB.
const A_REQUEST: u64 = 128;

pub fn run() -> Table {
    raise_open_files();
    let mut table = Table::default();
    let parked = cost("500ms", &mut table);
    table.promise(
        "parked: bytes each, at most 1,024",
        format!("{parked:.0}"),
        || parked <= KIB,
    );
    let active = cost("1h", &mut table);
    table.note(
        "never silent for idle_release: bytes each",
        format!("{active:.0}"),
    );
    table
}

/// Bytes of resident memory for each idle connection, against the same process after as many have gone: the median of
/// some rounds, for what an allocator keeps of the last round is more than what is measured.
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

/// Connections come and go; gives the memory with them and after them.
fn round(process: &Process, fds: usize) -> (u64, u64) {
    let idle = Idle::open(&process.addr(), CONNECTIONS, Before::OneRequest);
    let with = settled(process);
    assert_eq!(idle.fates().open, CONNECTIONS, "all are still open");
    drop(idle);
    wait::until(Duration::from_secs(60), "they are gone", || {
        (process.proc().open_fds() <= fds + 1).then_some(())
    });
    (with, settled(process))
}

/// Resident memory in KiB once it has as good as stood still for two seconds, while somebody else asks now and then: allocators give
/// memory back as they go about their work, and a process that does nothing at all keeps what it has.
fn settled(process: &Process) -> u64 {
    let (mut last, mut since) = (process.proc().rss_kib(), std::time::Instant::now());
    wait::until(Duration::from_secs(60), "memory stands still", || {
        process.get("/");
        let now = process.proc().rss_kib();
        if now.abs_diff(last) > A_REQUEST {
            (last, since) = (now, std::time::Instant::now());
        }
        (since.elapsed() > Duration::from_secs(2)).then_some(now)
    })
}

/// Both ends are on this machine; this process and the one it starts need a descriptor for each connection.
pub fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .expect("the soft limit may be raised to the hard");
}
