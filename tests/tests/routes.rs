//! Routes that are functions: the extraction of their arguments, the conversion of their results, and the rejection of
//! requests that do not match.

use serde_json::{json, Value};
use slackwater_tests::answer::Answer;
use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Process;

use crate::help::ms;

/// Sends a request with headers and a body, and returns the response.
fn send(process: &Process, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let mut conn = process.conn();
    let headers: String = headers
        .iter()
        .map(|header| format!("{header}\r\n"))
        .collect();
    let length = body.len();
    conn.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    ))
    .unwrap();
    conn.answer().unwrap()
}

const JSON: &[&str] = &["Content-Type: application/json"];
const FORM: &[&str] = &["Content-Type: application/x-www-form-urlencoded"];

fn get(process: &Process, path: &str) -> (u16, String) {
    let answer = process.conn().fetch(path).unwrap();
    (answer.status, answer.text())
}

fn post(process: &Process, path: &str, headers: &[&str], body: &str) -> (u16, String) {
    let answer = send(process, "POST", path, headers, body);
    (answer.status, answer.text())
}

fn ok(text: &str) -> (u16, String) {
    (200, text.to_owned())
}

/// Returns the error for the first field in a problem document.
fn field(answer: &Answer) -> Value {
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer:?}"
    );
    let document = answer.json();
    assert_eq!(document["status"], answer.status);
    assert!(
        document["title"].is_string() && document["detail"].is_string(),
        "{document}"
    );
    document["errors"][0].clone()
}

#[test]
fn arguments_are_extracted_from_the_path() {
    let process = Launch::fixture().serve();
    assert_eq!(get(&process, "/typed/segment/7"), ok("7"));
    assert_eq!(get(&process, "/typed/rest/a/b%20c"), ok("a/b c"));
    assert_eq!(get(&process, "/typed/pair/1/caf%C3%A9%2F"), ok("1 café/"));
    assert_eq!(get(&process, "/typed/place/left/3"), ok("3 left"));
    assert_eq!(get(&process, "/typed/color/green"), ok("Green"));
    assert_eq!(get(&process, "/typed/whole/5"), ok("5 GET /typed/whole/5"));
    assert_eq!(get(&process, "/admin/seen"), ok("7 nested"));
}

#[test]
fn a_path_segment_of_the_wrong_type_is_answered_with_404_and_its_name() {
    let process = Launch::fixture().serve();
    let ask = |path: &str| {
        let answer = process.conn().fetch(path).unwrap();
        (answer.status, field(&answer))
    };
    let error = |name: &str, expected: &str, found: &str| {
        let detail = format!("expected {expected}, found {found}");
        json!({ "in": "path", "field": name, "detail": detail, "expected": expected, "found": found })
    };
    assert_eq!(
        ask("/typed/segment/300"),
        (404, error("id", "u8", "string \"300\""))
    );
    assert_eq!(
        ask("/typed/place/left/up"),
        (404, error("shelf", "u32", "string \"up\""))
    );
    let (status, color) = ask("/typed/color/blue");
    assert!(
        status == 404
            && color["detail"]
                .as_str()
                .unwrap()
                .contains("expected `red` or `green`"),
        "{color}"
    );
    assert_eq!(ask("/typed/rest/%FF").0, 400);
}

#[test]
fn a_query_is_extracted_and_the_rejection_names_the_wrong_field() {
    let process = Launch::fixture().serve();
    assert_eq!(
        get(&process, "/typed/query?page=2&tag=a&tag=b%26c"),
        ok("2 a+b&c")
    );
    let missing = process.conn().fetch("/typed/query").unwrap();
    assert_eq!(
        (missing.status, &field(&missing)["field"]),
        (400, &json!("page"))
    );
    let wrong = process.conn().fetch("/typed/query?page=x").unwrap();
    assert_eq!(
        (wrong.status, &field(&wrong)["in"], &field(&wrong)["field"]),
        (400, &json!("query"), &json!("page"))
    );
}

