//! Measures slackwater with the release playground and prints tables of the results. Exits with 1 if a goal is missed.
//!
//! ```text
//! cargo run --release --manifest-path tests/bench/Cargo.toml [-- reload|stop|memory|upgrade|saturated|beside|journey|crowd|typed|piles|save|speed|counts]
//! ```
//!
//! Without a name all benches run. The bench builds the playground into the workspace's target directory.

mod beside;
mod browser;
mod crowd;
mod memory;
mod peers;
mod playground;
mod reload;
mod save;
mod speed;
mod stop;
mod table;
mod typed;
mod upgrade;

use std::process::ExitCode;

use table::Table;

/// A bench: its name on the command line, a description for the output, and its function.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn() -> Table,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "reload",
        about: "100 reloads in 10 s with 32 busy clients, 8 clients with new connections, 1,000 idle connections",
        run: reload::run,
    },
    Bench {
        name: "stop",
        about: "50 stops with busy clients while another process holds the socket",
        run: stop::run,
    },
    Bench { name: "memory", about: "memory of 8,000 idle keep-alive connections, before and after idle_release", run: memory::run },
    Bench {
        name: "upgrade",
        about: "20 upgrades, 2 s apart, with 32 + 8 busy and 200 thinking clients, 2,000 idle connections",
        run: upgrade::run,
    },
    Bench {
        name: "saturated",
        about: "40 upgrades, 2 s apart, with the same clients, while other threads use all cores",
        run: upgrade::saturated,
    },
    Bench {
        name: "beside",
        about: "5 replacements of the running program under load: slackwater, nginx, HAProxy, two Go libraries",
        run: beside::run,
    },
    Bench { name: "journey", about: "time in which an upgrade hands over 10,000 idle connections", run: upgrade::journey },
    Bench {
        name: "crowd",
        about: "latency of ordinary clients beside 5,000 idle and 5,000 slow connections",
        run: crowd::run,
    },
    Bench {
        name: "save",
        about: "time from saving one line to the page showing it, under `dev`: 10 times alone, 5 with clients",
        run: save::run,
    },
    Bench {
        name: "speed",
        about: "processor time for a request and throughput, compared with other servers, as ratios to axum",
        run: speed::run,
    },
    Bench {
        name: "counts",
        about: "instructions and allocations for a request, compared with other servers, as ratios to axum",
        run: speed::counts,
    },
    Bench { name: "typed", about: "cost of a typed route beyond a plain handler, compared with axum", run: typed::run },
    Bench { name: "piles", about: "descriptors, threads and memory after 100 upgrades, compared with after one", run: upgrade::piles },
];

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_else(|| "all".to_owned());
    let chosen: Vec<&Bench> = BENCHES
        .iter()
        .filter(|bench| name == bench.name || name == "all")
        .collect();
    if chosen.is_empty() {
        eprintln!("there is no bench {name:?}; the benches are \"all\" and");
        for bench in BENCHES {
            eprintln!("  {:10}{}", bench.name, bench.about);
        }
        return ExitCode::from(2);
    }
    let mut met = true;
    for bench in chosen {
        println!("{}: {}", bench.name, bench.about);
        let table = (bench.run)();
        println!("{table}");
        met &= table.is_met();
    }
    if met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
