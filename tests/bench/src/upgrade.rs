//! Consecutive upgrades under full load: failures, the cost of a swap compared with a plain start, leaks.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use slackwater_tests::conn::Conn;
use slackwater_tests::idle::{History, IdleConnections, StateCounts};
use slackwater_tests::in_flight::InFlightClients;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::log_texts;
use slackwater_tests::proc::Proc;
use slackwater_tests::process_chain::ProcessChain;
use slackwater_tests::tally::{Tally, Window};
use slackwater_tests::wait;

use crate::memory::raise_open_files;
use crate::playground;
use crate::table::Table;

const SETTINGS: &str =
    "[upgrade]\nrollback_window = \"500ms\"\n[shutdown]\ngrace = \"10s\"\n[http]\nidle_timeout = \"1h\"\n";
const EVERY: Duration = Duration::from_secs(2);
const IDLE: usize = 2000;
const IN_FLIGHT: usize = 10;
const WINDOW: Duration = Duration::from_millis(100);
/// The time after a start in which its cost is measured. A whole swap takes less.
const MEASURED_AFTER: Duration = Duration::from_millis(300);

/// Runs twenty upgrades.
pub fn run() -> Table {
    under_load(20)
}

/// Runs forty upgrades while one thread for each core runs a busy loop.
pub fn saturated() -> Table {
    let stop = Arc::new(AtomicBool::new(false));
    let cores = thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    let busy_loop = |_| {
        let stop = stop.clone();
        thread::spawn(move || while !stop.load(Ordering::Relaxed) {})
    };
    let threads: Vec<_> = (0..cores).map(busy_loop).collect();
    let table = under_load(40);
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        let _ = thread.join();
    }
    table
}

/// The results of the upgrades, without those of the load.
#[derive(Default)]
struct Upgrades {
    swaps: Vec<Instant>,
    plain_starts: Vec<Instant>,
    in_flight: Tally,
    slowest_exit: Duration,
    done: usize,
}

fn under_load(upgrades: u32) -> Table {
    let mut chain = ProcessChain::serve(&playground::launch().settings(SETTINGS));
    let addr = chain.addr();
    let mut idle = IdleConnections::open(&addr, IDLE, History::OneRequest);
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

    let (start, mut seen, first) = (Instant::now(), Upgrades::default(), chain.newest());
    for number in 1..=upgrades {
        one_upgrade(&mut chain, &mut seen, first);
        thread::sleep(
            (EVERY * number).saturating_sub(start.elapsed() + Duration::from_millis(700)),
        );
        plain_start(&mut seen);
        thread::sleep((EVERY * number).saturating_sub(start.elapsed()));
    }
    let tally = load.stop();
    let states = idle.states();
    let after = idle.fetch_all_from(chain.newest());

    let mut table = Table::default();
    table.goal("upgrades that are confirmed: all", seen.done, || {
        seen.done == upgrades as usize
    });
    table.goal("requests: none fails", &tally, || tally.failed() == 0);
    table.goal(
        "in flight, pipelined, half-sent at a swap: none fails",
        &seen.in_flight,
        || seen.in_flight.failed() == 0,
    );
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
        "idle connections answered by the newest process: all",
        &after,
        || after.answered() == IDLE as u64 && after.failed() == 0,
    );
    table.goal(
        "the old process exits after window and handlers: 1 s",
        format!("{:.1?}", seen.slowest_exit),
        || seen.slowest_exit < Duration::from_secs(1),
    );
    costs(&mut table, &tally, &seen, start);
    table
}

fn one_upgrade(chain: &mut ProcessChain, seen: &mut Upgrades, first: u32) {
    let old = chain.newest();
    let clients = InFlightClients::start(&chain.addr(), IN_FLIGHT);
    seen.swaps.push(Instant::now());
    let new = chain.upgrade();
    match clients {
        Ok(clients) => seen.in_flight.add(clients.finish(new)),
        Err(failure) => seen.in_flight.failure(failure, || "before a swap".into()),
    }
    seen.done += 1;
    let answered = Instant::now();
    // the first process drains an endless answer
    if old != first {
        chain.wait_gone(old, Duration::from_secs(20));
        seen.slowest_exit = seen.slowest_exit.max(answered.elapsed());
    }
}

/// Starts the same binary only to print its version. The clients show the cost of starting any process.
fn plain_start(seen: &mut Upgrades) {
    seen.plain_starts.push(Instant::now());
    let _ = Command::new(playground::path())
        .arg("--version")
        .stdout(Stdio::null())
        .status();
}

