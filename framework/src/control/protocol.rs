//! The messages between a command and the running process: one JSON object a line. This module does
//! no I/O.
//!
//! ```text
//! command: {"slackwater":1,"ask":"upgrade"}
//! process: {"progress":{"pid":71,"phase":"upgrading",…}}      any number of times
//! process: {"done":"upgraded: …"}  or  {"failed":"…"}  or  {"status":{…}}
//! ```
//!
//! The request contains the version of the protocol. Within a version, members are only added, and
//! unknown members are ignored.

use serde::{Deserialize, Serialize};

/// The version of the protocol.
pub(crate) const VERSION: u32 = 1;

/// The maximum length of a line. Requests and statuses are much shorter.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// A command to the running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlCommand {
    Status,
    Reload,
    Upgrade,
    Rollback,
    Pause,
    Resume,
    Drain,
    Stop,
    Reopen,
}

/// A request: one line from a command to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ControlRequest {
    slackwater: u32,
    #[serde(rename = "ask")]
    command: ControlCommand,
}

/// A response: one line from the process to a command. Only `Progress` is followed by another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlResponse {
    /// The command is in progress. Contains the current status.
    Progress(Box<ProcessStatus>),
    Status(Box<ProcessStatus>),
    Done(String),
    Failed(String),
}

/// The status of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessStatus {
    pub(crate) pid: u32,
    /// The application's version.
    pub(crate) build: String,
    /// The modification time of the executable, in seconds since 1970. It distinguishes two builds
    /// of one version.
    pub(crate) built: Option<u64>,
    /// The generation of the application: 1 at start, increased by each reload; 0 before the first
    /// is live.
    pub(crate) generation: u64,
    pub(crate) phase: String,
    pub(crate) uptime_ms: u64,
    pub(crate) listening: Vec<String>,
    pub(crate) connections: ConnectionCounts,
    /// Requests since the process started.
    pub(crate) requests: u64,
    pub(crate) oldest_request: Option<OldestRequest>,
    /// The new process of an upgrade, in progress or finished.
    pub(crate) successor: Option<u32>,
    /// The first process of the service, if it stays alive because its parent waits for its pid.
    pub(crate) waiter: Option<u32>,
}

/// Numbers of connections by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConnectionCounts {
    /// Connections with a request in progress.
    pub(crate) active: usize,
    /// Connections that wait for their first or next request.
    pub(crate) idle: usize,
    /// Connections that have been idle for so long that only their socket is kept.
    pub(crate) parked: usize,
    /// Connections that were upgraded to another protocol (status 101).
    pub(crate) tunnels: usize,
    /// Connections received from the old process since the start.
    pub(crate) taken: u64,
    /// Connections handed over to the new process.
    pub(crate) given: u64,
}

/// The request that has been in progress for the longest time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OldestRequest {
    /// Method and path.
    pub(crate) request: String,
    pub(crate) peer: String,
    pub(crate) age_ms: u64,
}

/// A request whose version and command have not been checked yet.
#[derive(Deserialize)]
struct UncheckedRequest {
    slackwater: u32,
    #[serde(rename = "ask")]
    command: String,
}

impl ControlRequest {
    pub(crate) fn new(command: ControlCommand) -> Self {
        ControlRequest {
            slackwater: VERSION,
            command,
        }
    }

    /// Parses a request line and returns its command.
    ///
    /// # Errors
    /// The line is not a request of this version. The text is for the sender.
    pub(crate) fn read(line: &[u8]) -> Result<ControlCommand, String> {
        let unchecked: UncheckedRequest =
            serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))?;
        if unchecked.slackwater != VERSION {
            let other = unchecked.slackwater;
            return Err(format!(
                "the running process uses version {VERSION} of the control protocol, this command uses version \
                 {other}: run the command with the program that was started"
            ));
        }
        let name = serde_json::Value::String(unchecked.command);
        ControlCommand::deserialize(&name)
            .map_err(|_| format!("the running process does not support the command {name}"))
    }
}

impl ControlCommand {
    /// The name of the command.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ControlCommand::Status => "status",
            ControlCommand::Reload => "reload",
            ControlCommand::Upgrade => "upgrade",
            ControlCommand::Rollback => "rollback",
            ControlCommand::Pause => "pause",
            ControlCommand::Resume => "resume",
            ControlCommand::Drain => "drain",
            ControlCommand::Stop => "stop",
            ControlCommand::Reopen => "reopen",
        }
    }
}

/// Serializes a message as one line with a newline. JSON escapes newlines, so the line contains no
/// other.
pub(crate) fn line<T: Serialize>(message: &T) -> Vec<u8> {
    // numbers and text always serialize
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMMANDS: [ControlCommand; 9] = [
        ControlCommand::Status,
        ControlCommand::Reload,
        ControlCommand::Upgrade,
        ControlCommand::Rollback,
        ControlCommand::Pause,
        ControlCommand::Resume,
        ControlCommand::Drain,
        ControlCommand::Stop,
        ControlCommand::Reopen,
    ];

    #[test]
    fn each_command_survives_serialization() {
        for command in COMMANDS {
            let line = line(&ControlRequest::new(command));
            assert_eq!(ControlRequest::read(&line), Ok(command));
            assert!(String::from_utf8(line)
                .unwrap()
                .contains(&format!("\"{}\"", command.name())));
        }
    }

    #[test]
    fn an_error_names_both_versions() {
        let error =
            ControlRequest::read(br#"{"slackwater":2,"ask":"dance","tempo":120}"#).unwrap_err();
        assert!(
            error.contains("version 1") && error.contains("version 2"),
            "{error}"
        );
        let error = ControlRequest::read(br#"{"slackwater":1,"ask":"dance"}"#).unwrap_err();
        assert!(error.contains("dance"), "{error}");
    }

    #[test]
    fn unknown_members_are_ignored_and_missing_members_have_defaults() {
        assert_eq!(
            ControlRequest::read(br#"{"slackwater":1,"ask":"stop","why":"night"}"#),
            Ok(ControlCommand::Stop)
        );
        let status: ControlResponse =
            serde_json::from_str(r#"{"status":{"pid":7,"mood":"good"}}"#).unwrap();
        assert_eq!(
            status,
            ControlResponse::Status(Box::new(ProcessStatus {
                pid: 7,
                ..ProcessStatus::default()
            }))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ControlRequest::read(&bytes);
        }

        #[test]
        fn a_response_is_one_line_and_survives_serialization(text in ".*", pid: u32, phase in ".*", age_ms: u64) {
            let oldest_request = Some(OldestRequest { request: text.clone(), peer: text.clone(), age_ms });
            let process = ProcessStatus { pid, phase, oldest_request, ..ProcessStatus::default() };
            for message in [ControlResponse::Done(text.clone()), ControlResponse::Failed(text), ControlResponse::Status(Box::new(process))] {
                let line = line(&message);
                prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
                prop_assert_eq!(serde_json::from_slice::<ControlResponse>(&line).unwrap(), message);
            }
        }
    }
}
