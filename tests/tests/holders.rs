//! The socket holders of others: systemfd, systemd-socket-activate, systemd's socket units.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::dir::Dir;
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Signal;
use slackwater_tests::tools::{or_skip, sandboxed_systemd, socket_activate, systemfd};
use slackwater_tests::{program, wait};

const LONG: Duration = Duration::from_secs(30);

/// A port that was free a moment ago: these tools bind by themselves, and cannot say what they got.
fn free_addr() -> Addr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().into()
}

/// A holder that is started with its own arguments and then the playground's path; it binds at `addr`.
fn held_by(holder: &Path, args: &[&str], addr: &Addr) {
    let launch = Launch::program(holder).args(args).args([program::playground()]);
    let mut process = launch.whole_settings("[shutdown]\nkeepalive_grace = \"50ms\"\n").start();
    let ask = || Conn::open(addr).and_then(|mut conn| conn.ask("/")).ok();
    let answer = wait::maybe(LONG, ask).unwrap_or_else(|| panic!("{}", process.log()));
    assert_eq!(answer.text(), "Hello, world!");
    assert_eq!(process.addresses(), std::slice::from_ref(addr), "{}", process.log());
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0), "{}", process.log());
}

#[test]
fn systemfd_passes_its_socket_on() {
    let Some(systemfd) = or_skip(systemfd()) else { return };
    let addr = free_addr();
    held_by(&systemfd, &["--no-pid", "-s", &format!("http::{addr}"), "--"], &addr);
}

#[test]
fn systemd_socket_activate_passes_its_socket_on() {
    let Some(activate) = or_skip(socket_activate()) else { return };
    let addr = free_addr();
    held_by(&activate, &["-l", &addr.to_string()], &addr);
}

#[test]
fn a_socket_unit_of_systemd_passes_its_sockets_on() {
    let Some(with_units) = or_skip(sandboxed_systemd()) else { return };
    let units = Dir::new();
    units.write(
        "app.socket",
        "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=127.0.0.1:8080\nListenStream=/run/app.sock\n",
    );
    units.write(
        "app.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=@STAGE@/playground\nStandardOutput=append:/run/app.log\n",
    );
    // the second request is answered by a second process, on the socket that systemd held meanwhile
    let script = "set -e; systemctl start app.socket; ask 8080 /; ask 8080 /greet/unit
        systemctl stop app.service; ask 8080 /; cat /run/app.log";
    let output = Command::new(with_units)
        .args([units.path(), &program::playground()])
        .arg(script)
        .output()
        .expect("the sandbox starts");
    let (said, trouble) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{trouble}");
    assert_eq!(said.matches("Hello, world!").count(), 2, "{said}\n{trouble}");
    assert!(said.contains("unit!") && said.contains("listening on 127.0.0.1:8080"), "{said}\n{trouble}");
}
