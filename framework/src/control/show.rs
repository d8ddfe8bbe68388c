//! What commands print: tables for people, JSON for programs, and how an upgrade or a drain moves on, on a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;

use super::client::{Client, Found};
use super::protocol::{Ask, Process, VERSION};
use crate::error::Error;

/// How often `status --watch` looks again.
const EVERY: Duration = Duration::from_millis(500);

/// Clears a terminal's line, and goes to its beginning.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Goes to the top left corner, and clears what is below.
const CLEAR_SCREEN: &str = "\x1b[H\x1b[J";

/// Asks for something, shows on a terminal how it moves on, and gives what there is to say at the end.
///
/// # Errors
/// Nothing runs, or what was asked failed: in the running process' own words.
pub(crate) fn command(client: &Client, ask: Ask) -> Result<String, Error> {
    let mut line = Line {
        shown: false,
        on_terminal: io::stderr().is_terminal(),
    };
    let outcome = client.ask(ask, |process| line.show(&progress(process)));
    line.clear();
    Ok(format!("{}\n", outcome?))
}

/// Prints how the running processes stand: once, or until interrupted or nothing runs any more.
///
/// # Errors
/// Nothing runs, or it belongs to somebody else.
pub(crate) fn status(client: &Client, json: bool, watch: bool) -> Result<String, Error> {
    let shown = |found: &Found| if json { as_json(found) } else { table(found) };
    if !watch {
        return Ok(shown(&client.status()?));
    }
    loop {
        let text = shown(&client.status()?);
        let mut out = io::stdout().lock();
        let clear = if !json && out.is_terminal() {
            CLEAR_SCREEN
        } else {
            ""
        };
        let gap = if json || !clear.is_empty() { "" } else { "\n" };
        if write!(out, "{clear}{text}{gap}")
            .and_then(|()| out.flush())
            .is_err()
        {
            // whoever read it is gone
            return Ok(String::new());
        }
        drop(out);
        std::thread::sleep(EVERY);
    }
}

/// The last line of a terminal, written anew each time.
struct Line {
    shown: bool,
    on_terminal: bool,
}

impl Line {
    fn show(&mut self, text: &str) {
        if self.on_terminal {
            let _ = write!(io::stderr(), "{CLEAR_LINE}{text}");
            self.shown = true;
        }
    }

    fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "{CLEAR_LINE}");
        }
    }
}

fn progress(process: &Process) -> String {
    let connections = &process.connections;
    let mut text = format!(
        "{} (pid {}): {} active, {} idle connections",
        process.phase.replace('_', " "),
        process.pid,
        connections.active,
        connections.idle + connections.parked
    );
    if connections.given > 0 {
        let _ = write!(text, ", {} handed over", connections.given);
    }
    if let Some(oldest) = &process.oldest_request {
        let _ = write!(
            text,
            "; longest {} for {}",
            plain(&oldest.request),
            short(oldest.age_ms)
        );
    }
    text
}

#[derive(Serialize)]
struct Report<'a> {
    slackwater: u32,
    processes: &'a [Process],
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    silent: &'a [u32],
    waiter: Option<u32>,
}

fn as_json(found: &Found) -> String {
    let report = Report {
        slackwater: VERSION,
        processes: &found.processes,
        silent: &found.silent,
        waiter: found.waiter(),
    };
    // numbers and text always serialize
    format!("{}\n", serde_json::to_string(&report).unwrap_or_default())
}

