//! Each example, run as its first lines describe.

use std::path::Path;
use std::time::Duration;

use serde_json::{json, Value};
use slackwater_tests::addr::Addr;
use slackwater_tests::answer::Answer;
use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::process_chain::ProcessChain;
use slackwater_tests::program::example;

use crate::help::{held_socket, ms};

const LONG: Duration = Duration::from_secs(20);

fn launch(name: &str) -> Launch {
    Launch::program(&example(name)).settings("")
}

/// Sends a request with a body and reads its answer.
fn send(process: &Process, method: &str, path: &str, header: &str, body: &str) -> Answer {
    let mut conn = process.conn();
    let length = body.len();
    conn.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\n{header}\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .unwrap();
    conn.answer().unwrap()
}

#[test]
fn hello_answers_with_a_greeting() {
    assert_eq!(launch("hello").serve().get("/"), "Hello, world!\n");
}

#[test]
fn state_is_shared_and_survives_a_reload() {
    let process = launch("state").serve();
    assert_eq!(
        (process.get("/visits"), process.get("/visits")),
        ("1 so far\n".into(), "2 so far\n".into())
    );
    process.reload();
    assert_eq!(process.get("/visits"), "3 so far\n");
}

#[test]
fn typed_api_stores_todos_and_explains_invalid_requests() {
    let process = launch("typed_api").serve();
    let json = |method: &str, path: &str, body: &str| {
        send(
            &process,
            method,
            path,
            "Content-Type: application/json",
            body,
        )
    };
    let made = json("POST", "/todos", r#"{"title":"rest"}"#);
    assert_eq!(
        (made.status, made.header("location")),
        (201, Some("/todos/1"))
    );
    assert_eq!(
        made.json(),
        json!({ "id": 1, "title": "rest", "done": false })
    );
    json("POST", "/todos", r#"{"title":"tea","done":true}"#);
    let titles = |path: &str| {
        let all: Value = serde_json::from_str(&process.get(path)).unwrap();
        all.as_array()
            .unwrap()
            .iter()
            .map(|todo| todo["title"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(titles("/todos"), ["rest", "tea"]);
    assert_eq!(titles("/todos?done=true"), ["tea"]);
    assert_eq!(
        json("PUT", "/todos/1", r#"{"title":"sleep","done":true}"#).status,
        200
    );
    assert_eq!(
        serde_json::from_str::<Value>(&process.get("/todos/1")).unwrap()["title"],
        "sleep"
    );
    assert_eq!(json("DELETE", "/todos/1", "").status, 204);

    let empty = json("POST", "/todos", r#"{"title":" "}"#);
    assert_eq!(
        (empty.status, &empty.json()["errors"][0]["field"]),
        (422, &json!("title"))
    );
    assert_eq!(empty.json()["errors"][0]["detail"], "may not be empty");
    let gone = json("GET", "/todos/1", "");
    assert_eq!(
        (gone.status, &gone.json()["detail"]),
        (404, &json!("there is no todo 1"))
    );
    assert_eq!(json("DELETE", "/todos/x", "").status, 404);
    assert_eq!(json("GET", "/todos?done=perhaps", "").status, 400);
}

#[test]
fn the_openapi_document_of_typed_api_conforms_to_the_specification() {
    let process = launch("typed_api").serve();
    let served: Value = serde_json::from_str(&process.get("/openapi.json")).unwrap();
    let printed = launch("typed_api").args(["routes", "--openapi"]).run(LONG);
    assert_eq!(
        served,
        serde_json::from_str::<Value>(&printed.stdout).unwrap(),
        "{printed:?}"
    );

    let schema = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/schema-3.1.json"),
    )
    .unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let errors: Vec<_> = schema
        .iter_errors(&served)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    let mut broken = served.clone();
    broken["paths"]["/todos/{id}"]["get"]["parameters"][0]["in"] = "nowhere".into();
    assert!(
        !schema.is_valid(&broken),
        "the schema rejects an invalid document"
    );

    let create = &served["paths"]["/todos"]["post"];
    assert_eq!(create["operationId"], "create");
    assert_eq!(create["summary"], "Adds a todo.");
    assert_eq!(
        create["requestBody"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/Todo"
    );
    for status in ["201", "400", "413", "415", "422"] {
        assert!(
            create["responses"][status].is_object(),
            "{status}: {create}"
        );
    }
    let read = &served["paths"]["/todos/{id}"]["get"];
    assert_eq!(
        (
            &read["parameters"][0]["name"],
            &read["parameters"][0]["schema"]["type"]
        ),
        (&json!("id"), &json!("integer"))
    );
    assert_eq!(
        served["paths"]["/todos"]["get"]["parameters"][0]["name"],
        "done"
    );
    assert!(!served.to_string().contains("x-undescribed"), "{served}");
}

#[test]
fn forms_logs_a_visitor_in_and_out() {
    let process = launch("forms").serve();
    let form = "Content-Type: application/x-www-form-urlencoded";
    let login = send(&process, "POST", "/login", form, "name=%3Cb%3EAnn");
    assert_eq!((login.status, login.header("location")), (303, Some("/")));
    let cookie = login
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let page = send(&process, "GET", "/", &format!("Cookie: {cookie}"), "");
    assert!(page.text().contains("Hello, &lt;b&gt;Ann!"), "{page:?}");
    let logout = send(
        &process,
        "POST",
        "/logout",
        &format!("Cookie: {cookie}"),
        "",
    );
    assert!(
        logout.header("set-cookie").unwrap().contains("Max-Age=0"),
        "{logout:?}"
    );
    assert!(process.get("/").contains("Log in"));
}

#[test]
fn upload_accepts_files_larger_than_the_body_limit() {
    let settings = "[http]\nbody_limit = \"1KiB\"\n[app]\ndir = \"files\"\n";
    let process = launch("upload").settings(settings).serve();
    let body = "x".repeat(3 << 20);
    assert_eq!(
        send(&process, "PUT", "/files/a.txt", "Expect:", &body).text(),
        "3145728 bytes\n"
    );
    let file = process.conn().fetch("/files/a.txt").unwrap();
    assert_eq!((file.status, file.body.len()), (200, 3 << 20));
    assert_eq!(process.conn().fetch("/files/none").unwrap().status, 404);
    assert_eq!(
        send(&process, "PUT", "/files/..%2Fout", "Expect:", "x").status,
        404
    );
}

#[test]
fn sse_sends_events_until_the_process_drains() {
    let process = launch("sse").serve();
    let mut conn = process.conn();
    conn.get("/clock").unwrap();
    let mut answer = conn.head().unwrap();
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let first = conn.chunk().unwrap().unwrap();
    assert!(String::from_utf8(first).unwrap().contains("tick"));
    process.signal(Signal::TERM);
    conn.body(&mut answer)
        .expect("the stream ends with its last chunk");
}

#[test]
fn websocket_echoes_messages() {
    let process = launch("websocket").serve();
    let Addr::Tcp(addr) = process.addr() else {
        panic!("a TCP address")
    };
    let stream = std::net::TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let (mut socket, _) = tungstenite::client(format!("ws://{addr}/echo"), stream).unwrap();
    socket.send("hi".into()).unwrap();
    assert_eq!(socket.read().unwrap().into_text().unwrap().as_str(), "hi");
}

#[test]
fn config_reload_applies_valid_settings_and_refuses_invalid_ones() {
    let process = launch("config_reload").serve();
    assert_eq!(process.get("/Ann"), "Hello, Ann!\n");
    process.settings("[app]\ngreeting = \"Hi\"\n");
    process.reload();
    assert_eq!(process.get("/Ann"), "Hi, Ann!\n");
    process.settings("[app]\ngreeting = \"\"\n");
    assert!(process.reload_refused().contains("the greeting is empty"));
    process.settings("[app]\ngreeting = 7\n");
    assert!(process.reload_refused().contains("app.greeting"));
    assert_eq!(process.get("/Ann"), "Hi, Ann!\n");
}

#[test]
fn graceful_shutdown_answers_requests_in_progress() {
    let mut process = launch("graceful_shutdown")
        .settings("[shutdown]\ngrace = \"20s\"\n")
        .serve();
    let (mut slow, mut waiting) = (process.conn(), process.conn());
    slow.get("/slow").unwrap();
    waiting.get("/wait").unwrap();
    assert_eq!(
        (slow.state_after(ms(50)), waiting.state_after(ms(50))),
        (SocketState::Open, SocketState::Open)
    );
    process.signal(Signal::INT);
    assert_eq!(slow.answer().unwrap().text(), "done\n");
    assert_eq!(waiting.answer().unwrap().text(), "the server is draining\n");
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(
        process.log().contains("sweeper has stopped"),
        "{}",
        process.log()
    );
}

#[test]
fn upgrade_hands_its_connections_over_to_a_new_process() {
    let mut chain = ProcessChain::serve(&launch("upgrade").settings(""));
    let mut conn = chain.conn();
    let before = conn.fetch("/").unwrap().text();
    let mark = chain.mark();
    chain.upgrade();
    chain.wait_for_log(mark, "reason for this build: Upgrade");
    let after = conn.fetch("/").unwrap().text();
    assert!(
        after.starts_with("version 1, process ") && after != before,
        "{before} {after}"
    );
}

#[test]
fn socket_activation_serves_an_inherited_socket() {
    let (listener, addr) = held_socket();
    let mut early = Conn::open(&addr).unwrap();
    early.get("/").unwrap();
    let _process = launch("socket_activation")
        .socket("http", &listener)
        .start();
    assert_eq!(
        early.answer().unwrap().text(),
        "served on an inherited socket\n"
    );
}

#[test]
fn unix_socket_has_a_default_path_that_settings_replace() {
    let unset = launch("unix_socket");
    let path = unset.dir().path().join("here.sock");
    let process = unset
        .whole_settings(&format!("listen = \"unix:{}\"\n", path.display()))
        .serve();
    assert_eq!(process.addr(), Addr::Unix(path));
    assert!(
        process.get("/").starts_with("you are unix:"),
        "{}",
        process.get("/")
    );
    let output = launch("unix_socket")
        .no_settings()
        .args(["config", "listen"])
        .run(LONG)
        .stdout;
    assert!(
        output.contains("unix:/tmp/slackwater-example.sock"),
        "{output}"
    );
}

#[test]
fn testing_can_be_served() {
    let process = launch("testing")
        .settings("[app]\ngreeting = \"Hi\"\n")
        .serve();
    assert_eq!(process.get("/greet/Ann"), "Hi, Ann!");
}
