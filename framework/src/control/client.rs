//! The client of the control socket: finds the running process, sends a command, and waits for the
//! result.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::path::{processes, SocketPaths};
use super::protocol::{
    line, ControlCommand, ControlRequest, ControlResponse, ProcessStatus, MAX_LINE,
};
use super::socket::peer_credentials;
use crate::error::{Error, Kind};

/// The time after which a silent process is considered hanging or stopped. A running command sends
/// its progress four times a second.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// The time that a process may take to send its status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);

/// Sends commands to running processes.
pub(crate) struct Client {
    paths: SocketPaths,
}

/// The processes of the application that are running.
pub(crate) struct RunningProcesses {
    /// The processes that sent a status: first the process that accepts connections, then the others
    /// by pid.
    pub(crate) processes: Vec<ProcessStatus>,
    /// The pids of processes that listen but do not respond: they are stopped or hang.
    pub(crate) silent: Vec<u32>,
}

impl Client {
    pub(crate) fn new(paths: SocketPaths) -> Self {
        Client { paths }
    }

    /// Sends a command to the process that accepts connections, and returns the text of its last
    /// response. `on_progress` is called with each status.
    ///
    /// # Errors
    /// No process runs, it belongs to another user, or the command failed. In the last case the
    /// text is that of the process.
    pub(crate) fn send(
        &self,
        command: ControlCommand,
        on_progress: impl FnMut(&ProcessStatus),
    ) -> Result<String, Error> {
        let (path, stream) = self.connect()?;
        if command == ControlCommand::Rollback {
            return Self::roll_back(&path, on_progress);
        }
        run_command(stream, command, SILENCE_TIMEOUT, on_progress)
    }

    /// Sends a rollback to the old process, which takes over again. The new process holds the
    /// socket path by then.
    fn roll_back(path: &Path, on_progress: impl FnMut(&ProcessStatus)) -> Result<String, Error> {
        let is_upgrading = |path: &PathBuf| {
            let stream = UnixStream::connect(path).ok()?;
            match status(stream).ok()?.phase.as_str() {
                "upgrading" | "swapping" | "handing_over" | "confirming" | "sharing"
                | "standby" => Some(()),
                _ => None,
            }
        };
        let old = processes(path)
            .into_iter()
            .map(|(_, path)| path)
            .find(|path| is_upgrading(path).is_some());
        let Some(old) = old else {
            return Err(failed(
                "there is no upgrade to roll back: an upgrade can be rolled back only until it is confirmed \
                 (upgrade.rollback_window)",
            ));
        };
        let stream = UnixStream::connect(&old).map_err(|error| connection_failed(&error))?;
        run_command(
            stream,
            ControlCommand::Rollback,
            SILENCE_TIMEOUT,
            on_progress,
        )
    }

    /// Returns the status of all processes.
    ///
    /// # Errors
    /// No process runs, or it belongs to another user.
    pub(crate) fn status(&self) -> Result<RunningProcesses, Error> {
        let (path, stream) = self.connect()?;
        let mut running = RunningProcesses {
            processes: vec![],
            silent: vec![],
        };
        let first = peer_credentials(&stream).map_or(0, |peer| peer.pid);
        running.add(first, stream);
        for (pid, name) in processes(&path) {
            if pid == first || running.processes.iter().any(|known| known.pid == pid) {
                continue;
            }
            if let Ok(stream) = UnixStream::connect(name) {
                running.add(pid, stream);
            }
        }
        Ok(running)
    }

