//! The promises at full size, on the release playground: a table of what was found, and 1 where one is not kept.
//!
//! ```text
//! cargo run --release --manifest-path tests/bench/Cargo.toml [-- reload|stop|memory|upgrade|saturated|beside|journey|crowd|typed|piles|save|speed|counts]
//! ```
//!
//! Without a name it is all of them. The playground is built by the bench itself, into the target directory of the workspace.

mod beside;
mod browser;
mod crowd;
mod memory;
mod neighbours;
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

/// A bench: its name on the command line, what it tries, and how.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn() -> Table,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "reload",
        about: "100 HUPs in 10 s under 32 busy clients, 8 with new connections, 1,000 idle connections",
        run: reload::run,
    },
    Bench {
        name: "stop",
        about: "50 stops under busy clients while another process holds the socket",
        run: stop::run,
    },
    Bench { name: "memory", about: "8,000 idle keep-alive connections, parked and not", run: memory::run },
    Bench {
        name: "upgrade",
        about: "20 upgrades, 2 s apart, under 32 + 8 busy and 200 thinking clients, 2,000 idle connections",
        run: upgrade::run,
    },
    Bench {
        name: "saturated",
        about: "40 upgrades, 2 s apart, under the same, while others want all cores",
        run: upgrade::saturated,
    },
    Bench {
        name: "beside",
        about: "5 replacements of the program under load, beside nginx, HAProxy and two Go libraries",
        run: beside::run,
    },
    Bench { name: "journey", about: "10,000 idle connections travel", run: upgrade::journey },
    Bench {
        name: "crowd",
        about: "what honest clients wait for beside 10,000 connections, half of them idle, half slow",
        run: crowd::run,
    },
    Bench {
        name: "save",
        about: "from saving one line to the page showing it, under `dev`: 10 times alone, 5 under clients",
        run: save::run,
    },
    Bench {
        name: "speed",
        about: "CPU a request and throughput beside other servers, as ratios to axum",
        run: speed::run,
    },
    Bench {
        name: "counts",
        about: "instructions and allocations a request beside other servers, as ratios to axum",
        run: speed::counts,
    },
    Bench { name: "typed", about: "a typed route over a plain handler, beside axum's", run: typed::run },
    Bench {
        name: "neighbours",
        about: "one upgrade under load, beside nginx and HAProxy: failed requests and closed connections",
        run: neighbours::run,
    },
    Bench { name: "piles", about: "what is left after 100 upgrades, beside one", run: upgrade::piles },
];

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_else(|| "all".to_owned());
    let chosen: Vec<&Bench> = BENCHES
        .iter()
        .filter(|bench| wanted == bench.name || wanted == "all")
        .collect();
    if chosen.is_empty() {
        eprintln!("there is no {wanted:?}: all, or one of");
        BENCHES
            .iter()
            .for_each(|bench| eprintln!("  {:10}{}", bench.name, bench.about));
        return ExitCode::from(2);
    }
    let mut kept = true;
    for bench in chosen {
        println!("{}: {}", bench.name, bench.about);
        let table = (bench.run)();
        println!("{table}");
        kept &= table.is_kept();
    }
    if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
