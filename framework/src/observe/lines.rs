//! The logger of ours: one line for each record, in one write, that never fails who logs.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use log::{Log, Metadata, Record};

use super::output::{Lost, Output};
use super::{json, pretty};
use crate::config::LogFormat;

/// Formats records and writes them.
#[derive(Clone, Debug)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    format: Mutex<Format>,
    output: Mutex<Output>,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Pretty,
    Json,
}

impl Format {
    /// `None`: the application brings its own.
    pub(super) fn of(wanted: LogFormat) -> Option<Self> {
        match wanted {
            LogFormat::Auto if cfg!(debug_assertions) => Some(Format::Pretty),
            LogFormat::Auto | LogFormat::Json => Some(Format::Json),
            LogFormat::Pretty => Some(Format::Pretty),
            LogFormat::Off => None,
        }
    }

    fn line(self, record: &Record<'_>) -> Vec<u8> {
        match self {
            Format::Json => json::line(SystemTime::now(), record),
            Format::Pretty => pretty::line(SystemTime::now(), record),
        }
    }
}

impl Lines {
    /// Makes it the logger of the process; `None` if there is one already.
    pub(super) fn install(format: Format, output: Output) -> Option<Self> {
        let lines = Lines::new(format, output);
        log::set_boxed_logger(Box::new(lines.clone()))
            .ok()
            .map(|()| lines)
    }

    pub(super) fn format(&self) -> Format {
        *lock(&self.0.format)
    }

    pub(super) fn set_format(&self, format: Format) {
        *lock(&self.0.format) = format;
    }

    pub(super) fn output(&self) -> MutexGuard<'_, Output> {
        lock(&self.0.output)
    }

    fn new(format: Format, output: Output) -> Self {
        Lines(Arc::new(Shared {
            format: Mutex::new(format),
            output: Mutex::new(output),
        }))
    }

    fn write(&self, record: &Record<'_>) {
        // made before the output is held: what is shown may log as well
        let format = self.format();
        let line = format.line(record);
        let mut output = self.output();
        if let Some(lost) = output.write(&line) {
            output.write(&notice(format, &lost));
        }
    }
}

impl Log for Lines {
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

fn notice(format: Format, lost: &Lost) -> Vec<u8> {
    let mut record = Record::builder();
    record.level(log::Level::Warn).target("slackwater");
    format.line(&record.args(format_args!("{lost}")).build())
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::super::output::LogFile;
    use super::*;

    fn lines(format: Format) -> (OwnedFd, Lines) {
        let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
        let (reader, writer) = rustix::pipe::pipe_with(flags).unwrap();
        (reader, Lines::new(format, Output::new(writer, None)))
    }

    fn written(reader: &OwnedFd) -> String {
        let mut buffer = [0; 4096];
        let count = rustix::io::read(reader, &mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    /// Past the level, which belongs to the whole process.
    fn say(lines: &Lines, text: &str) {
        lines.write(
            &Record::builder()
                .target("app")
                .args(format_args!("{text}"))
                .build(),
        );
    }

    #[test]
    fn the_format_changes_from_one_line_to_the_next() {
        let (reader, lines) = lines(Format::Json);
        say(&lines, "one");
        assert!(written(&reader).starts_with("{\"ts\":"));
        lines.set_format(Format::Pretty);
        say(&lines, "two");
        assert!(written(&reader).ends_with(" INFO  app two\n"));
        lines.set_format(Format::Json);
        say(&lines, "three");
        assert!(written(&reader).ends_with("\"msg\":\"three\"}\n"));
    }

    #[test]
    fn lines_that_were_lost_are_counted_once_it_works_again() {
        let directory =
            std::env::temp_dir().join(format!("slackwater-{}-lines", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("app.log");
        let (reader, lines) = lines(Format::Json);
        drop(reader);
        say(&lines, "one");
        say(&lines, "two");
        lines.output().switch(Some(LogFile::open(&path).unwrap()));
        say(&lines, "three");
        say(&lines, "four");
        let text = std::fs::read_to_string(&path).unwrap();
        let messages: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["msg"].take())
            .collect();
        let lost = "log lines that could not be written: 2: Broken pipe (os error 32)";
        assert_eq!(messages, ["three", lost, "four"]);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_value_that_logs_while_it_is_shown_blocks_nobody() {
        struct Chatty<'a>(&'a Lines);
        impl std::fmt::Display for Chatty<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                say(self.0, "inner");
                f.write_str("outer")
            }
        }
        let (reader, lines) = lines(Format::Pretty);
        lines.write(
            &Record::builder()
                .args(format_args!("{}", Chatty(&lines)))
                .build(),
        );
        assert_eq!(written(&reader).lines().count(), 2);
    }
}