    fn connect(&self) -> Result<(PathBuf, UnixStream), Error> {
        let mut tried = vec![];
        for path in self.paths.paths() {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok((path.clone(), stream)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(permission_denied(path))
                }
                Err(error) => tried.push(format!("{}: {error}", path.display())),
            }
        }
        // the first process holds the socket path only once it accepts connections, so try the
        // paths of single processes
        let starting = self.paths.paths().iter().flat_map(|path| {
            processes(path)
                .into_iter()
                .map(|(_, name)| (path.clone(), UnixStream::connect(name)))
        });
        let connected =
            |(path, stream): (PathBuf, io::Result<UnixStream>)| Some((path, stream.ok()?));
        let mut starting = starting;
        starting.find_map(connected).ok_or_else(|| {
            Error::new(
                Kind::NotRunning,
                format!(
                    "nothing is running: no process answers at {}",
                    tried.join("; ")
                ),
            )
        })
    }
}

impl RunningProcesses {
    fn add(&mut self, pid: u32, stream: UnixStream) {
        match status(stream) {
            Ok(process) => self.processes.push(process),
            Err(_) => self.silent.push(pid),
        }
    }

    /// The first process of the service, if it stays alive because its parent waits for its pid.
    pub(crate) fn waiter(&self) -> Option<u32> {
        self.processes.iter().find_map(|process| process.waiter)
    }
}

fn status(stream: UnixStream) -> Result<ProcessStatus, Error> {
    let mut process = None;
    let response = exchange(stream, ControlCommand::Status, STATUS_TIMEOUT, |_| {})?;
    if let ControlResponse::Status(status) = response {
        process = Some(*status);
    }
    process.ok_or_else(|| failed("the running process sent no status"))
}

fn run_command(
    stream: UnixStream,
    command: ControlCommand,
    timeout: Duration,
    on_progress: impl FnMut(&ProcessStatus),
) -> Result<String, Error> {
    match exchange(stream, command, timeout, on_progress)? {
        ControlResponse::Done(text) => Ok(text),
        ControlResponse::Failed(reason) => Err(failed(reason)),
        ControlResponse::Status(_) | ControlResponse::Progress(_) => {
            Err(failed("the running process sent an unexpected response"))
        }
    }
}

fn exchange(
    mut stream: UnixStream,
    command: ControlCommand,
    timeout: Duration,
    mut on_progress: impl FnMut(&ProcessStatus),
) -> Result<ControlResponse, Error> {
    let pid = peer_credentials(&stream).map_or(0, |peer| peer.pid);
    let set = stream
        .set_read_timeout(Some(timeout))
        .and_then(|()| stream.set_write_timeout(Some(timeout)));
    set.and_then(|()| stream.write_all(&line(&ControlRequest::new(command))))
        .map_err(|error| connection_failed(&error))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let read = reader
            .by_ref()
            .take(16 * MAX_LINE as u64)
            .read_until(b'\n', &mut line);
        match read {
            Ok(0) => {
                return Err(failed(format!(
                    "process {pid} exited before it sent a response"
                )))
            }
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                return Err(failed(format!(
                    "process {pid} has sent nothing for {timeout:?}: it hangs or is stopped"
                )));
            }
            Err(error) => return Err(connection_failed(&error)),
        }
        let response = serde_json::from_slice(&line).map_err(|error| {
            failed("the response of the running process is invalid").because(error)
        })?;
        match response {
            ControlResponse::Progress(process) => on_progress(&process),
            last => return Ok(last),
        }
    }
}

/// Explains why this user may not connect to the socket.
fn permission_denied(path: &Path) -> Error {
    let ours = rustix::process::geteuid().as_raw();
    let owner = fs::symlink_metadata(path)
        .map(|found| found.uid())
        .ok()
        .filter(|owner| *owner != ours);
    let path = path.display();
    failed(match owner {
        Some(owner) => format!(
            "the process at {path} belongs to user {owner}, not to {ours}: run the command as that user, or as root"
        ),
        None => format!("{path} cannot be reached by user {ours}: permission denied"),
    })
}

fn failed(message: impl Into<String>) -> Error {
    Error::new(Kind::Io, message)
}

fn connection_failed(error: &io::Error) -> Error {
    failed(format!(
        "the connection to the running process failed: {error}"
    ))
}
