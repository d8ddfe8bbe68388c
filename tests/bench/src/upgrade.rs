//! Upgrades in a row under full load: what fails, what a swap costs beside a plain start, what piles up.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use slackwater_tests::conn::Conn;
use slackwater_tests::idle::{Before, Fates, Idle};
use slackwater_tests::lineage::Lineage;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::passengers::Passengers;
use slackwater_tests::proc::Proc;
use slackwater_tests::said;
use slackwater_tests::tally::{Tally, Window};
use slackwater_tests::wait;

use crate::memory::raise_open_files;
use crate::playground;
use crate::table::Table;

const SETTINGS: &str =
    "[upgrade]\nrollback_window = \"500ms\"\n[shutdown]\ngrace = \"10s\"\n[http]\nidle_timeout = \"1h\"\n";
const EVERY: Duration = Duration::from_secs(2);
const IDLE: usize = 2000;
const PASSENGERS: usize = 10;
const WINDOW: Duration = Duration::from_millis(100);
/// How long after a start its cost is looked at: a whole swap takes less.
const AFTER: Duration = Duration::from_millis(300);

/// Twenty upgrades.
pub fn run() -> Table {
    under_load(20)
}

/// Forty, while as many threads as there are cores have nothing to do but to turn.
pub fn saturated() -> Table {
    let stop = Arc::new(AtomicBool::new(false));
    let cores = thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    let burn = |_| {
        let stop = stop.clone();
        thread::spawn(move || while !stop.load(Ordering::Relaxed) {})
    };
    let threads: Vec<_> = (0..cores).map(burn).collect();
    let table = under_load(40);
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        let _ = thread.join();
    }
    table
}

/// What was seen of the upgrades, beside what the clients saw.
#[derive(Default)]
struct Seen {
    swaps: Vec<Instant>,
    plain_starts: Vec<Instant>,
    passengers: Tally,
    slowest_end: Duration,
    done: usize,
}

fn under_load(upgrades: u32) -> Table {
    let mut lineage = Lineage::serve(&playground::launch().settings(SETTINGS));
    let addr = lineage.addr();
    let mut idle = Idle::open(&addr, IDLE, Before::OneRequest);
    let load = Load::on(&addr)
        .clients(32, Pattern::KeepAlive)
        .clients(8, Pattern::NewConnection)
        .clients(200, Pattern::Thinking(Duration::from_millis(20)))
        .at_most(Duration::from_secs(900))
        .start();
    load.wait_for(5000, Duration::from_secs(60));
    let mut endless = Conn::open(&addr).expect("a connection");
    endless.get("/stream/1000000").expect("an endless answer");
    endless.head().expect("an endless answer");

    let (begun, mut seen, first) = (Instant::now(), Seen::default(), lineage.newest());
    for number in 1..=upgrades {
        one_upgrade(&mut lineage, &mut seen, first);
        thread::sleep(
            (EVERY * number).saturating_sub(begun.elapsed() + Duration::from_millis(700)),
        );
        plain_start(&mut seen);
        thread::sleep((EVERY * number).saturating_sub(begun.elapsed()));
    }
    let tally = load.stop();
    let fates = idle.fates();
    let asked = idle.ask_all_of(lineage.newest());

    let mut table = Table::default();
    table.promise("upgrades that are confirmed: all", seen.done, || {
        seen.done == upgrades as usize
    });
    table.promise("requests: none fails", &tally, || tally.failed() == 0);
    table.promise(
        "in flight, pipelined, half-sent at a swap: none fails",
        &seen.passengers,
        || seen.passengers.failed() == 0,
    );
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
    table.promise("idle connections the newest answers: all", &asked, || {
        asked.answered() == IDLE as u64 && asked.failed() == 0
    });
    table.promise(
        "the old one gone after window and handlers: 1 s",
        format!("{:.1?}", seen.slowest_end),
        || seen.slowest_end < Duration::from_secs(1),
    );
    costs(&mut table, &tally, &seen, begun);
    table
}

fn one_upgrade(lineage: &mut Lineage, seen: &mut Seen, first: u32) {
    let old = lineage.newest();
    let passengers = Passengers::board(&lineage.addr(), PASSENGERS);
    seen.swaps.push(Instant::now());
    let new = lineage.upgrade();
    match passengers {
        Ok(passengers) => seen.passengers.add(passengers.arrive(new)),
        Err(failure) => seen.passengers.failure(failure, || "before a swap".into()),
    }
    seen.done += 1;
    let handled = Instant::now();
    // the first has an endless answer to drain
    if old != first {
        lineage.gone(old, Duration::from_secs(20));
        seen.slowest_end = seen.slowest_end.max(handled.elapsed());
    }
}

/// Starts the same binary in the same way, to do nothing: what starting any process costs the clients.
fn plain_start(seen: &mut Seen) {
    seen.plain_starts.push(Instant::now());
    let _ = Command::new(playground::path())
        .arg("--version")
        .stdout(Stdio::null())
        .status();
}

