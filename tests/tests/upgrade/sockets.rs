//! Listening sockets in upgrades: they keep their paths and follow the settings, and the last owner removes a path.

use std::net::TcpListener;
use std::path::Path;
use std::thread;

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::lineage::{signal_to, Lineage};
use slackwater_tests::proc::Proc;
use slackwater_tests::process::Signal;
use slackwater_tests::said;
use slackwater_tests::wait::until;

use super::{LONG, SOON, WINDOW};
use crate::help::{held_socket, ms, pid_of_server, pid_on};

#[test]
fn a_unix_socket_is_handed_over_and_keeps_its_path() {
    let settings = format!("listen = [\"127.0.0.1:0\", \"unix:web.sock\"]\n{WINDOW}");
    let mut lineage = Lineage::serve(&Launch::playground().whole_settings(&settings));
    let path = lineage.dir().path().join("web.sock");
    let addr = Addr::Unix(path.clone());
    let mut kept = Conn::open(&addr).unwrap();
    assert_eq!(pid_on(&mut kept), lineage.newest());
    for _ in 0..2 {
        let old = lineage.newest();
        let new = lineage.upgrade();
        assert_eq!(pid_on(&mut kept), new);
        lineage.gone(old, SOON);
        assert_eq!(pid_on(&mut Conn::open(&addr).unwrap()), new);
    }
    lineage.signal(Signal::TERM);
    lineage.gone(lineage.newest(), LONG);
    assert!(!path.exists(), "the last owner removes the path");
}

