//! The messages that two generations of a process exchange, as bytes: no I/O, no clock, nothing else of the crate.
//!
//! A message is one datagram: a tag, then its fields in the order in which they are declared, integers little-endian,
//! text and bytes after a `u32` that says how long they are. Descriptors travel beside the bytes (`SCM_RIGHTS`,
//! unix(7)), and a message says how many of them belong to it.
//!
//! Only [`Message::Hello`] is readable across versions: it begins with [`MAGIC`] in place of a tag, and its fields stay
//! where they are. A later version may add to its end, which an earlier one does not read.

mod error;
mod fields;

use std::fmt;

pub(crate) use self::error::WireError;
use self::fields::{put_bytes, Reader};

/// The version of everything but the greeting, which says it.
pub(crate) const VERSION: u16 = 1;

/// A capability in a greeting: whoever says it understands [`Message::Counted`].
pub(crate) const COUNTS: u32 = 1;

/// How many descriptors one message can carry: Linux' own limit (`SCM_MAX_FD`, unix(7)).
pub(crate) const MAX_FDS: usize = 253;

/// How long a message can be, in bytes. It has to fit into a socket's send buffer (`net.core.wmem_default`, 208 KiB).
pub(crate) const MAX_BYTES: usize = 128 * 1024;

/// What a greeting begins with. No tag is its first byte.
const MAGIC: [u8; 8] = *b"slackwtr";

/// What one generation says to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// First in each direction. What follows one of another `version` cannot be understood.
    Hello {
        version: u16,
        capabilities: u32,
        pid: u32,
    },
    /// New to old: built and checked, nothing is missing but the word.
    Ready,
    /// New to old: cannot go live. What does not fit into a message is cut from the end of `why`.
    Failed { why: String },
    /// Old to new: go live. Carries one descriptor, the file of the claims.
    Live,
    /// The same, but the old one goes on accepting as well until it confirms.
    Share,
    /// Old to new: do not go live.
    Cancel,
    /// New to old: connections are being accepted.
    Accepting,
    /// From who leaves to who accepts. Carries the sockets, in the order of the entries.
    Connections(Vec<Travelling>),
    /// The answer to `Connections`: how many have been taken since the greeting.
    Taken { count: u64 },
    /// Old to new: say `Alive` once all that came before this is done.
    Probe,
    /// The answer to it.
    Alive,
    /// Old to new, where its greeting had [`COUNTS`]: what the old one has counted so far, or a piece of that.
    Counted { piece: String },
    /// Old to new: stop, and give back what you were given.
    Recall,
    /// New to old: I was told to stop; my end is no death. After `Share` or `Recall` it gives its connections back.
    Stopping,
    /// Old to new: there is no way back any more.
    Confirmed,
    /// Old to new: hear what an older process still gives, of whom `count` connections have been taken. Carries one
    /// descriptor, the channel to it.
    Elder { count: u64 },
    /// New to old: another process is at this end of the channel from now on.
    Moved,
}

/// A connection on its way from one process to another, without its socket.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Travelling {
    /// Its place in the claims.
    pub(crate) claim: u32,
    /// The client's address.
    pub(crate) peer: String,
    /// The address that it came in by.
    pub(crate) local: String,
    /// How long ago it was accepted, in milliseconds.
    pub(crate) accepted_ago: u64,
    /// How long its head has been coming, in milliseconds; without a head, how long it has been silent.
    pub(crate) since_ago: u64,
    /// What has been read of it and not been answered.
    pub(crate) head: Vec<u8>,
}

/// What stands for a message's kind in its first byte.
mod tag {
    pub(super) const READY: u8 = 1;
    pub(super) const FAILED: u8 = 2;
    pub(super) const LIVE: u8 = 3;
    pub(super) const CANCEL: u8 = 4;
    pub(super) const ACCEPTING: u8 = 5;
    pub(super) const CONNECTIONS: u8 = 6;
    pub(super) const TAKEN: u8 = 7;
    pub(super) const STOPPING: u8 = 8;
    pub(super) const CONFIRMED: u8 = 9;
    pub(super) const SHARE: u8 = 10;
    pub(super) const PROBE: u8 = 11;
    pub(super) const ALIVE: u8 = 12;
    pub(super) const RECALL: u8 = 13;
    pub(super) const COUNTED: u8 = 14;
    pub(super) const ELDER: u8 = 15;
    pub(super) const MOVED: u8 = 16;
}

