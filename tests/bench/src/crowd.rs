//! What honest clients wait for an answer, alone and beside 10,000 connections of which half are idle and half are slow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::idle::{Before, Idle};
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::tally::Tally;

use crate::memory::raise_open_files;
use crate::playground;
use crate::table::Table;

const ROUNDS: usize = 5;
const IDLE: usize = 5000;
const SLOW: usize = 5000;
const HONEST: usize = 8;
const THINK: Duration = Duration::from_millis(20);
const ROUND: Duration = Duration::from_secs(10);
/// Each slow client sends a byte so often.
const DRIP: Duration = Duration::from_secs(1);

pub fn run() -> Table {
    raise_open_files();
    // those who are slow stay slow, rather than being let go after ten seconds
    let process = playground::launch()
        .settings("[http]\nheader_timeout = \"1h\"\nidle_timeout = \"1h\"\n")
        .serve();
    let addr = process.addr();
    honest(&addr);
    let mut rounds: Vec<(Tally, Tally)> = (0..ROUNDS)
        .map(|_| {
            let alone = honest(&addr);
            let idle = Idle::open(&addr, IDLE, Before::OneRequest);
            let slow = Slow::start(&addr);
            let crowded = honest(&addr);
            slow.stop();
            assert_eq!(idle.fates().open, IDLE, "all are still open");
            (alone, crowded)
        })
        .collect();
    rounds.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));

    let mut table = Table::default();
    let median = ratio(&rounds[ROUNDS / 2]);
    let all: Vec<_> = rounds
        .iter()
        .map(|round| format!("{:.2}", ratio(round)))
        .collect();
    let found = format!("{median:.2} ({})", all.join(", "));
    table.promise(
        "p99 in the crowd over p99 alone, median: at most 2",
        found,
        || median <= 2.0,
    );
    let failed: u64 = rounds
        .iter()
        .map(|(alone, crowded)| alone.failed() + crowded.failed())
        .sum();
    table.promise("honest requests: none fails", failed, || failed == 0);
    let (alone, crowded) = &rounds[ROUNDS / 2];
    table.note("that round alone: median, p99, slowest", times(alone));
    table.note("that round in the crowd", times(crowded));
    table.note(
        "honest requests of that round",
        format!("{}, {}", alone.answered(), crowded.answered()),
    );
    table
}

/// Clients who ask, think, and ask again.
fn honest(addr: &Addr) -> Tally {
    let load = Load::on(addr)
        .clients(HONEST, Pattern::Thinking(THINK))
        .start();
    thread::sleep(ROUND);
    load.stop()
}

fn ratio((alone, crowded): &(Tally, Tally)) -> f64 {
    crowded.percentile(99.0).as_secs_f64() / alone.percentile(99.0).as_secs_f64()
}

fn times(tally: &Tally) -> String {
    let [median, p99, slowest] = [50.0, 99.0, 100.0].map(|percent| tally.percentile(percent));
    format!("{median:.1?}, {p99:.1?}, {slowest:.1?}")
}

/// Clients half of whom never finish a head and half of whom never finish a body, a byte each second.
struct Slow {
    over: Arc<AtomicBool>,
    dripping: JoinHandle<()>,
}

impl Slow {
    fn start(addr: &Addr) -> Self {
        let begin = |number: usize| {
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
        let mut conns: Vec<Conn> = (0..SLOW).map(begin).collect();
        // whoever comes after them has been let in: so have they
        Conn::open(addr)
            .and_then(|mut conn| conn.ask("/"))
            .expect("an answer after the crowd has come");
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let dripping = thread::spawn(move || {
            // evenly, as those are who know nothing of each other: a thousandth of them at a time
            let (batch, pause) = (SLOW / 1000, DRIP / 1000);
            let mut next = Instant::now();
            for turn in (0..1000).cycle() {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                for conn in &mut conns[turn * batch..][..batch] {
                    conn.send("b").expect("a slow client is listened to");
                }
                next += pause;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        Slow { over, dripping }
    }

    fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        self.dripping.join().expect("all of them were listened to");
    }
}