fn costs(table: &mut Table, tally: &Tally, seen: &Upgrades, start: Instant) {
    let windows = tally.windows(start, WINDOW);
    // the last window is incomplete
    let windows = &windows[..windows.len().saturating_sub(1)];
    let (median_p99, median_answered) =
        (median(windows, |w| w.p99), median(windows, |w| w.answered));
    let swap = worst(windows, &seen.swaps, start);
    let plain = worst(windows, &seen.plain_starts, start);
    table.note(
        "the median 100 ms",
        format!("{median_answered} answers, p99 {median_p99:.1?}"),
    );
    table.note("the worst 100 ms around a plain start", describe(plain));
    let allowed = median_p99 * 3 + plain.p99.saturating_sub(median_p99);
    table.goal(
        "p99 in the worst 100 ms around a swap: 3 times",
        describe(swap),
        || swap.p99 < allowed,
    );
    let least =
        (median_answered / 2).saturating_sub(median_answered.saturating_sub(plain.answered));
    table.goal(
        "answers in the worst 100 ms around a swap: half",
        describe(swap),
        || swap.answered >= least,
    );
    let each = |at: &Instant| {
        around(windows, *at, start)
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

/// Returns the windows from the moment `at` to the end of its effect.
fn around(windows: &[Window], at: Instant, start: Instant) -> &[Window] {
    let index =
        |at: Duration| usize::try_from(at.as_millis() / WINDOW.as_millis()).unwrap_or(usize::MAX);
    let since = at.duration_since(start);
    let (from, to) = (index(since), index(since + MEASURED_AFTER) + 1);
    &windows[from.min(windows.len())..to.min(windows.len())]
}

/// Returns the worst p99 and the fewest answers of all windows around these moments.
fn worst(windows: &[Window], moments: &[Instant], start: Instant) -> Window {
    let affected = || moments.iter().flat_map(|at| around(windows, *at, start));
    Window {
        answered: affected().map(|w| w.answered).min().unwrap_or(0),
        p99: affected().map(|w| w.p99).max().unwrap_or_default(),
    }
}

fn median<T: Ord + Default + Copy>(windows: &[Window], of: impl Fn(&Window) -> T) -> T {
    let mut values: Vec<T> = windows.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn describe(window: Window) -> String {
    format!("{} answers, p99 {:.1?}", window.answered, window.p99)
}

/// Measures the time in which an upgrade hands over ten thousand idle connections.
pub fn journey() -> Table {
    const MANY: usize = 10_000;
    raise_open_files();
    let mut chain = ProcessChain::serve(&playground::launch().settings(SETTINGS));
    let mut idle = IdleConnections::open(&chain.addr(), MANY, History::OneRequest);
    let mark = chain.mark();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    let start = Instant::now();
    let all_open = || (Proc(new).open_fds() >= MANY).then(|| start.elapsed());
    let took = wait::maybe(Duration::from_secs(30), all_open).unwrap_or(Duration::MAX);
    chain.wait_confirmed(mark, new);
    let after = idle.fetch_all_from(new);

    let mut table = Table::default();
    table.goal(
        "all are handed over: within 1 s",
        format!("{took:.1?}"),
        || took < Duration::from_secs(1),
    );
    table.goal("all are answered by the new process", &after, || {
        after.answered() == MANY as u64
    });
    table
}

/// Compares descriptors, threads, memory and processes after a hundred upgrades with those after one.
pub fn piles() -> Table {
    let settings = "[upgrade]\nrollback_window = \"50ms\"\n";
    let mut chain = ProcessChain::serve(&playground::launch().settings(settings));
    let mut idle = IdleConnections::open(&chain.addr(), 100, History::OneRequest);
    let step = |chain: &mut ProcessChain| {
        let old = chain.newest();
        chain.upgrade();
        chain.wait_gone(old, Duration::from_secs(10));
        // the process may free memory shortly after an upgrade, which is not a leak
        thread::sleep(Duration::from_millis(50));
        (chain.proc(), chain.zombies().len())
    };
    let measure = |(proc, zombies): (Proc, usize)| {
        (
            [proc.open_fds(), proc.listening(), zombies],
            proc.threads(),
            proc.rss_kib(),
        )
    };
    let (counts, threads, rss) = measure(step(&mut chain));
    for _ in 0..98 {
        step(&mut chain);
    }
    let (counts_then, threads_then, rss_then) = measure(step(&mut chain));
    let after = idle.fetch_all_from(chain.newest());

    let mut table = Table::default();
    table.goal(
        "descriptors, sockets in LISTEN, zombies",
        format!("{counts:?} {counts_then:?}"),
        || counts == counts_then,
    );
    table.goal("threads", format!("{threads} {threads_then}"), || {
        threads_then <= threads + 1
    });
    table.goal(
        "resident memory (KiB; a tenth is noise)",
        format!("{rss} {rss_then}"),
        || rss_then <= rss + rss / 10,
    );
    table.goal("processes: one", chain.alive().len(), || {
        chain.alive().len() == 1
    });
    table.goal("idle connections that answer: all", &after, || {
        after.answered() == 100
    });
    table
}
