//! Cost of a request, compared with other servers: in turn, on the same machine, in one run, as ratios to axum.
//!
//! The measure is the processor time of the server's process, because other work on the machine affects it least.
//! Instructions and allocations do not depend on other work at all. Every server uses the system's allocator.

use std::process::Command;

use slackwater_tests::conn::Conn;

use crate::browser::BROWSER;
use crate::peers::{Peer, INSTALLED, PEERS};
use crate::table::Table;

const ROUNDS: usize = 5;
const SECONDS: &str = "2s";
/// A script for wrk that sends bodies of 1 MiB.
const UPLOAD: &str = "wrk.method = 'POST'\nwrk.body = string.rep('x', 1048576)\n";

/// A kind of request: its label in the table, its path and wrk's arguments.
struct Load {
    label: &'static str,
    path: &'static str,
    args: Vec<String>,
}

/// The result of a run of wrk.
#[derive(Clone, Copy)]
struct Run {
    per_second: f64,
    cpu_micros: f64,
}

pub fn run() -> Table {
    let mut table = Table::default();
    if !installed("wrk") {
        table.note("skipped", "wrk is not installed (apt-get install wrk)");
        return table;
    }
    let mut servers = PEERS.to_vec();
    for (peer, [tool, argument], package) in INSTALLED {
        match Command::new(tool).arg(argument).output() {
            Ok(_) => servers.push(peer),
            Err(_) => table.note(
                peer,
                format!("skipped: not installed (apt-get install {package})"),
            ),
        }
    }
    for load in loads() {
        compare(&mut table, &load, &servers);
    }
    table
}

pub fn counts() -> Table {
    let mut table = Table::default();
    if !installed("valgrind") {
        table.note(
            "skipped",
            "valgrind is not installed (apt-get install valgrind)",
        );
        return table;
    }
    for (label, headers) in [("browser's headers", &BROWSER[..]), ("one header", &[])] {
        let tools = [
            ("instructions", "callgrind", "Collected : "),
            ("allocations", "dhat", " in "),
        ];
        for (counted, tool, before) in tools {
            let counts = PEERS.map(|peer| count(peer, tool, before, headers));
            for (peer, count) in PEERS.iter().zip(counts) {
                let ratio = count / counts[0];
                table.note(
                    &format!("{counted} a request, {label}: {peer}"),
                    format!("{count:9.1}   {ratio:5.2}"),
                );
            }
        }
    }
    table
}

fn installed(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok()
}

fn loads() -> Vec<Load> {
    let script = std::env::temp_dir().join(format!(
        "slackwater-bench-upload-{}.lua",
        std::process::id()
    ));
    std::fs::write(&script, UPLOAD).expect("a script for wrk");
    let args = |connections: &str| {
        vec![
            "-t1".into(),
            format!("-c{connections}"),
            format!("-d{SECONDS}"),
        ]
    };
    let mut browser: Vec<String> = args("32");
    browser.extend(
        BROWSER
            .iter()
            .flat_map(|header| ["-H".into(), (*header).into()]),
    );
    let mut upload = args("4");
    upload.extend(["-s".into(), script.display().to_string()]);
    vec![
        Load {
            label: "browser's headers",
            path: "/",
            args: browser,
        },
        Load {
            label: "one header",
            path: "/",
            args: args("32"),
        },
        Load {
            label: "1 MiB down",
            path: "/bytes/1048576",
            args: args("4"),
        },
        Load {
            label: "1 MiB up",
            path: "/upload",
            args: upload,
        },
    ]
}

/// Runs all servers in turn, in several rounds, so that other work on the machine affects all of them.
fn compare(table: &mut Table, load: &Load, servers: &[&'static str]) {
    // nginx has no routes with bodies
    let supported = servers
        .iter()
        .copied()
        .filter(|server| *server != "nginx" || load.path == "/");
    let mut peers: Vec<_> = supported
        .map(|server| (server, Peer::start(server), vec![]))
        .collect();
    for _ in 0..ROUNDS {
        for (_, peer, runs) in &mut peers {
            runs.push(run_wrk(peer, load));
        }
    }
    let axum = peers[0].2.clone();
    for (server, _, runs) in peers {
        // the ratio within each round, because other work on the machine affects both runs of a round
        let ratio = |of: fn(&Run) -> f64| {
            median(runs.iter().zip(&axum).map(|(run, axum)| of(run) / of(axum)))
        };
        let result = format!(
            "CPU {:5.2}   requests/s {:5.2}   ({:.1} us)",
            ratio(|run| run.cpu_micros),
            ratio(|run| run.per_second),
            median(runs.iter().map(|run| run.cpu_micros))
        );
        table.note(&format!("{}: {server}", load.label), result);
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn run_wrk(peer: &Peer, load: &Load) -> Run {
    let before = peer.cpu();
    let url = format!("http://{}{}", peer.addr, load.path);
    let output = Command::new("wrk")
        .args(&load.args)
        .arg(url)
        .output()
        .expect("wrk runs");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let cpu = peer.cpu() - before;
    assert!(
        !output.contains("Non-2xx"),
        "some answers are not 2xx:\n{output}"
    );
    let requests = number_before(&output, " requests in ");
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"));
    let per_second = line
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0.0);
    Run {
        per_second,
        cpu_micros: cpu.as_secs_f64() * 1e6 / requests,
    }
}

/// Parses the number before a word. The number may contain commas.
fn number_before(text: &str, word: &str) -> f64 {
    let number = text
        .split(word)
        .next()
        .and_then(|before| before.split_whitespace().last());
    number
        .and_then(|number| number.replace(',', "").parse().ok())
        .unwrap_or(f64::NAN)
}

/// Returns the count that each request adds in a tool of valgrind: the difference between many requests and few.
fn count(peer: &str, tool: &str, before: &str, headers: &[&str]) -> f64 {
    const FEW: u32 = 200;
    const MANY: u32 = 1200;
    let few = counted(peer, tool, before, headers, FEW);
    let many = counted(peer, tool, before, headers, MANY);
    (many - few) / f64::from(MANY - FEW)
}

fn counted(peer: &str, tool: &str, before: &str, headers: &[&str], requests: u32) -> f64 {
    let log = std::env::temp_dir().join(format!("slackwater-bench-{}.log", std::process::id()));
    let out = log.with_extension("out");
    let args = [
        format!("--tool={tool}"),
        format!("--log-file={}", log.display()),
        format!("--{tool}-out-file={}", out.display()),
    ];
    let running = Peer::start_under(&["valgrind", &args[0], &args[1], &args[2]], peer);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        headers
            .iter()
            .map(|h| format!("{h}\r\n"))
            .collect::<String>()
    );
    let mut conn = Conn::open(&running.addr).expect("a connection");
    for _ in 0..requests {
        conn.send(&request).expect("the request is sent");
        let answer = conn.answer().expect("an answer");
        assert_eq!(answer.status, 200);
    }
    drop(conn);
    running.stop();
    let output = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = (std::fs::remove_file(&log), std::fs::remove_file(&out));
    let line = output
        .lines()
        .find(|line| line.contains("Collected :") || line.contains("Total:"))
        .unwrap_or_default();
    let rest = line.split(before).nth(1).unwrap_or_default();
    let number = rest
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .replace(',', "");
    number.parse().unwrap_or(f64::NAN)
}
