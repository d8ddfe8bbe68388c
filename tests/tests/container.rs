//! A program that is PID 1 of a pid namespace, as in a container: every command works, also after upgrades.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use slackwater_tests::idle::{History, IdleConnections};
use slackwater_tests::launch::Launch;
use slackwater_tests::operator::Operator;
use slackwater_tests::process::Process;
use slackwater_tests::program;
use slackwater_tests::tools::or_skip;
use slackwater_tests::wait::until;

const LONG: Duration = Duration::from_secs(20);

/// Arguments of `unshare`: the program becomes PID 1 of a new pid namespace and is killed when `unshare` exits.
const NEW_NAMESPACE: [&str; 4] = ["--pid", "--fork", "--mount-proc", "--kill-child"];

fn namespaces() -> Result<(), String> {
    let tried = Command::new("unshare")
        .args(NEW_NAMESPACE)
        .arg("true")
        .output();
    let output = tried.map_err(|error| format!("unshare: {error}"))?;
    let error = || {
        format!(
            "unshare cannot create namespaces: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )
    };
    output.status.success().then_some(()).ok_or_else(error)
}

/// A program in a pid namespace of its own; `process` is `unshare`, its parent.
struct Container {
    process: Process,
    settings: String,
    file: String,
}

impl Container {
    fn start() -> (Self, Operator) {
        let launch = Launch::program(Path::new("unshare"));
        let dir = launch.dir().path().to_owned();
        let file = dir.join("slackwater.toml").display().to_string();
        let settings = format!(
            "control.socket = \"{}\"\nupgrade.rollback_window = \"300ms\"\n",
            dir.join("app.control").display()
        );
        let launch = launch.settings(&settings);
        let process = launch
            .clone()
            .args(NEW_NAMESPACE)
            .args([program::playground()])
            .args(["-c", &file])
            .serve();
        let inside = until(LONG, "PID 1", || {
            let children =
                fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.pid())).ok()?;
            children.split_whitespace().next().map(str::to_owned)
        });
        let enter = launch
            .with_program("nsenter")
            .args(["-t", &inside, "-p", "--"]);
        let operator = Operator::of(&enter.args([program::playground()]).args(["-c", &file]));
        (
            Container {
                process,
                settings,
                file,
            },
            operator,
        )
    }

    fn set(&self, more: &str) {
        fs::write(
            &self.file,
            format!("listen = \"127.0.0.1:0\"\n{}{more}", self.settings),
        )
        .unwrap();
    }
}

#[test]
fn every_command_works_for_pid_1_and_for_the_processes_that_upgrades_start_below_it() {
    let Some(()) = or_skip(namespaces()) else {
        return;
    };
    let (mut container, operator) = Container::start();
    let first = operator.first();
    assert_eq!(
        (&first["pid"], &first["waiter"]),
        (&1.into(), &serde_json::Value::Null)
    );
    let mut idle = IdleConnections::open(&container.process.addr(), 10, History::OneRequest);
    let mut last = 1;
    for _ in 0..2 {
        operator.ok(&["reload"]);
        operator.ok(&["upgrade"]);
        let new = until(LONG, "only the new process serves below PID 1", || {
            let status = operator.status();
            let processes = status["processes"].as_array()?.clone();
            let serves = processes.len() == 1 && processes[0]["phase"] == "serving";
            (status["waiter"] == 1 && serves)
                .then(|| processes[0]["pid"].as_u64())
                .flatten()
        });
        assert!(new > last, "{new} after {last}");
        last = new;
    }
    let text = operator.ok(&["status"]);
    assert!(
        text.contains("waiter") && text.contains("serving"),
        "{text}"
    );
    assert_eq!(container.process.get("/pid"), last.to_string());
    idle.fetch_all("/pid").assert_flawless();

    operator.ok(&["pause"]);
    assert_eq!(operator.first()["phase"], "paused");
    operator.ok(&["resume"]);
    operator.ok(&["reopen"]);
    container.set("[app]\nfail_start = \"the database is gone\"\n");
    assert!(operator
        .fails(&["upgrade"])
        .contains("the database is gone"));
    assert!(operator.fails(&["reload"]).contains("the database is gone"));
    container.set("[app]\nstart_delay = \"10m\"\n");
    let upgrade = operator.begin(&["upgrade"], "upgrade");
    until(LONG, "the upgrade is in progress", || {
        (operator.first()["phase"] == "upgrading").then_some(())
    });
    operator.ok(&["rollback"]);
    assert_eq!(upgrade.end().0, Some(1));
    assert_eq!(container.process.get("/pid"), last.to_string());

    // PID 1 exits after the drain, and then the kernel kills all other processes of the namespace, possibly this command
    let drain = operator.begin(&["drain"], "drain");
    assert_eq!(container.process.wait_exit(LONG).code(), Some(0));
    assert!([Some(0), None].contains(&drain.end().0));
}
