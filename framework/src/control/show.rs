//! The output of commands: tables for people, JSON for programs, and progress on a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;

use super::client::{Client, RunningProcesses};
use super::protocol::{ControlCommand, ProcessStatus, VERSION};
use crate::error::Error;

/// The interval of `status --watch`.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Returns to the start of the line and clears it.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Moves to the top left corner and clears the screen.
const CLEAR_SCREEN: &str = "\x1b[H\x1b[J";

/// Sends a command, shows its progress on a terminal, and returns the text of its result.
///
/// # Errors
/// No process runs, or the command failed. In the latter case the text is that of the process.
pub(crate) fn command(client: &Client, command: ControlCommand) -> Result<String, Error> {
    let mut line = TerminalLine {
        shown: false,
        on_terminal: io::stderr().is_terminal(),
    };
    let outcome = client.send(command, |process| line.show(&progress(process)));
    line.clear();
    Ok(format!("{}\n", outcome?))
}

/// Prints the status of the running processes, once or repeatedly until interrupted or no process
/// runs any more.
///
/// # Errors
/// No process runs, or it belongs to another user.
pub(crate) fn status(client: &Client, json: bool, watch: bool) -> Result<String, Error> {
    let text_of = |running: &RunningProcesses| {
        if json {
            as_json(running)
        } else {
            table(running)
        }
    };
    if !watch {
        return Ok(text_of(&client.status()?));
    }
    loop {
        let text = text_of(&client.status()?);
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
            // the reader of the output is gone
            return Ok(String::new());
        }
        drop(out);
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// The last line of a terminal, which is rewritten with each progress response.
struct TerminalLine {
    shown: bool,
    on_terminal: bool,
}

impl TerminalLine {
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

fn progress(process: &ProcessStatus) -> String {
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
            escape(&oldest.request),
            format_duration(oldest.age_ms)
        );
    }
    text
}

#[derive(Serialize)]
struct StatusReport<'a> {
    slackwater: u32,
    processes: &'a [ProcessStatus],
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    silent: &'a [u32],
    waiter: Option<u32>,
}

fn as_json(running: &RunningProcesses) -> String {
    let report = StatusReport {
        slackwater: VERSION,
        processes: &running.processes,
        silent: &running.silent,
        waiter: running.waiter(),
    };
    // numbers and text always serialize
    format!("{}\n", serde_json::to_string(&report).unwrap_or_default())
}

fn table(running: &RunningProcesses) -> String {
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
    let short_row = |pid: u32, phase: &str| {
        let mut row = [const { String::new() }; 11];
        (row[0], row[1]) = (pid.to_string(), phase.to_owned());
        row
    };
    rows.extend(running.waiter().map(|pid| short_row(pid, "waiter")));
    rows.extend(running.processes.iter().map(row));
    rows.extend(
        running
            .silent
            .iter()
            .map(|pid| short_row(*pid, "no answer")),
    );
    let mut text = align(&rows);
    for process in &running.processes {
        let _ = writeln!(text, "{}", details(process));
    }
    text
}

fn row(process: &ProcessStatus) -> [String; 11] {
    let connections = &process.connections;
    [
        process.pid.to_string(),
        process.phase.replace('_', " "),
        format_duration(process.uptime_ms),
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
                    escape(&oldest.request),
                    escape(&oldest.peer),
                    format_duration(oldest.age_ms)
                )
            }),
    ]
}

fn build(process: &ProcessStatus) -> String {
    let built = process.built.map(|seconds| {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        humantime::format_rfc3339_seconds(time).to_string()
    });
    match built {
        Some(built) => format!("{} of {built}", escape(&process.build)),
        None => escape(&process.build),
    }
}

/// Formats the details for which the table has no column.
fn details(process: &ProcessStatus) -> String {
    let mut text = format!("{}: ", process.pid);
    match process.listening.as_slice() {
        [] => text.push_str("does not listen"),
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

/// Aligns the columns: each is as wide as its widest field and followed by two spaces.
fn align(rows: &[[String; 11]]) -> String {
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

/// Escapes control characters, so that text from a client cannot control the terminal of the
/// operator.
fn escape(text: &str) -> String {
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

/// Formats a duration: `340ms`, `7.2s`, `3m 5s`, `2h 3m`, `4days 1h`.
fn format_duration(ms: u64) -> String {
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

    fn process() -> ProcessStatus {
        ProcessStatus {
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
            ..ProcessStatus::default()
        }
    }

    #[test]
    fn a_table_lists_the_waiter_before_its_processes() {
        let text = table(&RunningProcesses {
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
    fn progress_is_one_line() {
        let expected = r"handing over (pid 71): 3 active, 9 idle connections, 9 handed over; longest GET /a\u{1b}[2J for 7.2s";
        assert_eq!(progress(&process()), expected);
    }

    #[test]
    fn json_output_is_one_object_on_one_line() {
        let text = as_json(&RunningProcesses {
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
