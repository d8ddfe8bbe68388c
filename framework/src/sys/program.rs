//! The program that runs here, as it was called: what an upgrade starts again, found anew each time.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{accessat, Access, AtFlags, CWD};
use rustix::io::Errno;

use crate::error::{Error, Kind};

/// The born soft limit on open files, from one generation to the next: each raises its own.
pub(super) const BORN_OPEN_FILES: &str = "SLACKWATER_BORN_OPEN_FILES";

/// How this process was started: recorded before anything changes, resolved only when it is started again.
///
/// The path of the running file is of no use for that: after a deploy it is a deleted file, or a release which a link
/// no longer points to.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// `argv[0]`, and the rest.
    pub(super) called: OsString,
    pub(super) args: Vec<OsString>,
    /// Where relative paths begin; unknown if it had been removed already.
    pub(super) directory: Option<PathBuf>,
    pub(super) environment: Vec<(OsString, OsString)>,
    born_open_files: Option<u64>,
}

impl Program {
    /// Records the command line, the working directory and the environment, and takes out of the latter what a
    /// predecessor put there for us. To be called first thing: before the first thread and before any setting is read.
    pub(crate) fn record() -> Self {
        let mut args = env::args_os();
        let called = args.next().unwrap_or_default();
        let born_open_files = env::var(BORN_OPEN_FILES).ok();
        env::remove_var(BORN_OPEN_FILES);
        Program {
            called,
            args: args.collect(),
            directory: directory(env::var_os("PWD")),
            environment: env::vars_os().collect(),
            born_open_files: born_open_files.and_then(|limit| limit.parse().ok()),
        }
    }

    /// The soft limit on open files that the first of all generations was born with, where this one has a predecessor
    /// that raised it and said so.
    pub(crate) fn born_open_files(&self) -> Option<u64> {
        self.born_open_files
    }

    /// The working directory of the start, by the name under which people know it.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// `argv[0]`.
    pub(crate) fn called(&self) -> &OsStr {
        &self.called
    }

    /// The arguments after it.
    pub(crate) fn args(&self) -> &[OsString] {
        &self.args
    }

    /// The same start with other arguments.
    #[cfg(feature = "dev")]
    pub(crate) fn with_arguments(&self, args: Vec<OsString>) -> Self {
        Program {
            args,
            ..self.clone()
        }
    }

    /// Another program in its place, here.
    #[cfg(test)]
    pub(crate) fn replace(&mut self, called: &str, args: &[&str]) {
        self.called = called.into();
        self.args = args.iter().map(OsString::from).collect();
    }

