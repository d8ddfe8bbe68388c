//! Sockets and services of other programs: systemfd, systemd-socket-activate, systemd's socket and service units.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::dir::Dir;
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Signal;
use slackwater_tests::tools::{or_skip, sandboxed_systemd, socket_activate, systemfd};
use slackwater_tests::{log_texts, program, wait};

use crate::help::free_addr;

const LONG: Duration = Duration::from_secs(30);

/// Starts the playground through `holder`, which binds `addr`, and checks that the playground serves and stops.
fn assert_serves_below(holder: &Path, args: &[&str], addr: &Addr) {
    let launch = Launch::program(holder)
        .args(args)
        .args([program::playground()]);
    let mut process = launch
        .whole_settings("[shutdown]\nkeepalive_grace = \"50ms\"\n")
        .start();
    let ask = || Conn::open(addr).and_then(|mut conn| conn.fetch("/")).ok();
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
fn systemfd_passes_its_socket_to_the_server() {
    let Some(systemfd) = or_skip(systemfd()) else {
        return;
    };
    let addr = free_addr();
    assert_serves_below(
        &systemfd,
        &["--no-pid", "-s", &format!("http::{addr}"), "--"],
        &addr,
    );
}

#[test]
fn systemd_socket_activate_passes_its_socket_to_the_server() {
    let Some(activate) = or_skip(socket_activate()) else {
        return;
    };
    let addr = free_addr();
    assert_serves_below(&activate, &["-l", &addr.to_string()], &addr);
}

#[test]
fn a_socket_unit_of_systemd_passes_its_sockets_to_the_service() {
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
    // the last request is answered by a second process, which systemd starts with the same socket
    let script = "set -e; systemctl start app.socket; ask 8080 /; ask 8080 /greet/unit
        systemctl stop app.service; ask 8080 /; cat /run/app.log";
    let output = run_with_systemd(&with_units, &units, script);
    assert_eq!(output.matches("Hello, world!").count(), 2, "{output}");
    assert!(
        output.contains("unit!") && output.contains("listening on 127.0.0.1:8080"),
        "{output}"
    );
}

/// Runs a script next to a sandboxed systemd that has loaded `units`. Returns the standard output of the script.
fn run_with_systemd(with_units: &Path, units: &Dir, script: &str) -> String {
    let output = Command::new(with_units)
        .args([units.path(), &program::playground()])
        .arg(script)
        .output()
        .expect("the sandbox starts");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    stdout.into_owned()
}

/// A service unit like the one in the manual.
const NOTIFY: &str = "[Unit]\nDefaultDependencies=no\n\
    [Service]\nType=notify\nNotifyAccess=all\nWatchdogSec=10\nTimeoutStopSec=30\n\
    Environment=SLACKWATER_UPGRADE__ROLLBACK_WINDOW=300ms SLACKWATER_LOG__FORMAT=json\n\
    ExecStart=@STAGE@/playground\nExecReload=/bin/kill -HUP $MAINPID\n\
    StandardOutput=append:/run/app.log\n";

#[test]
fn systemd_reloads_upgrades_and_stops_a_notify_unit() {
    let Some(with_units) = or_skip(sandboxed_systemd()) else {
        return;
    };
    let units = Dir::new();
    units.write("app.service", NOTIFY);
    // `systemctl start` returns after READY=1, and `systemctl reload` after the READY=1 that follows RELOADING=1
    let script = r#"set -e
        main() { systemctl show app -p MainPID --value; }
        state() { systemctl show app -p ActiveState -p SubState -p Result -p NRestarts --value | xargs; }
        until_main_is_not() { for try in $(seq 600); do [[ $(main) != "$1" && $(main) != 0 ]] && return; sleep 0.05; done; return 1; }
        until_logged() { for try in $(seq 600); do (($(grep -c "$1" /run/app.log) >= $2)) && return; sleep 0.05; done; return 1; }
        systemctl start app; ask 8080 / >/dev/null
        first=$(main); echo "started $first: $(state)"
        systemctl reload app; until_logged reloaded 1; echo "reloaded: $(state)"
        for upgrade in 1 2; do
          before=$(main)
          systemctl kill -s USR2 --kill-whom=main app
          until_main_is_not "$before"; until_logged 'upgrade: confirmed' $upgrade
          echo "upgraded $upgrade: $(state)"
          until_logged 'systemd treats this process as its child' $upgrade
          echo "answered by main: $([[ $(ask 8080 /pid | tail -n1) == $(main) ]] && echo yes || echo no)"
        done
        systemctl reload app; until_logged reloaded 2; echo "reloaded again: $(state)"
        systemctl stop app; echo "stopped: $(state)"; pgrep -x playground && exit 1
        cat /run/app.log"#;
    let output = run_with_systemd(&with_units, &units, script);
    for line in [
        "upgraded 1: success 0 active running",
        "upgraded 2: success 0 active running",
        "reloaded: success 0 active running",
        "reloaded again: success 0 active running",
        "stopped: success 0 inactive dead",
        log_texts::STOPPED,
    ] {
        assert!(output.contains(line), "{line:?} is not in: {output}");
    }
    assert_eq!(
        output.matches("answered by main: yes").count(),
        2,
        "{output}"
    );
}

#[test]
fn a_systemd_service_survives_an_upgrade_that_is_rolled_back() {
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
    let output = run_with_systemd(&with_units, &units, script);
    for line in ["main is the first again: yes", "Hello, world!", "0 active"] {
        assert!(output.contains(line), "{line:?} is not in: {output}");
    }
}

#[test]
fn a_systemd_service_survives_an_upgrade_to_a_foreign_program() {
    let Some(with_units) = or_skip(sandboxed_systemd()) else {
        return;
    };
    let units = Dir::new();
    units.install(&program::foreign(), "stranger");
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
    let output = run_with_systemd(&with_units, &units, script);
    for line in [
        "the first is gone",
        "I am a foreign program",
        "success 0 active running",
        "answered by main: yes",
        "inactive",
    ] {
        assert!(output.contains(line), "{line:?} is not in: {output}");
    }
}

#[test]
fn systemd_keeps_its_main_process_if_an_older_process_exits_during_the_second_upgrade() {
    let Some(with_units) = or_skip(sandboxed_systemd()) else {
        return;
    };
    let units = Dir::new();
    units.write("app.service", &NOTIFY.replace("300ms", "3s"));
    // the first process drains until the third waits for its confirmation; the second still runs when the first exits
    let script = r#"set -e
        main() { systemctl show app -p MainPID --value; }
        until_logged() { for try in $(seq 600); do (($(grep -c "$1" /run/app.log) >= $2)) && return; sleep 0.05; done; return 1; }
        systemctl start app; ask 8080 /sleep/5000 >/dev/null &
        for number in 1 2; do
          before=$(main)
          systemctl kill -s USR2 --kill-whom=main app
          until_logged 'upgrade: confirmed' $number
        done
        for try in $(seq 600); do [[ ! -e /proc/$before ]] && break; sleep 0.05; done
        echo "the second is $([[ -e /proc/$before ]] && echo there || echo gone)"
        systemctl show app -p ActiveState -p SubState -p Result -p NRestarts --value | xargs
        echo "answered by main: $([[ $(ask 8080 /pid | tail -n1) == $(main) ]] && echo yes || echo no)"
        systemctl stop app; cat /run/app.log"#;
    let output = run_with_systemd(&with_units, &units, script);
    for line in [
        "the second is gone",
        "success 0 active running",
        "answered by main: yes",
    ] {
        assert!(output.contains(line), "{line:?} is not in: {output}");
    }
}
