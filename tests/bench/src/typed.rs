//! The cost of a typed route beyond a plain handler, in slackwater and in axum: processor time of the server for each
//! request, in pairs of runs, so that other work on the machine affects both.

use std::path::PathBuf;
use std::thread;

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Process;

use crate::table::Table;

#[allow(dead_code)]
#[path = "../typed/request.rs"]
mod request;

const PAIRS: usize = 9;
const CLIENTS: usize = 4;
const REQUESTS: usize = 10_000;

/// A server under measurement.
struct Server {
    process: Process,
    /// The processor time for a request in microseconds, plain and typed, for each pair of runs.
    pairs: Vec<(f64, f64)>,
}

pub fn run() -> Table {
    let mut ours = Server::start(
        "typed-slackwater",
        &["--set", "listen=127.0.0.1:0", "--set", "threads=1"],
    );
    let mut axum = Server::start("typed-axum", &[]);
    for _ in 0..PAIRS {
        ours.pair();
        axum.pair();
    }
    let mut table = Table::default();
    for (name, server) in [("slackwater", &ours), ("axum", &axum)] {
        let (plain, typed) = (server.median(|pair| pair.0), server.median(|pair| pair.1));
        table.note(
            &format!("{name}: us a request, plain and typed"),
            format!("{plain:.2} {typed:.2}"),
        );
    }
    let (ours, axum) = (
        ours.median(|pair| pair.1 - pair.0),
        axum.median(|pair| pair.1 - pair.0),
    );
    let result = format!("{ours:.2} us, axum {axum:.2} us, ratio {:.2}", ours / axum);
    table.goal("a typed route adds no more than in axum", result, || {
        ours <= axum
    });
    table
}

impl Server {
    fn start(name: &str, args: &[&str]) -> Self {
        let process = Launch::program(&sibling(name))
            .no_settings()
            .args(args)
            .serve();
        let server = Server {
            process,
            pairs: Vec::new(),
        };
        // warm up: the first requests include one-time costs
        server.cost("plain");
        server.cost("typed");
        server
    }

    fn pair(&mut self) {
        let pair = (self.cost("plain"), self.cost("typed"));
        self.pairs.push(pair);
    }

    /// Returns the server's processor time for each request in microseconds.
    fn cost(&self, route: &str) -> f64 {
        let (addr, request) = (self.process.addr(), request::to(route));
        let before = self.nanoseconds();
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| send_requests(&addr, &request));
            }
        });
        #[allow(clippy::cast_precision_loss)]
        let spent = (self.nanoseconds() - before) as f64;
        spent / 1000.0 / (CLIENTS * REQUESTS) as f64
    }

    /// Returns the processor time of all threads so far: the first figure of /proc/PID/task/TID/schedstat.
    fn nanoseconds(&self) -> u64 {
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", self.process.pid())).expect("its threads");
        let of_task = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        };
        tasks.flatten().filter_map(of_task).sum()
    }

    fn median(&self, of: impl Fn(&(f64, f64)) -> f64) -> f64 {
        let mut values: Vec<f64> = self.pairs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }
}

fn send_requests(addr: &Addr, request: &str) {
    let mut conn = Conn::open(addr).expect("a connection");
    for _ in 0..REQUESTS {
        conn.send(request).expect("the request is sent");
        let answer = conn.answer().expect("an answer");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "done"),
            "{answer:?}"
        );
    }
}

/// Returns the path of another program of this package.
fn sibling(name: &str) -> PathBuf {
    let path = std::env::current_exe().expect("this program has a path");
    path.with_file_name(name)
}