#[test]
fn a_rejected_json_body_is_answered_with_the_field_the_expected_type_and_the_value() {
    let process = Launch::fixture().serve();
    let right = r#"{"items":[{"name":"tea","price":3}]}"#;
    assert_eq!(post(&process, "/typed/json", JSON, right), ok(right));
    assert_eq!(
        post(
            &process,
            "/typed/json",
            &["Content-Type: application/vnd.x+json; charset=utf-8"],
            right
        ),
        ok(right)
    );

    let wrong = send(
        &process,
        "POST",
        "/typed/json",
        JSON,
        r#"{"items":[{"name":"a","price":1},{"name":"b","price":"x"}]}"#,
    );
    let expected = json!({
        "in": "body", "field": "items[1].price", "detail": "expected u32, found string \"x\"",
        "expected": "u32", "found": "string \"x\"",
    });
    assert_eq!((wrong.status, field(&wrong)), (422, expected));
    assert_eq!(
        wrong.json()["detail"],
        "body items[1].price: expected u32, found string \"x\""
    );

    let missing = send(
        &process,
        "POST",
        "/typed/json",
        JSON,
        r#"{"items":[{"name":"a"}]}"#,
    );
    assert_eq!(
        (missing.status, &field(&missing)["field"]),
        (422, &json!("items[0].price"))
    );
    let unknown = send(
        &process,
        "POST",
        "/typed/json",
        JSON,
        r#"{"items":[{"name":"a","price":1,"x":1}]}"#,
    );
    assert_eq!(
        (unknown.status, &field(&unknown)["field"]),
        (422, &json!("items[0].x"))
    );
    for broken in ["{\"items\":", "nonsense", "", &format!("{right}more")] {
        let broken = send(&process, "POST", "/typed/json", JSON, broken);
        assert_eq!(broken.status, 400, "{broken:?}");
        assert!(
            field(&broken)["detail"]
                .as_str()
                .unwrap()
                .contains("line 1"),
            "{broken:?}"
        );
    }
    let deep = "[".repeat(100_000);
    assert_eq!(post(&process, "/typed/json", JSON, &deep).0, 422);
    for other in [&["Content-Type: text/plain"][..], &[]] {
        assert_eq!(post(&process, "/typed/json", other, right).0, 415);
    }
}

#[test]
fn a_form_and_headers_are_extracted_into_types() {
    let process = Launch::fixture().serve();
    assert_eq!(
        post(&process, "/typed/form", FORM, "name=Ann+B&age=7"),
        ok("Ann B 7")
    );
    let wrong = send(&process, "POST", "/typed/form", FORM, "name=Ann&age=700");
    assert_eq!(
        (wrong.status, &field(&wrong)["in"], &field(&wrong)["field"]),
        (422, &json!("form"), &json!("age"))
    );
    assert_eq!(post(&process, "/typed/form", JSON, "{}").0, 415);

    let header = |headers: &[&str]| send(&process, "GET", "/typed/header", headers, "");
    assert_eq!(
        header(&["User-Agent: me", "X-Retries: 2"]).text(),
        "me Some(2)"
    );
    assert_eq!(header(&["User-Agent: me"]).text(), "me None");
    let missing = header(&[]);
    assert_eq!(
        (missing.status, &field(&missing)["field"]),
        (400, &json!("user_agent"))
    );
    let wrong = header(&["User-Agent: me", "X-Retries: many"]);
    assert_eq!(
        (wrong.status, &field(&wrong)["field"]),
        (400, &json!("x_retries"))
    );
}

