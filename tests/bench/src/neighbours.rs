//! An upgrade under load, beside the programs that are usually put in front of an application: the requests that
//! fail, and the connections that are closed.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fmt, fs};

use rustix::process::Signal;
use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::dir::Dir;
use slackwater_tests::idle::{Before, Idle};
use slackwater_tests::lineage::{signal_to, Lineage};
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::{proc::Proc, wait};

use crate::playground;
use crate::table::Table;

const NGINX: &str = "/usr/sbin/nginx";
const HAPROXY: &str = "/usr/sbin/haproxy";
const BUSY: usize = 32;
const IDLE: usize = 200;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run() -> Table {
    let mut table = Table::default();
    table.note("slackwater, USR2", slackwater());
    for (program, upgrade) in [(NGINX, nginx as fn() -> Outcome), (HAPROXY, haproxy)] {
        if Path::new(program).exists() {
            table.note(program, upgrade());
        } else {
            table.note(program, "skipped: not installed");
        }
    }
    table
}

/// The client's side of one upgrade.
struct Outcome {
    answered: u64,
    failed: u64,
    /// Closed by an answer with `Connection: close`.
    busy_closed: u64,
    idle_closed: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            answered,
            failed,
            busy_closed,
            idle_closed,
        } = self;
        write!(
            f,
            "{answered} requests, {failed} failed; closed: {busy_closed} of {BUSY} busy connections, {idle_closed} of {IDLE} idle ones"
        )
    }
}

/// Runs `upgrade` while clients send requests, and `IDLE` connections wait for their next one.
fn under_load(addr: &Addr, upgrade: impl FnOnce()) -> Outcome {
    let idle = Idle::open(addr, IDLE, Before::OneRequest);
    let load = Load::on(addr)
        .clients(BUSY, Pattern::KeepAlive)
        .clients(8, Pattern::NewConnection)
        .start();
    load.wait_for(5000, PATIENCE);
    upgrade();
    load.wait_for(5000, PATIENCE);
    let tally = load.stop();
    Outcome {
        answered: tally.answered(),
        failed: tally.failed(),
        busy_closed: tally.polite_closes(),
        idle_closed: IDLE - idle.fates().open,
    }
}

fn slackwater() -> Outcome {
    let mut lineage = Lineage::serve(&playground::launch());
    let addr = lineage.addr();
    under_load(&addr, || {
        lineage.upgrade();
    })
}

/// The upgrade that nginx documents: USR2 to the old master process, then QUIT.
///
/// nginx has to be a daemon for that: it ignores USR2 while the process that started it is its parent.
fn nginx() -> Outcome {
    let (dir, port) = (Dir::new(), free_port());
    let config = format!(
        "worker_processes 1;\npid nginx.pid;\nevents {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n\
         keepalive_requests 100000000;\nkeepalive_timeout 1h;\nclient_body_temp_path t1;\nproxy_temp_path t2;\n\
         fastcgi_temp_path t3;\nuwsgi_temp_path t4;\nscgi_temp_path t5;\n\
         server {{\nlisten 127.0.0.1:{port};\nlocation / {{ return 200 \"Hello, world!\"; }}\n}}\n}}\n"
    );
    let path = dir.write("nginx.conf", &config);
    let mut command = Command::new(NGINX);
    command.arg("-p").arg(dir.path()).arg("-c").arg(path);
    command.args(["-e", "error.log"]);
    let status = command.status().expect("nginx starts");
    assert!(status.success(), "nginx: {status}");
    let addr = answering(port);
    let master = |not: u32| {
        let pid = fs::read_to_string(dir.path().join("nginx.pid")).ok()?;
        let pid = pid.trim().parse().ok()?;
        (pid != not && !children(pid).is_empty()).then_some(pid)
    };
    let old = wait::until(PATIENCE, "nginx's worker", || master(0));
    let mut new = old;
    let outcome = under_load(&addr, || {
        signal_to(old, Signal::USR2);
        new = wait::until(PATIENCE, "nginx's new worker", || master(old));
        signal_to(old, Signal::QUIT);
        wait_for_the_end_of(old);
    });
    signal_to(new, Signal::TERM);
    wait_for_the_end_of(new);
    outcome
}

/// The reload of the master and worker mode: USR2 to the master process, which executes its program again.
fn haproxy() -> Outcome {
    let (dir, port) = (Dir::new(), free_port());
    let config = format!(
        "global\n    nbthread 1\n    maxconn 2000\n\
         defaults\n    mode http\n    timeout client 1h\n    timeout connect 5s\n    timeout server 1h\n    timeout http-keep-alive 1h\n\
         frontend front\n    bind 127.0.0.1:{port}\n    \
         http-request return status 200 content-type text/plain string Hello\n"
    );
    let path = dir.write("haproxy.cfg", &config);
    let mut command = Command::new(HAPROXY);
    command.args(["-W", "-db", "-f"]).arg(path);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut master = command
        .stderr(Stdio::null())
        .spawn()
        .expect("HAProxy starts");
    let (addr, pid) = (answering(port), master.id());
    let outcome = under_load(&addr, || {
        let old = children(pid);
        signal_to(pid, Signal::USR2);
        wait::until(PATIENCE, "the end of HAProxy's old worker", || {
            let now = children(pid);
            (!now.is_empty() && !now.iter().any(|pid| old.contains(pid))).then_some(())
        });
    });
    signal_to(pid, Signal::TERM);
    master.wait().expect("HAProxy ends");
    outcome
}

/// Waits until a server answers on a port of the loopback address.
fn answering(port: u16) -> Addr {
    let addr = Addr::parse(&format!("127.0.0.1:{port}")).expect("an address");
    wait::until(PATIENCE, "an answer", || {
        Conn::open(&addr).and_then(|mut conn| conn.ask("/")).ok()
    });
    addr
}

fn wait_for_the_end_of(pid: u32) {
    wait::until(PATIENCE, "the end of a process", || {
        (!Proc(pid).is_alive()).then_some(())
    });
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
