//! The memory budget (`http.memory`): a limit on the memory that the server holds for all clients together.

use std::net::TcpStream;
use std::time::Duration;

use h2::client::Builder;
use hyper::Request;
use slackwater_tests::addr::Addr;
use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Process;
use slackwater_tests::wait::until;
use tungstenite::{Message, WebSocket};

const LONG: Duration = Duration::from_secs(60);
const EXHAUSTED: &str = "memory budget is exhausted";
const RECOVERED: &str = "memory budget has room again";

/// Long timeouts, so that no connection times out during a test.
const PATIENT: &str = "header_timeout = \"1h\"\nbody_timeout = \"1h\"\nwrite_timeout = \"1h\"\n";

fn with_memory(launch: Launch, memory: &str) -> Process {
    let settings = format!("[http]\nmemory = \"{memory}\"\n{PATIENT}");
    launch.settings(&settings).serve()
}

fn tcp(process: &Process) -> std::net::SocketAddr {
    match process.addr() {
        Addr::Tcp(addr) => addr,
        other @ Addr::Unix(_) => panic!("these clients need a TCP address, not {other}"),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Connects an HTTP/2 client that requests `path` on `streams` streams, receives one byte of each, and then stalls.
fn stalled_client(process: &Process, streams: u32, path: &str) -> Conn {
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE = 1
    sent.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 1]));
    // GET of localhost, by the static table of HPACK (RFC 7541, appendix A), and the path as a literal
    let mut head = b"\x82\x86\x41\x09localhost\x04".to_vec();
    head.push(u8::try_from(path.len()).unwrap());
    head.extend(path.as_bytes());
    for stream in 0..streams {
        sent.extend(frame(1, 5, 2 * stream + 1, &head));
    }
    let mut conn = process.conn();
    conn.send(sent).unwrap();
    conn
}

/// Returns the indexes of the connections that received a response or were closed.
fn answered(conns: &[Conn]) -> Vec<usize> {
    let is_answered = |conn: &Conn| conn.state() != SocketState::Open;
    (0..conns.len())
        .filter(|number| is_answered(&conns[*number]))
        .collect()
}

/// Waits until resident memory no longer grows, and returns it in KiB.
fn settled_rss(process: &Process) -> u64 {
    let mut last = 0;
    until(LONG, "memory no longer grows", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = process.proc().rss_kib();
        let is_settled = now <= last + 200;
        last = now;
        is_settled.then_some(now)
    })
}

#[test]
fn memory_held_for_stalled_http_2_clients_stays_within_the_budget() {
    const CONNECTIONS: u64 = 20;
    const BUDGET_KIB: u64 = 8 << 10;
    /// The buffers of the handlers: 8 KiB for each stream, which itself takes 8 KiB from the budget.
    const HANDLERS_KIB: u64 = BUDGET_KIB;
    /// Uncounted memory of a connection: four guaranteed streams, a guaranteed piece, and responses 503.
    const CONNECTION_KIB: u64 = 512;
    let process = with_memory(Launch::playground(), "8MiB");
    let before = process.proc().rss_kib();
    let stalled: Vec<_> = (0..CONNECTIONS)
        .map(|_| stalled_client(&process, 128, "/bytes/100000000"))
        .collect();
    process.wait_for_log(0, EXHAUSTED);
    let grown = settled_rss(&process) - before;
    let bound = BUDGET_KIB + HANDLERS_KIB + CONNECTIONS * CONNECTION_KIB;
    assert!(
        grown <= bound,
        "memory grew by {grown} KiB, more than {bound} KiB"
    );

    assert_eq!(process.get("/"), "Hello, world!");
    assert_eq!(process.get("/bytes/300000").len(), 300_000);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(tcp(&process)).await.unwrap();
        // this connection gets only its guaranteed share, and receives two bodies, one after the other
        let (requests, connection) = Builder::new()
            .handshake::<_, bytes::Bytes>(stream)
            .await
            .unwrap();
        tokio::spawn(connection);
        for _ in 0..2 {
            let request = Request::get("http://localhost/bytes/300000")
                .body(())
                .unwrap();
            let mut requests = requests.clone().ready().await.unwrap();
            let answer = requests.send_request(request, true).unwrap().0;
            let mut body = answer.await.unwrap().into_body();
            let mut length = 0;
            while let Some(piece) = body.data().await {
                let piece = piece.unwrap().len();
                body.flow_control().release_capacity(piece).unwrap();
                length += piece;
            }
            assert_eq!(length, 300_000);
        }
    });
    assert_eq!(process.log().matches(EXHAUSTED).count(), 1);
    drop(stalled);
    process.wait_for_log(0, RECOVERED);
}

#[test]
fn short_responses_to_stalled_clients_are_counted() {
    let process = with_memory(Launch::playground(), "2MiB");
    let before = process.proc().rss_kib();
    let stalled: Vec<_> = (0..10)
        .map(|_| stalled_client(&process, 128, "/bytes/60000"))
        .collect();
    process.wait_for_log(0, EXHAUSTED);
    let grown = settled_rss(&process) - before;
    let bound = 2 * (2 << 10) + 10 * 512;
    assert!(
        grown <= bound,
        "memory grew by {grown} KiB, more than {bound} KiB"
    );
    drop(stalled);
    process.wait_for_log(0, RECOVERED);
}

