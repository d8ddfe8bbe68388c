//! Replaces a running program under load: slackwater, nginx, HAProxy, and two Go libraries, with the same clients.
//!
//! Each program is replaced in the way its manual recommends. The clients count failed requests and closed connections.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{kill_process, kill_process_group, Pid, Signal};
use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::dir::Dir;
use slackwater_tests::idle::{History, IdleConnections, StateCounts};
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::process_chain::ProcessChain;
use slackwater_tests::tally::Tally;
use slackwater_tests::wait;

use crate::peers::free_address;
use crate::playground;
use crate::table::Table;

const ROUNDS: usize = 5;
const IDLE: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);

/// Another program that can be replaced without closing its listening socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Other {
    Nginx,
    HaProxy,
    Tableflip,
    Grace,
}

/// The clients' results, summed over all rounds.
#[derive(Default)]
struct Outcome {
    tally: Tally,
    idle: StateCounts,
}

/// Measures all programs in one run.
pub fn run() -> Table {
    let mut table = Table::default();
    let ours = slackwater();
    table.goal("slackwater", describe(&ours), || {
        ours.tally.failed() == 0
            && ours.tally.announced_closes() == 0
            && ours.idle.open == IDLE * ROUNDS
    });
    for other in [Other::Nginx, Other::HaProxy, Other::Tableflip, Other::Grace] {
        let result = match other.missing() {
            None => describe(&other.measure()),
            Some(package) => format!("not measured: apt-get install {package}"),
        };
        table.note(other.name(), result);
    }
    table
}

fn describe(Outcome { tally, idle }: &Outcome) -> String {
    format!(
        "{} requests, {} failed; of {} busy connections {} closed after an answer; of {} idle connections {} closed",
        tally.answered() + tally.failed(),
        tally.failed(),
        (BUSY + THINKING) * ROUNDS,
        tally.announced_closes(),
        IDLE * ROUNDS,
        IDLE * ROUNDS - idle.open,
    ) + &if tally.failed() > 0 { format!(" ({tally})") } else { String::new() }
}

const BUSY: usize = 32;
const THINKING: usize = 200;

/// Starts the clients, replaces the server once, and adds the results to `outcome`.
fn one_round(addr: &Addr, outcome: &mut Outcome, replace: impl FnOnce()) {
    let idle = IdleConnections::open(addr, IDLE, History::OneRequest);
    let load = Load::on(addr)
        .clients(BUSY, Pattern::KeepAlive)
        .clients(8, Pattern::NewConnection)
        .clients(THINKING, Pattern::Thinking(Duration::from_millis(20)))
        .at_most(Duration::from_secs(120))
        .start();
    load.wait_for(2000, PATIENCE);
    replace();
    load.wait_for(2000, PATIENCE);
    outcome.tally.add(load.stop());
    let states = idle.states();
    outcome.idle.open += states.open;
    outcome.idle.closed += states.closed;
    outcome.idle.reset += states.reset;
}

fn slackwater() -> Outcome {
    let settings = "[upgrade]\nrollback_window = \"500ms\"\n";
    let mut chain = ProcessChain::serve(&playground::launch().settings(settings));
    let mut outcome = Outcome::default();
    for _ in 0..ROUNDS {
        let addr = chain.addr();
        one_round(&addr, &mut outcome, || {
            let old = chain.newest();
            chain.upgrade();
            chain.wait_gone(old, PATIENCE);
        });
    }
    outcome
}

/// A running program. All of its processes are in one process group, which `Drop` kills.
struct RunningServer {
    child: Child,
    addr: Addr,
    dir: Dir,
}