fn costs(table: &mut Table, tally: &Tally, seen: &Seen, begun: Instant) {
    let windows = tally.windows(begun, WINDOW);
    // the last one is not whole
    let windows = &windows[..windows.len().saturating_sub(1)];
    let (median_p99, median_answered) =
        (median(windows, |w| w.p99), median(windows, |w| w.answered));
    let swap = worst(windows, &seen.swaps, begun);
    let plain = worst(windows, &seen.plain_starts, begun);
    table.note(
        "the median 100 ms",
        format!("{median_answered} answers, p99 {median_p99:.1?}"),
    );
    table.note("the worst 100 ms around a plain start", said(plain));
    let allowed = median_p99 * 3 + plain.p99.saturating_sub(median_p99);
    table.promise(
        "p99 in the worst 100 ms around a swap: 3 times",
        said(swap),
        || swap.p99 < allowed,
    );
    let least =
        (median_answered / 2).saturating_sub(median_answered.saturating_sub(plain.answered));
    table.promise(
        "answers in the worst 100 ms around a swap: half",
        said(swap),
        || swap.answered >= least,
    );
    let each = |at: &Instant| {
        around(windows, *at, begun)
            .iter()
            .map(|w| w.p99)
            .max()
            .unwrap_or_default()
    };
    let mut p99s: Vec<Duration> = seen.swaps.iter().map(each).collect();
    p99s.sort_unstable();
    table.note(
        "the p99 around a swap, median of all swaps",
        format!("{:.1?}", p99s[p99s.len() / 2]),
    );
}

/// The windows in which something happened at `at`, or was felt.
fn around(windows: &[Window], at: Instant, begun: Instant) -> &[Window] {
    let index =
        |at: Duration| usize::try_from(at.as_millis() / WINDOW.as_millis()).unwrap_or(usize::MAX);
    let since = at.duration_since(begun);
    let (from, to) = (index(since), index(since + AFTER) + 1);
    &windows[from.min(windows.len())..to.min(windows.len())]
}

/// The worst p99 and the fewest answers of all windows around these moments.
fn worst(windows: &[Window], moments: &[Instant], begun: Instant) -> Window {
    let felt = || moments.iter().flat_map(|at| around(windows, *at, begun));
    Window {
        answered: felt().map(|w| w.answered).min().unwrap_or(0),
        p99: felt().map(|w| w.p99).max().unwrap_or_default(),
    }
}

fn median<T: Ord + Default + Copy>(windows: &[Window], of: impl Fn(&Window) -> T) -> T {
    let mut values: Vec<T> = windows.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn said(window: Window) -> String {
    format!("{} answers, p99 {:.1?}", window.answered, window.p99)
}

/// How long ten thousand idle connections take from one process to the other.
pub fn journey() -> Table {
    const MANY: usize = 10_000;
    raise_open_files();
    let mut lineage = Lineage::serve(&playground::launch().settings(SETTINGS));
    let mut idle = Idle::open(&lineage.addr(), MANY, Before::OneRequest);
    let mark = lineage.mark();
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
    let begun = Instant::now();
    let there = || (Proc(new).open_fds() >= MANY).then(|| begun.elapsed());
    let took = wait::maybe(Duration::from_secs(30), there).unwrap_or(Duration::MAX);
    lineage.confirmed(mark, new);
    let asked = idle.ask_all_of(new);

    let mut table = Table::default();
    table.promise("all are there: within 1 s", format!("{took:.1?}"), || {
        took < Duration::from_secs(1)
    });
    table.promise("all are answered by the new process", &asked, || {
        asked.answered() == MANY as u64
    });
    table
}

/// After a hundred upgrades nothing has piled up that is not there after one.
pub fn piles() -> Table {
    let settings = "[upgrade]\nrollback_window = \"50ms\"\n";
    let mut lineage = Lineage::serve(&playground::launch().settings(settings));
    let mut idle = Idle::open(&lineage.addr(), 100, Before::OneRequest);
    let step = |lineage: &mut Lineage| {
        let old = lineage.newest();
        lineage.upgrade();
        lineage.gone(old, Duration::from_secs(10));
        // memory that is given back after a while is no leak
        thread::sleep(Duration::from_millis(50));
        (lineage.proc(), lineage.zombies().len())
    };
    let measure = |(proc, zombies): (Proc, usize)| {
        (
            [proc.open_fds(), proc.listening(), zombies],
            proc.threads(),
            proc.rss_kib(),
        )
    };
    let (counts, threads, rss) = measure(step(&mut lineage));
    for _ in 0..98 {
        step(&mut lineage);
    }
    let (counts_then, threads_then, rss_then) = measure(step(&mut lineage));
    let asked = idle.ask_all_of(lineage.newest());

    let mut table = Table::default();
    table.promise(
        "descriptors, sockets in LISTEN, zombies",
        format!("{counts:?} {counts_then:?}"),
        || counts == counts_then,
    );
    table.promise("threads", format!("{threads} {threads_then}"), || {
        threads_then <= threads + 1
    });
    table.promise(
        "resident memory (KiB; a tenth is noise)",
        format!("{rss} {rss_then}"),
        || rss_then <= rss + rss / 10,
    );
    table.promise("processes: one", lineage.alive().len(), || {
        lineage.alive().len() == 1
    });
    table.promise("idle connections that answer: all", &asked, || {
        asked.answered() == 100
    });
    table
}
