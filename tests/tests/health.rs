//! `/livez` and `/readyz`: what a balancer is told in each phase, and what the application's own checks add to it.

use std::time::Duration;

use serde_json::Value;
use slackwater_tests::answer::Answer;
use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::operator::Operator;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::wait::until;

const LONG: Duration = Duration::from_secs(20);

fn asked(process: &Process, path: &str) -> (u16, Value) {
    read(process.conn().ask(path).unwrap())
}

fn read(answer: Answer) -> (u16, Value) {
    let text = answer.text();
    (
        answer.status,
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")),
    )
}

#[test]
fn a_serving_process_lives_and_is_ready() {
    let process = Launch::playground().serve();
    assert_eq!(
        asked(&process, "/livez"),
        (200, serde_json::json!({ "status": "alive" }))
    );
    let (code, report) = asked(&process, "/readyz");
    assert_eq!(
        (code, &report["status"], &report["generation"]),
        (200, &"ready".into(), &1.into())
    );
    process.reload();
    assert_eq!(asked(&process, "/readyz").1["generation"], 2);
}

#[test]
fn a_path_can_be_moved_or_switched_off() {
    let process = Launch::playground()
        .settings("health.live = \"\"\nhealth.ready = \"/readyz\"\n")
        .serve();
    assert_eq!(process.conn().ask("/livez").unwrap().status, 404);
    process.settings("health.live = \"/alive\"\n");
    process.reload();
    assert_eq!(asked(&process, "/alive").0, 200);
}

#[test]
fn checks_of_the_application_are_named_with_what_they_found() {
    let process = Launch::fixture().serve();
    let (code, report) = asked(&process, "/readyz");
    assert_eq!(code, 200, "{report}");
    let names: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["always", "told"]);
    for (does, why) in [
        ("fail", "told to fail"),
        ("hang", "no answer within 300ms"),
        ("panic", "told to panic"),
    ] {
        process.settings(&format!("[app]\ncheck = \"{does}\"\n"));
        process.reload();
        let mark = process.mark();
        let (code, report) = asked(&process, "/readyz");
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
            report["checks"][1]["error"].as_str().unwrap().contains(why),
            "{report}"
        );
        process.wait_for_log(mark, why);
        assert_eq!(
            asked(&process, "/livez").0,
            200,
            "that it lives is another matter"
        );
        assert_eq!(
            process.get("/pid"),
            process.pid().to_string(),
            "requests are answered all the same"
        );
    }
}

#[test]
fn a_lame_duck_is_not_ready_and_answers_everything_else() {
    let process = Launch::playground()
        .settings("shutdown.delay = \"1m\"\n")
        .serve();
    process.signal(Signal::TERM);
    until(LONG, "not ready", || {
        (asked(&process, "/readyz").0 == 503).then_some(())
    });
    assert_eq!(asked(&process, "/readyz").1["status"], "leaving");
    assert_eq!(asked(&process, "/livez").0, 200);
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn who_is_connected_while_it_pauses_or_drains_is_told_so() {
    let launch = Launch::playground()
        .settings("control.socket = \"app.control\"\nshutdown.keepalive_grace = \"10s\"\n");
    let (process, operator) = (launch.serve(), Operator::of(&launch));
    let connected = || -> Conn {
        let mut conn = process.conn();
        assert_eq!(conn.ask("/livez").unwrap().status, 200);
        conn
    };
    let mut conn = connected();
    operator.ok(&["pause"]);
    let (code, report) = read(conn.ask("/readyz").unwrap());
    assert_eq!((code, &report["status"]), (503, &"paused".into()));
    operator.ok(&["resume"]);
    assert_eq!(asked(&process, "/readyz").0, 200);
    let mut conn = connected();
    process.signal(Signal::QUIT);
    until(LONG, "it drains", || {
        (operator.first()["phase"] == "last_call").then_some(())
    });
    let (code, report) = read(conn.ask("/readyz").unwrap());
    assert_eq!((code, &report["status"]), (503, &"leaving".into()));
}
