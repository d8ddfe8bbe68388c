//! Latency of ordinary clients, alone and beside 5,000 idle and 5,000 slow connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::idle::{History, IdleConnections};
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::tally::Tally;

use crate::memory::raise_open_files;
use crate::playground;
use crate::table::Table;

const ROUNDS: usize = 5;
const IDLE: usize = 5000;
const SLOW: usize = 5000;
const ORDINARY: usize = 8;
const THINK: Duration = Duration::from_millis(20);
const ROUND: Duration = Duration::from_secs(10);
/// The interval between two bytes of a slow client.
const BYTE_INTERVAL: Duration = Duration::from_secs(1);

pub fn run() -> Table {
    raise_open_files();
    // with the default header_timeout of 10 s the server would close the slow connections
    let process = playground::launch()
        .settings("[http]\nheader_timeout = \"1h\"\nidle_timeout = \"1h\"\n")
        .serve();
    let addr = process.addr();
    ordinary(&addr);
    let mut rounds: Vec<(Tally, Tally)> = (0..ROUNDS)
        .map(|_| {
            let alone = ordinary(&addr);
            let idle = IdleConnections::open(&addr, IDLE, History::OneRequest);
            let slow = Slow::start(&addr);
            let beside = ordinary(&addr);
            slow.stop();
            assert_eq!(idle.states().open, IDLE, "all are still open");
            (alone, beside)
        })
        .collect();
    rounds.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));

    let mut table = Table::default();
    let median = ratio(&rounds[ROUNDS / 2]);
    let all: Vec<_> = rounds
        .iter()
        .map(|round| format!("{:.2}", ratio(round)))
        .collect();
    let result = format!("{median:.2} ({})", all.join(", "));
    table.goal(
        "p99 beside the others over p99 alone, median: at most 2",
        result,
        || median <= 2.0,
    );
    let failed: u64 = rounds
        .iter()
        .map(|(alone, beside)| alone.failed() + beside.failed())
        .sum();
    table.goal("requests of ordinary clients: none fails", failed, || {
        failed == 0
    });
    let (alone, beside) = &rounds[ROUNDS / 2];
    table.note(
        "the median round, alone: median, p99, slowest",
        times(alone),
    );
    table.note("the same round, beside the others", times(beside));
    table.note(
        "requests of the same round: alone, beside the others",
        format!("{}, {}", alone.answered(), beside.answered()),
    );
    table
}

/// Runs clients that pause between an answer and the next request.
fn ordinary(addr: &Addr) -> Tally {
    let load = Load::on(addr)
        .clients(ORDINARY, Pattern::Thinking(THINK))
        .start();
    thread::sleep(ROUND);
    load.stop()
}

fn ratio((alone, beside): &(Tally, Tally)) -> f64 {
    beside.percentile(99.0).as_secs_f64() / alone.percentile(99.0).as_secs_f64()
}

fn times(tally: &Tally) -> String {
    let [median, p99, slowest] = [50.0, 99.0, 100.0].map(|percent| tally.percentile(percent));
    format!("{median:.1?}, {p99:.1?}, {slowest:.1?}")
}

/// Slow clients: half of them never finish a head, half never finish a body. Each sends one byte a second.
struct Slow {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<()>,
}

impl Slow {
    fn start(addr: &Addr) -> Self {
        let open = |number: usize| {
            let sent = match number % 2 {
                0 => "GET / HTTP/1.1\r\nHost: x\r\nA: ",
                _ => "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
            };
            let mut conn = Conn::open(addr)
                .unwrap_or_else(|failure| panic!("slow client {number}: {failure:?}"));
            conn.send(sent)
                .unwrap_or_else(|failure| panic!("slow client {number}: {failure:?}"));
            conn
        };
        let mut conns: Vec<Conn> = (0..SLOW).map(open).collect();
        // the server accepts in order, so an answer to a later connection shows that it has accepted all of these
        Conn::open(addr)
            .and_then(|mut conn| conn.fetch("/"))
            .expect("an answer after the slow connections");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let sender = thread::spawn(move || {
            // spread evenly, as independent clients are: a thousandth of the connections at a time
            let (batch, pause) = (SLOW / 1000, BYTE_INTERVAL / 1000);
            let mut next = Instant::now();
            for turn in (0..1000).cycle() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                for conn in &mut conns[turn * batch..][..batch] {
                    conn.send("b")
                        .expect("the server keeps a slow connection open");
                }
                next += pause;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        Slow { stop, sender }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.sender
            .join()
            .expect("the server kept all slow connections open");
    }
}
