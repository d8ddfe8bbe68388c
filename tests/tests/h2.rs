//! HTTP/2 with prior knowledge: concurrent requests on one connection, its limits, and its GOAWAY.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Reason, RecvStream};
use hyper::{Request, Response, StatusCode};
use slackwater_tests::addr::Addr;
use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::process_chain::ProcessChain;
use slackwater_tests::tally::Failure;
use slackwater_tests::wait;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const LONG: Duration = Duration::from_secs(120);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// The header block of `GET /` with the authority `localhost`, by the static table of HPACK (RFC 7541, appendix A).
const GET: &[u8] = b"\x82\x86\x84\x41\x09localhost";

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, work).await.expect("in time") })
}

/// A client connection. The result of its task is the reason for its end.
struct Client {
    requests: SendRequest<Bytes>,
    end: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn open(process: &Process) -> Self {
        Self::with(process, &h2::client::Builder::new()).await
    }

    async fn with(process: &Process, builder: &h2::client::Builder) -> Self {
        let stream = TcpStream::connect(tcp(process)).await.unwrap();
        let (requests, connection): (_, Connection<TcpStream>) =
            builder.handshake(stream).await.unwrap();
        Client {
            requests,
            end: tokio::spawn(connection),
        }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&'static [u8]>,
    ) -> Result<Response<RecvStream>, h2::Error> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://localhost{path}"))
            .body(())
            .unwrap();
        let mut requests = self.requests.clone().ready().await?;
        let (answer, mut stream) = requests.send_request(request, body.is_none())?;
        if let Some(body) = body {
            stream.send_data(Bytes::from_static(body), true)?;
        }
        answer.await
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self.send("GET", path, None).await.unwrap();
        (answer.status(), text(answer).await.unwrap())
    }
}

fn tcp(process: &Process) -> SocketAddr {
    match process.addr() {
        Addr::Tcp(addr) => addr,
        other @ Addr::Unix(_) => panic!("{other} is not a TCP address"),
    }
}

async fn text(answer: Response<RecvStream>) -> Result<String, h2::Error> {
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        let _ = body.flow_control().release_capacity(chunk.len());
        text.extend(chunk);
    }
    Ok(String::from_utf8(text).unwrap())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Opens a connection whose frames the test writes itself.
fn raw(process: &Process) -> Conn {
    let mut conn = process.conn();
    conn.send([PREFACE, SETTINGS].concat()).unwrap();
    conn
}

#[test]
fn requests_on_one_connection_are_answered_concurrently() {
    let process = Launch::playground().serve();
    run(async {
        let client = Client::open(&process).await;
        let slow = client.get("/sleep/8000");
        let fast = async {
            for _ in 0..50 {
                assert_eq!(
                    client.get("/").await,
                    (StatusCode::OK, "Hello, world!".into())
                );
            }
            std::time::Instant::now()
        };
        let slow = async { (slow.await, std::time::Instant::now()) };
        let ((slept, slow_at), fast_at) = tokio::join!(slow, fast);
        assert_eq!(slept.1, "slept");
        assert!(
            fast_at < slow_at,
            "fast requests do not wait for the slow one"
        );
        let echoed = client
            .send("POST", "/echo", Some(b"there and back"))
            .await
            .unwrap();
        assert_eq!(text(echoed).await.unwrap(), "there and back");
        let head = client.send("HEAD", "/bytes/1000", None).await.unwrap();
        assert_eq!(head.headers()["content-length"], "1000");
        assert_eq!(text(head).await.unwrap(), "");
        for path in ["/livez", "/nowhere", "/ws"] {
            let head = client.send("HEAD", path, None).await.unwrap();
            assert!(head.headers()["content-length"] != "0", "{path}: {head:?}");
            assert_eq!(text(head).await.unwrap(), "", "{path}");
        }
        assert_eq!(client.get("/bytes/300000").await.1.len(), 300_000);
        assert_eq!(client.get("/nowhere").await.0, StatusCode::NOT_FOUND);
        assert_eq!(
            client.get("/panic").await.0,
            StatusCode::INTERNAL_SERVER_ERROR
        );
        assert_eq!(client.get("/ws").await.0, StatusCode::UPGRADE_REQUIRED);
        assert_eq!(client.get("/livez").await.0, StatusCode::OK);
        assert_eq!(
            client.get("/greet/Ada").await.1,
            "Hello, Ada!",
            "the connection stays open"
        );
    });
}

