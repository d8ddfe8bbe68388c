//! A hundred reloads in ten seconds under full load.

use std::thread;
use std::time::{Duration, Instant};

use slackwater_tests::idle::{History, IdleConnections, StateCounts};
use slackwater_tests::load::{Load, Pattern};

use crate::playground;
use crate::table::Table;

const RELOADS: u32 = 100;
const EVERY: Duration = Duration::from_millis(100);
const IDLE: usize = 1000;

fn settings(number: u32) -> String {
    format!("[app]\ngreeting = \"{number}\"\n")
}

pub fn run() -> Table {
    let process = playground::launch().settings(&settings(0)).serve();
    let addr = process.addr();
    let mut idle = IdleConnections::open(&addr, IDLE, History::OneRequest);
    let load = Load::on(&addr)
        .clients(32, Pattern::KeepAlive)
        .clients(8, Pattern::NewConnection)
        .start();
    load.wait_for(1000, Duration::from_secs(30));

    let (start, mut stale) = (Instant::now(), 0);
    for number in 1..=RELOADS {
        process.settings(&settings(number));
        process.reload();
        stale += u32::from(process.get("/greet/you") != format!("{number}, you!"));
        thread::sleep((EVERY * number).saturating_sub(start.elapsed()));
    }
    let took = start.elapsed();
    let tally = load.stop();
    let states = idle.states();
    let after = idle.fetch_all("/");

    let mut table = Table::default();
    table.goal("100 reloads in 10 s", format!("{took:.1?}"), || {
        took < Duration::from_millis(10_500)
    });
    table.goal("requests: none fails", &tally, || tally.failed() == 0);
    table.goal(
        "busy keep-alive connections closed: none",
        tally.announced_closes(),
        || tally.announced_closes() == 0,
    );
    table.goal(
        "idle connections closed: none",
        format!("{states:?}"),
        || {
            states
                == StateCounts {
                    open: IDLE,
                    ..StateCounts::default()
                }
        },
    );
    table.goal(
        "idle connections that answer: all",
        after.answered(),
        || after.answered() == IDLE as u64,
    );
    table.goal("next request sees the old greeting: never", stale, || {
        stale == 0
    });
    table.note(
        "requests a second during the reloads",
        tally.answered() / took.as_secs().max(1),
    );
    table.note(
        "resident memory after the reloads",
        format!("{} KiB", process.proc().rss_kib()),
    );
    table
}
