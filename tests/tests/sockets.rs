//! Sockets: inherited or bound, several at once, never stolen, never leaked.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::{Conn, Fate};
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Signal;
use slackwater_tests::wait::until;

use crate::help::{held_socket, ms};

const LONG: Duration = Duration::from_secs(30);
const QUICK: &str = "[shutdown]\nkeepalive_grace = \"50ms\"\n";

#[test]
fn an_inherited_socket_stands_in_for_the_configured_one() {
    let (listener, addr) = held_socket();
    let process = Launch::playground().socket("web", &listener).serve();
    assert_eq!(process.addresses(), std::slice::from_ref(&addr));
    assert_eq!(
        Conn::open(&addr).unwrap().ask("/").unwrap().text(),
        "Hello, world!"
    );
    assert!(
        process.log().contains("127.0.0.1:0"),
        "it says what it did not bind:\n{}",
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
        Conn::open(&addr).unwrap().ask("/").unwrap().text(),
        "Hello, world!"
    );
}

#[test]
fn connections_that_waited_before_the_start_are_answered() {
    let (listener, addr) = held_socket();
    let mut waiting: Vec<Conn> = (0..50).map(|_| Conn::open(&addr).unwrap()).collect();
    waiting.iter_mut().for_each(|conn| conn.get("/").unwrap());
    let _process = Launch::playground().socket("web", &listener).start();
    for conn in &mut waiting {
        assert_eq!(conn.answer().unwrap().text(), "Hello, world!");
    }
}

#[test]
fn a_short_backlog_is_made_long() {
    let (listener, addr) = held_socket();
    // what systemfd gives: a queue of one
    rustix::net::listen(&listener, 1).unwrap();
    let process = Launch::playground().socket("web", &listener).serve();
    process.signal(Signal::STOP);
    let mut waiting: Vec<Conn> = (0..100)
        .map(|_| Conn::open_patient(&addr, LONG).unwrap())
        .collect();
    process.signal(Signal::CONT);
    for conn in &mut waiting {
        assert_eq!(conn.ask("/").unwrap().text(), "Hello, world!");
    }
}

#[test]
fn a_socket_that_blocks_is_served_all_the_same() {
    let (listener, addr) = held_socket();
    listener.set_nonblocking(false).unwrap();
    let _process = Launch::playground().socket("web", &listener).serve();
    for _ in 0..20 {
        assert_eq!(
            Conn::open(&addr).unwrap().ask("/").unwrap().text(),
            "Hello, world!"
        );
    }
}

#[test]
fn sockets_are_picked_by_name() {
    let ((web, web_addr), (admin, admin_addr)) = (held_socket(), held_socket());
    let launch = Launch::playground().whole_settings("listen = \"fd:admin\"\n");
    let process = launch.socket("web", &web).socket("admin", &admin).serve();
    assert_eq!(process.addresses(), [admin_addr]);
    assert!(
        process.log().contains("web"),
        "what is not served is named:\n{}",
        process.log()
    );
    // not closed: a connection to it still waits in its queue
    assert!(Conn::open(&web_addr).is_ok());
}

#[test]
fn a_name_that_was_not_inherited_is_refused() {
    let (web, _) = held_socket();
    let launch = Launch::playground().whole_settings("listen = \"fd:nope\"\n");
    let finished = launch.socket("web", &web).run(LONG);
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    let said = finished.stdout + &finished.stderr;
    assert!(said.contains("nope") && said.contains("listen"), "{said}");
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
            .ask("/")
            .unwrap()
            .text(),
        "Hello, world!"
    );
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(path.exists(), "the path belongs to who bound it");
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
    // it is ready by the first, and says the others after it
    let expected = if v6 { 3 } else { 2 };
    until(LONG, "all addresses are said", || {
        (tcp().count() == expected).then_some(())
    });
    let all: Vec<Addr> = tcp().chain([Addr::Unix(path.clone())]).collect();
    for addr in &all {
        assert_eq!(
            Conn::open(addr).unwrap().ask("/").unwrap().text(),
            "Hello, world!",
            "{addr}"
        );
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(!path.exists(), "its last owner removes the path");
}