impl Other {
    fn name(self) -> &'static str {
        match self {
            Other::Nginx => "nginx (USR2, then QUIT to the old master)",
            Other::HaProxy => "HAProxy -W (USR2)",
            Other::Tableflip => "Go, cloudflare/tableflip (HUP)",
            Other::Grace => "Go, facebookgo/grace (USR2)",
        }
    }

    /// Returns the Debian packages to install if the program is not there.
    fn missing(self) -> Option<&'static str> {
        let (path, package) = match self {
            Other::Nginx => ("/usr/sbin/nginx", "nginx"),
            Other::HaProxy => ("/usr/sbin/haproxy", "haproxy"),
            Other::Tableflip => (
                "/usr/share/gocode/src/github.com/cloudflare/tableflip",
                "golang-go golang-github-cloudflare-tableflip-dev",
            ),
            Other::Grace => (
                "/usr/share/gocode/src/github.com/facebookgo/grace",
                "golang-go golang-github-facebookgo-grace-dev",
            ),
        };
        (!Path::new(path).exists()).then_some(package)
    }

    fn measure(self) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..ROUNDS {
            let running = self.start();
            one_round(&running.addr.clone(), &mut outcome, || {
                self.replace(&running)
            });
        }
        outcome
    }

    fn start(self) -> RunningServer {
        let (dir, addr) = (Dir::new(), Addr::from(free_address()));
        let mut command = match self {
            Other::Nginx => {
                let conf = dir.write("nginx.conf", &nginx(&addr));
                let mut command = Command::new("/usr/sbin/nginx");
                command.arg("-p").arg(dir.path()).arg("-c").arg(conf);
                command.args(["-e", "error.log"]);
                command
            }
            Other::HaProxy => {
                let conf = dir.write("haproxy.cfg", &haproxy(&addr));
                let mut command = Command::new("/usr/sbin/haproxy");
                command.args(["-W", "-db", "-f"]).arg(conf);
                command
            }
            Other::Tableflip => go("tableflip", &addr),
            Other::Grace => go("grace", &addr),
        };
        let child = command
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("the program starts");
        wait::until(PATIENCE, "the program listens", || {
            Conn::open(&addr).ok().map(drop)
        });
        RunningServer { child, addr, dir }
    }

    /// Replaces the running program and waits until the old process is gone.
    fn replace(self, running: &RunningServer) {
        let first = running.child.id();
        let old = match self {
            // the master process stays, and its worker is replaced
            Other::HaProxy => *children(first).first().expect("a worker"),
            Other::Nginx | Other::Tableflip | Other::Grace => first,
        };
        match self {
            Other::Nginx => {
                signal(first, Signal::USR2);
                let (new, old) = (
                    running.dir.path().join("nginx.pid"),
                    running.dir.path().join("nginx.pid.oldbin"),
                );
                wait::until(PATIENCE, "nginx starts its new master", || {
                    (old.exists() && new.exists()).then_some(())
                });
                let new = pid_in(&new);
                wait::until(PATIENCE, "the worker of the new nginx master runs", || {
                    (!children(new).is_empty()).then_some(())
                });
                signal(first, Signal::QUIT);
            }
            Other::HaProxy | Other::Grace => signal(first, Signal::USR2),
            Other::Tableflip => signal(first, Signal::HUP),
        }
        wait::until(PATIENCE, "the old process is gone", || {
            is_gone(old).then_some(())
        });
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

fn pid_in(file: &Path) -> u32 {
    wait::until(PATIENCE, "a pid file is written", || {
        fs::read_to_string(file).ok()?.trim().parse().ok()
    })
}

/// The children of a process, from proc(5).
fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Returns true if the process has ended, reaped or not.
fn is_gone(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z')),
        Err(_) => true,
    }
}

fn nginx(addr: &Addr) -> String {
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {name};\n"))
        .concat();
    format!(
        "daemon off;\npid nginx.pid;\nevents {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\n\
         keepalive_requests 1000000000;\nkeepalive_timeout 1h;\ndefault_type text/plain;\n{paths}\
         server {{\nlisten {addr};\nlocation = / {{ return 200 \"Hello, world!\"; }}\n}}\n}}\n"
    )
}

fn haproxy(addr: &Addr) -> String {
    format!(
        "global\n    maxconn 4096\n    hard-stop-after 10s\ndefaults\n    mode http\n    timeout client 1h\n    \
         timeout http-keep-alive 1h\n    timeout connect 5s\n    timeout server 60s\nfrontend front\n    bind {addr}\n    \
         http-request return status 200 content-type text/plain string \"Hello, world!\"\n"
    )
}

/// A program of `peers/go`, built with Debian's Go and Debian's copy of the library.
fn go(name: &str, addr: &Addr) -> Command {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program: PathBuf = here.join("../../target/bench").join(format!("go-{name}"));
    let status = Command::new("go")
        .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode")])
        .arg("build")
        .arg("-o")
        .arg(&program)
        .arg(here.join("peers/go").join(name).join("main.go"))
        .status();
    assert!(
        status.as_ref().is_ok_and(ExitStatus::success),
        "building the Go program {name}: {status:?}"
    );
    let mut command = Command::new(program.canonicalize().expect("the Go program is there"));
    command.arg(addr.to_string());
    command
}