#[test]
fn http_limits_and_timeouts_apply_to_http_2() {
    let settings =
        "[http]\nrequest_timeout = \"400ms\"\nbody_timeout = \"300ms\"\nmax_streams = 7\n";
    let process = Launch::fixture().settings(settings).serve();
    run(async {
        let client = Client::open(&process).await;
        let large = client
            .send("POST", "/small", Some(&[b'x'; 100]))
            .await
            .unwrap();
        assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let late = client.send("GET", "/until-drained", None).await.unwrap();
        assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
        let request = Request::post("http://localhost/collect").body(()).unwrap();
        let mut requests = client.requests.clone();
        let (answer, _never_ended) = requests.send_request(request, false).unwrap();
        assert_eq!(answer.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(requests.current_max_send_streams(), 7);
    });
}

#[test]
fn the_preface_may_arrive_byte_by_byte_and_bytes_that_only_begin_like_it_are_http_1() {
    let process = Launch::playground().serve();
    let mut conn = process.conn();
    conn.send_in_pieces(PREFACE, 1, Duration::from_millis(2))
        .unwrap();
    conn.send(SETTINGS).unwrap();
    let SocketState::Sent(bytes) = conn.state_after(LONG) else {
        panic!("the server sends no SETTINGS")
    };
    assert_eq!(bytes[3], 4, "the first frame is SETTINGS: {bytes:?}");

    let mut other = process.conn();
    other.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").unwrap();
    let answer = other.answer().unwrap();
    assert!(matches!(answer.status, 400 | 505), "{answer:?}");
    let mut post = process.conn();
    post.send_in_pieces(b"P", 1, Duration::from_millis(20))
        .unwrap();
    post.send("OST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi")
        .unwrap();
    assert_eq!(post.answer().unwrap().text(), "2");
}

#[test]
fn a_stop_answers_requests_in_progress_and_sends_goaway() {
    let mut process = Launch::playground()
        .settings("[shutdown]\ngrace = \"20s\"\n")
        .serve();
    run(async {
        let client = Client::open(&process).await;
        let idle = Client::open(&process).await;
        assert_eq!(idle.get("/").await.0, StatusCode::OK);
        let in_flight = client.send("GET", "/sleep/1500", None);
        let stop = async {
            assert_eq!(client.get("/").await.0, StatusCode::OK);
            process.signal(Signal::TERM);
        };
        let (slept, ()) = tokio::join!(in_flight, stop);
        assert_eq!(text(slept.unwrap()).await.unwrap(), "slept");
        drop((client.requests, idle.requests));
        for end in [client.end, idle.end] {
            let end = end.await.unwrap();
            assert!(
                end.as_ref().is_ok_and(|()| true) || end.is_err_and(|error| error.is_go_away())
            );
        }
    });
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(
        !process.log().contains("closed before its end"),
        "{}",
        process.log()
    );
}

#[test]
fn during_an_upgrade_the_old_process_finishes_its_streams_and_the_new_process_accepts() {
    let settings = "[upgrade]\nrollback_window = \"300ms\"\n";
    let mut chain = ProcessChain::serve(&Launch::playground().settings(settings));
    let old = chain.newest();
    run(async {
        let client = Client::open(&chain).await;
        let in_flight = client.send("GET", "/sleep/2500", None);
        let upgrade = async {
            assert_eq!(client.get("/pid").await.1, old.to_string());
            tokio::task::yield_now().await;
        };
        let (slept, ()) = tokio::join!(in_flight, async {
            upgrade.await;
            // `upgrade` blocks this thread, so the answer stays in the receive buffer of the socket meanwhile
            let new = chain.upgrade();
            let another = Client::open(&chain).await;
            assert_eq!(another.get("/pid").await.1, new.to_string());
        });
        assert_eq!(text(slept.unwrap()).await.unwrap(), "slept");
        let refused = client.send("GET", "/", None).await;
        assert!(
            refused.is_err(),
            "the old process accepts no further stream: {refused:?}"
        );
    });
    chain.wait_gone(old, LONG);
}

/// The frames that a server sends, in their order.
struct Frames {
    conn: Conn,
    bytes: Vec<u8>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

impl Frames {
    /// Skips frames up to the next of `kinds` and returns its kind, or `None` if the connection ends first.
    fn until(&mut self, kinds: &[u8]) -> Option<u8> {
        while let Some(frame) = self.next() {
            if kinds.contains(&frame[3]) {
                return Some(frame[3]);
            }
        }
        None
    }

    /// Returns the next frame, or `None` if the connection ends.
    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(&[a, b, c, _]) = self.bytes.first_chunk() {
                let length = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
                if length <= self.bytes.len() {
                    return Some(self.bytes.drain(..length).collect());
                }
            }
            match self.conn.state_after(LONG) {
                SocketState::Sent(bytes) => self.bytes.extend(bytes),
                SocketState::Closed | SocketState::Reset => return None,
                SocketState::Open => panic!("the server sends no further frame"),
            }
        }
    }

    /// Opens a connection and sends a request for `path`, which must be shorter than 128 bytes.
    fn request(process: &Process, path: &str) -> Self {
        Self::request_on(raw(process), path)
    }

    /// Sends the same request as a client whose flow-control windows are never full.
    fn request_without_windows(process: &Process, path: &str) -> Self {
        let mut conn = process.conn();
        let window = (1_u32 << 30).to_be_bytes();
        let settings = [&[0, 4][..], &window].concat();
        conn.send([PREFACE, &frame(4, 0, 0, &settings)].concat())
            .unwrap();
        conn.send(frame(WINDOW_UPDATE, 0, 0, &window)).unwrap();
        Self::request_on(conn, path)
    }

    /// Reads the answer with a pause after each frame, sends WINDOW_UPDATEs and acknowledges pings. Returns the length
    /// of the body. Calls `begun` after the first DATA frame.
    fn read_slowly(&mut self, begun: impl FnOnce()) -> Result<usize, String> {
        let (mut length, mut begun) = (0, Some(begun));
        while let Some(received) = self.next() {
            let payload = &received[9..];
            let reply = match (received[3], received[4]) {
                (DATA, flags) => {
                    length += payload.len();
                    if flags & END_STREAM != 0 {
                        return Ok(length);
                    }
                    if let Some(begun) = begun.take() {
                        begun();
                    }
                    std::thread::sleep(Duration::from_millis(1));
                    let room = u32::try_from(payload.len()).unwrap().to_be_bytes();
                    [0, 1]
                        .map(|stream| frame(WINDOW_UPDATE, 0, stream, &room))
                        .concat()
                }
                (PING, 0) => frame(PING, ACK, 0, payload),
                (RST_STREAM, _) => return Err(format!("reset after {length} bytes")),
                _ => continue,
            };
            self.conn
                .send(reply)
                .map_err(|failure| format!("{failure:?} after {length} bytes"))?;
        }
        Err(format!("closed after {length} bytes"))
    }

    fn request_on(mut conn: Conn, path: &str) -> Self {
        // :path is a literal that is not indexed, by the fourth name of the static table
        let length = u8::try_from(path.len()).unwrap();
        let head = [
            b"\x82\x86\x04",
            &[length][..],
            path.as_bytes(),
            b"\x41\x09localhost",
        ]
        .concat();
        conn.send(frame(HEADERS, 5, 1, &head)).unwrap();
        Frames {
            conn,
            bytes: Vec::new(),
        }
    }
}

