//! A real process under test: on a socket that the test bound for it, so that its port is known before it runs.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};

use std::time::Duration;

use async_io::{Async, Timer};
use async_std::future::timeout;
use command_fds::{CommandFdExt, FdMapping};
use futures_lite::future;
use http_body_util::Full;
use hyper::client::conn::http1;
use rustix::process::{kill_process, Pid, Signal};

use super::answer::Answer;
use super::request::Asked;
use super::wire::Wire;
use super::PATIENCE;
use crate::config::ConfigSources;
use crate::error::Result;
use crate::sync::lock::Mutex;

/// How often a process is asked whether it has ended.
const GLANCE: Duration = Duration::from_millis(20);

/// A process of a program under test.
pub(super) struct Outside {
    program: PathBuf,
    flags: Vec<String>,
    address: SocketAddr,
    child: Mutex<Child>,
    dir: Dir,
}

impl Outside {
    pub(super) async fn start(program: PathBuf, sources: ConfigSources) -> Result<Self> {
        let dir = Dir::new()?;
        let flags = flags(&sources, &dir);
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let mut command = Command::new(&program);
        command
            .args(&flags)
            .env("LISTEN_FDS", "1")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES");
        command.fd_mappings(vec![FdMapping {
            parent_fd: OwnedFd::from(listener),
            child_fd: 3,
        }])?;
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        // with the command goes our copy of the socket: what waits in it is refused when the process dies
        drop(command);
        let outside = Outside {
            program,
            flags,
            address,
            child: Mutex::new(child),
            dir,
        };
        outside.answers().await?;
        Ok(outside)
    }

    /// Waits until the process answers, or has ended.
    async fn answers(&self) -> Result<()> {
        let asked = async {
            let request = http(self.address, Asked::of_server()?).await;
            request.map(drop).map_err(|error| {
                format!("{} did not answer: {error}", self.program.display()).into()
            })
        };
        let ended = async {
            let status = self.ended().await;
            Err(format!("{} ended at its start: {status}", self.program.display()).into())
        };
        // a process that ends resets the connection as well: its status says more than that
        let first = timeout(PATIENCE, future::or(ended, asked)).await;
        match first.map_err(|_| {
            format!(
                "{} did not answer within {PATIENCE:?}",
                self.program.display()
            )
        })? {
            Ok(()) => Ok(()),
            Err(error) => Err(match timeout(GLANCE * 10, self.ended()).await {
                Ok(status) => {
                    format!("{} ended at its start: {status}", self.program.display()).into()
                }
                Err(_) => error,
            }),
        }
    }

    pub(super) async fn send(&self, request: Asked) -> Result<Answer> {
        http(self.address, request).await
    }

    /// As the operator would: the program's own command says how it went.
    pub(super) async fn reload(&self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg("reload").args(&self.flags);
        let output = async_std::task::spawn_blocking(move || command.output()).await?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr)
            .trim()
            .to_owned()
            .into())
    }

    pub(super) async fn drain(&self) -> Result<()> {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        let status = timeout(PATIENCE, self.ended()).await;
        match status.map_err(|_| format!("the process was not over after {PATIENCE:?}"))? {
            status if status.success() => Ok(()),
            status => Err(format!("the process ended with {status}").into()),
        }
    }

    async fn ended(&self) -> ExitStatus {
        loop {
            if let Ok(Some(status)) = self.child().try_wait() {
                return status;
            }
            Timer::after(GLANCE).await;
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child().id()
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let mut child = self.child();
        // ended already: then there is nothing to kill
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        let _ = std::fs::remove_dir_all(&self.dir.0);
    }
}

/// Settings as flags, and a control socket of its own.
fn flags(sources: &ConfigSources, dir: &Dir) -> Vec<String> {
    let control = format!("control.socket={}", dir.0.join("control").display());
    let sets = [control].into_iter().chain(sources.sets.iter().cloned());
    let mut flags: Vec<_> = sets.flat_map(|set| ["--set".to_owned(), set]).collect();
    if let Some(file) = &sources.file {
        flags.extend(["--config".to_owned(), file.display().to_string()]);
    }
    flags
}

/// A request on a connection of its own.
async fn http(address: SocketAddr, request: Asked) -> Result<Answer> {
    let stream = Async::<TcpStream>::connect(address).await?;
    let (mut sender, connection) = http1::handshake(Wire(stream)).await?;
    async_std::task::spawn(async move {
        // what breaks a connection is told to whoever waits for an answer on it
        let _ = connection.await;
    });
    Ok(Answer::new(
        sender.send_request(request.into_request(Full::new)).await?,
    ))
}

/// A directory that is gone afterwards.
struct Dir(PathBuf);

impl Dir {
    fn new() -> std::io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("slackwater-test-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Dir(dir))
    }
}
