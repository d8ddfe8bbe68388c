//! Listening sockets: inherited or bound, several at once, and never taken from another process.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Signal;
use slackwater_tests::wait::until;

use crate::help::{held_socket, ms};

const LONG: Duration = Duration::from_secs(30);
const QUICK: &str = "[shutdown]\nkeepalive_grace = \"50ms\"\n";

#[test]
fn an_inherited_socket_replaces_the_configured_address() {
    let (listener, addr) = held_socket();
    let process = Launch::playground().socket("web", &listener).serve();
    assert_eq!(process.addresses(), std::slice::from_ref(&addr));
    assert_eq!(
        Conn::open(&addr).unwrap().fetch("/").unwrap().text(),
        "Hello, world!"
    );
    assert!(
        process.log().contains("127.0.0.1:0"),
        "the log names the address that was not bound:\n{}",
        process.log()
    );
}

#[test]
fn an_inherited_socket_without_settings_is_served() {
    let (listener, addr) = held_socket();
    let _process = Launch::playground()
        .no_settings()
        .socket("", &listener)
        .serve();
    assert_eq!(
        Conn::open(&addr).unwrap().fetch("/").unwrap().text(),
        "Hello, world!"
    );
}

#[test]
fn connections_in_the_accept_queue_before_the_start_are_answered() {
    let (listener, addr) = held_socket();
    let mut waiting: Vec<Conn> = (0..50).map(|_| Conn::open(&addr).unwrap()).collect();
    waiting.iter_mut().for_each(|conn| conn.get("/").unwrap());
    let _process = Launch::playground().socket("web", &listener).start();
    for conn in &mut waiting {
        assert_eq!(conn.answer().unwrap().text(), "Hello, world!");
    }
}

#[test]
fn a_process_lengthens_the_backlog_of_an_inherited_socket() {
    let (listener, addr) = held_socket();
    // systemfd passes sockets with a backlog of 1
    rustix::net::listen(&listener, 1).unwrap();
    let process = Launch::playground().socket("web", &listener).serve();
    process.signal(Signal::STOP);
    let mut waiting: Vec<Conn> = (0..100)
        .map(|_| Conn::open_patient(&addr, LONG).unwrap())
        .collect();
    process.signal(Signal::CONT);
    for conn in &mut waiting {
        assert_eq!(conn.fetch("/").unwrap().text(), "Hello, world!");
    }
}

#[test]
fn an_inherited_socket_in_blocking_mode_is_served() {
    let (listener, addr) = held_socket();
    listener.set_nonblocking(false).unwrap();
    let _process = Launch::playground().socket("web", &listener).serve();
    for _ in 0..20 {
        assert_eq!(
            Conn::open(&addr).unwrap().fetch("/").unwrap().text(),
            "Hello, world!"
        );
    }
}

#[test]
fn the_setting_listen_selects_inherited_sockets_by_name() {
    let ((web, web_addr), (admin, admin_addr)) = (held_socket(), held_socket());
    let launch = Launch::playground().whole_settings("listen = \"fd:admin\"\n");
    let process = launch.socket("web", &web).socket("admin", &admin).serve();
    assert_eq!(process.addresses(), [admin_addr]);
    assert!(
        process.log().contains("web"),
        "the log names the socket that is not served:\n{}",
        process.log()
    );
    // the socket is not closed: a new connection waits in its accept queue
    assert!(Conn::open(&web_addr).is_ok());
}

#[test]
fn a_start_with_the_name_of_a_missing_socket_fails() {
    let (web, _) = held_socket();
    let launch = Launch::playground().whole_settings("listen = \"fd:nope\"\n");
    let finished = launch.socket("web", &web).run(LONG);
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    let output = finished.stdout + &finished.stderr;
    assert!(
        output.contains("nope") && output.contains("listen"),
        "{output}"
    );
}

