//! The program of this process and the way in which it was started, so that an upgrade can start it
//! again.

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

/// Passes the original soft limit on open files to the next process, because each process raises
/// its own.
pub(super) const ORIGINAL_OPEN_FILES: &str = "SLACKWATER_BORN_OPEN_FILES";

/// The command line, working directory and environment of this process. They are recorded at start,
/// and resolved to a file only when the program is started again.
///
/// The path of the running executable (/proc/self/exe) cannot be used for that: after a deployment
/// it is a deleted file, or a file in a release that the `current` link no longer points to.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// `argv[0]`.
    pub(super) argv0: OsString,
    pub(super) args: Vec<OsString>,
    /// The base of relative paths. `None` if the directory had already been removed.
    pub(super) directory: Option<PathBuf>,
    pub(super) environment: Vec<(OsString, OsString)>,
    original_open_files: Option<u64>,
}

impl Program {
    /// Records the command line, the working directory and the environment. Removes from the latter
    /// the variable that the old process set for this process. Call this first, before any thread
    /// is started and before any setting is read.
    pub(crate) fn record() -> Self {
        let mut args = env::args_os();
        let argv0 = args.next().unwrap_or_default();
        let original_open_files = env::var(ORIGINAL_OPEN_FILES).ok();
        env::remove_var(ORIGINAL_OPEN_FILES);
        Program {
            argv0,
            args: args.collect(),
            directory: directory(env::var_os("PWD")),
            environment: env::vars_os().collect(),
            original_open_files: original_open_files.and_then(|limit| limit.parse().ok()),
        }
    }

    /// The soft limit on open files that the first process of the service had, if the old process
    /// passed it on.
    pub(crate) fn original_open_files(&self) -> Option<u64> {
        self.original_open_files
    }

    /// The working directory at start, with symbolic links kept (`PWD`).
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// `argv[0]`.
    pub(crate) fn argv0(&self) -> &OsStr {
        &self.argv0
    }

    /// The arguments after `argv[0]`.
    pub(crate) fn args(&self) -> &[OsString] {
        &self.args
    }

    /// Returns a copy with other arguments.
    #[cfg(feature = "dev")]
    pub(crate) fn with_arguments(&self, args: Vec<OsString>) -> Self {
        Program {
            args,
            ..self.clone()
        }
    }

    /// Replaces the program, for tests.
    #[cfg(test)]
    pub(crate) fn replace(&mut self, argv0: &str, args: &[&str]) {
        self.argv0 = argv0.into();
        self.args = args.iter().map(OsString::from).collect();
    }

    /// The value of an environment variable at start.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// Returns the file to execute: `exec`, or if that is empty the file that `argv[0]` leads to
    /// now.
    ///
    /// # Errors
    /// The path and the reason why it cannot be executed.
    pub(super) fn locate(&self, exec: &str) -> Result<PathBuf, Error> {
        let name = if exec.is_empty() {
            self.argv0.as_os_str()
        } else {
            OsStr::new(exec)
        };
        if name.is_empty() {
            return Err(failure(
                "the program was started without a name (argv[0]): set upgrade.exec".into(),
            ));
        }
        let path = if name.as_bytes().contains(&b'/') {
            self.absolute(Path::new(name))?
        } else {
            self.in_path(name)?
        };
        check_executable(&path)?;
        Ok(path)
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, Error> {
        match &self.directory {
            _ if path.is_absolute() => Ok(path.to_owned()),
            // removes the `.` of `./app`, but keeps links and `..` for the kernel to resolve
            Some(directory) => Ok(directory.join(path).components().collect()),
            None => Err(failure(format!(
                "cannot start {}: the directory in which it was started is gone",
                path.display()
            ))),
        }
    }

    /// Searches `PATH` for the first executable file, as execvp(3) does.
    fn in_path(&self, name: &OsStr) -> Result<PathBuf, Error> {
        let path = self.variable("PATH").unwrap_or_default();
        let mut candidates =
            env::split_paths(path).filter_map(|entry| self.absolute(&entry.join(name)).ok());
        candidates
            .find(|candidate| candidate.is_file() && is_executable(candidate).is_ok())
            .ok_or_else(|| {
                let (name, path) = (name.to_string_lossy(), path.to_string_lossy());
                failure(format!(
                    "cannot start {name}: no such program in PATH={path}"
                ))
            })
    }
}

fn failure(message: String) -> Error {
    Error::new(Kind::Io, message)
}

/// Returns the working directory with symbolic links kept. `PWD` may lead there through a link such
/// as `current -> releases/7`, which points to another release at the time of the upgrade. A `PWD`
/// that does not lead to the working directory is ignored.
fn directory(pwd: Option<OsString>) -> Option<PathBuf> {
    let pwd = pwd.map(PathBuf::from).filter(|pwd| pwd.is_absolute());
    match env::current_dir() {
        Ok(here) => Some(
            pwd.filter(|pwd| is_same(pwd, Path::new(".")))
                .unwrap_or(here),
        ),
        // the directory was removed, but the next release may create it again
        Err(_) => pwd,
    }
}

/// Returns true if two paths lead to the same file.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Checks everything that can be checked before the process is started. Afterwards there is only an
/// exit status, and execvp(3) has the shell run a file that is not an executable.
fn check_executable(path: &Path) -> Result<(), Error> {
    let because =
        |error: std::io::Error| failure(format!("cannot start {}", path.display())).because(error);
    let metadata = fs::metadata(path).map_err(because)?;
    if metadata.is_dir() {
        return Err(because(Errno::ISDIR.into()));
    }
    is_executable(path).map_err(because)?;
    match not_executable(path) {
        Some(what) => Err(failure(format!("cannot start {}: {what}", path.display()))),
        None => Ok(()),
    }
}

fn is_executable(path: &Path) -> std::io::Result<()> {
    Ok(accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?)
}

/// Returns the reason why a file is not an executable for this machine, or `None` if it is one or
/// cannot be read.
fn not_executable(path: &Path) -> Option<String> {
    let file = match FileKind::of(path)? {
        FileKind::Script => return None,
        FileKind::Other => {
            return Some("neither an ELF executable nor a script that begins with #!".into())
        }
        FileKind::Elf(machine) => machine,
    };
    match FileKind::of(Path::new("/proc/self/exe"))? {
        FileKind::Elf(ours) if ours != file => Some(format!(
            "built for another machine ({file}; this machine is {ours})"
        )),
        _ => None,
    }
}

/// The kind of a file, by its first bytes.
#[derive(Debug, PartialEq, Eq)]
enum FileKind {
    Elf(ElfMachine),
    Script,
    Other,
}

/// The fields of an ELF header (elf(5)) that must match the machine.
#[derive(Debug, PartialEq, Eq)]
struct ElfMachine {
    class: u8,
    data: u8,
    machine: [u8; 2],
}

impl FileKind {
    fn of(path: &Path) -> Option<Self> {
        let mut head = Vec::new();
        File::open(path)
            .and_then(|file| file.take(20).read_to_end(&mut head))
            .ok()?;
        Some(match head.as_slice() {
            [0x7f, b'E', b'L', b'F', class, data, .., high, low] if head.len() == 20 => {
                FileKind::Elf(ElfMachine {
                    class: *class,
                    data: *data,
                    machine: [*high, *low],
                })
            }
            [b'#', b'!', ..] => FileKind::Script,
            _ => FileKind::Other,
        })
    }
}

impl std::fmt::Display for ElfMachine {
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