/// A tag, and the number of entries.
pub(super) const CONNECTIONS_HEADER: usize = 1 + 2;

/// An entry without its texts and its head.
const ENTRY_FIXED: usize = 4 + 4 + 4 + 8 + 8 + 4;

/// What text [`Message::Failed`] has room for, beside its tag and the length.
const MAX_WHY: usize = MAX_BYTES - 1 - 4;

impl Message {
    /// What kind of message it is, for a log: the rest may be long, and is the client's.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Message::Hello { .. } => "Hello",
            Message::Ready => "Ready",
            Message::Failed { .. } => "Failed",
            Message::Live => "Live",
            Message::Share => "Share",
            Message::Cancel => "Cancel",
            Message::Accepting => "Accepting",
            Message::Connections(_) => "Connections",
            Message::Taken { .. } => "Taken",
            Message::Probe => "Probe",
            Message::Recall => "Recall",
            Message::Alive => "Alive",
            Message::Counted { .. } => "Counted",
            Message::Stopping => "Stopping",
            Message::Confirmed => "Confirmed",
            Message::Elder { .. } => "Elder",
            Message::Moved => "Moved",
        }
    }

    /// The number of descriptors that belong to it.
    pub(crate) fn descriptors(&self) -> usize {
        match self {
            Message::Live | Message::Share | Message::Elder { .. } => 1,
            Message::Connections(entries) => entries.len(),
            Message::Hello { .. }
            | Message::Ready
            | Message::Failed { .. }
            | Message::Cancel
            | Message::Accepting
            | Message::Taken { .. }
            | Message::Probe
            | Message::Recall
            | Message::Alive
            | Message::Counted { .. }
            | Message::Stopping
            | Message::Confirmed
            | Message::Moved => 0,
        }
    }

    /// The datagram.
    ///
    /// [`Connections`](Message::Connections) alone can come out longer than [`MAX_BYTES`], which no channel sends; a
    /// batch never packs so much.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Message::Hello {
                version,
                capabilities,
                pid,
            } => {
                let mut bytes = MAGIC.to_vec();
                bytes.extend(version.to_le_bytes());
                bytes.extend(capabilities.to_le_bytes());
                bytes.extend(pid.to_le_bytes());
                bytes
            }
            Message::Ready => vec![tag::READY],
            Message::Failed { why } => with_text(tag::FAILED, beginning(why, MAX_WHY)),
            Message::Live => vec![tag::LIVE],
            Message::Share => vec![tag::SHARE],
            Message::Probe => vec![tag::PROBE],
            Message::Elder { count } => with_number(tag::ELDER, *count),
            Message::Moved => vec![tag::MOVED],
            Message::Recall => vec![tag::RECALL],
            Message::Alive => vec![tag::ALIVE],
            Message::Counted { piece } => with_text(tag::COUNTED, piece),
            Message::Cancel => vec![tag::CANCEL],
            Message::Accepting => vec![tag::ACCEPTING],
            Message::Connections(entries) => encode_connections(entries),
            Message::Taken { count } => with_number(tag::TAKEN, *count),
            Message::Stopping => vec![tag::STOPPING],
            Message::Confirmed => vec![tag::CONFIRMED],
        }
    }

    /// Reads the first datagram of a channel, which has to be a greeting.
    ///
    /// # Errors
    /// [`WireError::Foreign`] if it is not even the beginning of one, and all errors of [`decode`](Message::decode).
    pub(crate) fn decode_first(datagram: &[u8], fds: usize) -> Result<Message, WireError> {
        if datagram.starts_with(&MAGIC) {
            Message::decode(datagram, fds)
        } else {
            Err(WireError::Foreign)
        }
    }

    /// Reads a datagram that came with `fds` descriptors.
    ///
    /// # Errors
    /// It is not exactly one message of this version, with the descriptors that belong to it. A greeting of another
    /// version is one too.
    pub(crate) fn decode(datagram: &[u8], fds: usize) -> Result<Message, WireError> {
        if datagram.len() > MAX_BYTES {
            return Err(WireError::Oversize);
        }
        let mut rest = Reader(datagram);
        if let Some(greeting) = datagram.strip_prefix(&MAGIC) {
            rest = Reader(greeting);
            let (version, capabilities, pid) = (rest.u16()?, rest.u32()?, rest.u32()?);
            let hello = Message::Hello {
                version,
                capabilities,
                pid,
            };
            // what another version adds is for those who speak it
            return if version == VERSION {
                rest.end(hello, fds)
            } else {
                Ok(hello)
            };
        }
        let message = match rest.u8().map_err(|_| WireError::Empty)? {
            tag::READY => Message::Ready,
            tag::FAILED => Message::Failed { why: rest.text()? },
            tag::LIVE => Message::Live,
            tag::SHARE => Message::Share,
            tag::PROBE => Message::Probe,
            tag::ELDER => Message::Elder { count: rest.u64()? },
            tag::MOVED => Message::Moved,
            tag::RECALL => Message::Recall,
            tag::ALIVE => Message::Alive,
            tag::COUNTED => Message::Counted {
                piece: rest.text()?,
            },
            tag::CANCEL => Message::Cancel,
            tag::ACCEPTING => Message::Accepting,
            tag::CONNECTIONS => Message::Connections(rest.connections(fds)?),
            tag::TAKEN => Message::Taken { count: rest.u64()? },
            tag::STOPPING => Message::Stopping,
            tag::CONFIRMED => Message::Confirmed,
            unknown => return Err(WireError::UnknownTag(unknown)),
        };
        rest.end(message, fds)
    }
}

