//! Features of tide and middleware for tide work in slackwater without changes.

use std::fs;
use std::thread;
use std::time::Duration;

use slackwater_tests::answer::Answer;
use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Process;
use slackwater_tests::wait::until;

use crate::help::ms;

const LONG: Duration = Duration::from_secs(20);

/// Sends a request with additional headers and returns the response.
fn ask(process: &Process, request: &str, headers: &str) -> Answer {
    let mut conn = process.conn();
    conn.send(format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
    ))
    .unwrap();
    conn.answer().unwrap()
}

/// Returns all values of a header.
fn all<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let named = answer
        .headers
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn a_session_counts_the_visits_of_each_client() {
    let process = Launch::fixture().serve();
    let first = ask(&process, "GET /visits", "");
    let cookie = all(&first, "set-cookie")[0]
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(first.text(), "1");
    assert_eq!(
        ask(&process, "GET /visits", &format!("Cookie: {cookie}\r\n")).text(),
        "2"
    );
    assert_eq!(
        ask(
            &process,
            "GET /visits",
            &format!("Cookie: a=b\r\nCookie: {cookie}\r\n")
        )
        .text(),
        "3"
    );
    assert_eq!(
        ask(&process, "GET /visits", "").text(),
        "1",
        "a client without the cookie"
    );
}

#[test]
fn cookies_are_set_read_and_removed() {
    let process = Launch::fixture().serve();
    let mut set: Vec<String> = all(&ask(&process, "PUT /cookie", ""), "set-cookie")
        .into_iter()
        .map(str::to_owned)
        .collect();
    set.sort();
    assert_eq!(set.len(), 2, "{set:?}");
    assert!(set[0].starts_with("size=small"), "{set:?}");
    let taste = set[1].split(';').next().unwrap();
    assert!(
        taste.starts_with("taste=sweet") && set[1].contains("HttpOnly"),
        "{set:?}"
    );
    assert_eq!(
        ask(&process, "GET /cookie", &format!("Cookie: {taste}\r\n")).text(),
        "sweet and sour"
    );
    assert_eq!(ask(&process, "GET /cookie", "").text(), "none");
    let removed = ask(&process, "DELETE /cookie", &format!("Cookie: {taste}\r\n"));
    assert!(
        all(&removed, "set-cookie")[0].contains("Max-Age=0"),
        "{removed:?}"
    );
}

#[test]
fn cors_answers_preflight_requests_and_admits_only_listed_origins() {
    let process = Launch::fixture().serve();
    let preflight = "Origin: https://friend.example\r\nAccess-Control-Request-Method: POST\r\n";
    let allowed = ask(&process, "OPTIONS /cors", preflight);
    assert_eq!(allowed.status, 200);
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://friend.example")
    );
    assert_eq!(
        allowed.header("access-control-allow-methods"),
        Some("GET, POST, OPTIONS")
    );
    let shared = ask(&process, "GET /cors", "Origin: https://friend.example\r\n");
    assert_eq!(shared.text(), "shared");
    assert_eq!(
        shared.header("access-control-allow-credentials"),
        Some("true")
    );
    assert_eq!(
        ask(
            &process,
            "GET /cors",
            "Origin: https://stranger.example\r\n"
        )
        .status,
        401
    );
}

#[test]
fn files_and_directories_are_served_and_nothing_outside_them() {
    let launch = Launch::fixture();
    let files = launch.dir().path().join("files");
    fs::create_dir_all(files.join("deep")).unwrap();
    launch.dir().write("secret.txt", "secret");
    for (name, text) in [
        ("one.txt", "one"),
        ("deep/page.html", "<p>"),
        ("big.bin", &*"x".repeat(3 << 20)),
    ] {
        fs::write(files.join(name), text).unwrap();
    }
    let process = launch.serve();
    assert_eq!(process.get("/file"), "one");
    assert_eq!(process.get("/files/one.txt"), "one");
    let page = ask(&process, "GET /files/deep/page.html", "");
    assert!(
        page.text() == "<p>"
            && page
                .header("content-type")
                .is_some_and(|kind| kind.starts_with("text/html"))
    );
    let big = ask(&process, "GET /files/big.bin", "");
    assert_eq!(
        (big.body.len(), big.header("content-length")),
        (3 << 20, Some("3145728"))
    );
    for outside in [
        "/files/../secret.txt",
        "/files/%2e%2e/secret.txt",
        "/files/deep/../../secret.txt",
        "/files/..%2fsecret.txt",
        "/files//secret.txt",
        "/files/nothing",
        "/files/deep",
        "/files/one.txt/below",
        "/files/",
        "//files/one.txt",
        &format!("/files/{}", "x".repeat(300)),
    ] {
        let answer = ask(&process, &format!("GET {outside}"), "");
        assert!(
            answer.status == 404 || answer.status == 403,
            "{outside}: {answer:?}"
        );
    }
    let refused = ask(&process, "POST /files/one.txt", "Content-Length: 0\r\n");
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, HEAD"))
    );
}

