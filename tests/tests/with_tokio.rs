//! The feature `tokio`: a real process uses sqlx and reqwest during reloads, upgrades and a stop.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern, RunningLoad};
use slackwater_tests::plain_hyper::PlainHyper;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::process_chain::ProcessChain;
use slackwater_tests::program;
use slackwater_tests::wait::until;

use crate::help::ms;

const LONG: Duration = Duration::from_secs(60);

/// Builds `tests/tokio` once. It is a separate package, because it depends on a database.
fn program_with_tokio() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--locked", "--manifest-path"]);
        cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tokio/Cargo.toml"));
        cargo.arg("--target-dir").arg(program::target_dir());
        let status = cargo.status();
        assert!(
            status.as_ref().is_ok_and(std::process::ExitStatus::success),
            "cargo build of tests/tokio: {status:?}"
        );
        program::target_dir().join("debug/slackwater-tokio")
    };
    BUILT.get_or_init(build).clone()
}

/// Starts an upstream server, and returns a launch whose settings name it.
fn launch(settings: &str) -> Launch {
    let upstream = PlainHyper::start().addr();
    let app = format!("[app]\ndatabase = \"shop.db\"\nupstream = \"http://{upstream}/\"\n");
    Launch::program(&program_with_tokio()).settings(&format!("{settings}{app}"))
}

/// Starts clients whose requests use the database and the upstream server.
fn load(process: &Process) -> Vec<RunningLoad> {
    let on = |path, pattern| {
        Load::on(&process.addr())
            .path(path)
            .patience(LONG)
            .clients(2, pattern)
            .start()
    };
    let loads = vec![
        on("/fetch", Pattern::KeepAlive),
        on("/visits", Pattern::KeepAlive),
        on("/spawned", Pattern::NewConnection),
        on("/nap/30", Pattern::Thinking(ms(10))),
    ];
    loads.iter().for_each(|load| load.wait_for(10, LONG));
    loads
}

fn flawless(loads: Vec<RunningLoad>) {
    for load in loads {
        load.wait_for(10, LONG);
        load.stop().assert_flawless();
    }
}

fn ticks(process: &Process, generation: u64) -> u64 {
    process
        .get(&format!("/ticks/{generation}"))
        .parse()
        .unwrap()
}

/// Waits until the background task of a generation has written more rows.
fn ticking(process: &Process, generation: u64) {
    let before = ticks(process, generation);
    until(LONG, "the task writes rows", || {
        (ticks(process, generation) > before + 2).then_some(())
    });
}

#[test]
fn crates_that_need_tokio_work_in_app_in_handlers_and_in_tasks() {
    let process = launch("").serve();
    assert_eq!(process.get("/greet"), "root", "fetched in app");
    assert_eq!(process.get("/fetch"), "root");
    assert_eq!(process.get("/spawned"), "root");
    assert_eq!(process.get("/nap/5"), "rested");
    for _ in 0..3 {
        let mut conn = process.conn();
        conn.send("POST /visits HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        assert_eq!(conn.answer().unwrap().text(), "welcome");
    }
    assert_eq!(process.get("/visits"), "3");
    ticking(&process, 1);
}

#[test]
fn a_pool_survives_a_reload_and_the_task_of_the_old_generation_ends() {
    let process = launch("").serve();
    let loads = load(&process);
    ticking(&process, 1);
    process.reload();
    process.wait_for_log(0, "the ticker of generation 1 ends");
    ticking(&process, 2);
    assert_eq!(process.get("/pools"), "1", "the same pool");
    flawless(loads);
}

#[test]
fn a_reload_is_refused_if_the_database_cannot_be_opened() {
    let process = launch("").serve();
    process.settings(
        "[app]\ndatabase = \"no/such/directory/shop.db\"\nupstream = \"http://127.0.0.1:9/\"\n",
    );
    let line = process.reload_refused();
    assert!(line.contains("unable to open database file"), "{line}");
    assert_eq!(
        process.get("/fetch"),
        "root",
        "the previous generation keeps serving"
    );
    ticking(&process, 1);
}

#[test]
fn both_processes_of_an_upgrade_use_the_database_and_the_old_one_exits() {
    let mut chain = ProcessChain::serve(&launch("upgrade.rollback_window = \"300ms\"\n"));
    let loads = load(&chain);
    let old = chain.newest();
    chain.upgrade();
    chain.wait_gone(old, LONG);
    assert_ne!(chain.get("/pid"), old.to_string());
    ticking(&chain, 1);
    flawless(loads);
}

#[test]
fn a_stop_answers_a_request_that_waits_for_tokio_and_joins_the_task() {
    let mut process = launch("[shutdown]\nkeepalive_grace = \"50ms\"\ngrace = \"20s\"\n").serve();
    let mut conn = process.conn();
    conn.get("/nap/1500").unwrap();
    ticking(&process, 1);
    process.signal(Signal::TERM);
    assert_eq!(conn.answer().unwrap().text(), "rested");
    assert_eq!(process.wait_exit(LONG).code(), Some(0), "{}", process.log());
    assert!(
        process.log().contains("the ticker of generation 1 ends"),
        "{}",
        process.log()
    );
}
