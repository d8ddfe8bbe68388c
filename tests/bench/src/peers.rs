//! Servers with the same three routes. Each is built once and runs as a process of its own.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{kill_process, Pid, Signal};
use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::wait::until;

/// Peers that are built from crates. The first is the reference of the ratios.
pub const PEERS: [&str; 8] = [
    "axum",
    "slackwater",
    "actix",
    "rocket",
    "trillium",
    "tide",
    "hyper-tokio",
    "hyper-async-io",
];

/// Peers that are measured if they are installed: name, command that detects it, Debian package.
pub const INSTALLED: [(&str, [&str; 2], &str); 2] = [
    ("go", ["go", "version"], "golang-go"),
    ("nginx", ["nginx", "-v"], "nginx"),
];

/// A running peer. `Drop` kills it.
pub struct Peer {
    child: Child,
    pub addr: Addr,
}

impl Peer {
    /// Starts a peer on a free loopback port.
    pub fn start(name: &str) -> Self {
        Self::start_under(&[], name)
    }

    /// Starts a peer under another program, such as a tool of valgrind.
    pub fn start_under(tool: &[&str], name: &str) -> Self {
        let free = free_address();
        let run = program(name, &free);
        let mut command = match tool {
            [] => Command::new(&run[0]),
            [tool, args @ ..] => {
                let mut command = Command::new(tool);
                command.args(args).arg(&run[0]);
                command
            }
        };
        command
            .args(&run[1..])
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null());
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the peer starts");
        let addr = Addr::from(free);
        until(Duration::from_secs(60), name, || {
            Conn::open(&addr).ok().map(drop)
        });
        Peer { child, addr }
    }

    /// Returns the processor time of all its threads so far, user and system.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .expect("the peer runs");
        // utime and stime are fields 14 and 15, see proc(5); count after the name, which may contain spaces
        let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..]
            .split(' ')
            .collect();
        let ticks: u64 = fields[11..13]
            .iter()
            .map(|ticks| ticks.parse::<u64>().expect("ticks"))
            .sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Sends SIGTERM and waits until it has exited.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Returns an address with a free loopback port.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}

/// Returns the command line with which a peer listens on `addr`.
fn program(name: &str, addr: &SocketAddr) -> Vec<OsString> {
    match name {
        "nginx" => vec!["nginx".into(), "-c".into(), nginx(addr).into()],
        "go" => vec![go().into(), addr.to_string().into()],
        _ => vec![programs().join(name).into(), addr.to_string().into()],
    }
}

/// Writes nginx's configuration: one process, and `/` as the only route. All files are in a directory of its own.
fn nginx(addr: &SocketAddr) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("slackwater-bench-nginx-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory for nginx");
    let own = dir.display();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {own}/{name};\n"))
        .concat();
    let conf = format!(
        "daemon off;\nmaster_process off;\npid {own}/pid;\nerror_log {own}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n\
         keepalive_requests 1000000000;\ndefault_type text/plain;\n{paths}server {{\nlisten {addr};\n\
         location = / {{ return 200 \"Hello, world!\"; }}\n}}\n}}\n"
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, conf).expect("nginx's configuration is written");
    file
}

/// Builds the Go program once; returns its path.
fn go() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/go/main.go");
        let program = programs().join("go-net-http");
        let status = Command::new("go")
            .arg("build")
            .arg("-o")
            .args([&program, &source])
            .status();
        assert!(
            status.as_ref().is_ok_and(ExitStatus::success),
            "building the peer in Go: {status:?}"
        );
        program
    })
}

/// Builds the peers once; returns the directory of their programs.
fn programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = here.join("../../target/bench");
        let status = Command::new("cargo")
            .args(["build", "--release", "--quiet", "--manifest-path"])
            .arg(here.join("peers/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .status();
        assert!(
            status.as_ref().is_ok_and(ExitStatus::success),
            "building the peers: {status:?}"
        );
        target
            .join("release")
            .canonicalize()
            .expect("the built programs exist")
    })
}