#[test]
fn a_stalled_connection_gets_no_new_streams_while_the_budget_is_exhausted() {
    let process = with_memory(Launch::playground(), "1MiB");
    let stalled: Vec<_> = (0..4)
        .map(|_| stalled_client(&process, 100, "/bytes/1000000"))
        .collect();
    process.wait_for_log(0, EXHAUSTED);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(tcp(&process)).await.unwrap();
        let (requests, connection) = Builder::new()
            .initial_window_size(1)
            .handshake::<_, bytes::Bytes>(stream)
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = || async {
            let request = Request::get("http://localhost/bytes/1000000")
                .body(())
                .unwrap();
            let mut requests = requests.clone().ready().await.unwrap();
            requests.send_request(request, true).unwrap().0.await
        };
        let mut first = request().await.unwrap().into_body();
        assert_eq!(first.data().await.unwrap().unwrap().len(), 1);
        assert_eq!(request().await.unwrap().status(), 503);
    });
    drop(stalled);
    let line = process.wait_for_log(0, RECOVERED);
    assert!(!line.contains("refused meanwhile: 0"), "{line}");
}

#[test]
fn a_stalled_client_is_disconnected_after_the_write_timeout_and_its_memory_is_returned() {
    let process = Launch::playground()
        .settings("[http]\nmemory = \"1MiB\"\nwrite_timeout = \"500ms\"\n")
        .serve();
    let _stalled: Vec<_> = (0..4)
        .map(|_| stalled_client(&process, 128, "/bytes/1000000"))
        .collect();
    process.wait_for_log(0, EXHAUSTED);
    process.wait_for_log(0, RECOVERED);
}

#[test]
fn websocket_messages_past_the_budget_are_closed_with_1013() {
    let process = with_memory(Launch::playground(), "1MiB");
    let open = || {
        let stream = TcpStream::connect(tcp(&process)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let url = format!("ws://{}/ws", tcp(&process));
        tungstenite::client(url, stream).unwrap().0
    };
    // 400,000 bytes of a message of 1 MiB, with a mask of zeros
    let begin = |client: &mut WebSocket<TcpStream>| {
        let mut bytes = b"\x82\xff\0\0\0\0\0\x10\0\0\0\0\0\0".to_vec();
        bytes.resize(bytes.len() + 400_000, b'x');
        std::io::Write::write_all(client.get_mut(), &bytes)
    };
    let mut clients: Vec<_> = (0..3).map(|_| open()).collect();
    let mut echo = open();
    for client in &mut clients {
        // writing fails if the server has already refused the message
        let _ = begin(client);
        client.get_mut().set_nonblocking(true).unwrap();
    }
    let code = until(LONG, "one is refused", || {
        clients.iter_mut().find_map(|client| match client.read() {
            Ok(Message::Close(Some(close))) => Some(u16::from(close.code)),
            _ => None,
        })
    });
    assert_eq!(code, 1013);
    process.wait_for_log(0, EXHAUSTED);
    echo.send("small".into()).unwrap();
    assert_eq!(echo.read().unwrap(), Message::from("small"));
    drop(clients);
    process.wait_for_log(0, RECOVERED);
}

#[test]
fn collected_bodies_past_the_budget_get_503() {
    let process = with_memory(Launch::fixture(), "1MiB");
    let post = |sent: usize| {
        let mut conn = process.conn();
        let head = "POST /typed/bytes HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
        conn.send([head.as_bytes(), &vec![b'x'; sent]].concat())
            .unwrap();
        conn
    };
    let mut conns: Vec<_> = (0..3).map(|_| post(400_000)).collect();
    let number = until(LONG, "one is refused", || answered(&conns).pop());
    let answer = conns[number].answer().unwrap();
    assert_eq!((answer.status, answer.closes()), (503, true));
    process.wait_for_log(0, EXHAUSTED);
    let mut small = process.conn();
    small
        .send("POST /typed/bytes HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        .unwrap();
    assert_eq!(small.answer().unwrap().status, 200);
    drop(conns);
    process.wait_for_log(0, RECOVERED);
    let mut whole = post(1_000_000);
    assert_eq!(whole.answer().unwrap().status, 200);
}

#[test]
fn heads_past_the_budget_get_503() {
    let settings = "max_header_bytes = \"120KiB\"\n";
    let process = Launch::playground()
        .settings(&format!("[http]\nmemory = \"1MiB\"\n{settings}{PATIENT}"))
        .serve();
    let mut conns: Vec<_> = (0..12)
        .map(|_| {
            let mut conn = process.conn();
            let long = "x".repeat(100 << 10);
            conn.send(format!("GET / HTTP/1.1\r\nHost: x\r\nA: {long}"))
                .unwrap();
            conn
        })
        .collect();
    let number = until(LONG, "one is refused", || answered(&conns).pop());
    let answer = conns[number].answer().unwrap();
    assert_eq!((answer.status, answer.closes()), (503, true));
    process.wait_for_log(0, EXHAUSTED);
    assert_eq!(process.get("/"), "Hello, world!");
    // the other requests are within the budget and continue
    let refused = answered(&conns);
    for (number, conn) in conns.iter_mut().enumerate() {
        if !refused.contains(&number) && conn.send("\r\n\r\n").is_ok() {
            assert!(matches!(conn.answer().unwrap().status, 200 | 503));
        }
    }
    process.wait_for_log(0, RECOVERED);
}
