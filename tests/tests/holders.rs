//! The socket holders of others: systemfd, systemd-socket-activate, systemd's socket units.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::dir::Dir;
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Signal;
use slackwater_tests::tools::{or_skip, sandboxed_systemd, socket_activate, systemfd};
use slackwater_tests::{program, said, wait};

use crate::help::free_addr;

const LONG: Duration = Duration::from_secs(30);

/// A holder that is started with its own arguments and then the playground's path; it binds at `addr`.
fn held_by(holder: &Path, args: &[&str], addr: &Addr) {
    let launch = Launch::program(holder)
        .args(args)
        .args([program::playground()]);
    let mut process = launch
        .whole_settings("[shutdown]\nkeepalive_grace = \"50ms\"\n")
        .start();
    let ask = || Conn::open(addr).and_then(|mut conn| conn.ask("/")).ok();
    let answer = wait::maybe(LONG, ask).unwrap_or_else(|| panic!("{}", process.log()));
    assert_eq!(answer.text(), "Hello, world!");
    assert_eq!(
        process.addresses(),
        std::slice::from_ref(addr),
        "{}",
        process.log()
    );
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LONG).code(), Some(0), "{}", process.log());
}

#[test]
fn systemfd_passes_its_socket_on() {
    let Some(systemfd) = or_skip(systemfd()) else {
        return;
    };
    let addr = free_addr();
    held_by(
        &systemfd,
        &["--no-pid", "-s", &format!("http::{addr}"), "--"],
        &addr,
    );
}

#[test]
fn systemd_socket_activate_passes_its_socket_on() {
    let Some(activate) = or_skip(socket_activate()) else {
        return;
    };
    let addr = free_addr();
    held_by(&activate, &["-l", &addr.to_string()], &addr);
}

#[test]
fn a_socket_unit_of_systemd_passes_its_sockets_on() {
    let Some(with_units) = or_skip(sandboxed_systemd()) else {
        return;
    };
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
    let said = beside_systemd(&with_units, &units, script);
    assert_eq!(said.matches("Hello, world!").count(), 2, "{said}");
    assert!(
        said.contains("unit!") && said.contains("listening on 127.0.0.1:8080"),
        "{said}"
    );
}

/// Runs a script beside a systemd that knows these units; gives what it said.
fn beside_systemd(with_units: &Path, units: &Dir, script: &str) -> String {
    let output = Command::new(with_units)
        .args([units.path(), &program::playground()])
        .arg(script)
        .output()
        .expect("the sandbox starts");
    let (said, trouble) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}\n{trouble}");
    said.into_owned()
}

/// A unit as the manual writes it.
const NOTIFY: &str = "[Unit]\nDefaultDependencies=no\n\
    [Service]\nType=notify\nNotifyAccess=all\nWatchdogSec=10\nTimeoutStopSec=30\n\
    Environment=SLACKWATER_UPGRADE__ROLLBACK_WINDOW=300ms SLACKWATER_LOG__FORMAT=json\n\
    ExecStart=@STAGE@/playground\nExecReload=/bin/kill -HUP $MAINPID\n\
    StandardOutput=append:/run/app.log\n";

#[test]
fn a_notify_unit_of_systemd_is_reloaded_upgraded_and_stopped() {
    let Some(with_units) = or_skip(sandboxed_systemd()) else {
        return;
    };
    let units = Dir::new();
    units.write("app.service", NOTIFY);
    // `systemctl start` returns with READY=1, and `systemctl reload` with the one that follows RELOADING=1
    let script = r#"set -e
        main() { systemctl show app -p MainPID --value; }
        state() { systemctl show app -p ActiveState -p SubState -p Result -p NRestarts --value | xargs; }
        until_main_is_not() { for try in $(seq 600); do [[ $(main) != "$1" && $(main) != 0 ]] && return; sleep 0.05; done; return 1; }
        until_said() { for try in $(seq 600); do (($(grep -c "$1" /run/app.log) >= $2)) && return; sleep 0.05; done; return 1; }
        systemctl start app; ask 8080 / >/dev/null
        first=$(main); echo "started $first: $(state)"
        systemctl reload app; until_said reloaded 1; echo "reloaded: $(state)"
        for upgrade in 1 2; do
          before=$(main)
          systemctl kill -s USR2 --kill-whom=main app
          until_main_is_not "$before"; until_said 'upgrade: confirmed' $upgrade
          echo "upgraded $upgrade: $(state)"
          until_said 'systemd treats this process as its child' $upgrade
          echo "answered by main: $([[ $(ask 8080 /pid | tail -n1) == $(main) ]] && echo yes || echo no)"
        done
        systemctl reload app; until_said reloaded 2; echo "reloaded again: $(state)"
        systemctl stop app; echo "stopped: $(state)"; pgrep -x playground && exit 1
        cat /run/app.log"#;
    let said = beside_systemd(&with_units, &units, script);
    for line in [
        "upgraded 1: success 0 active running",
        "upgraded 2: success 0 active running",
        "reloaded: success 0 active running",
        "reloaded again: success 0 active running",
        "stopped: success 0 inactive dead",
        said::STOPPED,
    ] {
        assert!(said.contains(line), "{line:?} is not in: {said}");
    }
    assert_eq!(said.matches("answered by main: yes").count(), 2, "{said}");
}

