//! Formats a log record as one line of JSON.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use log::Record;

/// The members of every line. A key of the record with one of these names gets a `_` appended.
const RESERVED: [&str; 5] = ["ts", "level", "target", "pid", "msg"];

/// Returns `{"ts":…,"level":…,"target":…,"pid":…,"msg":…,…}` and a newline. The key-value pairs of
/// the record follow as members; numbers and booleans keep their type.
pub(super) fn line(at: SystemTime, record: &Record<'_>) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    let out = &mut line;
    out.extend_from_slice(b"{\"ts\":");
    text(out, &timestamp(at));
    member(out, "level", level(record.level()));
    member(out, "target", record.target());
    raw(out, "pid", std::process::id());
    member(out, "msg", &message(record));
    // `Members` never fails, and a source that does leaves the line valid
    let _ = record.key_values().visit(&mut Members(out));
    out.extend_from_slice(b"}\n");
    line
}

/// Formats a time as RFC 3339 in UTC with milliseconds. A time before 1970 or after 9999 becomes
/// the epoch.
pub(super) fn timestamp(at: SystemTime) -> String {
    let mut text = String::with_capacity(24);
    if write!(
        text,
        "{}",
        humantime::format_rfc3339_millis(at.max(UNIX_EPOCH))
    )
    .is_err()
    {
        text.replace_range(.., "1970-01-01T00:00:00.000Z");
    }
    text
}

/// The message of a record. If its `Display` fails, the text up to the failure is kept.
fn message(record: &Record<'_>) -> String {
    let mut text = String::new();
    let _ = write!(text, "{}", record.args());
    text
}

fn level(level: log::Level) -> &'static str {
    match level {
        log::Level::Error => "error",
        log::Level::Warn => "warn",
        log::Level::Info => "info",
        log::Level::Debug => "debug",
        log::Level::Trace => "trace",
    }
}

fn member(out: &mut Vec<u8>, key: &str, value: &str) {
    name(out, key);
    text(out, value);
}

/// Writes a value whose `Display` is valid JSON: numbers, booleans, null.
fn raw(out: &mut Vec<u8>, key: &str, value: impl std::fmt::Display) {
    name(out, key);
    let _ = write!(out, "{value}");
}

fn name(out: &mut Vec<u8>, key: &str) {
    out.push(b',');
    text(out, key);
    out.push(b':');
}

fn text(out: &mut Vec<u8>, value: &str) {
    // a string always serializes, and a write to a Vec never fails
    let _ = serde_json::to_writer(out, value);
}

/// Writes each pair of a record as a member.
struct Members<'a>(&'a mut Vec<u8>);

impl<'kvs> VisitSource<'kvs> for Members<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let key = key.as_str();
        if RESERVED.contains(&key) {
            return value.visit(Member {
                out: self.0,
                key: &format!("{key}_"),
            });
        }
        value.visit(Member { out: self.0, key })
    }
}

struct Member<'a> {
    out: &'a mut Vec<u8>,
    key: &'a str,
}

impl<'v> VisitValue<'v> for Member<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        let mut text = String::new();
        let _ = write!(text, "{value}");
        self.visit_str(&text)
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        raw(self.out, self.key, "null");
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        raw(self.out, self.key, value);
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        raw(self.out, self.key, value);
        Ok(())
    }

    fn visit_u128(&mut self, value: u128) -> Result<(), Error> {
        raw(self.out, self.key, value);
        Ok(())
    }

    fn visit_i128(&mut self, value: i128) -> Result<(), Error> {
        raw(self.out, self.key, value);
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        // JSON has no infinities: serde_json writes null
        name(self.out, self.key);
        let _ = serde_json::to_writer(&mut *self.out, &value);
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        raw(self.out, self.key, value);
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), Error> {
        member(self.out, self.key, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use log::kv::ToValue;
    use log::Level;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parsed(target: &str, message: &str, pairs: &[(&str, Value<'_>)]) -> serde_json::Value {
        let line = line(
            UNIX_EPOCH + Duration::from_millis(1_795_446_245_123),
            &Record::builder()
                .level(Level::Info)
                .target(target)
                .key_values(&pairs)
                .args(format_args!("{message}"))
                .build(),
        );
        let (end, text) = line.split_last().unwrap();
        assert_eq!(*end, b'\n');
        assert!(!text.contains(&b'\n'), "one line");
        serde_json::from_slice(text).unwrap()
    }

    #[test]
    fn pairs_become_members_of_their_own_type() {
        let took = Duration::from_millis(2);
        let pairs = [
            ("count", 3.to_value()),
            ("left", (-3).to_value()),
            ("share", 0.5.to_value()),
            ("nothing", f64::NAN.to_value()),
            ("done", true.to_value()),
            ("path", "/a\"b".to_value()),
            ("missing", None::<u8>.to_value()),
            ("took", Value::from_debug(&took)),
            ("level", "high".to_value()),
        ];
        assert_eq!(
            parsed("app", "hello", &pairs),
            json!({
                "ts": "2026-11-23T15:04:05.123Z", "level": "info", "target": "app", "pid": std::process::id(),
                "msg": "hello", "count": 3, "left": -3, "share": 0.5, "nothing": null, "done": true,
                "path": "/a\"b", "missing": null, "took": "2ms", "level_": "high"
            })
        );
    }

    #[test]
    fn a_clock_out_of_range_becomes_the_epoch() {
        assert_eq!(
            timestamp(UNIX_EPOCH - Duration::from_secs(1)),
            "1970-01-01T00:00:00.000Z"
        );
        assert_eq!(
            timestamp(UNIX_EPOCH + Duration::from_secs(1 << 40)),
            "1970-01-01T00:00:00.000Z"
        );
    }

    #[test]
    fn a_display_that_fails_leaves_a_valid_line() {
        struct Fails;
        impl std::fmt::Display for Fails {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("half")?;
                Err(std::fmt::Error)
            }
        }
        let record = line(
            UNIX_EPOCH,
            &Record::builder().args(format_args!("{Fails}")).build(),
        );
        let parsed: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(parsed["msg"], "half");
    }

    proptest! {
        #[test]
        fn every_line_is_json_with_the_values_of_the_record(
            target in any::<String>(), message in any::<String>(), key in any::<String>(), value in any::<String>(),
        ) {
            let line = parsed(&target, &message, &[(&key, value.to_value())]);
            prop_assert_eq!(&line["target"], &target);
            prop_assert_eq!(&line["msg"], &message);
            let key = if RESERVED.contains(&key.as_str()) { format!("{key}_") } else { key };
            prop_assert_eq!(&line[&key], &value);
        }
    }
}
