//! Where log lines go: standard output or a file that can be reopened. Nothing that goes wrong there reaches the caller.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::{Error, Kind};

/// How long a reader that takes nothing is waited for, once: after that lines are lost until it takes some again. A
/// terminal that was stopped (Ctrl-S), or a collector that hangs, must not stop the process.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

const NO_PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// A pipe that has room takes so many bytes without waiting for its reader (PIPE_BUF).
const PIECE: usize = 4096;

/// The one place that log lines are written to.
#[derive(Debug)]
pub(super) struct Output {
    stdout: OwnedFd,
    file: Option<LogFile>,
    health: Health,
}

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    /// Absolute, for it is opened again under this name, whatever the working directory is by then.
    path: PathBuf,
    file: File,
}

#[derive(Debug)]
enum Health {
    Well,
    /// Writing fails: a reader that is gone, a full disk.
    Losing {
        lines: u64,
        cause: Errno,
    },
}

/// What a successful write tells beside: how many lines before it were lost, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) lines: u64,
    pub(super) cause: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "log lines that could not be written: {}: {}",
            self.lines, self.cause
        )
    }
}

impl Output {
    pub(super) fn new(stdout: OwnedFd, file: Option<LogFile>) -> Self {
        Output {
            stdout,
            file,
            health: Health::Well,
        }
    }

    /// Writes whole lines, in one call to the kernel wherever it takes them whole. What cannot be written is counted
    /// and dropped; the first write that works again returns the count.
    pub(super) fn write(&mut self, lines: &[u8]) -> Option<Lost> {
        let patience = match self.health {
            Health::Well => &PATIENCE,
            Health::Losing { .. } => &NO_PATIENCE,
        };
        match write_all(self.target(), lines, patience) {
            Ok(()) => self.recovered(),
            Err(cause) => {
                self.lose(count(lines), cause);
                None
            }
        }
    }

    /// Goes over to another file, or to standard output for `None`.
    pub(super) fn switch(&mut self, file: Option<LogFile>) {
        self.file = file;
    }

    /// Opens the file anew under its name, after somebody has renamed it. Without a file there is nothing to do.
    ///
    /// # Errors
    /// The path and why it cannot be opened; the old file stays in use.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        if let Some(current) = &self.file {
            self.file = Some(LogFile::open(&current.path)?);
        }
        Ok(())
    }

    /// The path of the file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// The standard output that this process was given.
    pub(super) fn stdout(&self) -> BorrowedFd<'_> {
        self.stdout.as_fd()
    }

    fn target(&self) -> BorrowedFd<'_> {
        self.file
            .as_ref()
            .map_or(self.stdout.as_fd(), |file| file.file.as_fd())
    }

    fn lose(&mut self, more: u64, cause: Errno) {
        let before = match self.health {
            Health::Well => 0,
            Health::Losing { lines, .. } => lines,
        };
        self.health = Health::Losing {
            lines: before.saturating_add(more),
            cause,
        };
    }

    fn recovered(&mut self) -> Option<Lost> {
        match std::mem::replace(&mut self.health, Health::Well) {
            Health::Well => None,
            Health::Losing { lines, cause } => Some(Lost {
                lines,
                cause: said(cause),
            }),
        }
    }
}

impl LogFile {
    /// Opens for appending, and creates what is not there.
    ///
    /// # Errors
    /// `log.file`, the path, and why it cannot be opened.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let opened = std::path::absolute(path).and_then(|path| {
            let file = OpenOptions::new().append(true).create(true).open(&path)?;
            Ok(LogFile { path, file })
        });
        opened.map_err(|error| {
            Error::new(
                Kind::Io,
                format!("log.file = \"{}\": cannot open it", path.display()),
            )
            .because(error)
        })
    }
}

/// How many lines a piece of output ends; a piece without an end counts as one.
fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count().max(1) as u64
}

fn said(cause: Errno) -> String {
    match cause {
        Errno::AGAIN => "their reader took nothing for a second".into(),
        cause => io::Error::from(cause).to_string(),
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8], patience: &Timespec) -> Result<(), Errno> {
    while !bytes.is_empty() {
        wait_for_room(to, patience)?;
        match rustix::io::write(to, &bytes[..bytes.len().min(PIECE)]) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until a write would not wait. What is wrong with the other side is the write's to say.
fn wait_for_room(to: BorrowedFd<'_>, patience: &Timespec) -> Result<(), Errno> {
    loop {
        match poll(
            &mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)],
            Some(patience),
        ) {
            Ok(0) => return Err(Errno::AGAIN),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(
            rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK,
        )
        .unwrap()
    }

    #[test]
    fn a_reader_that_is_gone_loses_lines_and_nothing_else() {
        let (reader, writer) = pipe();
        let mut output = Output::new(writer, None);
        drop(reader);
        assert_eq!(output.write(b"one\n"), None);
        assert_eq!(output.write(b"two\nthree\n"), None);
        output.stdout = pipe().1;
        assert_eq!(output.write(b"four\n"), None);
        let (reader, writer) = pipe();
        output.stdout = writer;
        let lost = output.write(b"five\n").unwrap();
        assert_eq!(
            (lost.lines, lost.cause.as_str()),
            (4, "Broken pipe (os error 32)")
        );
        assert_eq!(output.write(b"six\n"), None);
        let mut read = [0; 64];
        let count = rustix::io::read(&reader, &mut read).unwrap();
        assert_eq!(&read[..count], b"five\nsix\n");
    }

    #[test]
    fn a_full_pipe_that_may_not_block_loses_lines() {
        let (_reader, writer) = pipe();
        let mut output = Output::new(writer, None);
        for _ in 0..100 {
            output.write(&[b'x'; 4096]);
        }
        assert!(matches!(
            output.health,
            Health::Losing {
                cause: Errno::AGAIN,
                ..
            }
        ));
    }

    #[test]
    fn a_reader_that_takes_nothing_holds_nobody_up() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let mut output = Output::new(writer, None);
        let begun = std::time::Instant::now();
        for _ in 0..1000 {
            output.write(&[b'x'; 1000]);
        }
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        rustix::io::read(&reader, &mut [0; 8192][..]).unwrap();
        let lost = output.write(b"one\n").unwrap();
        assert!(lost.lines > 900, "{lost}");
        assert_eq!(lost.cause, "their reader took nothing for a second");
    }

    #[test]
    fn a_full_disk_loses_lines() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut output = Output::new(full.into(), None);
        assert_eq!(output.write(b"one\n"), None);
        assert!(matches!(
            output.health,
            Health::Losing {
                lines: 1,
                cause: Errno::NOSPC
            }
        ));
    }

    #[test]
    fn a_file_is_reopened_under_its_name_and_kept_where_that_fails() {
        let directory =
            std::env::temp_dir().join(format!("slackwater-{}-output", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("app.log");
        let mut output = Output::new(pipe().1, Some(LogFile::open(&path).unwrap()));
        output.write(b"one\n");
        std::fs::rename(&path, directory.join("app.log.1")).unwrap();
        output.write(b"two\n");
        output.reopen().unwrap();
        output.write(b"three\n");
        assert_eq!(
            std::fs::read_to_string(directory.join("app.log.1")).unwrap(),
            "one\ntwo\n"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");

        std::fs::remove_dir_all(&directory).unwrap();
        let error = output.reopen().unwrap_err().chain();
        assert!(
            error.starts_with(&format!(
                "log.file = \"{}\": cannot open it: ",
                path.display()
            )),
            "{error}"
        );
        assert_eq!(output.path(), Some(path.as_path()));
    }
}