#[test]
fn goaway_is_sent_when_a_drain_begins_and_not_when_it_ends() {
    let mut process = Launch::playground()
        .settings("[shutdown]\ngrace = \"20s\"\n")
        .serve();
    let mut frames = Frames::request(&process, "/sleep/10000");
    assert_eq!(process.get("/"), "Hello, world!");
    process.signal(Signal::TERM);
    assert_eq!(
        frames.until(&[GOAWAY, HEADERS]),
        Some(GOAWAY),
        "GOAWAY comes before the answer"
    );
    assert_eq!(
        frames.until(&[HEADERS]),
        Some(HEADERS),
        "the answer still comes"
    );
    drop(frames);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}

#[test]
fn goaway_is_sent_when_a_handover_begins() {
    let settings = "[upgrade]\nrollback_window = \"300ms\"\n";
    let mut chain = ProcessChain::serve(&Launch::playground().settings(settings));
    let old = chain.newest();
    let mut frames = Frames::request(&chain, "/sleep/12000");
    chain.upgrade();
    assert_eq!(
        frames.until(&[GOAWAY, HEADERS]),
        Some(GOAWAY),
        "GOAWAY comes before the answer"
    );
    assert_eq!(
        frames.until(&[HEADERS]),
        Some(HEADERS),
        "the answer still comes"
    );
    drop(frames);
    chain.wait_gone(old, LONG);
}

