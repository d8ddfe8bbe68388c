//! Starts a program with passed descriptors from 3 on and a prepared environment. Apart from these
//! it inherits only descriptors 0 to 2.
//!
//! posix_spawn(3) starts the program. The child shares the memory of this process until it executes
//! the program. fork(2) would copy the page tables, which takes longer the more
//! memory is in use. Until the exec, each thread would also copy the pages that it writes to, and
//! would wait for kernel locks on that memory. posix_spawn(3) cannot change the working directory
//! in every C library, so a program that needs another directory is forked.
//!
//! posix_spawn(3) and the kernel reset SIGPIPE and caught signals to their defaults in the child.
//! Its signal mask is that of the calling thread, which blocks only signals that were blocked
//! when this process was started. All descriptors are created close-on-exec; the passed ones are copied
//! to their numbers in the child.

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
use super::program::{is_same, ORIGINAL_OPEN_FILES};
use crate::error::{Error, Kind};

/// The number of the first passed descriptor (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// Variables that describe descriptors or the pid of this process. They are not passed to the
/// child.
const NOT_INHERITED: [&str; 7] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_FDS_FIRST_FD",
    "LISTEN_PIDFDID",
    "WATCHDOG_PID",
    ORIGINAL_OPEN_FILES,
];

/// A descriptor for the child, with its name in LISTEN_FDNAMES.
#[derive(Debug)]
pub(crate) struct PassedFd<'a> {
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) name: String,
}

/// The environment of the child, apart from the variables that it inherits from this process.
#[derive(Clone, Debug)]
pub(crate) struct ChildEnvironment {
    kind: ProgramKind,
    extra: Vec<(OsString, OsString)>,
}

/// The kind of program to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProgramKind {
    /// A program that uses slackwater.
    Slackwater,
    /// Any other program that takes sockets by LISTEN_FDS.
    ForeignProgram,
}

impl ChildEnvironment {
    /// The environment for a slackwater program. It needs no LISTEN_PID, and it raises its limit on
    /// open files itself.
    pub(crate) fn for_slackwater() -> Self {
        ChildEnvironment {
            kind: ProgramKind::Slackwater,
            extra: Vec::new(),
        }
    }

    /// The environment for any other program: with LISTEN_PID and the original limit on open files.
    /// Both need /bin/sh.
    pub(crate) fn for_foreign_program() -> Self {
        ChildEnvironment {
            kind: ProgramKind::ForeignProgram,
            extra: Vec::new(),
        }
    }

    /// Adds or replaces a variable.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.extra.push((name.into(), value.into()));
        self
    }
}

