//! Formats a log record for people, where femme is not used: in a release build, or after the
//! format was changed.

use std::fmt::Write as _;
use std::time::SystemTime;

use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, Record};

use super::json::timestamp;

/// Returns `TIME LEVEL TARGET MESSAGE key=value …` and a newline.
pub(super) fn line(at: SystemTime, record: &Record<'_>) -> Vec<u8> {
    let mut line = String::with_capacity(128);
    let _ = write!(
        line,
        "{} {} {} {}",
        timestamp(at),
        level(record.level()),
        record.target(),
        record.args()
    );
    let _ = record.key_values().visit(&mut Pairs(&mut line));
    line.push('\n');
    line.into_bytes()
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN ",
        Level::Info => "INFO ",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    }
}

struct Pairs<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let _ = write!(self.0, " {key}={value}");
        Ok(())
    }
}
