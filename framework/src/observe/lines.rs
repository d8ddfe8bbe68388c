//! The logger of this crate. It writes each record with one write(2), and a failure never reaches
//! the code that logs.

use std::sync::Arc;
use std::time::SystemTime;

use log::{Log, Metadata, Record};

use super::output::{LostLines, Output};
use super::{json, pretty};
use crate::config::LogFormat;
use crate::sync::lock::{Mutex, MutexGuard};

/// A logger that formats records and writes them to the output.
#[derive(Clone, Debug)]
pub(super) struct LineLogger(Arc<LoggerState>);

#[derive(Debug)]
struct LoggerState {
    format: Mutex<LineFormat>,
    output: Mutex<Output>,
}

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineFormat {
    Pretty,
    Json,
}

impl LineFormat {
    /// Returns the format for a setting, or `None` if the application brings its own logger.
    pub(super) fn of(wanted: LogFormat) -> Option<Self> {
        match wanted {
            LogFormat::Auto if cfg!(debug_assertions) => Some(LineFormat::Pretty),
            LogFormat::Auto | LogFormat::Json => Some(LineFormat::Json),
            LogFormat::Pretty => Some(LineFormat::Pretty),
            LogFormat::Off => None,
        }
    }

    fn line(self, record: &Record<'_>) -> Vec<u8> {
        match self {
            LineFormat::Json => json::line(SystemTime::now(), record),
            LineFormat::Pretty => pretty::line(SystemTime::now(), record),
        }
    }
}

impl LineLogger {
    /// Installs the logger. Returns `None` if another logger is installed already.
    pub(super) fn install(format: LineFormat, output: Output) -> Option<Self> {
        let logger = LineLogger::new(format, output);
        log::set_boxed_logger(Box::new(logger.clone()))
            .ok()
            .map(|()| logger)
    }

    pub(super) fn format(&self) -> LineFormat {
        *self.0.format.lock()
    }

    pub(super) fn set_format(&self, format: LineFormat) {
        *self.0.format.lock() = format;
    }

    pub(super) fn output(&self) -> MutexGuard<'_, Output> {
        self.0.output.lock()
    }

    fn new(format: LineFormat, output: Output) -> Self {
        LineLogger(Arc::new(LoggerState {
            format: Mutex::new(format),
            output: Mutex::new(output),
        }))
    }

    fn write(&self, record: &Record<'_>) {
        // formatted before the output is locked, because a value of the record may log while it is
        // formatted
        let format = self.format();
        let line = format.line(record);
        let mut output = self.output();
        if let Some(lost) = output.write(&line) {
            output.write(&notice(format, &lost));
        }
    }
}

impl Log for LineLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.write(record);
        }
    }

    fn flush(&self) {}
}

fn notice(format: LineFormat, lost: &LostLines) -> Vec<u8> {
    let mut record = Record::builder();
    record.level(log::Level::Warn).target("slackwater");
    format.line(&record.args(format_args!("{lost}")).build())
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::super::output::LogFile;
    use super::*;

    fn lines(format: LineFormat) -> (OwnedFd, LineLogger) {
        let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
        let (reader, writer) = rustix::pipe::pipe_with(flags).unwrap();
        (reader, LineLogger::new(format, Output::new(writer, None)))
    }

    fn written(reader: &OwnedFd) -> String {
        let mut buffer = [0; 4096];
        let count = rustix::io::read(reader, &mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    /// Logs without a check of the level, which is shared by all tests of the process.
    fn log_text(lines: &LineLogger, text: &str) {
        lines.write(
            &Record::builder()
                .target("app")
                .args(format_args!("{text}"))
                .build(),
        );
    }

    #[test]
    fn the_format_can_change_between_two_lines() {
        let (reader, lines) = lines(LineFormat::Json);
        log_text(&lines, "one");
        assert!(written(&reader).starts_with("{\"ts\":"));
        lines.set_format(LineFormat::Pretty);
        log_text(&lines, "two");
        assert!(written(&reader).ends_with(" INFO  app two\n"));
        lines.set_format(LineFormat::Json);
        log_text(&lines, "three");
        assert!(written(&reader).ends_with("\"msg\":\"three\"}\n"));
    }

    #[test]
    fn lost_lines_are_reported_when_writing_works_again() {
        let directory =
            std::env::temp_dir().join(format!("slackwater-{}-lines", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("app.log");
        let (reader, lines) = lines(LineFormat::Json);
        drop(reader);
        log_text(&lines, "one");
        log_text(&lines, "two");
        lines.output().switch(Some(LogFile::open(&path).unwrap()));
        log_text(&lines, "three");
        log_text(&lines, "four");
        let text = std::fs::read_to_string(&path).unwrap();
        let messages: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["msg"].take())
            .collect();
        let lost = "log output works again; lines lost: 2 (Broken pipe (os error 32))";
        assert_eq!(messages, ["three", lost, "four"]);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_value_that_logs_while_it_is_formatted_does_not_deadlock() {
        struct LogsWhileFormatted<'a>(&'a LineLogger);
        impl std::fmt::Display for LogsWhileFormatted<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                log_text(self.0, "inner");
                f.write_str("outer")
            }
        }
        let (reader, lines) = lines(LineFormat::Pretty);
        lines.write(
            &Record::builder()
                .args(format_args!("{}", LogsWhileFormatted(&lines)))
                .build(),
        );
        assert_eq!(written(&reader).lines().count(), 2);
    }
}
