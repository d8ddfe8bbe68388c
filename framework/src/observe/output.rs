//! The output of the log: standard output, or a file that can be reopened. Failures never reach the
//! code that logs.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::{Error, Kind};

/// The time to wait for a reader that does not read. After that, lines are dropped without waiting
/// until a write succeeds again. A stopped terminal (Ctrl-S) or a hanging log collector must not
/// stop the process.
const MAX_WAIT: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

const NO_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// The size of one write. A pipe that poll(2) reports as writable accepts this many bytes without
/// blocking (PIPE_BUF).
const MAX_WRITE: usize = 4096;

/// The destination of log lines.
#[derive(Debug)]
pub(super) struct Output {
    stdout: OwnedFd,
    file: Option<LogFile>,
    health: Health,
}

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    /// Absolute, because the file is reopened by this name even if the working directory has
    /// changed.
    path: PathBuf,
    file: File,
}

#[derive(Debug)]
enum Health {
    Working,
    /// Writes fail, because the reader is gone or the disk is full. `lines` have been dropped
    /// since.
    Losing {
        lines: u64,
        cause: Errno,
    },
}

/// The lines that were dropped before a write succeeded again, and the reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LostLines {
    pub(super) lines: u64,
    pub(super) cause: String,
}

impl fmt::Display for LostLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "log output works again; lines lost: {} ({})",
            self.lines, self.cause
        )
    }
}

impl Output {
    pub(super) fn new(stdout: OwnedFd, file: Option<LogFile>) -> Self {
        Output {
            stdout,
            file,
            health: Health::Working,
        }
    }

    /// Writes whole lines, with one system call if the kernel accepts them at once. Lines that
    /// cannot be written are counted and dropped. The first successful write returns that count.
    pub(super) fn write(&mut self, lines: &[u8]) -> Option<LostLines> {
        let max_wait = match self.health {
            Health::Working => &MAX_WAIT,
            Health::Losing { .. } => &NO_WAIT,
        };
        match write_all(self.destination(), lines, max_wait) {
            Ok(()) => self.recovered(),
            Err(cause) => {
                self.drop_lines(count(lines), cause);
                None
            }
        }
    }

    /// Switches to another file, or to standard output for `None`.
    pub(super) fn switch(&mut self, file: Option<LogFile>) {
        self.file = file;
    }

    /// Reopens the file by its name, after it has been renamed. Does nothing without a file.
    ///
    /// # Errors
    /// The path and the reason. The old file stays in use.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        if let Some(current) = &self.file {
            self.file = Some(LogFile::open(&current.path)?);
        }
        Ok(())
    }

    /// The path of the log file, or `None` for standard output.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// The original standard output of the process.
    pub(super) fn stdout(&self) -> BorrowedFd<'_> {
        self.stdout.as_fd()
    }

    fn destination(&self) -> BorrowedFd<'_> {
        self.file
            .as_ref()
            .map_or(self.stdout.as_fd(), |file| file.file.as_fd())
    }

    fn drop_lines(&mut self, more: u64, cause: Errno) {
        let before = match self.health {
            Health::Working => 0,
            Health::Losing { lines, .. } => lines,
        };
        self.health = Health::Losing {
            lines: before.saturating_add(more),
            cause,
        };
    }

    fn recovered(&mut self) -> Option<LostLines> {
        match std::mem::replace(&mut self.health, Health::Working) {
            Health::Working => None,
            Health::Losing { lines, cause } => Some(LostLines {
                lines,
                cause: describe(cause),
            }),
        }
    }
}

impl LogFile {
    /// Opens a file for appending and creates it if necessary.
    ///
    /// # Errors
    /// Names `log.file`, the path and the reason.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = std::path::absolute(path).and_then(|path| {
            let file = OpenOptions::new().append(true).create(true).open(&path)?;
            Ok(LogFile { path, file })
        });
        file.map_err(|error| {
            Error::new(
                Kind::Io,
                format!("log.file = \"{}\": cannot open it", path.display()),
            )
            .because(error)
        })
    }
}

/// Returns the number of lines in the text. Text without a newline counts as one line.
fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count().max(1) as u64
}

fn describe(cause: Errno) -> String {
    match cause {
        Errno::AGAIN => "the reader read nothing for 1 second".into(),
        cause => io::Error::from(cause).to_string(),
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8], max_wait: &Timespec) -> Result<(), Errno> {
    while !bytes.is_empty() {
        wait_for_room(to, max_wait)?;
        match rustix::io::write(to, &bytes[..bytes.len().min(MAX_WRITE)]) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until a write does not block. Errors of the other end are reported by the write itself.
fn wait_for_room(to: BorrowedFd<'_>, max_wait: &Timespec) -> Result<(), Errno> {
    loop {
        match poll(
            &mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)],
            Some(max_wait),
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
    fn lines_for_a_closed_pipe_are_counted_and_later_lines_are_written() {
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
    fn a_full_non_blocking_pipe_loses_lines() {
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
    fn a_reader_that_does_not_read_does_not_block_the_process() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let mut output = Output::new(writer, None);
        let start = std::time::Instant::now();
        for _ in 0..1000 {
            output.write(&[b'x'; 1000]);
        }
        assert!(
            start.elapsed() < std::time::Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
        rustix::io::read(&reader, &mut [0; 8192][..]).unwrap();
        let lost = output.write(b"one\n").unwrap();
        assert!(lost.lines > 900, "{lost}");
        assert_eq!(lost.cause, "the reader read nothing for 1 second");
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
    fn a_file_is_reopened_by_its_name_and_kept_if_that_fails() {
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
