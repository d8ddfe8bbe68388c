//! The log of a process: who writes it, how it looks, where it goes, and how that changes while it runs.
//!
//! A release build writes JSON lines through a logger of ours. A debug build that is to write pretty ones starts femme,
//! which stays for as long as the process runs. Level, file and reopening are the same with both.

use std::path::Path;
use std::sync::{MutexGuard, OnceLock};

use super::femme::Femme;
use super::lines::{Format, Lines};
use super::output::{LogFile, Output};
use crate::config::{self, LogFormat};
use crate::error::{Error, Kind};
use crate::sys::stdio;

/// Who writes the log; unset where the application brings its own.
static WRITER: OnceLock<Writer> = OnceLock::new();

enum Writer {
    Femme(Femme),
    Lines(Lines),
}

/// Starts the log. Nothing happens if the application brings its own: with `format = "off"`, or because a logger is
/// installed already.
///
/// # Errors
/// The file cannot be opened, or no descriptor is left.
pub(crate) fn init(config: &config::Log) -> Result<(), Error> {
    let Some(format) = Format::of(config.format) else {
        return Ok(());
    };
    // a logger that somebody installed has raised the level from where it is without one
    if log::max_level() != log::LevelFilter::Off {
        return Ok(());
    }
    let file = config.file.as_deref().map(LogFile::open).transpose()?;
    let stdout = stdio::given_stdout()
        .map_err(|error| Error::new(Kind::Io, "cannot set up the log").because(error))?;
    let output = Output::new(stdout, file);
    let writer = match format {
        // in a release build femme writes no pretty lines
        Format::Pretty if cfg!(debug_assertions) => {
            Femme::install(output, config.level)?.map(Writer::Femme)
        }
        format => Lines::install(format, output).map(Writer::Lines),
    };
    if let Some(writer) = writer {
        log::set_max_level(config.level);
        // a second `init` of the process at the same moment has found a logger installed
        let _ = WRITER.set(writer);
    }
    Ok(())
}

/// Gets a change of the settings ready: a new file is open, nothing has changed yet.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn prepare(config: &config::Log) -> Result<Change, Error> {
    let file = match WRITER.get() {
        Some(writer) => changed_file(writer.output().path(), config.file.as_deref())?,
        None => NewFile::Same,
    };
    Ok(Change {
        settings: config.clone(),
        file,
    })
}

/// Opens the file anew under its name; without one there is nothing to do.
///
/// # Errors
/// The path and why it cannot be opened; the old file stays in use.
pub(crate) fn reopen() -> Result<(), Error> {
    let Some(writer) = WRITER.get() else {
        return Ok(());
    };
    writer.flush();
    writer.output().reopen()
}

/// Waits until everything is written, for a second at most: to be called before the process ends.
pub(crate) fn flush() {
    match WRITER.get() {
        Some(writer) => writer.flush(),
        None => log::logger().flush(),
    }
}

/// The standard output that this process was given, for a child that is to have the same: descriptor 1 may be femme's.
///
/// # Errors
/// No descriptor is left.
#[allow(dead_code)] // for the upgrade, which starts a child
pub(crate) fn given_stdout() -> std::io::Result<std::os::fd::OwnedFd> {
    match WRITER.get() {
        Some(writer) => writer.output().stdout().try_clone_to_owned(),
        None => stdio::given_stdout(),
    }
}

/// Whether the log is read by people, line by line, rather than by programs.
pub(super) fn is_for_people() -> bool {
    match WRITER.get() {
        Some(Writer::Femme(_)) => true,
        Some(Writer::Lines(lines)) => lines.format() == Format::Pretty,
        None => false,
    }
}

/// A change of the settings that cannot fail any more.
#[derive(Debug)]
pub(crate) struct Change {
    settings: config::Log,
    file: NewFile,
}

#[derive(Debug)]
enum NewFile {
    Same,
    To(Option<LogFile>),
}

impl Change {
    /// Puts the change into effect, and gives a line for each setting that takes a restart.
    #[must_use]
    pub(crate) fn commit(self) -> Vec<String> {
        let Some(writer) = WRITER.get() else {
            return self.begin();
        };
        log::set_max_level(self.settings.level);
        writer.flush();
        if let NewFile::To(file) = self.file {
            writer.output().switch(file);
        }
        writer
            .set_format(self.settings.format)
            .into_iter()
            .collect()
    }

    /// The log was off until now.
    fn begin(self) -> Vec<String> {
        init(&self.settings)
            .err()
            .map(|error| error.chain())
            .into_iter()
            .collect()
    }
}

fn changed_file(current: Option<&Path>, wanted: Option<&Path>) -> Result<NewFile, Error> {
    let absolute = wanted.and_then(|path| std::path::absolute(path).ok());
    if absolute.as_deref() == current {
        return Ok(NewFile::Same);
    }
    Ok(NewFile::To(wanted.map(LogFile::open).transpose()?))
}

impl Writer {
    fn output(&self) -> MutexGuard<'_, Output> {
        match self {
            Writer::Femme(femme) => femme.output(),
            Writer::Lines(lines) => lines.output(),
        }
    }

    /// What was logged before goes where it was to go then.
    fn flush(&self) {
        match self {
            Writer::Femme(femme) => femme.flush(),
            // each line is written as it is logged
            Writer::Lines(_) => {}
        }
    }

    /// A line on why the format stays, if it has to.
    fn set_format(&self, wanted: LogFormat) -> Option<String> {
        match (self, Format::of(wanted)) {
            (Writer::Lines(lines), Some(format)) => lines.set_format(format),
            (Writer::Femme(_), Some(Format::Pretty)) => {}
            (Writer::Femme(_), Some(Format::Json)) => {
                return Some(
                    "log.format takes a restart: a debug build that began with femme keeps it"
                        .into(),
                )
            }
            (_, None) => return Some("log.format = \"off\" takes a restart".into()),
        }
        None
    }
}