/// Starts slow downloads, calls `interrupt` after all have begun, and checks that each completes.
fn assert_downloads_complete(process: &Process, interrupt: impl FnOnce()) {
    const LENGTH: usize = 8_000_000;
    let (begun, all_begun) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let downloads: Vec<_> = (0..4)
            .map(|_| {
                let begun = begun.clone();
                let mut frames =
                    Frames::request_without_windows(process, &format!("/bytes/{LENGTH}"));
                scope.spawn(move || frames.read_slowly(|| begun.send(()).unwrap()))
            })
            .collect();
        downloads
            .iter()
            .for_each(|_| all_begun.recv_timeout(LONG).unwrap());
        interrupt();
        for download in downloads {
            assert_eq!(download.join().unwrap(), Ok(LENGTH));
        }
    });
}

#[test]
fn slow_downloads_complete_while_the_process_drains() {
    let settings = "[shutdown]\ngrace = \"60s\"\n";
    for _ in 0..4 {
        let mut process = Launch::playground().settings(settings).serve();
        assert_downloads_complete(&process, || process.signal(Signal::TERM));
        assert_eq!(process.wait_exit(LONG).code(), Some(0));
        assert!(
            !process.log().contains("closed before its end"),
            "{}",
            process.log()
        );
    }
}

#[test]
fn slow_downloads_complete_while_an_upgrade_replaces_the_process() {
    let settings = "[shutdown]\ngrace = \"60s\"\n[upgrade]\nrollback_window = \"300ms\"\n";
    let mut chain = ProcessChain::serve(&Launch::playground().settings(settings));
    for _ in 0..4 {
        let old = chain.newest();
        let mark = chain.mark();
        let mut new = None;
        assert_downloads_complete(&chain, || new = Some(chain.begin_upgrade()));
        chain.wait_confirmed(mark, new.unwrap());
        chain.wait_gone(old, LONG);
    }
    assert!(
        !chain.log().contains("closed before its end"),
        "{}",
        chain.log()
    );
}

#[test]
fn a_client_that_is_still_sending_receives_the_goaway_of_a_connection_error() {
    let process = Launch::playground().serve();
    for round in 0..20 {
        let mut conn = raw(&process);
        // RFC 9113, section 6.1: DATA is never on stream 0
        let error = frame(DATA, 0, 0, b"?");
        let sent = conn.send([error, vec![0; 1 << 20]].concat());
        assert_eq!(sent, Ok(()), "round {round}");
        let bytes = Vec::new();
        let mut frames = Frames { conn, bytes };
        assert_eq!(frames.until(&[GOAWAY]), Some(GOAWAY), "round {round}");
        assert_eq!(
            frames.conn.state_after(LONG),
            SocketState::Closed,
            "round {round}"
        );
    }
}

#[test]
fn several_cookie_fields_are_joined_into_one() {
    let process = Launch::fixture().serve();
    run(async {
        let client = Client::open(&process).await;
        let request = Request::get("http://localhost/cookie-header");
        let request = ["a=1", "b=2; c=3", "d=4"]
            .iter()
            .fold(request, |request, cookie| request.header("cookie", *cookie));
        let mut requests = client.requests.clone().ready().await.unwrap();
        let (answer, _) = requests
            .send_request(request.body(()).unwrap(), true)
            .unwrap();
        assert_eq!(
            text(answer.await.unwrap()).await.unwrap(),
            "a=1; b=2; c=3; d=4"
        );
    });
}

#[test]
fn http_2_requests_are_logged_and_counted() {
    let settings = "metrics.path = \"/metrics\"\n[log]\naccess = true\n";
    let process = Launch::playground().settings(settings).serve();
    run(async {
        let client = Client::open(&process).await;
        assert_eq!(client.get("/greet/Ada").await.1, "Hello, Ada!");
        assert_eq!(client.get("/bytes/100000").await.1.len(), 100_000);
        let echoed = client
            .send("POST", "/echo", Some(b"there and back"))
            .await
            .unwrap();
        assert_eq!(text(echoed).await.unwrap(), "there and back");
    });
    let line = process.wait_for_log(0, "/greet/Ada");
    assert!(
        line.contains("HTTP/2.0") && line.contains("200") && line.contains("127.0.0.1:"),
        "{line}"
    );
    let line = process.wait_for_log(0, "/bytes/100000");
    assert!(line.contains("100000,"), "{line}");
    let scrape = wait::until(LONG, "the metrics count the request", || {
        let scrape = process.get("/metrics");
        scrape
            .contains("route=\"/bytes/:n\",method=\"GET\",status=\"200\"} 1")
            .then_some(scrape)
    });
    for counted in [
        "http_requests_total{route=\"/greet/:name\",method=\"GET\",status=\"200\"} 1",
        "http_requests_total{route=\"/echo\",method=\"POST\",status=\"200\"} 1",
        "http_request_body_bytes_total 14",
    ] {
        assert!(scrape.contains(counted), "{counted}:\n{scrape}");
    }
}

