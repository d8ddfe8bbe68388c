//! What an idle connection costs, parked and not: resident memory for each of 8,000.

use std::time::Duration;

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use slackwater_tests::idle::{Before, Idle};
use slackwater_tests::process::Process;
use slackwater_tests::wait;

use crate::playground;
use crate::table::Table;

const CONNECTIONS: usize = 8000;
const KIB: f64 = 1024.0;

pub fn run() -> Table {
    raise_open_files();
    let mut table = Table::default();
    let parked = cost("500ms", &mut table);
    table.promise("parked: bytes each, at most 1,024", format!("{parked:.0}"), || parked <= KIB);
    let active = cost("1h", &mut table);
    table.note("never silent for idle_release: bytes each", format!("{active:.0}"));
    table
}

/// Bytes of resident memory for each idle connection, against the same process after as many have come and gone.
fn cost(idle_release: &str, table: &mut Table) -> f64 {
    let settings = format!("[http]\nidle_release = \"{idle_release}\"\nidle_timeout = \"1h\"\n");
    let process = playground::launch().settings(&settings).serve();
    let addr = process.addr();
    let (fds, fresh) = (process.proc().open_fds(), process.proc().rss_kib());
    drop(Idle::open(&addr, CONNECTIONS, Before::OneRequest));
    wait::until(Duration::from_secs(60), "they are gone", || {
        (process.proc().open_fds() <= fds + 1).then_some(())
    });
    let before = settled(&process);
    let idle = Idle::open(&addr, CONNECTIONS, Before::OneRequest);
    let with = settled(&process);
    assert_eq!(idle.fates().open, CONNECTIONS, "all are still open");
    let sizes = format!("{fresh} KiB, {before} KiB, {with} KiB");
    table.note(&format!("idle_release {idle_release}: fresh, after 8,000, with 8,000"), sizes);
    #[allow(clippy::cast_precision_loss)]
    let grown = (with as f64 - before as f64) * KIB;
    grown / CONNECTIONS as f64
}

/// Resident memory in KiB once it has stood still for two seconds.
fn settled(process: &Process) -> u64 {
    let (mut last, mut since) = (process.proc().rss_kib(), std::time::Instant::now());
    wait::until(Duration::from_secs(60), "memory stands still", || {
        let now = process.proc().rss_kib();
        if now != last {
            (last, since) = (now, std::time::Instant::now());
        }
        (since.elapsed() > Duration::from_secs(2)).then_some(now)
    })
}

/// Both ends are on this machine; this process and the one it starts need a descriptor for each connection.
pub fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .expect("the soft limit may be raised to the hard");
}
