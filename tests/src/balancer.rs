//! HAProxy and nginx, as Debian packages them, in front of the programs under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{kill_process, Pid, Signal};

use crate::addr::Addr;
use crate::conn::Conn;
use crate::dir::Dir;
use crate::wait;

/// The longest time in which a balancer starts or stops.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running balancer in its own directory.
#[derive(Debug)]
pub struct Balancer {
    child: Child,
    dir: Dir,
    addr: Addr,
}

/// The balancer program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs health checks, see [`Checks`], and sends no request to a server that is not ready.
    HaProxy,
    /// Runs no health checks. After a refused connection it skips that server for a second.
    Nginx,
}

/// The interval of HAProxy's health checks. Each check opens a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Every 100 ms, so that HAProxy notices a server that is about to stop.
    Often,
    /// Once, at the start.
    Once,
}

impl Kind {
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Kind::HaProxy => ("/usr/sbin/haproxy", "haproxy"),
            Kind::Nginx => ("/usr/sbin/nginx", "nginx"),
        }
    }

    /// Returns the path of the installed program.
    ///
    /// # Errors
    ///
    /// Returns the missing Debian package if it is not installed.
    pub fn installed(self) -> Result<PathBuf, String> {
        let (path, package) = self.program();
        let missing = || format!("{path} is missing: apt-get install {package}");
        Path::new(path)
            .exists()
            .then(|| path.into())
            .ok_or_else(missing)
    }
}

impl Balancer {
    /// Starts a balancer that listens on `addr` and forwards to `servers` in turn over kept-alive connections.
    ///
    /// # Panics
    ///
    /// Panics if the balancer does not answer in time.
    #[must_use]
    pub fn start(kind: Kind, addr: &Addr, servers: &[Addr], checks: Checks) -> Self {
        let dir = Dir::new();
        let mut command = Command::new(kind.program().0);
        match kind {
            Kind::HaProxy => {
                let path = dir.write("haproxy.cfg", &haproxy(addr, servers, checks));
                command.arg("-db").arg("-f").arg(path);
            }
            Kind::Nginx => {
                let path = dir.write("nginx.conf", &nginx(addr, servers));
                command
                    .arg("-p")
                    .arg(dir.path())
                    .arg("-c")
                    .arg(path)
                    .args(["-e", "error.log"]);
            }
        }
        let log = fs::File::create(dir.path().join("output")).expect("a file for its output");
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a descriptor"))
            .stdout(log);
        let child = command
            .current_dir(dir.path())
            .spawn()
            .expect("the balancer starts");
        let balancer = Balancer {
            child,
            dir,
            addr: addr.clone(),
        };
        let fetch = || {
            Conn::open(addr)
                .and_then(|mut conn| conn.fetch("/pid"))
                .ok()
        };
        let answers = wait::maybe(PATIENCE, || fetch().filter(|answer| answer.status == 200));
        assert!(
            answers.is_some(),
            "the balancer does not answer; its output:\n{}",
            balancer.output()
        );
        balancer
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn addr(&self) -> &Addr {
        &self.addr
    }

    /// Returns its output so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.dir.read("output") + &self.dir.read("error.log")
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // nginx stops its worker on SIGTERM, but a SIGKILL of the master leaves the worker running
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if wait::maybe(PATIENCE, || self.child.try_wait().ok().flatten()).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn haproxy(addr: &Addr, servers: &[Addr], checks: Checks) -> String {
    let every = match checks {
        Checks::Often => "100ms",
        Checks::Once => "1h",
    };
    let server = |(number, server): (usize, &Addr)| format!("    server app{number} {server}\n");
    let servers: String = servers.iter().enumerate().map(server).collect();
    format!(
        "global\n    nbthread 1\n    maxconn 1000\n\
         defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n    \
         timeout check 10s\n    \
         option redispatch\n    retries 3\n    http-reuse always\n\
         frontend front\n    bind {addr}\n    default_backend apps\n\
         backend apps\n    option httpchk GET /readyz\n    http-check expect status 200\n    \
         default-server check inter {every} fall 1 rise 1 pool-purge-delay 1h\n{servers}"
    )
}

fn nginx(addr: &Addr, servers: &[Addr]) -> String {
    let server = |server: &Addr| format!("server {server} max_fails=1 fail_timeout=1s;\n");
    let servers: String = servers.iter().map(server).collect();
    format!(
        "daemon off;\nworker_processes 1;\npid nginx.pid;\nevents {{ worker_connections 512; }}\n\
         http {{\naccess_log off;\nkeepalive_requests 1000000;\n\
         client_body_temp_path t1;\nproxy_temp_path t2;\nfastcgi_temp_path t3;\nuwsgi_temp_path t4;\n\
         scgi_temp_path t5;\n\
         upstream apps {{\n{servers}keepalive 64;\nkeepalive_requests 1000000;\nkeepalive_timeout 1h;\n}}\n\
         server {{\nlisten {addr};\nlocation / {{\nproxy_pass http://apps;\nproxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\n}}\n}}\n}}\n"
    )
}
