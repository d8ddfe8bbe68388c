//! Listening sockets in upgrades: they keep their paths and follow the settings, and the last owner removes a path.

use std::net::TcpListener;
use std::path::Path;
use std::thread;

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::log_texts;
use slackwater_tests::proc::Proc;
use slackwater_tests::process::Signal;
use slackwater_tests::process_chain::{signal_to, ProcessChain};
use slackwater_tests::wait::until;

use super::{LONG, SOON, WINDOW};
use crate::help::{held_socket, ms, pid_of_server, pid_on};

#[test]
fn a_unix_socket_is_handed_over_and_keeps_its_path() {
    let settings = format!("listen = [\"127.0.0.1:0\", \"unix:web.sock\"]\n{WINDOW}");
    let mut chain = ProcessChain::serve(&Launch::playground().whole_settings(&settings));
    let path = chain.dir().path().join("web.sock");
    let addr = Addr::Unix(path.clone());
    let mut kept = Conn::open(&addr).unwrap();
    assert_eq!(pid_on(&mut kept), chain.newest());
    for _ in 0..2 {
        let old = chain.newest();
        let new = chain.upgrade();
        assert_eq!(pid_on(&mut kept), new);
        chain.wait_gone(old, SOON);
        assert_eq!(pid_on(&mut Conn::open(&addr).unwrap()), new);
    }
    chain.signal(Signal::TERM);
    chain.wait_gone(chain.newest(), LONG);
    assert!(!path.exists(), "the last owner removes the path");
}

#[test]
fn an_upgrade_binds_added_listeners_and_closes_removed_ones() {
    let settings = format!("listen = [\"127.0.0.1:0\", \"unix:old.sock\"]\n{WINDOW}");
    let mut chain = ProcessChain::serve(&Launch::playground().whole_settings(&settings));
    let (old, new) = (
        chain.dir().path().join("old.sock"),
        chain.dir().path().join("new.sock"),
    );
    assert!(old.exists());
    let (first, mark) = (chain.newest(), chain.mark());
    chain.whole_settings(&format!(
        "listen = [\"127.0.0.1:0\", \"unix:new.sock\"]\n{WINDOW}"
    ));
    let pid = chain.upgrade();
    chain.wait_gone(first, SOON);
    assert_eq!(pid_on(&mut Conn::open(&Addr::Unix(new)).unwrap()), pid);
    assert_eq!(
        pid_of_server(&chain),
        pid,
        "the new process serves the address that is in both settings:\n{}",
        chain.log_since(mark)
    );
    until(LONG, "the path of the removed listener is removed", || {
        (!old.exists()).then_some(())
    });
}

/// Returns the pid of the process that answers on a Unix socket.
fn pid_behind(path: &Path) -> u32 {
    let conn = Conn::open(&Addr::Unix(path.to_owned()));
    pid_on(&mut conn.unwrap_or_else(|failure| panic!("{}: {failure:?}", path.display())))
}

fn with_unix_socket(window: &str) -> ProcessChain {
    let settings = format!(
        "listen = [\"127.0.0.1:0\", \"unix:web.sock\"]\n[upgrade]\nrollback_window = \"{window}\"\n\
         [shutdown]\nkeepalive_grace = \"50ms\"\n"
    );
    ProcessChain::serve(&Launch::playground().whole_settings(&settings))
}

#[test]
fn the_old_process_keeps_and_removes_the_path_after_a_rollback() {
    let mut chain = with_unix_socket("60s");
    let (path, old) = (chain.dir().path().join("web.sock"), chain.newest());
    let mark = chain.mark();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    until(LONG, "the new process serves", || {
        (pid_behind(&path) == new).then_some(())
    });
    signal_to(new, Signal::KILL);
    chain.wait_for_log(mark, log_texts::ROLLED_BACK);
    assert_eq!(pid_behind(&path), old);
    chain.signal(Signal::TERM);
    chain.wait_gone(old, LONG);
    assert!(!path.exists(), "the old process is the last owner");
}

#[test]
fn the_path_is_removed_when_both_processes_stop_in_the_rollback_window() {
    let mut chain = with_unix_socket("60s");
    let (path, old) = (chain.dir().path().join("web.sock"), chain.newest());
    let mark = chain.mark();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    signal_to(new, Signal::TERM);
    chain.wait_gone(new, LONG);
    chain.wait_gone(old, LONG);
    assert!(!path.exists());
}

