//! The log: selects the logger, its format and its output, and applies changes of the settings.
//!
//! A release build logs through the logger of this crate. A debug build with pretty lines starts
//! femme, which stays until the process exits. Level, file and reopening work the same with both.

use std::path::Path;
use std::sync::{MutexGuard, OnceLock};

use super::femme::Femme;
use super::lines::{LineFormat, LineLogger};
use super::output::{LogFile, Output};
use crate::config::{self, LogFormat};
use crate::error::{Error, Kind};
use crate::sys::stdio;

/// The logger that this crate installed. Unset if the application brings its own.
static LOGGER: OnceLock<Logger> = OnceLock::new();

enum Logger {
    Femme(Femme),
    Lines(LineLogger),
}

/// Installs the logger. Does nothing if the application brings its own: with `format = "off"`, or
/// because a logger is installed already.
///
/// # Errors
/// The file cannot be opened, or no descriptor is left.
pub(crate) fn init(config: &config::Log) -> Result<(), Error> {
    let Some(format) = LineFormat::of(config.format) else {
        return Ok(());
    };
    // the maximum level is `Off` until a logger is installed, so the application has installed one
    if log::max_level() != log::LevelFilter::Off {
        return Ok(());
    }
    let file = config.file.as_deref().map(LogFile::open).transpose()?;
    let stdout = stdio::duplicate_stdout()
        .map_err(|error| Error::new(Kind::Io, "cannot set up the log").because(error))?;
    let output = Output::new(stdout, file);
    let logger = match format {
        // femme does not exist in a release build
        LineFormat::Pretty if cfg!(debug_assertions) => {
            Femme::install(output, config.level)?.map(Logger::Femme)
        }
        format => LineLogger::install(format, output).map(Logger::Lines),
    };
    if let Some(logger) = logger {
        log::set_max_level(config.level);
        // a concurrent second call found the logger installed and never gets here
        let _ = LOGGER.set(logger);
    }
    Ok(())
}

/// Prepares a change of the settings: opens a new file, but changes nothing yet.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn prepare(config: &config::Log) -> Result<LogChange, Error> {
    let file = match LOGGER.get() {
        Some(logger) => changed_file(logger.output().path(), config.file.as_deref())?,
        None => FileChange::None,
    };
    Ok(LogChange {
        settings: config.clone(),
        file,
    })
}

/// Reopens the file by its name. Does nothing without a file.
///
/// # Errors
/// The path and the reason. The old file stays in use.
pub(crate) fn reopen() -> Result<(), Error> {
    let Some(logger) = LOGGER.get() else {
        return Ok(());
    };
    logger.flush();
    logger.output().reopen()
}

/// Waits until all lines are written, for one second at most. Call this before the process exits.
pub(crate) fn flush() {
    match LOGGER.get() {
        Some(logger) => logger.flush(),
        None => log::logger().flush(),
    }
}

/// The original standard output, for a child process. Descriptor 1 may be the pipe of femme.
///
/// # Errors
/// No descriptor is left.
pub(crate) fn original_stdout() -> std::io::Result<std::os::fd::OwnedFd> {
    match LOGGER.get() {
        Some(logger) => logger.output().stdout().try_clone_to_owned(),
        None => stdio::duplicate_stdout(),
    }
}

/// Returns true if log lines have the pretty format.
pub(super) fn is_pretty() -> bool {
    match LOGGER.get() {
        Some(Logger::Femme(_)) => true,
        Some(Logger::Lines(lines)) => lines.format() == LineFormat::Pretty,
        None => false,
    }
}

/// A prepared change of the log. Committing it cannot fail.
#[derive(Debug)]
pub(crate) struct LogChange {
    settings: config::Log,
    file: FileChange,
}

#[derive(Debug)]
enum FileChange {
    None,
    To(Option<LogFile>),
}

impl LogChange {
    /// Applies the change. Returns a message for each setting that needs a restart.
    #[must_use]
    pub(crate) fn commit(self) -> Vec<String> {
        let Some(logger) = LOGGER.get() else {
            return self.install();
        };
        log::set_max_level(self.settings.level);
        logger.flush();
        if let FileChange::To(file) = self.file {
            logger.output().switch(file);
        }
        logger
            .set_format(self.settings.format)
            .into_iter()
            .collect()
    }

    /// Installs the logger: there was none until now.
    fn install(self) -> Vec<String> {
        init(&self.settings)
            .err()
            .map(|error| error.chain())
            .into_iter()
            .collect()
    }
}

fn changed_file(current: Option<&Path>, wanted: Option<&Path>) -> Result<FileChange, Error> {
    let absolute = wanted.and_then(|path| std::path::absolute(path).ok());
    if absolute.as_deref() == current {
        return Ok(FileChange::None);
    }
    Ok(FileChange::To(wanted.map(LogFile::open).transpose()?))
}

impl Logger {
    fn output(&self) -> MutexGuard<'_, Output> {
        match self {
            Logger::Femme(femme) => femme.output(),
            Logger::Lines(lines) => lines.output(),
        }
    }

    /// Forwards pending lines to the current output before it changes.
    fn flush(&self) {
        match self {
            Logger::Femme(femme) => femme.flush(),
            // each line is written when it is logged
            Logger::Lines(_) => {}
        }
    }

    /// Changes the format. Returns a message if that needs a restart.
    fn set_format(&self, wanted: LogFormat) -> Option<String> {
        match (self, LineFormat::of(wanted)) {
            (Logger::Lines(lines), Some(format)) => lines.set_format(format),
            (Logger::Femme(_), Some(LineFormat::Pretty)) => {}
            (Logger::Femme(_), Some(LineFormat::Json)) => {
                return Some(
                    "log.format: the new value needs a restart, because this debug build logs through femme"
                        .into(),
                )
            }
            (_, None) => return Some("log.format: \"off\" needs a restart".into()),
        }
        None
    }
}