#[test]
fn a_unit_of_systemd_survives_an_upgrade_that_is_rolled_back() {
    let Some(with_units) = or_skip(sandboxed_systemd()) else {
        return;
    };
    let units = Dir::new();
    units.write("app.service", &NOTIFY.replace("300ms", "60s"));
    let script = r#"set -e
        main() { systemctl show app -p MainPID --value; }
        systemctl start app; first=$(main)
        systemctl kill -s USR2 --kill-whom=main app
        for try in $(seq 600); do [[ $(main) != "$first" ]] && grep -q 'handing over' /run/app.log && break; sleep 0.05; done
        kill -KILL "$(main)"
        for try in $(seq 600); do [[ $(main) == "$first" ]] && grep -q 'rolled back' /run/app.log && break; sleep 0.05; done
        echo "main is the first again: $([[ $(main) == "$first" ]] && echo yes || echo no)"
        ask 8080 / | tail -n1
        systemctl show app -p ActiveState -p NRestarts --value | xargs
        systemctl stop app; cat /run/app.log"#;
    let said = beside_systemd(&with_units, &units, script);
    for line in ["main is the first again: yes", "Hello, world!", "0 active"] {
        assert!(said.contains(line), "{line:?} is not in: {said}");
    }
}

#[test]
fn a_unit_of_systemd_lives_on_in_a_program_of_other_make() {
    let Some(with_units) = or_skip(sandboxed_systemd()) else {
        return;
    };
    let units = Dir::new();
    units.install(&program::stranger(), "stranger");
    program::script(
        &units.path().join("other"),
        "#!/bin/sh\nexec @STAGE@/units/stranger ready\n",
    );
    let settings = "Environment=SLACKWATER_UPGRADE__HANDSHAKE=notify \
                    SLACKWATER_UPGRADE__EXEC=@STAGE@/units/other SLACKWATER_LISTEN=127.0.0.1:8080\n";
    units.write("app.service", &(NOTIFY.to_owned() + settings));
    let script = r#"set -e
        main() { systemctl show app -p MainPID --value; }
        systemctl start app; first=$(main)
        systemctl kill -s USR2 --kill-whom=main app
        for try in $(seq 600); do [[ ! -e /proc/$first ]] && break; sleep 0.05; done
        echo "the first is $([[ -e /proc/$first ]] && echo there || echo gone)"
        ask 8080 / | tail -n1
        systemctl show app -p ActiveState -p SubState -p Result -p NRestarts --value | xargs
        echo "answered by main: $([[ $(ask 8080 /pid | tail -n1) == $(main) ]] && echo yes || echo no)"
        systemctl stop app; systemctl show app -p ActiveState --value; cat /run/app.log"#;
    let said = beside_systemd(&with_units, &units, script);
    for line in [
        "the first is gone",
        "I am a stranger",
        "success 0 active running",
        "answered by main: yes",
        "inactive",
    ] {
        assert!(said.contains(line), "{line:?} is not in: {said}");
    }
}

#[test]
fn a_process_that_ends_during_the_next_but_one_upgrade_leaves_systemd_its_main_one() {
    let Some(with_units) = or_skip(sandboxed_systemd()) else {
        return;
    };
    let units = Dir::new();
    units.write("app.service", &NOTIFY.replace("300ms", "3s"));
    // the first one drains until the third is on trial, and the second is there to hear of its end
    let script = r#"set -e
        main() { systemctl show app -p MainPID --value; }
        until_said() { for try in $(seq 600); do (($(grep -c "$1" /run/app.log) >= $2)) && return; sleep 0.05; done; return 1; }
        systemctl start app; ask 8080 /sleep/5000 >/dev/null &
        for number in 1 2; do
          before=$(main)
          systemctl kill -s USR2 --kill-whom=main app
          until_said 'upgrade: confirmed' $number
        done
        for try in $(seq 600); do [[ ! -e /proc/$before ]] && break; sleep 0.05; done
        echo "the second is $([[ -e /proc/$before ]] && echo there || echo gone)"
        systemctl show app -p ActiveState -p SubState -p Result -p NRestarts --value | xargs
        echo "answered by main: $([[ $(ask 8080 /pid | tail -n1) == $(main) ]] && echo yes || echo no)"
        systemctl stop app; cat /run/app.log"#;
    let said = beside_systemd(&with_units, &units, script);
    for line in [
        "the second is gone",
        "success 0 active running",
        "answered by main: yes",
    ] {
        assert!(said.contains(line), "{line:?} is not in: {said}");
    }
}