#[test]
fn the_new_process_owns_the_path_after_the_old_one_was_killed() {
    let mut chain = with_unix_socket("60s");
    let (path, old) = (chain.dir().path().join("web.sock"), chain.newest());
    let mark = chain.mark();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    signal_to(old, Signal::KILL);
    chain.wait_gone(old, LONG);
    assert_eq!(pid_behind(&path), new);
    signal_to(new, Signal::TERM);
    chain.wait_gone(new, LONG);
    assert!(!path.exists(), "the new process is the last owner");
}

#[test]
fn the_old_process_keeps_the_path_when_an_upgrade_fails() {
    let mut chain = with_unix_socket("300ms");
    let (path, old) = (chain.dir().path().join("web.sock"), chain.newest());
    let settings = chain.dir().read("slackwater.toml");
    chain.whole_settings(&format!("{settings}[app]\nfail_start = true\n"));
    let mark = chain.mark();
    chain.signal(Signal::USR2);
    chain.wait_for_log(mark, log_texts::UPGRADE_FAILED);
    assert_eq!(pid_behind(&path), old);
    chain.whole_settings(&settings);
    let new = chain.upgrade();
    assert_eq!(pid_behind(&path), new);
}

#[test]
fn an_inherited_socket_is_handed_over_and_not_shut_down() {
    let ((web, web_addr), (admin, admin_addr)) = (held_socket(), held_socket());
    let settings = format!("listen = [\"fd:web\", \"fd:admin\"]\n{WINDOW}");
    let launch = Launch::playground().whole_settings(&settings);
    let mut chain = ProcessChain::serve(&launch.socket("web", &web).socket("admin", &admin));
    for _ in 0..2 {
        let old = chain.newest();
        let new = chain.upgrade();
        chain.wait_gone(old, SOON);
        for addr in [&web_addr, &admin_addr] {
            assert_eq!(pid_on(&mut Conn::open(addr).unwrap()), new, "{addr}");
        }
    }
    chain.signal(Signal::TERM);
    chain.wait_gone(chain.newest(), LONG);
    assert!(
        Conn::open(&web_addr).is_ok(),
        "new connections wait for the next process"
    );
}

#[test]
fn an_upgrade_from_one_address_to_all_on_the_same_port_fails_and_names_the_address() {
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let (old, mark) = (chain.newest(), chain.mark());
    let Addr::Tcp(addr) = chain.addr() else {
        unreachable!("it listens on TCP")
    };
    chain.whole_settings(&format!("listen = \"0.0.0.0:{}\"\n{WINDOW}", addr.port()));
    chain.signal(Signal::USR2);
    let line = chain.wait_for_log(mark, log_texts::UPGRADE_REFUSED);
    assert!(line.contains(&format!("0.0.0.0:{}", addr.port())), "{line}");
    chain.wait_for_log(mark, log_texts::UPGRADE_FAILED);
    assert_eq!(pid_of_server(&chain), old);
    chain.settings(WINDOW);
    chain.upgrade();
}

#[test]
fn an_upgrade_to_an_address_of_another_process_fails_and_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut chain = ProcessChain::serve(&Launch::playground().settings(WINDOW));
    let (old, mark) = (chain.newest(), chain.mark());
    chain.whole_settings(&format!(
        "listen = [\"127.0.0.1:0\", \"{address}\"]\n{WINDOW}"
    ));
    chain.signal(Signal::USR2);
    let line = chain.wait_for_log(mark, log_texts::UPGRADE_REFUSED);
    assert!(line.contains(&address.to_string()), "{line}");
    chain.wait_for_log(mark, log_texts::UPGRADE_FAILED);
    assert_eq!(pid_of_server(&chain), old);
    drop(taken);
    chain.upgrade();
}

#[test]
fn connections_in_the_accept_queue_are_served_after_a_rollback() {
    let chain = with_unix_socket("60s");
    let (old, addr) = (chain.newest(), chain.addr());
    let mark = chain.mark();
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::HANDING_OVER);
    thread::sleep(ms(50));
    signal_to(new, Signal::STOP);
    // wait for all threads, because a thread in accept(2) may still accept one connection
    until(LONG, "the new process is stopped", || {
        Proc(new).is_stopped().then_some(())
    });
    thread::sleep(ms(50));
    let mut waiting: Vec<Conn> = (0..10).map(|_| Conn::open(&addr).unwrap()).collect();
    waiting
        .iter_mut()
        .for_each(|conn| conn.get("/pid").unwrap());
    signal_to(new, Signal::KILL);
    for conn in &mut waiting {
        assert_eq!(conn.answer().unwrap().text(), old.to_string());
    }
}