fn with_number(tag: u8, number: u64) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(number.to_le_bytes());
    bytes
}

fn with_text(tag: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![tag];
    put_bytes(&mut bytes, text.as_bytes());
    bytes
}

fn encode_connections(entries: &[Travelling]) -> Vec<u8> {
    let size = entries.iter().map(Travelling::size).sum::<usize>();
    let mut bytes = Vec::with_capacity(CONNECTIONS_HEADER + size);
    bytes.push(tag::CONNECTIONS);
    // more than fit into the number fit into no message either
    let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
    bytes.extend(count.to_le_bytes());
    for entry in entries {
        entry.put(&mut bytes);
    }
    bytes
}

impl Travelling {
    /// The bytes that it takes in a message.
    pub(super) fn size(&self) -> usize {
        ENTRY_FIXED + self.peer.len() + self.local.len() + self.head.len()
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.claim.to_le_bytes());
        put_bytes(bytes, self.peer.as_bytes());
        put_bytes(bytes, self.local.as_bytes());
        bytes.extend(self.accepted_ago.to_le_bytes());
        bytes.extend(self.since_ago.to_le_bytes());
        put_bytes(bytes, &self.head);
    }
}

/// Without what the client has sent: a log is no place for its cookies.
impl fmt::Debug for Travelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Travelling")
            .field("claim", &self.claim)
            .field("peer", &self.peer)
            .field("local", &self.local)
            .field("accepted_ago", &self.accepted_ago)
            .field("since_ago", &self.since_ago)
            .field("head", &format_args!("{} bytes", self.head.len()))
            .finish()
    }
}

/// As much of a text as fits into so many bytes, in whole characters.
fn beginning(text: &str, most: usize) -> &str {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=most.min(text.len())).rev().find(fits).unwrap_or(0);
    &text[..end]
}

impl Reader<'_> {
    fn connections(&mut self, fds: usize) -> Result<Vec<Travelling>, WireError> {
        let count = usize::from(self.u16()?);
        if count != fds {
            return Err(WireError::Descriptors {
                belong: count,
                came: fds,
            });
        }
        // before room is made for them: a count is only a claim
        if count > self.0.len() / ENTRY_FIXED {
            return Err(WireError::Truncated);
        }
        (0..count).map(|_| self.entry()).collect()
    }

    fn entry(&mut self) -> Result<Travelling, WireError> {
        Ok(Travelling {
            claim: self.u32()?,
            peer: self.text()?,
            local: self.text()?,
            accepted_ago: self.u64()?,
            since_ago: self.u64()?,
            head: self.bytes()?.to_vec(),
        })
    }

    /// The message, if nothing is left and no descriptor is missing or too many.
    fn end(self, message: Message, fds: usize) -> Result<Message, WireError> {
        let belong = message.descriptors();
        if !self.0.is_empty() {
            Err(WireError::Trailing {
                bytes: self.0.len(),
            })
        } else if belong != fds {
            Err(WireError::Descriptors { belong, came: fds })
        } else {
            Ok(message)
        }
    }
}