#[test]
fn a_middleware_passes_a_value_to_the_handler_in_the_extensions() {
    assert_eq!(Launch::fixture().serve().get("/visitor"), "Ada");
}

#[test]
fn a_response_has_trailers_after_its_body() {
    let process = Launch::fixture().serve();
    let mut conn = process.conn();
    conn.send("GET /trailers HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close\r\n\r\n")
        .unwrap();
    let head = conn.head().unwrap();
    assert_eq!(
        head.header("transfer-encoding"),
        Some("chunked"),
        "{head:?}"
    );
    let SocketState::Sent(mut rest) = conn.state_after(LONG) else {
        panic!("no body")
    };
    while let SocketState::Sent(more) = conn.state_after(LONG) {
        rest.extend(more);
    }
    assert_eq!(
        String::from_utf8_lossy(&rest),
        "8\r\nthe body\r\n0\r\nx-length: 8\r\n\r\n"
    );
}

#[test]
fn server_sent_events_of_tide_reach_the_client() {
    let process = Launch::fixture().serve();
    let events = ask(&process, "GET /counted", "Accept: text/event-stream\r\n");
    let kind = events.header("content-type");
    assert!(
        kind.is_some_and(|kind| kind.starts_with("text/event-stream")),
        "{events:?}"
    );
    assert_eq!(events.header("cache-control"), Some("no-cache"));
    let data: Vec<String> = events
        .text()
        .lines()
        .filter_map(|line| {
            line.strip_prefix("data:")
                .map(|data| data.trim().to_owned())
        })
        .collect();
    assert_eq!(data, ["1", "2", "3"]);
}

#[test]
fn a_stream_ends_when_its_client_disconnects() {
    let process = Launch::fixture().serve();
    let mark = process.mark();
    let mut conn = process.conn();
    conn.get("/endless").unwrap();
    assert_eq!(conn.head().unwrap().status, 200);
    assert!(conn.chunk().unwrap().is_some());
    drop(conn);
    process.wait_for_log(mark, "endless events end");
}

#[test]
fn a_handler_finishes_after_its_client_disconnects_and_the_connection_is_closed() {
    let process = Launch::fixture().serve();
    assert_eq!(process.get("/"), "root");
    let (mark, before) = (process.mark(), process.proc().open_fds());
    let mut conn = process.conn();
    conn.get("/slow/700").unwrap();
    process.wait_for_log(mark, "something slow begins");
    drop(conn);
    process.wait_for_log(mark, "something slow ends");
    until(LONG, "the server closes the connection", || {
        (process.proc().open_fds() <= before).then_some(())
    });
}

