//! `/livez` and `/readyz`: their answers in each phase, and the checks that an application adds.

use std::time::Duration;

use serde_json::Value;
use slackwater_tests::answer::Answer;
use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::operator::Operator;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::wait::until;

const LONG: Duration = Duration::from_secs(20);

fn get(process: &Process, path: &str) -> (u16, Value) {
    parse(&process.conn().fetch(path).unwrap())
}

fn parse(answer: &Answer) -> (u16, Value) {
    let text = answer.text();
    (
        answer.status,
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")),
    )
}

#[test]
fn a_serving_process_is_alive_and_ready() {
    let process = Launch::playground().serve();
    assert_eq!(
        get(&process, "/livez"),
        (200, serde_json::json!({ "status": "alive" }))
    );
    let (code, report) = get(&process, "/readyz");
    assert_eq!(
        (code, &report["status"], &report["generation"]),
        (200, &"ready".into(), &1.into())
    );
    process.reload();
    assert_eq!(get(&process, "/readyz").1["generation"], 2);
}

#[test]
fn the_paths_of_health_checks_can_be_changed_or_disabled() {
    let process = Launch::playground()
        .settings("health.live = \"\"\nhealth.ready = \"/readyz\"\n")
        .serve();
    assert_eq!(process.conn().fetch("/livez").unwrap().status, 404);
    process.settings("health.live = \"/alive\"\n");
    process.reload();
    assert_eq!(get(&process, "/alive").0, 200);
}

#[test]
fn readyz_reports_each_check_of_the_application_with_its_error() {
    let process = Launch::fixture().serve();
    let (code, report) = get(&process, "/readyz");
    assert_eq!(code, 200, "{report}");
    let names: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["always", "configured"]);
    for (behavior, error) in [
        ("fail", "fails as configured"),
        ("hang", "no answer within 300ms"),
        ("panic", "panics as configured"),
    ] {
        process.settings(&format!("[app]\ncheck = \"{behavior}\"\n"));
        process.reload();
        let mark = process.mark();
        let (code, report) = get(&process, "/readyz");
        assert_eq!(
            (code, &report["status"]),
            (503, &"failing".into()),
            "{report}"
        );
        assert_eq!(
            (
                &report["checks"][0]["status"],
                &report["checks"][1]["status"]
            ),
            (&"ok".into(), &"failed".into())
        );
        assert!(
            report["checks"][1]["error"]
                .as_str()
                .unwrap()
                .contains(error),
            "{report}"
        );
        process.wait_for_log(mark, error);
        assert_eq!(
            get(&process, "/livez").0,
            200,
            "a failed check does not affect /livez"
        );
        assert_eq!(
            process.get("/pid"),
            process.pid().to_string(),
            "requests are still answered"
        );
    }
}

#[test]
fn during_the_shutdown_delay_a_process_is_not_ready_and_answers_requests() {
    let process = Launch::playground()
        .settings("shutdown.delay = \"1m\"\n")
        .serve();
    process.signal(Signal::TERM);
    until(LONG, "the process is not ready", || {
        (get(&process, "/readyz").0 == 503).then_some(())
    });
    assert_eq!(get(&process, "/readyz").1["status"], "leaving");
    assert_eq!(get(&process, "/livez").0, 200);
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn readyz_reports_a_pause_or_a_drain_on_connections_that_are_open() {
    let launch = Launch::playground()
        .settings("control.socket = \"app.control\"\nshutdown.keepalive_grace = \"10s\"\n");
    let (process, operator) = (launch.serve(), Operator::of(&launch));
    let connected = || -> Conn {
        let mut conn = process.conn();
        assert_eq!(conn.fetch("/livez").unwrap().status, 200);
        conn
    };
    let mut conn = connected();
    operator.ok(&["pause"]);
    let (code, report) = parse(&conn.fetch("/readyz").unwrap());
    assert_eq!((code, &report["status"]), (503, &"paused".into()));
    operator.ok(&["resume"]);
    assert_eq!(get(&process, "/readyz").0, 200);
    let mut conn = connected();
    process.signal(Signal::QUIT);
    until(LONG, "the process drains", || {
        (operator.first()["phase"] == "last_call").then_some(())
    });
    let (code, report) = parse(&conn.fetch("/readyz").unwrap());
    assert_eq!((code, &report["status"]), (503, &"leaving".into()));
}