#[test]
fn an_upgrade_binds_added_listeners_and_closes_removed_ones() {
    let settings = format!("listen = [\"127.0.0.1:0\", \"unix:old.sock\"]\n{WINDOW}");
    let mut lineage = Lineage::serve(&Launch::playground().whole_settings(&settings));
    let (old, new) = (
        lineage.dir().path().join("old.sock"),
        lineage.dir().path().join("new.sock"),
    );
    assert!(old.exists());
    let (first, mark) = (lineage.newest(), lineage.mark());
    lineage.whole_settings(&format!(
        "listen = [\"127.0.0.1:0\", \"unix:new.sock\"]\n{WINDOW}"
    ));
    let pid = lineage.upgrade();
    lineage.gone(first, SOON);
    assert_eq!(pid_on(&mut Conn::open(&Addr::Unix(new)).unwrap()), pid);
    assert_eq!(
        pid_of_server(&lineage),
        pid,
        "the new process serves the address that is in both settings:\n{}",
        lineage.log_since(mark)
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

fn with_unix_socket(window: &str) -> Lineage {
    let settings = format!(
        "listen = [\"127.0.0.1:0\", \"unix:web.sock\"]\n[upgrade]\nrollback_window = \"{window}\"\n\
         [shutdown]\nkeepalive_grace = \"50ms\"\n"
    );
    Lineage::serve(&Launch::playground().whole_settings(&settings))
}

#[test]
fn the_old_process_keeps_and_removes_the_path_after_a_rollback() {
    let mut lineage = with_unix_socket("60s");
    let (path, old) = (lineage.dir().path().join("web.sock"), lineage.newest());
    let mark = lineage.mark();
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
    until(LONG, "the new process serves", || {
        (pid_behind(&path) == new).then_some(())
    });
    signal_to(new, Signal::KILL);
    lineage.wait_for_log(mark, said::ROLLED_BACK);
    assert_eq!(pid_behind(&path), old);
    lineage.signal(Signal::TERM);
    lineage.gone(old, LONG);
    assert!(!path.exists(), "the old process is the last owner");
}

#[test]
fn the_path_is_removed_when_both_processes_stop_in_the_rollback_window() {
    let mut lineage = with_unix_socket("60s");
    let (path, old) = (lineage.dir().path().join("web.sock"), lineage.newest());
    let mark = lineage.mark();
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
    signal_to(new, Signal::TERM);
    lineage.gone(new, LONG);
    lineage.gone(old, LONG);
    assert!(!path.exists());
}

#[test]
fn the_new_process_owns_the_path_after_the_old_one_was_killed() {
    let mut lineage = with_unix_socket("60s");
    let (path, old) = (lineage.dir().path().join("web.sock"), lineage.newest());
    let mark = lineage.mark();
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
    signal_to(old, Signal::KILL);
    lineage.gone(old, LONG);
    assert_eq!(pid_behind(&path), new);
    signal_to(new, Signal::TERM);
    lineage.gone(new, LONG);
    assert!(!path.exists(), "the new process is the last owner");
}

#[test]
fn the_old_process_keeps_the_path_when_an_upgrade_fails() {
    let mut lineage = with_unix_socket("300ms");
    let (path, old) = (lineage.dir().path().join("web.sock"), lineage.newest());
    let settings = lineage.dir().read("slackwater.toml");
    lineage.whole_settings(&format!("{settings}[app]\nfail_start = true\n"));
    let mark = lineage.mark();
    lineage.signal(Signal::USR2);
    lineage.wait_for_log(mark, said::UPGRADE_FAILED);
    assert_eq!(pid_behind(&path), old);
    lineage.whole_settings(&settings);
    let new = lineage.upgrade();
    assert_eq!(pid_behind(&path), new);
}

#[test]
fn an_inherited_socket_is_handed_over_and_not_shut_down() {
    let ((web, web_addr), (admin, admin_addr)) = (held_socket(), held_socket());
    let settings = format!("listen = [\"fd:web\", \"fd:admin\"]\n{WINDOW}");
    let launch = Launch::playground().whole_settings(&settings);
    let mut lineage = Lineage::serve(&launch.socket("web", &web).socket("admin", &admin));
    for _ in 0..2 {
        let old = lineage.newest();
        let new = lineage.upgrade();
        lineage.gone(old, SOON);
        for addr in [&web_addr, &admin_addr] {
            assert_eq!(pid_on(&mut Conn::open(addr).unwrap()), new, "{addr}");
        }
    }
    lineage.signal(Signal::TERM);
    lineage.gone(lineage.newest(), LONG);
    assert!(
        Conn::open(&web_addr).is_ok(),
        "new connections wait for the next process"
    );
}

#[test]
fn an_upgrade_from_one_address_to_all_on_the_same_port_fails_and_names_the_address() {
    let mut lineage = Lineage::serve(&Launch::playground().settings(WINDOW));
    let (old, mark) = (lineage.newest(), lineage.mark());
    let Addr::Tcp(addr) = lineage.addr() else {
        unreachable!("it listens on TCP")
    };
    lineage.whole_settings(&format!("listen = \"0.0.0.0:{}\"\n{WINDOW}", addr.port()));
    lineage.signal(Signal::USR2);
    let line = lineage.wait_for_log(mark, said::UPGRADE_REFUSED);
    assert!(line.contains(&format!("0.0.0.0:{}", addr.port())), "{line}");
    lineage.wait_for_log(mark, said::UPGRADE_FAILED);
    assert_eq!(pid_of_server(&lineage), old);
    lineage.settings(WINDOW);
    lineage.upgrade();
}

#[test]
fn an_upgrade_to_an_address_of_another_process_fails_and_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut lineage = Lineage::serve(&Launch::playground().settings(WINDOW));
    let (old, mark) = (lineage.newest(), lineage.mark());
    lineage.whole_settings(&format!(
        "listen = [\"127.0.0.1:0\", \"{address}\"]\n{WINDOW}"
    ));
    lineage.signal(Signal::USR2);
    let line = lineage.wait_for_log(mark, said::UPGRADE_REFUSED);
    assert!(line.contains(&address.to_string()), "{line}");
    lineage.wait_for_log(mark, said::UPGRADE_FAILED);
    assert_eq!(pid_of_server(&lineage), old);
    drop(taken);
    lineage.upgrade();
}

#[test]
fn connections_in_the_accept_queue_are_served_after_a_rollback() {
    let lineage = with_unix_socket("60s");
    let (old, addr) = (lineage.newest(), lineage.addr());
    let mark = lineage.mark();
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::HANDING_OVER);
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
