//! Runs a program under test as a process of its own.
//!
//! The test binds the socket and passes it to the process, so the port is known before the process
//! runs.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::MutexGuard;
use std::time::Duration;

use async_io::{Async, Timer};
use async_std::future::timeout;
use command_fds::{CommandFdExt, FdMapping};
use futures_lite::future;
use http_body_util::Full;
use hyper::client::conn::http1;
use rustix::process::{kill_process, Pid, Signal};

use super::hyper_io::HyperIo;
use super::request::TestRequest;
use super::response::TestResponse;
use super::TIMEOUT;
use crate::config::ConfigSources;
use crate::error::Result;
use crate::sync::lock::Mutex;

/// The interval between two checks of a process for its exit.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A process of a program under test.
pub(super) struct Spawned {
    program: PathBuf,
    flags: Vec<String>,
    address: SocketAddr,
    child: Mutex<Child>,
    dir: TemporaryDir,
}

impl Spawned {
    pub(super) async fn start(program: PathBuf, sources: ConfigSources) -> Result<Self> {
        let dir = TemporaryDir::new()?;
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
        // closes the test's copy of the socket, so that the kernel resets the connections in its
        // queue when the process exits
        drop(command);
        let process = Spawned {
            program,
            flags,
            address,
            child: Mutex::new(child),
            dir,
        };
        process.wait_until_it_responds().await?;
        Ok(process)
    }

    async fn wait_until_it_responds(&self) -> Result<()> {
        let program = self.program.display();
        let exited =
            |status: ExitStatus| format!("{program} exited before it sent a response: {status}");
        let response = async {
            let response = send(self.address, TestRequest::options_of_server()?).await;
            response
                .map(drop)
                .map_err(|error| format!("{program} did not respond: {error}").into())
        };
        let exit = async { Err(exited(self.exit().await).into()) };
        let first = timeout(TIMEOUT, future::or(exit, response)).await;
        match first.map_err(|_| format!("{program} did not respond within {TIMEOUT:?}"))? {
            Ok(()) => Ok(()),
            // an exit also resets the connection, and the status is the better error
            Err(error) => Err(match timeout(POLL_INTERVAL * 10, self.exit()).await {
                Ok(status) => exited(status).into(),
                Err(_) => error,
            }),
        }
    }

    pub(super) async fn send(&self, request: TestRequest) -> Result<TestResponse> {
        send(self.address, request).await
    }

    /// Runs the program's command `reload`, whose error output explains a refused reload.
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
        let status = timeout(TIMEOUT, self.exit()).await;
        match status.map_err(|_| format!("the process did not exit within {TIMEOUT:?}"))? {
            status if status.success() => Ok(()),
            status => Err(format!("the process ended with {status}").into()),
        }
    }

    /// Waits for the exit of the process.
    async fn exit(&self) -> ExitStatus {
        loop {
            if let Ok(Some(status)) = self.child().try_wait() {
                return status;
            }
            Timer::after(POLL_INTERVAL).await;
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child().id()
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock()
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let mut child = self.child();
        // kill fails if the process was already reaped
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        let _ = std::fs::remove_dir_all(&self.dir.0);
    }
}

/// Returns the settings as flags, with a control socket in the process's own directory.
fn flags(sources: &ConfigSources, dir: &TemporaryDir) -> Vec<String> {
    let control = format!("control.socket={}", dir.0.join("control").display());
    let sets = [control].into_iter().chain(sources.sets.iter().cloned());
    let mut flags: Vec<_> = sets.flat_map(|set| ["--set".to_owned(), set]).collect();
    if let Some(file) = &sources.file {
        flags.extend(["--config".to_owned(), file.display().to_string()]);
    }
    flags
}

/// Sends a request on a connection of its own.
async fn send(address: SocketAddr, request: TestRequest) -> Result<TestResponse> {
    let stream = Async::<TcpStream>::connect(address).await?;
    let (mut sender, connection) = http1::handshake(HyperIo(stream)).await?;
    async_std::task::spawn(async move {
        // the request or its body returns the error as well
        let _ = connection.await;
    });
    Ok(TestResponse::new(
        sender.send_request(request.into_hyper(Full::new)).await?,
    ))
}

/// A directory for one process. [`Spawned`] removes it when it is dropped.
struct TemporaryDir(PathBuf);

impl TemporaryDir {
    fn new() -> std::io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("slackwater-test-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(TemporaryDir(dir))
    }
}
