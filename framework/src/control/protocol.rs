//! What a command and a running process say to each other: one JSON object a line, no I/O.
//!
//! ```text
//! command: {"slackwater":1,"ask":"upgrade"}
//! process: {"progress":{"pid":71,"phase":"upgrading",…}}      as often as it likes
//! process: {"done":"upgraded: …"}  or  {"failed":"…"}  or  {"status":{…}}
//! ```
//!
//! The version is the request's. Within a version members are only added, and those that are unknown are ignored.

use serde::{Deserialize, Serialize};

/// The version that is spoken here.
pub(crate) const VERSION: u32 = 1;

/// How long a line may be: no request is nearly as long, no status either.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// What can be asked of a running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
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

/// A line from a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Request {
    slackwater: u32,
    ask: Ask,
}

/// A line from a process. Only `Progress` is followed by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It is not over; how the process stands meanwhile.
    Progress(Box<Process>),
    Status(Box<Process>),
    Done(String),
    Failed(String),
}

/// How a process stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// The application's version.
    pub(crate) build: String,
    /// When the program's file was written, in seconds since 1970: it tells two builds of one version apart.
    pub(crate) built: Option<u64>,
    /// The generation that answers: 1 at start, one more with each reload; 0 before the first.
    pub(crate) generation: u64,
    pub(crate) phase: String,
    pub(crate) uptime_ms: u64,
    pub(crate) listening: Vec<String>,
    pub(crate) connections: ConnectionCounts,
    /// Requests since the start of the process.
    pub(crate) requests: u64,
    pub(crate) oldest_request: Option<OldestRequest>,
    /// The new process of an upgrade that is under way, or has been.
    pub(crate) successor: Option<u32>,
    /// The first process, if it has stayed for those who watch its pid.
    pub(crate) waiter: Option<u32>,
}

/// ConnectionCounts by what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConnectionCounts {
    /// With a request that is being answered.
    pub(crate) active: usize,
    /// Between two requests, or before the first, and ready for the next.
    pub(crate) idle: usize,
    /// Silent for so long that nothing but the socket is kept of them.
    pub(crate) parked: usize,
    /// Of another protocol, after a 101.
    pub(crate) tunnels: usize,
    /// Received from the process before this one, since its start.
    pub(crate) taken: u64,
    /// Given to the process after this one.
    pub(crate) given: u64,
}

/// The request that has been in the works for the longest time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OldestRequest {
    /// Method and path.
    pub(crate) request: String,
    pub(crate) peer: String,
    pub(crate) age_ms: u64,
}

/// A request before it is known to be one.
#[derive(Deserialize)]
struct Raw {
    slackwater: u32,
    ask: String,
}

impl Request {
    pub(crate) fn new(ask: Ask) -> Self {
        Request {
            slackwater: VERSION,
            ask,
        }
    }

    /// Reads a line, and gives what is asked.
    ///
    /// # Errors
    /// Why it is no request of this version, for whoever sent it.
    pub(crate) fn read(line: &[u8]) -> Result<Ask, String> {
        let raw: Raw =
            serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))?;
        if raw.slackwater != VERSION {
            let other = raw.slackwater;
            return Err(format!(
                "the running process speaks version {VERSION} of the control protocol, this command version \
                 {other}: use the program that was started"
            ));
        }
        let name = serde_json::Value::String(raw.ask);
        Ask::deserialize(&name)
            .map_err(|_| format!("the running process cannot be asked for {name}"))
    }
}

impl Ask {
    /// As the command is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ask::Status => "status",
            Ask::Reload => "reload",
            Ask::Upgrade => "upgrade",
            Ask::Rollback => "rollback",
            Ask::Pause => "pause",
            Ask::Resume => "resume",
            Ask::Drain => "drain",
            Ask::Stop => "stop",
            Ask::Reopen => "reopen",
        }
    }
}

/// One line, with its end. JSON escapes line breaks, so there is no other in it.
pub(crate) fn line<T: Serialize>(said: &T) -> Vec<u8> {
    // types of numbers and text always serialize
    let mut line = serde_json::to_vec(said).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ASKS: [Ask; 9] = [
        Ask::Status,
        Ask::Reload,
        Ask::Upgrade,
        Ask::Rollback,
        Ask::Pause,
        Ask::Resume,
        Ask::Drain,
        Ask::Stop,
        Ask::Reopen,
    ];

    #[test]
    fn what_is_asked_is_read_as_it_was_meant() {
        for ask in ASKS {
            let line = line(&Request::new(ask));
            assert_eq!(Request::read(&line), Ok(ask));
            assert!(String::from_utf8(line)
                .unwrap()
                .contains(&format!("\"{}\"", ask.name())));
        }
    }

    #[test]
    fn another_version_is_told_which_one_is_spoken() {
        let error = Request::read(br#"{"slackwater":2,"ask":"dance","tempo":120}"#).unwrap_err();
        assert!(
            error.contains("version 1") && error.contains("version 2"),
            "{error}"
        );
        let error = Request::read(br#"{"slackwater":1,"ask":"dance"}"#).unwrap_err();
        assert!(error.contains("dance"), "{error}");
    }

    #[test]
    fn members_that_a_later_version_adds_are_ignored_and_missing_ones_are_nothing() {
        assert_eq!(
            Request::read(br#"{"slackwater":1,"ask":"stop","why":"night"}"#),
            Ok(Ask::Stop)
        );
        let status: Answer = serde_json::from_str(r#"{"status":{"pid":7,"mood":"good"}}"#).unwrap();
        assert_eq!(
            status,
            Answer::Status(Box::new(Process {
                pid: 7,
                ..Process::default()
            }))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::read(&bytes);
        }

        #[test]
        fn an_answer_is_one_line_and_comes_back_the_same(text in ".*", pid: u32, phase in ".*", age_ms: u64) {
            let oldest_request = Some(OldestRequest { request: text.clone(), peer: text.clone(), age_ms });
            let process = Process { pid, phase, oldest_request, ..Process::default() };
            for said in [Answer::Done(text.clone()), Answer::Failed(text), Answer::Status(Box::new(process))] {
                let line = line(&said);
                prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
                prop_assert_eq!(serde_json::from_slice::<Answer>(&line).unwrap(), said);
            }
        }
    }
}
