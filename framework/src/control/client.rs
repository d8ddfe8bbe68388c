//! A command's side of the control socket: finds the running process, asks it, and waits for what comes of it.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::path::{processes, Places};
use super::protocol::{line, Answer, Ask, Process, Request, MAX_LINE};
use super::socket::peer;
use crate::error::{Error, Kind};

/// A process that waits says how it stands four times a second: one that is silent for so long hangs, or is stopped.
const SILENCE: Duration = Duration::from_secs(10);

/// How long a process may take to say how it stands.
const STATUS: Duration = Duration::from_secs(3);

/// Asks running processes.
pub(crate) struct Client {
    places: Places,
}

/// All processes of the application that answer, and the one that has the place.
pub(crate) struct Found {
    /// The one that accepts first, then the others by pid.
    pub(crate) processes: Vec<Process>,
    /// Processes that listen and do not answer: stopped, or hanging.
    pub(crate) silent: Vec<u32>,
}

impl Client {
    pub(crate) fn new(places: Places) -> Self {
        Client { places }
    }

    /// Asks the process that accepts, and gives its last answer's words. `meanwhile` hears how it stands.
    ///
    /// # Errors
    /// Nothing runs, it belongs to somebody else, or why it could not do what was asked, in its own words.
    pub(crate) fn ask(&self, ask: Ask, meanwhile: impl FnMut(&Process)) -> Result<String, Error> {
        let (path, stream) = self.connect()?;
        if ask == Ask::Rollback {
            return self.roll_back(&path, meanwhile);
        }
        converse(stream, ask, SILENCE, meanwhile)
    }

    /// It is the old process that takes over again, and by then the new one has the place.
    fn roll_back(&self, place: &Path, meanwhile: impl FnMut(&Process)) -> Result<String, Error> {
        let upgrades = |path: &PathBuf| {
            let stream = UnixStream::connect(path).ok()?;
            match status(stream).ok()?.phase.as_str() {
                "upgrading" | "swapping" | "handing_over" | "confirming" | "sharing"
                | "standby" => Some(()),
                _ => None,
            }
        };
        let old = processes(place)
            .into_iter()
            .map(|(_, path)| path)
            .find(|path| upgrades(path).is_some());
        let Some(old) = old else {
            return Err(failed(
                "no upgrade is under way that could be rolled back: one can until it is confirmed \
                 (upgrade.rollback_window)",
            ));
        };
        let stream = UnixStream::connect(&old).map_err(|error| lost(&error))?;
        converse(stream, Ask::Rollback, SILENCE, meanwhile)
    }

    /// How all of them stand.
    ///
    /// # Errors
    /// Nothing runs, or it belongs to somebody else.
    pub(crate) fn status(&self) -> Result<Found, Error> {
        let (path, stream) = self.connect()?;
        let mut found = Found {
            processes: vec![],
            silent: vec![],
        };
        let first = peer(&stream).map_or(0, |peer| peer.pid);
        found.hear(first, stream);
        for (pid, name) in processes(&path) {
            if pid == first || found.processes.iter().any(|known| known.pid == pid) {
                continue;
            }
            if let Ok(stream) = UnixStream::connect(name) {
                found.hear(pid, stream);
            }
        }
        Ok(found)
    }

    fn connect(&self) -> Result<(PathBuf, UnixStream), Error> {
        let mut tried = vec![];
        for path in self.places.paths() {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok((path.clone(), stream)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(anothers(path))
                }
                Err(error) => tried.push(format!("{}: {error}", path.display())),
            }
        }
        // while the first one starts, nobody has the place yet
        let starting = self.places.paths().iter().flat_map(|place| {
            processes(place)
                .into_iter()
                .map(|(_, name)| (place.clone(), UnixStream::connect(name)))
        });
        let connected =
            |(place, stream): (PathBuf, io::Result<UnixStream>)| Some((place, stream.ok()?));
        starting.filter_map(connected).next().ok_or_else(|| {
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

impl Found {
    fn hear(&mut self, pid: u32, stream: UnixStream) {
        match status(stream) {
            Ok(process) => self.processes.push(process),
            Err(_) => self.silent.push(pid),
        }
    }

    /// The first process, if it has stayed for those who watch its pid.
    pub(crate) fn waiter(&self) -> Option<u32> {
        self.processes.iter().find_map(|process| process.waiter)
    }
}

fn status(stream: UnixStream) -> Result<Process, Error> {
    let mut process = None;
    let answer = exchange(stream, Ask::Status, STATUS, |_| {})?;
    if let Answer::Status(status) = answer {
        process = Some(*status);
    }
    process.ok_or_else(|| failed("the running process does not say how it stands"))
}

fn converse(
    stream: UnixStream,
    ask: Ask,
    silence: Duration,
    meanwhile: impl FnMut(&Process),
) -> Result<String, Error> {
    match exchange(stream, ask, silence, meanwhile)? {
        Answer::Done(said) => Ok(said),
        Answer::Failed(why) => Err(failed(why)),
        Answer::Status(_) | Answer::Progress(_) => {
            Err(failed("the running process says what was not asked"))
        }
    }
}

fn exchange(
    mut stream: UnixStream,
    ask: Ask,
    silence: Duration,
    mut meanwhile: impl FnMut(&Process),
) -> Result<Answer, Error> {
    let pid = peer(&stream).map_or(0, |peer| peer.pid);
    let set = stream
        .set_read_timeout(Some(silence))
        .and_then(|()| stream.set_write_timeout(Some(silence)));
    set.and_then(|()| stream.write_all(&line(&Request::new(ask))))
        .map_err(|error| lost(&error))?;
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
                    "the process {pid} has ended without an answer"
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
                    "the process {pid} has not answered for {silence:?}: it hangs or is stopped"
                )));
            }
            Err(error) => return Err(lost(&error)),
        }
        let answer = serde_json::from_slice(&line)
            .map_err(|error| failed("the running process cannot be understood").because(error))?;
        match answer {
            Answer::Progress(process) => meanwhile(&process),
            last => return Ok(last),
        }
    }
}

/// The socket is there, and this user may not connect to it.
fn anothers(path: &Path) -> Error {
    let ours = rustix::process::geteuid().as_raw();
    let owner = fs::symlink_metadata(path)
        .map(|found| found.uid())
        .ok()
        .filter(|owner| *owner != ours);
    let path = path.display();
    failed(match owner {
        Some(owner) => format!(
            "the process at {path} belongs to user {owner}, not to {ours}: ask as that user, or as root"
        ),
        None => format!("{path} cannot be reached by user {ours}: permission denied"),
    })
}

fn failed(what: impl Into<String>) -> Error {
    Error::new(Kind::Io, what)
}

fn lost(error: &io::Error) -> Error {
    failed(format!("the running process cannot be asked: {error}"))
}
