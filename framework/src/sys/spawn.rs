//! Starts the next program: with sockets from descriptor 3 on, an environment made for it, and nothing else of ours.
//!
//! It is started by posix_spawn(3), which shares our memory with the child until it runs the other program. A fork would
//! copy our page tables, which takes the longer the more memory is in use; until the exec each of our threads would
//! copy the pages that it writes to; and all would wait with us for the kernel's locks on that memory. posix_spawn cannot
//! change the working directory in every C library, so where that has to be, there is a fork.
//!
//! What posix_spawn and the kernel see to: the child has SIGPIPE at its default again, caught signals as well, and the
//! signal mask of the thread that starts it, in which nothing is blocked that was not when this process was born. All
//! descriptors are close-on-exec from birth; the passed ones are copied to their places in the child.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use nix::spawn::{posix_spawn, PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags};
use nix::sys::signal::{SigSet, Signal};
use rustix::fs::{accessat, Access, AtFlags, CWD};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::Pid;

pub(crate) use super::child::Child;
use super::limits::OpenFiles;
pub(crate) use super::program::Program;
use super::program::{is_same, BORN_OPEN_FILES};
use crate::error::{Error, Kind};

/// The first descriptor that is passed (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// What says something of descriptors or of a process that are not the child's.
const OURS_ALONE: [&str; 7] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_FDS_FIRST_FD",
    "LISTEN_PIDFDID",
    "WATCHDOG_PID",
    BORN_OPEN_FILES,
];

/// A descriptor for the child, and its name in LISTEN_FDNAMES.
#[derive(Debug)]
pub(crate) struct Passed<'a> {
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) name: String,
}

/// What the child finds in its environment besides what this process found in its own.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    kin: Kin,
    extra: Vec<(OsString, OsString)>,
}

/// Who is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kin {
    /// A program on slackwater.
    Ours,
    /// Any other that takes LISTEN_FDS.
    Stranger,
}

impl Environment {
    /// For a program on slackwater: it needs no LISTEN_PID, and raises its limit on open files by itself.
    pub(crate) fn ours() -> Self {
        Environment {
            kin: Kin::Ours,
            extra: Vec::new(),
        }
    }

    /// For any other program: with LISTEN_PID and the limit on open files as it was, where there is a shell to set them.
    pub(crate) fn stranger() -> Self {
        Environment {
            kin: Kin::Stranger,
            extra: Vec::new(),
        }
    }

    /// Adds a variable, or replaces it.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.extra.push((name.into(), value.into()));
        self
    }
}