#[test]
fn an_error_is_sent_as_json_to_a_program_and_as_a_page_to_a_browser() {
    let process = Launch::fixture().serve();
    let problem = ask(&process, "GET /fails", "Accept: */*\r\n");
    assert_eq!(
        (problem.status, problem.header("content-type")),
        (503, Some("application/problem+json"))
    );
    assert_eq!(problem.json()["title"], "Service Unavailable");
    assert_eq!(problem.json()["status"], 503);
    // only debug builds include the cause; the programs under test are debug builds
    assert_eq!(problem.json()["cause"], "the database is <away>");
    let browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    for (path, status, title) in [
        ("/fails", 503, "503 Service Unavailable"),
        ("/nowhere", 404, "404 Not Found"),
        ("/visitor", 200, "Ada"),
    ] {
        let page = ask(&process, &format!("GET {path}"), browser);
        assert_eq!(page.status, status);
        assert!(
            page.text().contains(title) && !page.text().contains("<away>"),
            "{page:?}"
        );
        let head = {
            let mut conn = process.conn();
            conn.send(format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n{browser}\r\n"))
                .unwrap();
            conn.head().unwrap()
        };
        assert_eq!(
            head.header("content-length"),
            page.header("content-length"),
            "{path}"
        );
    }
    let refused = ask(
        &process,
        "POST /visitor",
        &format!("{browser}Content-Length: 0\r\n"),
    );
    assert_eq!(
        (
            refused.status,
            refused.header("allow"),
            refused.header("vary")
        ),
        (405, Some("GET, HEAD"), Some("accept"))
    );
    assert!(
        refused.text().contains("<h1>405 Method Not Allowed</h1>"),
        "{refused:?}"
    );
}

#[test]
fn an_application_can_replace_the_error_pages() {
    let process = Launch::fixture().serve();
    for (path, status, text) in [
        ("/shop/open", 200, "open"),
        ("/shop/nothing", 404, "our page: no such thing"),
        ("/shop/sold-out", 410, "our page: sold out"),
    ] {
        let answer = ask(&process, &format!("GET {path}"), "");
        assert_eq!((answer.status, answer.text().as_str()), (status, text));
    }
    assert_eq!(
        ask(&process, "GET /nothing", "").json()["status"],
        404,
        "the framework answers outside /shop"
    );
}

#[test]
fn a_server_echoes_a_gibibyte_in_constant_memory() {
    let process = Launch::playground().serve();
    assert_eq!(process.get("/"), "Hello, world!");
    let (before, length) = (process.proc().peak_kib(), 1_u64 << 30);
    let mut conn = Conn::open_patient(&process.addr(), Duration::from_secs(120)).unwrap();
    let mut sender = conn.try_clone().unwrap();
    let upload = thread::spawn(move || {
        sender.send(format!(
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        ))?;
        let piece = vec![b'x'; 1 << 20];
        (0..length >> 20).try_for_each(|_| sender.send(&piece))
    });
    let answer = conn.head().unwrap();
    assert_eq!(
        (answer.status, answer.header("content-length")),
        (200, Some("1073741824"))
    );
    assert_eq!(conn.discard(length), Ok(()));
    upload.join().unwrap().unwrap();
    assert_eq!(conn.fetch("/").unwrap().text(), "Hello, world!");
    let grown = process.proc().peak_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more for a gibibyte");
}

#[test]
fn a_response_body_is_produced_only_as_fast_as_its_client_reads() {
    let process = Launch::playground().serve();
    assert_eq!(process.get("/"), "Hello, world!");
    let before = process.proc().peak_kib();
    let mut conns: Vec<Conn> = (0..20).map(|_| process.conn()).collect();
    for conn in &mut conns {
        conn.get("/bytes/1000000000").unwrap();
        assert_eq!(conn.head().unwrap().status, 200);
    }
    // no client reads, so the socket buffers fill up and the handlers stop producing
    assert_eq!(process.get("/"), "Hello, world!");
    thread::sleep(ms(300));
    let grown = process.proc().peak_kib().saturating_sub(before);
    assert!(
        grown < 32 << 10,
        "{grown} KiB more for 20 clients that do not read"
    );
}

#[test]
fn a_server_reads_no_more_of_a_body_than_its_handler_consumes() {
    let process = Launch::fixture().serve();
    assert_eq!(process.get("/"), "root");
    let before = process.proc().peak_kib();
    let mut conn = Conn::open_patient(&process.addr(), ms(1500)).unwrap();
    conn.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        .unwrap();
    let piece = vec![b'x'; 1 << 20];
    // the client does not read the echo, so the server stops reading once the socket buffers hold some megabytes
    let accepted = (0..200).take_while(|_| conn.send(&piece).is_ok()).count();
    assert!(accepted < 100, "the server accepted {accepted} MiB");
    let grown = process.proc().peak_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
}