fn table(found: &Found) -> String {
    let head = [
        "PID",
        "PHASE",
        "UP",
        "BUILD",
        "GEN",
        "ACTIVE",
        "IDLE",
        "PARKED",
        "TUNNELS",
        "REQUESTS",
        "OLDEST REQUEST",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    let named = |pid: u32, phase: &str| {
        let mut row = [const { String::new() }; 11];
        (row[0], row[1]) = (pid.to_string(), phase.to_owned());
        row
    };
    rows.extend(found.waiter().map(|pid| named(pid, "waiter")));
    rows.extend(found.processes.iter().map(row));
    rows.extend(found.silent.iter().map(|pid| named(*pid, "no answer")));
    let mut text = aligned(&rows);
    for process in &found.processes {
        let _ = writeln!(text, "{}", moved(process));
    }
    text
}

fn row(process: &Process) -> [String; 11] {
    let connections = &process.connections;
    [
        process.pid.to_string(),
        process.phase.replace('_', " "),
        short(process.uptime_ms),
        build(process),
        process.generation.to_string(),
        connections.active.to_string(),
        connections.idle.to_string(),
        connections.parked.to_string(),
        connections.tunnels.to_string(),
        process.requests.to_string(),
        process
            .oldest_request
            .as_ref()
            .map_or(String::new(), |oldest| {
                format!(
                    "{} from {}, {}",
                    plain(&oldest.request),
                    plain(&oldest.peer),
                    short(oldest.age_ms)
                )
            }),
    ]
}

fn build(process: &Process) -> String {
    let built = process.built.map(|seconds| {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        humantime::format_rfc3339_seconds(time).to_string()
    });
    match built {
        Some(built) => format!("{} of {built}", plain(&process.build)),
        None => plain(&process.build),
    }
}

/// What the columns have no room for.
fn moved(process: &Process) -> String {
    let mut text = format!("{}: ", process.pid);
    match process.listening.as_slice() {
        [] => text.push_str("listens nowhere"),
        listening => {
            let _ = write!(text, "listens on {}", listening.join(", "));
        }
    }
    let connections = &process.connections;
    if connections.taken > 0 {
        let _ = write!(text, "; took over {} connections", connections.taken);
    }
    if let Some(successor) = process.successor {
        let _ = write!(
            text,
            "; upgrades to {successor}, has handed over {} connections",
            connections.given
        );
    }
    text
}

/// Columns as wide as their widest field, two spaces between them, nothing at the end of a line.
fn aligned(rows: &[[String; 11]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..11).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (field, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{field:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What a client chose must not steer the operator's terminal.
fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_debug().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// `340ms`, `7.2s`, `3m 5s`, `2h 3m`, `4days 1h`.
fn short(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        _ => {
            let text = humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string();
            text.split(' ').take(2).collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{ConnectionCounts, OldestRequest};

    fn process() -> Process {
        Process {
            pid: 71,
            build: "1.2.3".into(),
            generation: 2,
            phase: "handing_over".into(),
            uptime_ms: 3_723_000,
            listening: vec!["127.0.0.1:8080".into()],
            connections: ConnectionCounts {
                active: 3,
                idle: 4,
                parked: 5,
                tunnels: 0,
                taken: 0,
                given: 9,
            },
            requests: 1000,
            oldest_request: Some(OldestRequest {
                request: "GET /a\u{1b}[2J".into(),
                peer: "127.0.0.1:5".into(),
                age_ms: 7_250,
            }),
            successor: Some(72),
            waiter: Some(1),
            ..Process::default()
        }
    }

    #[test]
    fn a_table_names_the_waiter_and_the_processes_under_it() {
        let text = table(&Found {
            processes: vec![process()],
            silent: vec![70],
        });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("1    waiter"), "{text}");
        assert!(
            lines[2].starts_with("71   handing over  1h 2m  1.2.3"),
            "{text}"
        );
        assert!(
            lines[2].ends_with(r"GET /a\u{1b}[2J from 127.0.0.1:5, 7.2s"),
            "{text}"
        );
        assert!(lines[3].starts_with("70   no answer"), "{text}");
        assert_eq!(
            lines[4],
            "71: listens on 127.0.0.1:8080; upgrades to 72, has handed over 9 connections"
        );
    }

    #[test]
    fn a_line_of_progress_is_one_line() {
        let expected = r"handing over (pid 71): 3 active, 9 idle connections, 9 handed over; longest GET /a\u{1b}[2J for 7.2s";
        assert_eq!(progress(&process()), expected);
    }

    #[test]
    fn programs_get_one_object_a_line() {
        let text = as_json(&Found {
            processes: vec![process()],
            silent: vec![],
        });
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["waiter"], &value["processes"][0]["pid"]),
            (&1.into(), &71.into())
        );
        assert!(text.ends_with("}\n") && value.get("silent").is_none());
    }
}
