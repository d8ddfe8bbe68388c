//! Upgrades to programs of other make: the sockets travel, connections drain, and nobody is refused.

use std::path::Path;

use rustix::net::{
    recv, send, socketpair, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
};
use slackwater_tests::idle::{Before, Idle};
use slackwater_tests::launch::Launch;
use slackwater_tests::lineage::Lineage;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::process::Signal;
use slackwater_tests::program;
use slackwater_tests::said;
use slackwater_tests::wait::until;

use super::LONG;
use crate::help::{held_socket, pid_of_server};

fn settings(handshake: &str, exec: &Path) -> String {
    let exec = exec.display();
    format!(
        "[upgrade]\nhandshake = \"{handshake}\"\nexec = \"{exec}\"\nready_timeout = \"5s\"\n\
         [shutdown]\nkeepalive_grace = \"5s\"\n"
    )
}

/// Upgrades to the stranger under load; the old process ends by itself.
fn is_upgraded_to(handshake: &str, argument: &str) {
    // the program is started with the arguments of the one before, which takes no others than its own
    let launch = Launch::playground().settings(&settings(handshake, &stranger_with(argument)));
    let mut lineage = Lineage::serve(&launch);
    let (old, mark) = (lineage.newest(), lineage.mark());
    let idle = Idle::open(&lineage.addr(), 20, Before::OneRequest);
    let mut in_flight = lineage.conn();
    in_flight.get("/sleep/1500").unwrap();
    let load = Load::on(&lineage.addr())
        .clients(4, Pattern::KeepAlive)
        .clients(2, Pattern::NewConnection)
        .start();
    load.wait_for(50, LONG);
    let new = lineage.begin();
    lineage.wait_for_log(mark, said::LEAVING);
    assert_eq!(in_flight.answer().unwrap().text(), "slept");
    lineage.gone(old, LONG);
    lineage.is_now(new);
    load.wait_for(50, LONG);
    let tally = load.stop();
    tally.assert_flawless();
    assert!(
        tally.polite_closes() > 0,
        "who was connected is told so in an answer: {tally}"
    );
    assert_eq!(idle.fates().closed, 20, "and who was silent is let go");
    assert_eq!(lineage.get("/"), "I am a stranger");
    assert_eq!(pid_of_server(&lineage), new);
}

/// A script that starts the stranger in its place, with an argument of its own.
fn stranger_with(argument: &str) -> std::path::PathBuf {
    let path = program::target_dir().join(format!("stranger-{argument}-{}", std::process::id()));
    program::script(
        &path,
        format!(
            "#!/bin/sh\nexec {} {argument}\n",
            program::stranger().display()
        ),
    );
    path
}

#[test]
fn a_program_that_says_nothing_is_upgraded_to() {
    is_upgraded_to("none", "silently");
}

#[test]
fn a_program_that_says_ready_is_upgraded_to() {
    is_upgraded_to("notify", "ready");
}

#[test]
fn a_program_that_never_says_ready_is_ended_and_the_old_one_serves_on() {
    let launch = Launch::playground().settings(&settings("notify", &stranger_with("mute")));
    let mut lineage = Lineage::serve(&launch);
    let (old, mark) = (lineage.newest(), lineage.mark());
    let new = lineage.begin();
    let line = lineage.wait_for_log(mark, "upgrade.ready_timeout");
    assert!(line.contains("READY=1"), "{line}");
    lineage.wait_for_log(mark, said::UPGRADE_FAILED);
    lineage.gone(new, LONG);
    assert_eq!(pid_of_server(&lineage), old);
}

#[test]
fn a_program_that_speaks_another_version_of_the_handover_is_upgraded_to() {
    is_upgraded_to("slackwater", "later");
}

#[test]
fn a_program_that_speaks_no_handover_where_one_is_expected_is_ended() {
    let settings = settings("slackwater", &stranger_with("deaf"))
        .replace("ready_timeout = \"5s\"", "ready_timeout = \"1s\"");
    let mut lineage = Lineage::serve(&Launch::playground().settings(&settings));
    let (old, mark) = (lineage.newest(), lineage.mark());
    let new = lineage.begin();
    let line = lineage.wait_for_log(mark, "upgrade.ready_timeout");
    assert!(
        line.contains("upgrade.handshake"),
        "it says what may be meant: {line}"
    );
    lineage.wait_for_log(mark, said::UPGRADE_FAILED);
    lineage.gone(new, LONG);
    assert_eq!(pid_of_server(&lineage), old);
    assert_eq!(lineage.alive(), [old]);
}

#[test]
fn an_old_process_that_speaks_another_version_of_the_handover_is_taken_over_from() {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let (listener, addr) = held_socket();
    let launch = Launch::playground().whole_settings("");
    let mut process = launch
        .socket("http", &listener)
        .socket("slackwater-handover", &theirs)
        .start();
    drop(theirs);
    let greeting = [&b"slackwtr"[..], &999_u16.to_le_bytes(), &[0; 4], &[1; 4]].concat();
    send(&ours, &greeting, SendFlags::NOSIGNAL).unwrap();
    process.ready();
    assert_eq!(process.addr(), addr);
    process.wait_for_log(0, "version 999");
    // the old process learns by the end of the channel that it may go
    let mut buffer = [0; 256];
    let ended = || loop {
        match recv(&ours, &mut buffer[..], RecvFlags::empty()) {
            Ok((0, _)) => return Some(()),
            Ok(_) => {}
            Err(_) => return None,
        }
    };
    until(LONG, "the channel is closed", ended);
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0));
}