impl Program {
    /// Starts the program again, or `exec` in its place where that is not empty, with the same arguments.
    ///
    /// The descriptors become 3, 4 and so on, in this order. Standard input and error are this process', standard
    /// output is `stdout`. The child is started in the working directory of the start, or in whatever has
    /// its name by now; where nothing has, it stays in the removed one.
    ///
    /// It takes the time of an exec, so call it where blocking is no harm.
    ///
    /// # Errors
    /// The path and why it cannot be started; nothing has been.
    pub(crate) fn start(
        &self,
        exec: &str,
        passed: &[Passed<'_>],
        environment: Environment,
        stdout: OwnedFd,
        limits: &OpenFiles,
    ) -> Result<Child, Error> {
        let path = self.locate(exec)?;
        let mut call = match environment.kin {
            Kin::Ours => directly(
                &path,
                if exec.is_empty() {
                    &self.called
                } else {
                    OsStr::new(exec)
                },
            ),
            Kin::Stranger => through_shell(&path, passed, limits),
        };
        call.arguments.extend_from_slice(&self.args);
        let variables = self.variables(passed, environment, limits);
        let why = |error| why(&path, error);
        let descriptors = Descriptors::of(passed, stdout).map_err(why)?;
        let pid = match self.elsewhere() {
            None => call.spawn(variables, &descriptors),
            Some(directory) => call.fork(variables, descriptors, directory),
        };
        pid.and_then(Child::new).map_err(why)
    }

    fn variables(
        &self,
        passed: &[Passed<'_>],
        environment: Environment,
        limits: &OpenFiles,
    ) -> Variables {
        let mut all = self.environment.clone();
        all.retain(|(name, _)| !OURS_ALONE.iter().any(|ours| name == ours));
        // of two with the same name most programs see the first
        let mut set = |name: OsString, value: OsString| {
            all.retain(|(known, _)| *known != name);
            all.push((name, value));
        };
        if let Some(directory) = &self.directory {
            // the child finds out by it where it was started, even if that has been removed
            set("PWD".into(), directory.into());
        }
        if let (Kin::Ours, Some(soft)) = (environment.kin, limits.born().current) {
            set(BORN_OPEN_FILES.into(), soft.to_string().into());
        }
        if !passed.is_empty() {
            set("LISTEN_FDS".into(), passed.len().to_string().into());
            set("LISTEN_FDNAMES".into(), names(passed).into());
        }
        environment
            .extra
            .into_iter()
            .for_each(|(name, value)| set(name, value));
        all
    }

    /// The directory to go to, if this process is not in it.
    fn elsewhere(&self) -> Option<&Path> {
        let directory = self
            .directory
            .as_deref()
            .filter(|directory| !is_same(directory, Path::new(".")))?;
        let enters = accessat(CWD, directory, Access::EXEC_OK, AtFlags::EACCESS);
        (directory.is_dir() && enters.is_ok()).then_some(directory)
    }
}

/// A file to run, and its arguments from `argv[0]` on.
struct Call {
    file: PathBuf,
    arguments: Vec<OsString>,
}

/// An environment.
type Variables = Vec<(OsString, OsString)>;

fn directly(path: &Path, called: &OsStr) -> Call {
    Call {
        file: path.to_owned(),
        arguments: vec![called.to_owned()],
    }
}

/// Only the child itself knows its pid, and without unsafe code nothing of ours runs in it before the program does:
/// a shell does, in the same process. It also lowers the soft limit on open files again, of which a program that
/// calls select(2) must not have more than it expects. Lowering ours for the moment of the fork would have accept(2)
/// fail in it, and prlimit(2) on the running child would race with what the child sets.
///
/// Without a shell there is no LISTEN_PID, and the limit is the raised one: few programs mind.
fn through_shell(path: &Path, passed: &[Passed<'_>], limits: &OpenFiles) -> Call {
    let shell = Path::new("/bin/sh");
    if !shell.exists() {
        return directly(path, path.as_os_str());
    }
    let pid = if passed.is_empty() {
        ""
    } else {
        "export LISTEN_PID=$$; "
    };
    // as the shell writes it
    let limit = limits
        .born()
        .current
        .map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let script = format!("ulimit -S -n {limit}; {pid}exec \"$0\" \"$@\"");
    Call {
        file: shell.to_owned(),
        arguments: vec![shell.into(), "-c".into(), script.into(), path.into()],
    }
}

/// A colon parts the names, so no name has one.
fn names(passed: &[Passed<'_>]) -> String {
    let plain = |passed: &Passed<'_>| {
        passed
            .name
            .replace(|c: char| c == ':' || c.is_control(), "_")
    };
    passed.iter().map(plain).collect::<Vec<_>>().join(":")
}

impl Call {
    fn spawn(self, variables: Variables, descriptors: &Descriptors) -> io::Result<Pid> {
        let mut attributes = PosixSpawnAttr::init()?;
        // std ignores it in every program
        attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
        attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
        let variable = |(mut name, value): (OsString, OsString)| {
            name.push("=");
            name.push(value);
            name
        };
        let pid = posix_spawn(
            &*c_string(self.file.into())?,
            &descriptors.actions()?,
            &attributes,
            &c_strings(self.arguments)?,
            &c_strings(variables.into_iter().map(variable))?,
        )?;
        Pid::from_raw(pid.as_raw()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn fork(
        self,
        variables: Variables,
        descriptors: Descriptors,
        directory: &Path,
    ) -> io::Result<Pid> {
        let mut command = Command::new(self.file);
        if let [called, args @ ..] = &*self.arguments {
            command.arg0(called).args(args);
        }
        command.env_clear().envs(variables).current_dir(directory);
        let _taken = descriptors.connect(&mut command)?;
        Ok(Pid::from_child(&command.spawn()?))
    }
}

fn c_string(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.into_vec())?)
}

fn c_strings(all: impl IntoIterator<Item = OsString>) -> io::Result<Vec<CString>> {
    all.into_iter().map(c_string).collect()
}

/// The descriptors that the child gets in their places.
struct Descriptors {
    stdout: OwnedFd,
    /// Copies from behind the places, so that none is put over another that is still to be copied.
    copies: Vec<OwnedFd>,
}

impl Descriptors {
    fn of(passed: &[Passed<'_>], stdout: OwnedFd) -> io::Result<Self> {
        let behind = FIRST + i32::try_from(passed.len()).map_err(io::Error::other)?;
        let copy = |passed: &Passed<'_>| Ok(fcntl_dupfd_cloexec(passed.fd, behind)?);
        Ok(Descriptors {
            stdout,
            copies: passed.iter().map(copy).collect::<io::Result<_>>()?,
        })
    }

    /// For posix_spawn.
    fn actions(&self) -> io::Result<PosixSpawnFileActions> {
        let mut actions = PosixSpawnFileActions::init()?;
        // first, for it may lie in one of the places
        actions.add_dup2(self.stdout.as_raw_fd(), rustix::stdio::stdout().as_raw_fd())?;
        for (copy, place) in self.copies.iter().zip(FIRST..) {
            actions.add_dup2(copy.as_raw_fd(), place)?;
        }
        Ok(actions)
    }

    /// For std. What is returned is to be kept until the child has been started.
    fn connect(self, command: &mut Command) -> io::Result<Vec<OwnedFd>> {
        command.stdout(Stdio::from(self.stdout));
        let mapping = |(parent_fd, child_fd)| FdMapping {
            parent_fd,
            child_fd,
        };
        let mappings: Vec<_> = self.copies.into_iter().zip(FIRST..).map(mapping).collect();
        // std tells of a failed exec through a pipe of its own, which must not come to lie in one of the places
        let taken =
            (0..mappings.len()).map(|_| Ok(fcntl_dupfd_cloexec(rustix::stdio::stderr(), FIRST)?));
        let taken = taken.collect::<io::Result<_>>()?;
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Ok(taken)
    }
}

fn why(path: &Path, error: io::Error) -> Error {
    let path = path.display();
    let message = match error.kind() {
        // the file itself has been seen
        io::ErrorKind::NotFound => {
            format!("cannot start {path}: its interpreter or loader is missing")
        }
        _ => format!("cannot start {path}"),
    };
    Error::new(Kind::Io, message).because(error)
}

#[cfg(test)]
mod tests;
