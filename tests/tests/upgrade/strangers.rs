//! Upgrades to programs that are not built with slackwater: the sockets are passed on, connections drain, and no connection
//! is refused.

use std::path::Path;

use rustix::net::{
    recv, send, socketpair, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
};
use slackwater_tests::idle::{History, IdleConnections};
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::log_texts;
use slackwater_tests::process::Signal;
use slackwater_tests::process_chain::ProcessChain;
use slackwater_tests::program;
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

/// Upgrades to the foreign program under load, and checks that the old process exits without a signal.
fn upgrade_succeeds(handshake: &str, argument: &str) {
    // the new program receives the arguments of the old one, so a script passes the argument
    let launch = Launch::playground().settings(&settings(handshake, &stranger_with(argument)));
    let mut chain = ProcessChain::serve(&launch);
    let (old, mark) = (chain.newest(), chain.mark());
    let idle = IdleConnections::open(&chain.addr(), 20, History::OneRequest);
    let mut in_flight = chain.conn();
    in_flight.get("/sleep/1500").unwrap();
    let load = Load::on(&chain.addr())
        .clients(4, Pattern::KeepAlive)
        .clients(2, Pattern::NewConnection)
        .start();
    load.wait_for(50, LONG);
    let new = chain.begin_upgrade();
    chain.wait_for_log(mark, log_texts::DRAINING);
    assert_eq!(in_flight.answer().unwrap().text(), "slept");
    chain.wait_gone(old, LONG);
    chain.set_newest(new);
    load.wait_for(50, LONG);
    let tally = load.stop();
    tally.assert_flawless();
    assert!(
        tally.announced_closes() > 0,
        "connected clients receive Connection: close: {tally}"
    );
    assert_eq!(idle.states().closed, 20, "the idle connections are closed");
    assert_eq!(chain.get("/"), "I am a foreign program");
    assert_eq!(pid_of_server(&chain), new);
}

/// Writes a script that executes the foreign program with an argument.
fn stranger_with(argument: &str) -> std::path::PathBuf {
    let path = program::target_dir().join(format!("stranger-{argument}-{}", std::process::id()));
    program::script(
        &path,
        format!(
            "#!/bin/sh\nexec {} {argument}\n",
            program::foreign().display()
        ),
    );
    path
}

#[test]
fn an_upgrade_to_a_program_without_a_handshake_succeeds() {
    upgrade_succeeds("none", "silently");
}

#[test]
fn an_upgrade_with_notify_succeeds_when_the_new_program_sends_ready() {
    upgrade_succeeds("notify", "ready");
}

#[test]
fn a_new_program_that_never_sends_ready_is_ended_and_the_old_process_keeps_serving() {
    let launch = Launch::playground().settings(&settings("notify", &stranger_with("mute")));
    let mut chain = ProcessChain::serve(&launch);
    let (old, mark) = (chain.newest(), chain.mark());
    let new = chain.begin_upgrade();
    let line = chain.wait_for_log(mark, "upgrade.ready_timeout");
    assert!(line.contains("READY=1"), "{line}");
    chain.wait_for_log(mark, log_texts::UPGRADE_FAILED);
    chain.wait_gone(new, LONG);
    assert_eq!(pid_of_server(&chain), old);
}

#[test]
fn an_upgrade_to_another_version_of_the_handover_protocol_succeeds() {
    upgrade_succeeds("slackwater", "later");
}

#[test]
fn a_new_program_without_the_expected_handover_protocol_is_ended() {
    let settings = settings("slackwater", &stranger_with("deaf"))
        .replace("ready_timeout = \"5s\"", "ready_timeout = \"1s\"");
    let mut chain = ProcessChain::serve(&Launch::playground().settings(&settings));
    let (old, mark) = (chain.newest(), chain.mark());
    let new = chain.begin_upgrade();
    let line = chain.wait_for_log(mark, "upgrade.ready_timeout");
    assert!(
        line.contains("upgrade.handshake"),
        "the log names the setting to change: {line}"
    );
    chain.wait_for_log(mark, log_texts::UPGRADE_FAILED);
    chain.wait_gone(new, LONG);
    assert_eq!(pid_of_server(&chain), old);
    assert_eq!(chain.alive(), [old]);
}

#[test]
fn a_new_process_takes_over_from_another_version_of_the_handover_protocol() {
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
    // the end of the channel is the signal for the old process to exit
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