#[test]
fn the_path_of_a_living_process_is_not_taken_and_that_of_a_dead_one_is() {
    let settings = format!("listen = \"unix:web.sock\"\n{QUICK}");
    let launch = Launch::playground().whole_settings(&settings);
    let path = launch.dir().path().join("web.sock");
    let addr = Addr::Unix(path.clone());
    let mut living = launch.start();
    let up = || {
        Conn::open(&addr)
            .and_then(|mut conn| conn.ask("/"))
            .ok()
            .map(|answer| answer.text())
    };
    assert_eq!(until(LONG, "the first serves", up), "Hello, world!");
    let second = launch.run(LONG);
    assert_eq!(second.code(), Some(1), "{second:?}");
    assert!((second.stdout + &second.stderr).contains("web.sock"));
    assert_eq!(
        Conn::open(&addr).unwrap().ask("/").unwrap().text(),
        "Hello, world!"
    );
    living.signal(Signal::KILL);
    living.wait_exit(LONG);
    assert!(path.exists(), "a killed process leaves its path behind");
    let _third = launch.start();
    assert_eq!(until(LONG, "the third serves", up), "Hello, world!");
}

#[test]
fn a_file_in_the_way_of_a_unix_socket_is_kept() {
    let launch = Launch::playground().whole_settings("listen = \"unix:web.sock\"\n");
    launch.dir().write("web.sock", "precious");
    assert_eq!(launch.run(LONG).code(), Some(1));
    assert_eq!(launch.dir().read("web.sock"), "precious");
}

#[test]
fn a_path_that_was_bound_anew_by_another_is_left_alone() {
    let settings = format!("listen = \"unix:web.sock\"\n{QUICK}");
    let mut process = Launch::playground().whole_settings(&settings).start();
    let path = process.dir().path().join("web.sock");
    let addr = Addr::Unix(path.clone());
    until(LONG, "it serves", || Conn::open(&addr).ok());
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
    assert!(path.exists(), "another inode than the one that it bound");
}

#[test]
fn a_taken_port_is_refused_and_the_setting_named() {
    let (_theirs, taken) = held_socket();
    let finished = Launch::playground()
        .whole_settings(&format!("listen = \"{taken}\"\n"))
        .run(LONG);
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    let said = finished.stdout + &finished.stderr;
    assert!(
        said.contains(&taken.to_string()) && said.contains("listen"),
        "{said}"
    );
}

#[test]
fn a_descriptor_that_is_no_stream_listener_is_named() {
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
        "and what is configured is served"
    );
}

#[test]
fn a_descriptor_that_is_asked_for_and_is_no_stream_listener_is_refused() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let finished = Launch::playground()
        .whole_settings("listen = \"fd:web\"\n")
        .socket("web", &udp)
        .run(LONG);
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    let said = finished.stdout + &finished.stderr;
    assert!(
        said.contains("web") && said.contains("listen") && said.contains("datagram"),
        "{said}"
    );
}

#[test]
fn connections_past_the_limit_wait_their_turn() {
    let settings = "[http]\nmax_connections = 4\n";
    let process = Launch::playground().settings(settings).serve();
    let mut first: Vec<Conn> = (0..4).map(|_| process.conn()).collect();
    first
        .iter_mut()
        .for_each(|conn| drop(conn.ask("/").unwrap()));
    let mut fifth = process.conn();
    fifth.get("/").unwrap();
    assert_eq!(fifth.fate(ms(300)), Fate::KeptOpen, "the fifth waits");
    first.pop();
    assert_eq!(
        fifth.answer().unwrap().text(),
        "Hello, world!",
        "until another has gone"
    );
}
