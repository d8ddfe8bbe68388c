//! A hundred reloads in ten seconds under full load.

use std::thread;
use std::time::{Duration, Instant};

use slackwater_tests::idle::{Before, Fates, Idle};
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
    let mut idle = Idle::open(&addr, IDLE, Before::OneRequest);
    let load = Load::on(&addr)
        .clients(32, Pattern::KeepAlive)
        .clients(8, Pattern::NewConnection)
        .start();
    load.wait_for(1000, Duration::from_secs(30));

    let (begun, mut stale) = (Instant::now(), 0);
    for number in 1..=RELOADS {
        process.settings(&settings(number));
        process.reload();
        stale += u32::from(process.get("/greet/you") != format!("{number}, you!"));
        thread::sleep((EVERY * number).saturating_sub(begun.elapsed()));
    }
    let took = begun.elapsed();
    let tally = load.stop();
    let fates = idle.fates();
    let asked = idle.ask_all("/");

    let mut table = Table::default();
    table.promise("100 reloads in 10 s", format!("{took:.1?}"), || {
        took < Duration::from_millis(10_500)
    });
    table.promise("requests: none fails", &tally, || tally.failed() == 0);
    table.promise(
        "busy keep-alive connections closed: none",
        tally.polite_closes(),
        || tally.polite_closes() == 0,
    );
    table.promise(
        "idle connections closed: none",
        format!("{fates:?}"),
        || {
            fates
                == Fates {
                    open: IDLE,
                    ..Fates::default()
                }
        },
    );
    table.promise(
        "idle connections that answer: all",
        asked.answered(),
        || asked.answered() == IDLE as u64,
    );
    table.promise("next request sees the old greeting: never", stale, || {
        stale == 0
    });
    table.note(
        "requests a second meanwhile",
        tally.answered() / took.as_secs().max(1),
    );
    table.note(
        "resident memory after it",
        format!("{} KiB", process.proc().rss_kib()),
    );
    table
}
