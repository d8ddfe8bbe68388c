//! Fifty stops under load. This process holds the listening socket and starts the next process immediately.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::process::Signal;

use crate::playground;
use crate::table::Table;

const STOPS: usize = 50;

pub fn run() -> Table {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener
        .local_addr()
        .expect("a bound listener has an address")
        .into();
    let launch = playground::launch().settings("").socket("web", &listener);
    let mut process = launch.serve();
    let load = Load::on(&addr)
        .clients(32, Pattern::KeepAlive)
        .clients(8, Pattern::NewConnection)
        .patience(Duration::from_secs(30))
        .at_most(Duration::from_secs(600))
        .start();
    let (mut clean, mut slowest) = (0, Duration::ZERO);
    for _ in 0..STOPS {
        load.wait_for(500, Duration::from_secs(60));
        let start = Instant::now();
        process.signal(Signal::TERM);
        clean += usize::from(process.wait_exit(Duration::from_secs(60)).code() == Some(0));
        slowest = slowest.max(start.elapsed());
        process = launch.serve();
    }
    load.wait_for(500, Duration::from_secs(60));
    let tally = load.stop();

    let mut table = Table::default();
    table.goal("stops that end with 0: all", clean, || clean == STOPS);
    table.goal("requests: none fails", &tally, || tally.failed() == 0);
    table.note(
        "connections closed after an announcement",
        tally.announced_closes(),
    );
    table.note("the slowest stop", format!("{slowest:.1?}"));
    table
}