#[test]
fn unix_sockets_are_inherited_too() {
    let launch = Launch::playground();
    let path = launch.dir().path().join("held.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut process = launch.settings(QUICK).socket("web", &listener).serve();
    assert_eq!(
        Conn::open(&Addr::Unix(path.clone()))
            .unwrap()
            .fetch("/")
            .unwrap()
            .text(),
        "Hello, world!"
    );
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(
        path.exists(),
        "the process does not remove a path that it has not bound"
    );
}

#[test]
fn several_addresses_are_served_at_once() {
    let v6 = TcpListener::bind("[::1]:0").is_ok();
    let sixth = if v6 { ", \"[::1]:0\"" } else { "" };
    let listen =
        format!("listen = [\"127.0.0.1:0\", \"127.0.0.2:0\", \"unix:web.sock\"{sixth}]\n{QUICK}");
    let mut process = Launch::playground().whole_settings(&listen).serve();
    let path = process.dir().path().join("web.sock");
    let tcp = || {
        process
            .addresses()
            .into_iter()
            .filter(|addr| matches!(addr, Addr::Tcp(_)))
    };
    // the test helper waits only for the first address in the log
    let expected = if v6 { 3 } else { 2 };
    until(LONG, "the log lists all addresses", || {
        (tcp().count() == expected).then_some(())
    });
    let all: Vec<Addr> = tcp().chain([Addr::Unix(path.clone())]).collect();
    for addr in &all {
        assert_eq!(
            Conn::open(addr).unwrap().fetch("/").unwrap().text(),
            "Hello, world!",
            "{addr}"
        );
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(
        !path.exists(),
        "the last owner of the socket removes the path"
    );
}

#[test]
fn the_path_of_a_running_process_is_refused_and_the_path_of_a_dead_one_is_reused() {
    let settings = format!("listen = \"unix:web.sock\"\n{QUICK}");
    let launch = Launch::playground().whole_settings(&settings);
    let path = launch.dir().path().join("web.sock");
    let addr = Addr::Unix(path.clone());
    let mut living = launch.start();
    let up = || {
        Conn::open(&addr)
            .and_then(|mut conn| conn.fetch("/"))
            .ok()
            .map(|answer| answer.text())
    };
    assert_eq!(until(LONG, "the first process serves", up), "Hello, world!");
    let second = launch.run(LONG);
    assert_eq!(second.code(), Some(1), "{second:?}");
    assert!((second.stdout + &second.stderr).contains("web.sock"));
    assert_eq!(
        Conn::open(&addr).unwrap().fetch("/").unwrap().text(),
        "Hello, world!"
    );
    living.signal(Signal::KILL);
    living.wait_exit(LONG);
    assert!(path.exists(), "a killed process leaves its path behind");
    let _third = launch.start();
    assert_eq!(until(LONG, "the third process serves", up), "Hello, world!");
}

#[test]
fn a_file_at_the_path_of_a_unix_socket_is_not_overwritten() {
    let launch = Launch::playground().whole_settings("listen = \"unix:web.sock\"\n");
    launch.dir().write("web.sock", "precious");
    assert_eq!(launch.run(LONG).code(), Some(1));
    assert_eq!(launch.dir().read("web.sock"), "precious");
}

#[test]
fn a_path_that_another_process_has_bound_again_is_not_removed() {
    let settings = format!("listen = \"unix:web.sock\"\n{QUICK}");
    let mut process = Launch::playground().whole_settings(&settings).start();
    let path = process.dir().path().join("web.sock");
    let addr = Addr::Unix(path.clone());
    until(LONG, "the process serves", || Conn::open(&addr).ok());
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(
        path.exists(),
        "the path has another inode than the socket of the process"
    );
}

#[test]
fn a_start_with_a_taken_port_fails_and_names_the_setting() {
    let (_theirs, taken) = held_socket();
    let finished = Launch::playground()
        .whole_settings(&format!("listen = \"{taken}\"\n"))
        .run(LONG);
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    let output = finished.stdout + &finished.stderr;
    assert!(
        output.contains(&taken.to_string()) && output.contains("listen"),
        "{output}"
    );
}

#[test]
fn an_inherited_descriptor_that_is_not_a_stream_listener_is_logged() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    let launch = Launch::playground()
        .socket("datagrams", &udp)
        .socket("file", &file);
    let process = launch.serve();
    for name in ["datagrams", "file"] {
        assert!(process.log().contains(name), "{name}:\n{}", process.log());
    }
    assert_eq!(
        process.get("/"),
        "Hello, world!",
        "the configured address is served"
    );
}

#[test]
fn a_start_with_a_configured_descriptor_that_is_not_a_stream_listener_fails() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let finished = Launch::playground()
        .whole_settings("listen = \"fd:web\"\n")
        .socket("web", &udp)
        .run(LONG);
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    let output = finished.stdout + &finished.stderr;
    assert!(
        output.contains("web") && output.contains("listen") && output.contains("datagram"),
        "{output}"
    );
}

#[test]
fn a_connection_past_the_limit_waits_until_another_closes() {
    let settings = "[http]\nmax_connections = 4\n";
    let process = Launch::playground().settings(settings).serve();
    let mut first: Vec<Conn> = (0..4).map(|_| process.conn()).collect();
    first
        .iter_mut()
        .for_each(|conn| drop(conn.fetch("/").unwrap()));
    let mut fifth = process.conn();
    fifth.get("/").unwrap();
    assert_eq!(
        fifth.state_after(ms(300)),
        SocketState::Open,
        "the fifth waits"
    );
    first.pop();
    assert_eq!(
        fifth.answer().unwrap().text(),
        "Hello, world!",
        "after another connection has closed"
    );
}
