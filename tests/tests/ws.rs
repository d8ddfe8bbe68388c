//! WebSockets with tungstenite as the client: the handshake, messages, limits, and the ways in which a connection ends.

use std::net::TcpStream;
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::process_chain::ProcessChain;
use slackwater_tests::wait::until;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

const LONG: Duration = Duration::from_secs(20);
const SPREAD: &str = "[shutdown]\ngrace = \"20s\"\nclose_spread = \"400ms\"\n";

type Client = WebSocket<TcpStream>;

fn open(
    addr: &Addr,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Client, Option<String>), u16> {
    let Addr::Tcp(addr) = addr else {
        panic!("{addr} is not a TCP address")
    };
    let stream = TcpStream::connect_timeout(addr, LONG).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut request = format!("ws://{addr}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match tungstenite::client(request, stream) {
        Ok((client, response)) => {
            let protocol = response.headers().get("sec-websocket-protocol");
            Ok((
                client,
                protocol.map(|protocol| protocol.to_str().unwrap().to_owned()),
            ))
        }
        Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
            Err(response.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

fn client(process: &Process, path: &str) -> Client {
    open(&process.addr(), path, &[])
        .unwrap_or_else(|status| panic!("{path}: {status}"))
        .0
}

fn echo(client: &mut Client, text: &str) {
    client.send(text.into()).unwrap();
    assert_eq!(client.read().unwrap(), Message::from(text));
}

/// Reads up to the close frame and answers it. Returns its code and reason.
fn closed(client: &mut Client) -> (u16, String) {
    loop {
        match client.read() {
            Ok(Message::Close(Some(CloseFrame { code, reason }))) => {
                // the next read sends the answer to the close frame, and then finds the end
                let end = client.read().unwrap_err();
                assert!(matches!(end, Error::ConnectionClosed), "{end}");
                return (code.into(), reason.to_string());
            }
            Ok(Message::Close(None)) => panic!("a close without a code"),
            Ok(_) => {}
            Err(error) => panic!("no close: {error}"),
        }
    }
}

/// Returns a handshake with these header lines.
fn handshake(lines: &[&str]) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n",
        lines.join("\r\n")
    )
}

/// The header lines of a valid handshake.
const GOOD: [&str; 4] = [
    "Connection: keep-alive, Upgrade",
    "Upgrade: WebSocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

#[test]
fn an_echo_returns_messages_unchanged_whole_and_in_fragments() {
    let process = Launch::playground().serve();
    let mut client = client(&process, "/ws");
    echo(&mut client, "Grüße");
    echo(&mut client, &"x".repeat(1 << 20));
    let bytes: Vec<u8> = (0..=255).collect();
    client.send(Message::from(bytes.clone())).unwrap();
    assert_eq!(client.read().unwrap(), Message::from(bytes));
    let fragment = |text: &str, code, last| {
        Message::Frame(Frame::message(text.to_owned(), OpCode::Data(code), last))
    };
    client.send(fragment("one ", Data::Text, false)).unwrap();
    client.send(Message::Ping("between".into())).unwrap();
    client
        .send(fragment("two ", Data::Continue, false))
        .unwrap();
    client
        .send(fragment("three", Data::Continue, true))
        .unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong("between".into()));
    assert_eq!(client.read().unwrap(), Message::from("one two three"));
    client
        .close(Some(CloseFrame {
            code: CloseCode::Library(4000),
            reason: "enough".into(),
        }))
        .unwrap();
    assert_eq!(closed(&mut client), (4000, "enough".into()));
}

#[test]
fn the_accept_key_is_that_of_the_example_in_rfc_6455() {
    let process = Launch::playground().serve();
    let mut conn = process.conn();
    conn.send(handshake(&GOOD)).unwrap();
    let head = conn.head().unwrap();
    assert_eq!(head.status, 101);
    assert_eq!(
        head.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert_eq!(
        head.header("connection")
            .map(str::to_ascii_lowercase)
            .as_deref(),
        Some("upgrade")
    );
}

#[test]
fn an_invalid_handshake_is_refused_and_426_names_the_supported_version() {
    let process = Launch::playground().serve();
    let [connection, upgrade, version, key] = GOOD;
    let cases: [(&[&str], u16); 11] = [
        (&[], 426),
        (&[connection, version, key], 426),
        (&[upgrade, version, key], 426),
        (&["Connection: close", upgrade, version, key], 426),
        (&[connection, "Upgrade: h2c", version, key], 426),
        (&[connection, upgrade, key], 426),
        (&[connection, upgrade, "Sec-WebSocket-Version: 8", key], 426),
        (&[connection, upgrade, version], 400),
        (
            &[connection, upgrade, version, "Sec-WebSocket-Key: c2hvcnQ="],
            400,
        ),
        (
            &[
                connection,
                upgrade,
                version,
                key,
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            ],
            400,
        ),
        (
            &[
                connection,
                upgrade,
                version,
                key,
                "Origin: https://evil.example",
            ],
            403,
        ),
    ];
    for (lines, status) in cases {
        let mut conn = process.conn();
        conn.send(handshake(lines)).unwrap();
        let answer = conn.answer().unwrap();
        assert_eq!(answer.status, status, "{lines:?}: {answer:?}");
        if status == 426 {
            assert_eq!(answer.header("upgrade"), Some("websocket"), "{answer:?}");
            assert_eq!(
                answer.header("sec-websocket-version"),
                Some("13"),
                "{answer:?}"
            );
        }
    }
    let mut old = process.conn();
    old.send(handshake(&GOOD).replace("HTTP/1.1", "HTTP/1.0"))
        .unwrap();
    assert_eq!(old.answer().unwrap().status, 426, "HTTP/1.0 cannot upgrade");
}

#[test]
fn a_subprotocol_is_negotiated_and_only_listed_origins_are_accepted() {
    let process = Launch::fixture().serve();
    let chat = |headers: &[(&'static str, &str)]| open(&process.addr(), "/chat", headers);
    let (mut client, protocol) = chat(&[("sec-websocket-protocol", "chat.v1, chat.v2")]).unwrap();
    assert_eq!(protocol.as_deref(), Some("chat.v2"));
    assert_eq!(client.read().unwrap(), Message::from("chat.v2"));
    assert_eq!(
        closed(&mut client),
        (1000, String::new()),
        "the handler has returned"
    );
    let (mut client, protocol) = chat(&[]).unwrap();
    assert_eq!(
        (client.read().unwrap(), protocol),
        (Message::from("none"), None)
    );
    let own = format!("http://{}", process.addr());
    assert!(chat(&[("origin", &own)]).is_ok());
    assert!(chat(&[("origin", "https://friend.example")]).is_ok());
    assert_eq!(
        chat(&[("origin", "https://evil.example")]).map(|_| ()),
        Err(403)
    );
}

#[test]
fn each_end_of_a_handler_has_its_close_code() {
    let process = Launch::fixture().serve();
    let mut agreed = client(&process, "/farewell");
    assert_eq!(agreed.read().unwrap(), Message::from("bye"));
    assert_eq!(closed(&mut agreed), (4001, "as agreed".into()));
    assert_eq!(closed(&mut client(&process, "/ws-fails")).0, 1011);
    assert_eq!(closed(&mut client(&process, "/ws-panics")).0, 1011);
    assert!(
        process.log().contains("fails as configured")
            && process.log().contains("panics as configured")
    );
    assert!(!process.get("/pid").is_empty(), "the process still serves");
}

#[test]
fn a_connection_with_an_invalid_frame_is_closed_with_the_matching_code() {
    let process = Launch::playground()
        .settings("[http]\nbody_limit = \"1KiB\"\n")
        .serve();
    let mut long = client(&process, "/ws");
    echo(&mut long, &"x".repeat(1024));
    long.send("x".repeat(1025).into()).unwrap();
    assert_eq!(closed(&mut long).0, 1009);

    let frames: [(&str, &[u8], u16); 6] = [
        ("not masked", b"\x81\x02hi", 1002),
        ("a reserved opcode", b"\x83\x80\0\0\0\0", 1002),
        ("a reserved bit", b"\xc1\x80\0\0\0\0", 1002),
        ("a ping in fragments", b"\x09\x80\0\0\0\0", 1002),
        ("a continuation of nothing", b"\x80\x80\0\0\0\0", 1002),
        ("not UTF-8", b"\x81\x81\0\0\0\0\xff", 1007),
    ];
    for (name, bytes, code) in frames {
        let mut conn = process.conn();
        conn.send(handshake(&GOOD)).unwrap();
        assert_eq!(conn.head().unwrap().status, 101);
        conn.send(bytes).unwrap();
        let SocketState::Sent(frame) = conn.state_after(LONG) else {
            panic!("{name}: no close")
        };
        assert_eq!(frame[0], 0x88, "{name}: {frame:?}");
        assert_eq!(u16::from_be_bytes([frame[2], frame[3]]), code, "{name}");
        assert_eq!(conn.state_after(LONG), SocketState::Closed, "{name}");
    }
    echo(
        &mut client(&process, "/ws"),
        "another connection is not affected",
    );
}

#[test]
fn a_frame_longer_than_the_limit_is_refused_after_its_header() {
    let process = Launch::playground().serve();
    let mut conn = process.conn();
    conn.send(handshake(&GOOD)).unwrap();
    assert_eq!(conn.head().unwrap().status, 101);
    conn.send(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0")
        .unwrap();
    let SocketState::Sent(frame) = conn.state_after(LONG) else {
        panic!("no close")
    };
    assert_eq!(u16::from_be_bytes([frame[2], frame[3]]), 1009);
}

#[test]
fn a_silent_client_is_pinged_and_closed_if_it_does_not_answer() {
    let process = Launch::fixture().serve();
    let mut conn = process.conn();
    conn.send(handshake(&GOOD).replace("/ws", "/pinging"))
        .unwrap();
    assert_eq!(conn.head().unwrap().status, 101);
    assert_eq!(
        conn.state_after(LONG),
        SocketState::Sent(vec![0x89, 0]),
        "a ping"
    );
    assert_eq!(conn.state_after(LONG), SocketState::Closed);
    drop(conn);
    process.wait_for_log(0, "the WebSocket is closed");

    let mut patient = client(&process, "/pinging");
    for _ in 0..3 {
        // the client answers a ping when it reads it
        assert_eq!(patient.read().unwrap(), Message::Ping(Default::default()));
    }
}

#[test]
fn a_client_that_is_sending_a_message_is_not_closed_as_silent() {
    let process = Launch::fixture().serve();
    let mut conn = process.conn();
    conn.send(handshake(&GOOD).replace("/ws", "/pinging"))
        .unwrap();
    assert_eq!(conn.head().unwrap().status, 101);
    // 40 bytes with a mask of zeros, sent for longer than the time in which two pings stay unanswered
    conn.send([0x82, 0x80 | 40, 0, 0, 0, 0]).unwrap();
    for _ in 0..40 {
        conn.send([7]).unwrap();
        assert_eq!(
            conn.state_after(Duration::from_millis(120)),
            SocketState::Open
        );
    }
}

#[test]
fn a_client_that_reads_nothing_is_closed() {
    let settings = "[http]\nwrite_timeout = \"500ms\"\n";
    let process = Launch::playground().settings(settings).serve();
    let fds = process.proc().open_fds();
    let mut client = client(&process, "/ws");
    client.get_mut().set_write_timeout(Some(LONG)).unwrap();
    let mut sent = 0;
    while client.send("x".repeat(1 << 16).into()).is_ok() {
        sent += 1;
        assert!(
            sent < 10_000,
            "the server reads messages although it cannot send the echoes"
        );
    }
    until(LONG, "the server has closed the descriptor", || {
        (process.proc().open_fds() <= fds).then_some(())
    });
}

#[test]
fn a_stop_sends_every_client_a_close_frame_and_waits_for_the_answer() {
    let mut process = Launch::playground().settings(SPREAD).serve();
    let mut clients: Vec<_> = (0..8).map(|_| client(&process, "/ws")).collect();
    clients.iter_mut().for_each(|client| echo(client, "before"));
    process.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(closed(client).0, 1012);
    }
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(
        !process.log().contains("closed before its end"),
        "{}",
        process.log()
    );
}

#[test]
fn a_client_that_does_not_answer_the_close_frame_is_cut_and_logged() {
    let settings = "[shutdown]\nclose_spread = \"0s\"\nkeepalive_grace = \"50ms\"\ngrace = \"500ms\"\nforce_after = \"200ms\"\n";
    let mut process = Launch::playground().settings(settings).serve();
    let mut conn = process.conn();
    conn.send(handshake(&GOOD)).unwrap();
    assert_eq!(conn.head().unwrap().status, 101);
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(
        process.log().contains("GET /ws"),
        "the log names the request of the connection that was cut:\n{}",
        process.log()
    );
    assert!(matches!(conn.state_after(LONG), SocketState::Sent(frame) if frame[0] == 0x88));
}

#[test]
fn a_reload_closes_connections_so_that_clients_reconnect_to_the_new_generation() {
    let process = Launch::playground()
        .settings(&format!("{SPREAD}[log]\nlevel = \"debug\"\n"))
        .serve();
    let mut old = client(&process, "/ws");
    echo(&mut old, "before");
    let mark = process.mark();
    process.reload();
    echo(&mut client(&process, "/ws"), "after");
    assert_eq!(closed(&mut old).0, 1012);
    process.wait_for_log(mark, "has ended after");
}

#[test]
fn an_upgrade_closes_connections_so_that_clients_reconnect_to_the_new_process() {
    let settings = format!("{SPREAD}[upgrade]\nrollback_window = \"300ms\"\n");
    let mut chain = ProcessChain::serve(&Launch::playground().settings(&settings));
    let old = chain.newest();
    let mut before = client(&chain, "/ws");
    let new = chain.upgrade();
    let mut after = client(&chain, "/ws");
    echo(&mut after, "new");
    assert_eq!(closed(&mut before).0, 1012);
    chain.wait_gone(old, LONG);
    echo(&mut after, "still there");
    assert_eq!(chain.newest(), new);
}

#[test]
fn a_stop_closes_a_connection_whose_handler_ignores_the_drain() {
    let mut process = Launch::fixture()
        .settings("[shutdown]\nclose_spread = \"0s\"\n")
        .serve();
    let mut deaf = client(&process, "/ignores-close");
    deaf.send(Message::Ping("hello?".into())).unwrap();
    assert_eq!(deaf.read().unwrap(), Message::Pong("hello?".into()));
    process.signal(Signal::TERM);
    assert_eq!(closed(&mut deaf).0, 1012);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}

#[test]
fn bytes_that_arrive_together_with_the_handshake_are_not_lost() {
    let process = Launch::playground().serve();
    let mut conn: Conn = process.conn();
    let mut bytes = handshake(&GOOD).into_bytes();
    bytes.extend(b"\x81\x82\0\0\0\0hi");
    conn.send(&bytes).unwrap();
    assert_eq!(conn.head().unwrap().status, 101);
    assert_eq!(
        conn.state_after(LONG),
        SocketState::Sent(b"\x81\x02hi".to_vec())
    );
}

#[test]
fn the_last_bytes_of_a_tunnel_reach_a_client_that_is_still_sending() {
    let process = Launch::fixture().serve();
    for round in 0..20 {
        let mut conn = process.conn();
        let request = "GET /last-words HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: words\r\n\r\n";
        conn.send(request).unwrap();
        conn.send(vec![b'?'; 64 << 10]).unwrap();
        let mut sender = conn.try_clone().unwrap();
        let sending = std::thread::spawn(move || while sender.send([b'?'; 4096]).is_ok() {});
        assert_eq!(conn.head().unwrap().status, 101);
        let read = conn.discard(2 << 20);
        assert_eq!(read, Ok(()), "round {round}");
        assert_eq!(conn.state_after(LONG), SocketState::Closed, "round {round}");
        conn.half_close().unwrap();
        sending.join().unwrap();
    }
}