#[test]
fn an_idle_connection_is_closed_at_idle_timeout() {
    let process = Launch::playground()
        .settings("[http]\nidle_timeout = \"2s\"\n")
        .serve();
    run(async {
        let client = Client::open(&process).await;
        assert_eq!(
            client.get("/sleep/3000").await.1,
            "slept",
            "a connection with an open stream is not idle"
        );
        let end = client.end.await.unwrap();
        assert!(end.is_ok() || end.is_err_and(|error| error.is_go_away()));
    });
}

#[test]
fn a_stream_that_its_client_does_not_read_is_reset_and_other_streams_go_on() {
    let process = Launch::playground()
        .settings("[http]\nwrite_timeout = \"500ms\"\n")
        .serve();
    run(async {
        // the window of the connection has room left while the window of the unread stream is full
        let client = Client::with(
            &process,
            h2::client::Builder::new().initial_connection_window_size(1 << 20),
        )
        .await;
        let stalled = client.send("GET", "/bytes/10000000", None).await.unwrap();
        let mut body = stalled.into_body();
        let end = loop {
            // data is read, but no WINDOW_UPDATE is sent
            match body.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("the stream ended as if the body were complete"),
            }
        };
        assert!(end.is_reset(), "{end}");
        assert_eq!(client.get("/").await.0, StatusCode::OK);
    });
}