#[test]
fn an_absent_option_is_none_and_a_result_passes_the_rejection_to_the_handler() {
    let process = Launch::fixture().serve();
    assert_eq!(
        post(&process, "/typed/maybe", &[], ""),
        ok("None false false")
    );
    let all = &["Content-Type: application/json", "User-Agent: me"];
    assert_eq!(
        post(
            &process,
            "/typed/maybe?page=1",
            all,
            r#"{"name":"a","price":1}"#
        ),
        ok("Some(1) true true")
    );
    assert_eq!(
        post(&process, "/typed/maybe?page=x", &[], "").0,
        400,
        "present, but invalid"
    );
    assert_eq!(
        post(&process, "/typed/maybe", JSON, "{}").0,
        422,
        "present, but invalid"
    );
    assert_eq!(
        post(&process, "/typed/either", JSON, r#"{"name":"a","price":1}"#),
        ok("a")
    );
    assert_eq!(
        post(&process, "/typed/either", JSON, "{}"),
        ok("422: body name: missing")
    );
}

#[test]
fn a_body_is_extracted_as_text_bytes_or_a_stream_within_its_limit() {
    let process = Launch::fixture()
        .settings("[http]\nbody_limit = \"64B\"\n")
        .serve();
    assert_eq!(post(&process, "/typed/text", &[], "hé"), ok("hé"));
    assert_eq!(post(&process, "/typed/bytes", &[], "12345"), ok("5"));
    assert_eq!(post(&process, "/typed/echo", &[], "back"), ok("back"));
    assert_eq!(
        send(&process, "PUT", "/typed/echo", &[], "put").text(),
        "put"
    );
    assert_eq!(post(&process, "/typed/count", &[], "1234"), ok("4"));
    assert_eq!(
        post(&process, "/typed/short", &[], "12345678"),
        ok("12345678")
    );
    let long = "x".repeat(65);
    for (path, body) in [
        ("text", &*long),
        ("bytes", &long),
        ("json", &long),
        ("count", &long),
        ("short", "123456789"),
    ] {
        let answer = send(&process, "POST", &format!("/typed/{path}"), JSON, body);
        assert_eq!(answer.status, 413, "{path}: {answer:?}");
        assert_eq!(answer.json()["status"], 413, "{path}: {answer:?}");
    }
    let mut conn = process.conn();
    conn.send(b"POST /typed/text HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\xff\xfe")
        .unwrap();
    assert_eq!(conn.answer().unwrap().status, 400);
}

#[test]
fn the_state_the_peer_cookies_and_custom_extractors_are_arguments() {
    let process = Launch::fixture().serve();
    assert_eq!(get(&process, "/typed/made"), ok("1"));
    assert_eq!(get(&process, "/typed/peer"), ok("127.0.0.1"));
    assert_eq!(
        send(&process, "GET", "/typed/whoami", &["X-User: Ann"], "").text(),
        "Ann of Start"
    );
    assert_eq!(get(&process, "/typed/whoami").0, 404);

    let first = process.conn().fetch("/typed/visits").unwrap();
    assert_eq!(
        (first.text().as_str(), first.header("set-cookie")),
        ("1", Some("visits=1"))
    );
    let again = send(
        &process,
        "GET",
        "/typed/visits",
        &["Cookie: other=x; visits=41"],
        "",
    );
    assert_eq!(
        (again.text().as_str(), again.header("set-cookie")),
        ("42", Some("visits=42"))
    );
    let left = send(&process, "POST", "/typed/leave", &["Cookie: visits=42"], "");
    assert_eq!(
        (left.status, left.header("location")),
        (303, Some("/typed/visits"))
    );
    assert!(
        left.header("set-cookie").unwrap().starts_with("visits=; "),
        "{left:?}"
    );
}

#[test]
fn the_argument_draining_resolves_when_the_generation_drains() {
    let process = Launch::fixture().serve();
    let mut conn: Conn = process.conn();
    conn.get("/typed/drained").unwrap();
    assert_eq!(
        conn.state_after(ms(100)),
        slackwater_tests::conn::SocketState::Open
    );
    process.reload();
    assert_eq!(conn.answer().unwrap().text(), "drained");
}

#[test]
fn the_type_of_a_result_determines_the_response() {
    let process = Launch::fixture().serve();
    let ask =
        |method: &str, path: &str| send(&process, method, &format!("/answers/{path}"), &[], "");
    assert_eq!(ask("GET", "nothing").status, 204);
    let created = ask("POST", "created");
    assert_eq!(
        (
            created.status,
            created.header("location"),
            created.text().as_str()
        ),
        (201, Some("/answers/7"), "7")
    );
    assert_eq!(ask("DELETE", "gone").status, 204);
    let teapot = ask("GET", "teapot");
    assert_eq!(
        (
            teapot.status,
            teapot.header("x-brew"),
            teapot.text().as_str()
        ),
        (418, Some("oolong"), "short and stout")
    );
    assert_eq!(
        ask("GET", "html").header("content-type"),
        Some("text/html;charset=utf-8")
    );
    assert_eq!(ask("GET", "octets").body, [0, 255]);
    assert_eq!(ask("GET", "letters").text(), "abc");
    std::fs::write(process.dir().path().join("page.html"), "<p>").unwrap();
    let file = ask("GET", "file");
    assert_eq!(
        (file.text().as_str(), file.header("content-type")),
        ("<p>", Some("text/html;charset=utf-8"))
    );
    assert_eq!(ask("GET", "none").status, 404);
    let csv = ask("GET", "csv");
    assert_eq!(
        (csv.text().as_str(), csv.header("content-type")),
        ("1,2", Some("text/csv"))
    );
    let head = {
        let mut conn = process.conn();
        conn.send("HEAD /answers/teapot HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        conn.head().unwrap()
    };
    assert_eq!(
        (head.status, head.header("content-length")),
        (418, Some("15"))
    );
}

#[test]
fn an_error_becomes_a_response_and_server_errors_are_logged() {
    let process = Launch::fixture().serve();
    let ask = |path: &str| process.conn().fetch(&format!("/answers/{path}")).unwrap();
    let rejected = ask("rejected");
    assert_eq!(
        (rejected.status, rejected.json()["type"].as_str()),
        (422, Some("https://example.org/empty"))
    );
    assert_eq!(field(&rejected)["field"], "title");
    let mark = process.mark();
    assert_eq!(ask("failed").status, 500);
    process.wait_for_log(mark, "the warehouse burns");
    assert_eq!(ask("conflict").status, 409);
    let mark = process.mark();
    assert_eq!(ask("not-sendable").status, 500);
    process.wait_for_log(mark, "x-name");
}

#[test]
fn a_middleware_can_read_the_rejection_of_a_response() {
    let process = Launch::fixture().serve();
    let wrong = send(&process, "POST", "/seen/json", JSON, r#"{"items":7}"#);
    assert_eq!(
        (wrong.status, wrong.header("x-error")),
        (422, Some("items"))
    );
    let right = send(&process, "POST", "/seen/json", JSON, r#"{"items":[]}"#);
    assert_eq!((right.status, right.header("x-error")), (200, Some("none")));
}

#[test]
fn the_command_routes_lists_functions_with_file_and_line() {
    let output = Launch::fixture().args(["routes"]).run(ms(20_000)).stdout;
    let line = output
        .lines()
        .find(|line| line.contains("/typed/segment/:id"))
        .unwrap();
    assert!(
        line.starts_with("GET ")
            && line.contains("`fixture::typed::segment`, tests/fixture/typed.rs:"),
        "{line}"
    );
    let methods: Vec<_> = output
        .lines()
        .filter(|line| line.contains("typed::echo"))
        .map(|line| &line[..4])
        .collect();
    assert_eq!(methods, ["POST", "PUT "]);
    assert!(
        output.contains("/answers/teapot") && output.contains("/admin/seen"),
        "{output}"
    );
}

#[test]
fn two_functions_for_the_same_route_are_refused_with_both_names_and_files() {
    let finished = Launch::fixture()
        .settings("[app]\ncollide = true\n")
        .args(["check"])
        .run(ms(20_000));
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    for part in [
        "GET /typed/segment/:id (`fixture::typed::segment`",
        "GET /typed/segment/:other (`fixture::typed::same`",
        "typed.rs:",
    ] {
        assert!(
            finished.stderr.contains(part),
            "{part}: {}",
            finished.stderr
        );
    }
}