impl Program {
    /// Starts this program again, or `exec` if that is not empty, with the same arguments.
    ///
    /// The descriptors become 3, 4 and so on, in this order. Standard input and error are
    /// inherited; standard output is `stdout`. The child starts in the original working directory
    /// by its path, so a directory that has replaced it since is used. If there is none, the child
    /// starts in the current directory.
    ///
    /// This blocks until the child has executed the program.
    ///
    /// # Errors
    /// The path and the reason. No process is left then.
    pub(crate) fn start(
        &self,
        exec: &str,
        passed: &[PassedFd<'_>],
        environment: ChildEnvironment,
        stdout: OwnedFd,
        limits: &OpenFiles,
    ) -> Result<Child, Error> {
        let path = self.locate(exec)?;
        let mut call = match environment.kind {
            ProgramKind::Slackwater => directly(
                &path,
                if exec.is_empty() {
                    &self.argv0
                } else {
                    OsStr::new(exec)
                },
            ),
            ProgramKind::ForeignProgram => through_shell(&path, passed, limits),
        };
        call.arguments.extend_from_slice(&self.args);
        let variables = self.variables(passed, environment, limits);
        let failed = |error| failure(&path, error);
        let descriptors = Descriptors::of(passed, stdout).map_err(failed)?;
        let pid = match self.directory_to_enter() {
            None => call.spawn(variables, &descriptors),
            Some(directory) => call.fork(variables, descriptors, directory),
        };
        pid.and_then(Child::new).map_err(failed)
    }

    fn variables(
        &self,
        passed: &[PassedFd<'_>],
        environment: ChildEnvironment,
        limits: &OpenFiles,
    ) -> Variables {
        let mut all = self.environment.clone();
        all.retain(|(name, _)| !NOT_INHERITED.iter().any(|ours| name == ours));
        // most programs use the first of two variables with the same name
        let mut set = |name: OsString, value: OsString| {
            all.retain(|(known, _)| *known != name);
            all.push((name, value));
        };
        if let Some(directory) = &self.directory {
            // the child reads its working directory from `PWD` if the directory itself has been
            // removed
            set("PWD".into(), directory.into());
        }
        if let (ProgramKind::Slackwater, Some(soft)) = (environment.kind, limits.original().current)
        {
            set(ORIGINAL_OPEN_FILES.into(), soft.to_string().into());
        }
        if !passed.is_empty() {
            set("LISTEN_FDS".into(), passed.len().to_string().into());
            set("LISTEN_FDNAMES".into(), names(passed).into());
        }
        for (name, value) in environment.extra {
            set(name, value);
        }
        all
    }

    /// Returns the directory to change to, or `None` if this process is in it.
    fn directory_to_enter(&self) -> Option<&Path> {
        let directory = self
            .directory
            .as_deref()
            .filter(|directory| !is_same(directory, Path::new(".")))?;
        let enters = accessat(CWD, directory, Access::EXEC_OK, AtFlags::EACCESS);
        (directory.is_dir() && enters.is_ok()).then_some(directory)
    }
}

/// An executable and its arguments from `argv[0]` on.
struct Call {
    file: PathBuf,
    arguments: Vec<OsString>,
}

/// ChildEnvironment variables.
type Variables = Vec<(OsString, OsString)>;

fn directly(path: &Path, argv0: &OsStr) -> Call {
    Call {
        file: path.to_owned(),
        arguments: vec![argv0.to_owned()],
    }
}

/// Starts the program through a shell, which sets LISTEN_PID and the limit on open files.
///
/// Only the child can read its pid before the program runs, and without unsafe code only a shell can
/// run in the child at that point. The shell also lowers the soft limit on open files, because a
/// program that uses select(2) fails with large descriptor numbers. Lowering the limit of this
/// process during the fork would make accept(2) fail. prlimit(2) on the running child would race
/// with limits that the child sets.
///
/// Without /bin/sh there is no LISTEN_PID and the limit stays raised. Few programs depend on
/// either.
fn through_shell(path: &Path, passed: &[PassedFd<'_>], limits: &OpenFiles) -> Call {
    let shell = Path::new("/bin/sh");
    if !shell.exists() {
        return directly(path, path.as_os_str());
    }
    let pid = if passed.is_empty() {
        ""
    } else {
        "export LISTEN_PID=$$; "
    };
    // in the notation of the shell
    let limit = limits
        .original()
        .current
        .map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let script = format!("ulimit -S -n {limit}; {pid}exec \"$0\" \"$@\"");
    Call {
        file: shell.to_owned(),
        arguments: vec![shell.into(), "-c".into(), script.into(), path.into()],
    }
}

/// Joins the names. Colons separate them, so a colon in a name is replaced.
fn names(passed: &[PassedFd<'_>]) -> String {
    let plain = |passed: &PassedFd<'_>| {
        passed
            .name
            .replace(|c: char| c == ':' || c.is_control(), "_")
    };
    passed.iter().map(plain).collect::<Vec<_>>().join(":")
}

impl Call {
    fn spawn(self, variables: Variables, descriptors: &Descriptors) -> io::Result<Pid> {
        let mut attributes = PosixSpawnAttr::init()?;
        // std sets SIGPIPE to ignored in every Rust program
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
        if let [argv0, args @ ..] = &*self.arguments {
            command.arg0(argv0).args(args);
        }
        command.env_clear().envs(variables).current_dir(directory);
        let _occupied = descriptors.connect(&mut command)?;
        Ok(Pid::from_child(&command.spawn()?))
    }
}

fn c_string(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.into_vec())?)
}

fn c_strings(all: impl IntoIterator<Item = OsString>) -> io::Result<Vec<CString>> {
    all.into_iter().map(c_string).collect()
}

/// The descriptors that the child receives.
struct Descriptors {
    stdout: OwnedFd,
    /// Copies with numbers past the last target number, so that no descriptor is overwritten before
    /// it is copied.
    copies: Vec<OwnedFd>,
}

impl Descriptors {
    fn of(passed: &[PassedFd<'_>], stdout: OwnedFd) -> io::Result<Self> {
        let first_free = FIRST + i32::try_from(passed.len()).map_err(io::Error::other)?;
        let copy = |passed: &PassedFd<'_>| Ok(fcntl_dupfd_cloexec(passed.fd, first_free)?);
        Ok(Descriptors {
            stdout,
            copies: passed.iter().map(copy).collect::<io::Result<_>>()?,
        })
    }

    /// Prepares the descriptors for posix_spawn(3).
    fn actions(&self) -> io::Result<PosixSpawnFileActions> {
        let mut actions = PosixSpawnFileActions::init()?;
        // stdout first, because its number may be one of the target numbers
        actions.add_dup2(self.stdout.as_raw_fd(), rustix::stdio::stdout().as_raw_fd())?;
        for (copy, number) in self.copies.iter().zip(FIRST..) {
            actions.add_dup2(copy.as_raw_fd(), number)?;
        }
        Ok(actions)
    }

    /// Prepares the descriptors for std. Keep the returned descriptors until the child has been
    /// started.
    fn connect(self, command: &mut Command) -> io::Result<Vec<OwnedFd>> {
        command.stdout(Stdio::from(self.stdout));
        let mapping = |(parent_fd, child_fd)| FdMapping {
            parent_fd,
            child_fd,
        };
        let mappings: Vec<_> = self.copies.into_iter().zip(FIRST..).map(mapping).collect();
        // std reports a failed exec through a pipe that it creates itself. These copies occupy the
        // target numbers, so that the pipe gets none of them.
        let occupied =
            (0..mappings.len()).map(|_| Ok(fcntl_dupfd_cloexec(rustix::stdio::stderr(), FIRST)?));
        let occupied = occupied.collect::<io::Result<_>>()?;
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Ok(occupied)
    }
}

fn failure(path: &Path, error: io::Error) -> Error {
    let path = path.display();
    let message = match error.kind() {
        // the file exists, as checked before
        io::ErrorKind::NotFound => {
            format!("cannot start {path}: its interpreter or loader is missing")
        }
        _ => format!("cannot start {path}"),
    };
    Error::new(Kind::Io, message).because(error)
}

#[cfg(test)]
mod tests;