#[test]
fn a_flood_of_opened_and_reset_streams_closes_the_connection() {
    let process = Launch::playground().serve();
    let mut conn = raw(&process);
    let mut flood = Vec::new();
    for stream in (1..20_001).step_by(2) {
        flood.extend(frame(1, 5, stream, GET));
        flood.extend(frame(
            3,
            0,
            stream,
            &u32::from(Reason::CANCEL).to_be_bytes(),
        ));
    }
    let sent = conn.send(&flood);
    assert!(is_ended(&mut conn, sent), "the connection is still open");
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn a_connection_runs_at_most_twice_max_streams_handlers() {
    let process = Launch::fixture()
        .settings("[http]\nmax_streams = 3\n")
        .serve();
    run(async {
        let client = Client::open(&process).await;
        for handlers in 1..=6 {
            let mut requests = client.requests.clone().ready().await.unwrap();
            let request = Request::get("http://localhost/work").body(()).unwrap();
            let (_answer, mut stream) = requests.send_request(request, true).unwrap();
            while process.log().matches("work has started").count() < handlers {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stream.send_reset(Reason::CANCEL);
        }
        assert_eq!(client.get("/made").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            process.get("/made"),
            "1",
            "another connection has its own limit"
        );
        std::fs::write(process.dir().path().join("enough"), "").unwrap();
        wait::until(LONG, "all handlers have ended", || {
            (process.log().matches("the work is done").count() == 6).then_some(())
        });
        while client.get("/made").await.0 != StatusCode::OK {}
    });
}

#[test]
fn a_request_with_too_many_headers_is_rejected_with_431() {
    let process = Launch::playground()
        .settings("[http]\nmax_headers = 20\n")
        .serve();
    run(async {
        let client = Client::open(&process).await;
        let request = |headers: usize| {
            let request = Request::get("http://localhost/");
            (0..headers).fold(request, |request, number| {
                request.header(format!("x-{number}"), "1")
            })
        };
        for (headers, expected) in [
            (15, StatusCode::OK),
            (21, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        ] {
            let mut requests = client.requests.clone().ready().await.unwrap();
            let (answer, _) = requests
                .send_request(request(headers).body(()).unwrap(), true)
                .unwrap();
            assert_eq!(answer.await.unwrap().status(), expected, "{headers}");
        }
    });
}

#[test]
fn the_server_notices_a_reset_stream_or_a_closed_connection_while_the_handler_works() {
    let process = Launch::fixture().settings("[log]\naccess = true\n").serve();
    let noticed = |mark| {
        let line = process.wait_for_log(mark, "/work 499");
        assert!(line.contains("HTTP/2.0"), "{line}");
        process.mark()
    };
    let mark = run(async {
        let client = Client::open(&process).await;
        let mut requests = client.requests.clone().ready().await.unwrap();
        let (_answer, mut stream) = requests
            .send_request(
                Request::get("http://localhost/work").body(()).unwrap(),
                true,
            )
            .unwrap();
        assert_eq!(
            client.get("/made").await.1,
            "1",
            "the server has received the request"
        );
        stream.send_reset(Reason::CANCEL);
        assert_eq!(
            client.get("/made").await.1,
            "1",
            "the connection stays open"
        );
        noticed(0)
    });
    let frames = Frames::request(&process, "/work");
    process.wait_for_log(mark, "work has started");
    drop(frames);
    let mark = noticed(mark);
    std::fs::write(process.dir().path().join("enough"), "").unwrap();
    process.wait_for_log(mark, "the work is done");
    wait::until(LONG, "both handlers run to their end", || {
        (process.log().matches("the work is done").count() == 2).then_some(())
    });
}

/// Sends `frames` again and again and reads the answers until the server closes the connection.
fn assert_flood_is_closed(frames: &[u8]) {
    let process = Launch::playground().serve();
    let mut conn = raw(&process);
    let mut answers = conn.try_clone().unwrap();
    let reading = std::thread::spawn(move || is_ended(&mut answers, Ok(())));
    let until = std::time::Instant::now() + LONG;
    let mut sent = Ok(());
    while sent.is_ok() && !reading.is_finished() {
        assert!(
            std::time::Instant::now() < until,
            "the connection is still open"
        );
        sent = conn.send(frames);
    }
    assert!(reading.join().unwrap(), "the connection is still open");
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn a_flood_of_pings_closes_the_connection() {
    assert_flood_is_closed(&frame(6, 0, 0, b"are you?").repeat(100));
}

#[test]
fn a_flood_of_settings_closes_the_connection() {
    assert_flood_is_closed(&SETTINGS.repeat(100));
}

#[test]
fn a_flood_of_priorities_closes_the_connection() {
    assert_flood_is_closed(&frame(2, 0, 1, b"\0\0\0\0\x10").repeat(100));
}

#[test]
fn pings_between_requests_do_not_close_the_connection() {
    let process = Launch::playground().serve();
    run(async {
        let stream = TcpStream::connect(tcp(&process)).await.unwrap();
        let (mut requests, mut connection) = h2::client::handshake(stream).await.unwrap();
        let mut pings = connection.ping_pong().unwrap();
        tokio::spawn(connection);
        for _ in 0..600 {
            pings.ping(h2::Ping::opaque()).await.unwrap();
            pings.ping(h2::Ping::opaque()).await.unwrap();
            requests = requests.ready().await.unwrap();
            let request = Request::get("http://localhost/bytes/1000")
                .body(())
                .unwrap();
            let (answer, _) = requests.send_request(request, true).unwrap();
            assert_eq!(text(answer.await.unwrap()).await.unwrap().len(), 1000);
        }
    });
}

#[test]
fn an_endless_header_block_closes_the_connection() {
    let process = Launch::playground().serve();
    let mut conn = raw(&process);
    let mut sent = conn.send(frame(1, 0, 1, GET));
    // a header of 4,000 bytes, never indexed, in a CONTINUATION frame of its own
    let mut field = b"\x10\x01x\x7f\xa1\x1e".to_vec();
    field.resize(6 + 4000, b'y');
    for _ in 0..5000 {
        sent = sent.and_then(|()| conn.send(frame(9, 0, 1, &field)));
    }
    assert!(is_ended(&mut conn, sent), "the connection is still open");
    assert_eq!(process.get("/"), "Hello, world!");
}

/// Returns true if the server has ended the connection.
fn is_ended(conn: &mut Conn, sent: Result<(), Failure>) -> bool {
    if sent.is_err() {
        return true;
    }
    loop {
        match conn.state_after(Duration::from_secs(5)) {
            SocketState::Sent(_) => {}
            SocketState::Open => return false,
            SocketState::Closed | SocketState::Reset => return true,
        }
    }
}