    /// A variable as it was at the start.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// The file to start: `exec`, or without one whatever the program's name leads to now.
    ///
    /// # Errors
    /// The path, and why it cannot be run.
    pub(super) fn locate(&self, exec: &str) -> Result<PathBuf, Error> {
        let name = if exec.is_empty() {
            self.called.as_os_str()
        } else {
            OsStr::new(exec)
        };
        if name.is_empty() {
            return Err(refused(
                "the program was started without a name (argv[0]): set upgrade.exec".into(),
            ));
        }
        let path = if name.as_bytes().contains(&b'/') {
            self.absolute(Path::new(name))?
        } else {
            self.in_path(name)?
        };
        runs_here(&path)?;
        Ok(path)
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, Error> {
        match &self.directory {
            _ if path.is_absolute() => Ok(path.to_owned()),
            // without the `.` in `./app`, but links and `..` stay for the kernel to follow
            Some(directory) => Ok(directory.join(path).components().collect()),
            None => Err(refused(format!(
                "cannot start {}: the directory in which it was started is gone",
                path.display()
            ))),
        }
    }

    /// As execvp(3) looks: the first that can be executed.
    fn in_path(&self, name: &OsStr) -> Result<PathBuf, Error> {
        let path = self.variable("PATH").unwrap_or_default();
        let mut found =
            env::split_paths(path).filter_map(|entry| self.absolute(&entry.join(name)).ok());
        found
            .find(|candidate| candidate.is_file() && is_executable(candidate).is_ok())
            .ok_or_else(|| {
                let (name, path) = (name.to_string_lossy(), path.to_string_lossy());
                refused(format!(
                    "cannot start {name}: no such program in PATH={path}"
                ))
            })
    }
}

fn refused(message: String) -> Error {
    Error::new(Kind::Io, message)
}

/// The working directory by the name under which people know it: `PWD` may lead there through a link, such as
/// `current -> releases/7`, which will point elsewhere at the upgrade. A `PWD` that is not this directory is ignored.
fn directory(pwd: Option<OsString>) -> Option<PathBuf> {
    let pwd = pwd.map(PathBuf::from).filter(|pwd| pwd.is_absolute());
    match env::current_dir() {
        Ok(here) => Some(
            pwd.filter(|pwd| is_same(pwd, Path::new(".")))
                .unwrap_or(here),
        ),
        // removed; the name may be taken again by the next release
        Err(_) => pwd,
    }
}

/// Whether two paths lead to the same file.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// What can be known before the new process exists is asked before: afterwards there is only its exit status, and
/// execvp(3) hands what is no program at all to the shell.
fn runs_here(path: &Path) -> Result<(), Error> {
    let because =
        |error: std::io::Error| refused(format!("cannot start {}", path.display())).because(error);
    let metadata = fs::metadata(path).map_err(because)?;
    if metadata.is_dir() {
        return Err(because(Errno::ISDIR.into()));
    }
    is_executable(path).map_err(because)?;
    match foreign(path) {
        Some(what) => Err(refused(format!("cannot start {}: {what}", path.display()))),
        None => Ok(()),
    }
}

fn is_executable(path: &Path) -> std::io::Result<()> {
    Ok(accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?)
}

/// Why a file is no program for this machine; `None` if it is one, or cannot be looked into.
fn foreign(path: &Path) -> Option<String> {
    let file = match Format::of(path)? {
        Format::Script => return None,
        Format::Other => return Some("neither a program nor a script that begins with #!".into()),
        Format::Elf(machine) => machine,
    };
    match Format::of(Path::new("/proc/self/exe"))? {
        Format::Elf(ours) if ours != file => Some(format!(
            "built for another machine ({file}; this one is {ours})"
        )),
        _ => None,
    }
}

/// What the first bytes of a file say.
#[derive(Debug, PartialEq, Eq)]
enum Format {
    Elf(Machine),
    Script,
    Other,
}

/// The part of elf(5)'s header that has to be the machine's.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    class: u8,
    data: u8,
    machine: [u8; 2],
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        let mut head = Vec::new();
        File::open(path)
            .and_then(|file| file.take(20).read_to_end(&mut head))
            .ok()?;
        Some(match head.as_slice() {
            [0x7f, b'E', b'L', b'F', class, data, .., high, low] if head.len() == 20 => {
                Format::Elf(Machine {
                    class: *class,
                    data: *data,
                    machine: [*high, *low],
                })
            }
            [b'#', b'!', ..] => Format::Script,
            _ => Format::Other,
        })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bits = if self.class == 1 { 32 } else { 64 };
        let number = match self.data {
            2 => u16::from_be_bytes(self.machine),
            _ => u16::from_le_bytes(self.machine),
        };
        match number {
            3 => write!(f, "x86, {bits} bits"),
            8 => write!(f, "MIPS, {bits} bits"),
            21 => write!(f, "PowerPC, {bits} bits"),
            22 => write!(f, "s390, {bits} bits"),
            40 => write!(f, "ARM, {bits} bits"),
            62 => write!(f, "x86-64, {bits} bits"),
            183 => write!(f, "AArch64, {bits} bits"),
            243 => write!(f, "RISC-V, {bits} bits"),
            other => write!(f, "ELF machine {other}, {bits} bits"),
        }
    }
}

#[cfg(test)]
mod tests;
