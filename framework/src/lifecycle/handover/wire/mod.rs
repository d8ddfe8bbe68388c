//! The messages between two processes and their encoding. This module does no I/O and reads no clock.
//!
//! A message is one datagram: a tag, and the fields in the order of their declaration. Integers are little-endian. Texts
//! and bytes follow a `u32` with their length. Descriptors are sent beside the bytes (`SCM_RIGHTS`, unix(7)), and a
//! message determines their number.
//!
//! Only [`PeerMessage::Hello`] can be read by other versions: it begins with [`MAGIC`] instead of a tag, and its fields
//! keep their places. A later version may append fields, which an earlier one ignores.

mod error;
mod fields;

use std::fmt;

pub(crate) use self::error::WireError;
use self::fields::{put_bytes, FieldReader};

/// The version of all messages except the greeting.
pub(crate) const VERSION: u16 = 1;

/// A capability in a greeting: the process reads [`PeerMessage::Counted`].
pub(crate) const COUNTS: u32 = 1;

/// The maximum number of descriptors in one message, as in Linux (`SCM_MAX_FD`, unix(7)).
pub(crate) const MAX_FDS: usize = 253;

/// The maximum size of a message in bytes. It has to fit into the send buffer of a socket (`net.core.wmem_default`, 208
/// KiB).
pub(crate) const MAX_BYTES: usize = 128 * 1024;

/// The first bytes of a greeting. No tag equals the first of them.
const MAGIC: [u8; 8] = *b"slackwtr";

/// A message between the old process and the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerMessage {
    /// The first message in each direction. Messages that follow a greeting with another `version` cannot be read.
    Hello {
        version: u16,
        capabilities: u32,
        pid: u32,
    },
    /// New → old: the generation is built and can go live.
    Ready,
    /// New → old: the process cannot go live. A `reason` that does not fit into a message is truncated.
    Failed { reason: String },
    /// Old → new: go live. Carries one descriptor, the claims.
    Live,
    /// Old → new: as `Live`, but the old process keeps accepting until it confirms.
    Share,
    /// Old → new: do not go live.
    Cancel,
    /// New → old: the process accepts.
    Accepting,
    /// A batch of connections, with their sockets in the order of the records.
    Connections(Vec<ConnectionRecord>),
    /// The answer to `Connections`: the number of connections received since the greeting.
    Ack { count: u64 },
    /// Old → new: answer with `Alive` once all earlier messages were processed.
    Probe,
    /// New → old: the answer to `Probe`.
    Alive,
    /// Old → new, if the greeting of the new process had [`COUNTS`]: the counters of the old process, or some of them.
    Counted { piece: String },
    /// Old → new: stop, and return the connections.
    Recall,
    /// New → old: stopping on request; the exit that follows is not a failure. After `Share` or `Recall` the connections
    /// return to the old process.
    Stopping,
    /// Old → new: the upgrade is confirmed and can no longer be rolled back.
    Confirmed,
    /// Old → new: read the messages of an earlier process, from which `count` connections have been received. Carries one
    /// descriptor, the channel to that process.
    OlderPeer { count: u64 },
    /// New → old: another process reads this end of the channel from now on.
    Moved,
}

/// The state of a connection that is sent to another process beside its socket.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ConnectionRecord {
    /// The index of the connection in the claims.
    pub(crate) claim: u32,
    /// The client's address.
    pub(crate) peer: String,
    /// The local address of the connection.
    pub(crate) local: String,
    /// The time since the connection was accepted, in milliseconds.
    pub(crate) accepted_ago: u64,
    /// The time since the first byte of the request head, or since the last response if there is no head, in milliseconds.
    pub(crate) since_ago: u64,
    /// Bytes that were read and belong to the next request.
    pub(crate) head: Vec<u8>,
}

/// The first byte of each kind of message.
mod tag {
    pub(super) const READY: u8 = 1;
    pub(super) const FAILED: u8 = 2;
    pub(super) const LIVE: u8 = 3;
    pub(super) const CANCEL: u8 = 4;
    pub(super) const ACCEPTING: u8 = 5;
    pub(super) const CONNECTIONS: u8 = 6;
    pub(super) const ACK: u8 = 7;
    pub(super) const STOPPING: u8 = 8;
    pub(super) const CONFIRMED: u8 = 9;
    pub(super) const SHARE: u8 = 10;
    pub(super) const PROBE: u8 = 11;
    pub(super) const ALIVE: u8 = 12;
    pub(super) const RECALL: u8 = 13;
    pub(super) const COUNTED: u8 = 14;
    pub(super) const OLDER_PEER: u8 = 15;
    pub(super) const MOVED: u8 = 16;
}

/// The size of a tag and the number of records.
pub(super) const CONNECTIONS_HEADER: usize = 1 + 2;

/// The size of a record without its texts and its head.
const RECORD_FIXED: usize = 4 + 4 + 4 + 8 + 8 + 4;

/// The maximum size of the text in [`PeerMessage::Failed`], after its tag and length.
const MAX_REASON: usize = MAX_BYTES - 1 - 4;

impl PeerMessage {
    /// Returns the kind of the message for the log. The content may be long, and may hold data of the client.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            PeerMessage::Hello { .. } => "Hello",
            PeerMessage::Ready => "Ready",
            PeerMessage::Failed { .. } => "Failed",
            PeerMessage::Live => "Live",
            PeerMessage::Share => "Share",
            PeerMessage::Cancel => "Cancel",
            PeerMessage::Accepting => "Accepting",
            PeerMessage::Connections(_) => "Connections",
            PeerMessage::Ack { .. } => "Ack",
            PeerMessage::Probe => "Probe",
            PeerMessage::Recall => "Recall",
            PeerMessage::Alive => "Alive",
            PeerMessage::Counted { .. } => "Counted",
            PeerMessage::Stopping => "Stopping",
            PeerMessage::Confirmed => "Confirmed",
            PeerMessage::OlderPeer { .. } => "OlderPeer",
            PeerMessage::Moved => "Moved",
        }
    }

    /// Returns the number of descriptors that are sent with the message.
    pub(crate) fn descriptors(&self) -> usize {
        match self {
            PeerMessage::Live | PeerMessage::Share | PeerMessage::OlderPeer { .. } => 1,
            PeerMessage::Connections(records) => records.len(),
            PeerMessage::Hello { .. }
            | PeerMessage::Ready
            | PeerMessage::Failed { .. }
            | PeerMessage::Cancel
            | PeerMessage::Accepting
            | PeerMessage::Ack { .. }
            | PeerMessage::Probe
            | PeerMessage::Recall
            | PeerMessage::Alive
            | PeerMessage::Counted { .. }
            | PeerMessage::Stopping
            | PeerMessage::Confirmed
            | PeerMessage::Moved => 0,
        }
    }

    /// Encodes the message as a datagram.
    ///
    /// Only [`Connections`](PeerMessage::Connections) can exceed [`MAX_BYTES`], and [`Channel::send`](super::Channel::send)
    /// refuses such a datagram. A [`Batch`](super::Batch) never packs as much.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            PeerMessage::Hello {
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
            PeerMessage::Ready => vec![tag::READY],
            PeerMessage::Failed { reason } => with_text(tag::FAILED, prefix(reason, MAX_REASON)),
            PeerMessage::Live => vec![tag::LIVE],
            PeerMessage::Share => vec![tag::SHARE],
            PeerMessage::Probe => vec![tag::PROBE],
            PeerMessage::OlderPeer { count } => with_number(tag::OLDER_PEER, *count),
            PeerMessage::Moved => vec![tag::MOVED],
            PeerMessage::Recall => vec![tag::RECALL],
            PeerMessage::Alive => vec![tag::ALIVE],
            PeerMessage::Counted { piece } => with_text(tag::COUNTED, piece),
            PeerMessage::Cancel => vec![tag::CANCEL],
            PeerMessage::Accepting => vec![tag::ACCEPTING],
            PeerMessage::Connections(records) => encode_connections(records),
            PeerMessage::Ack { count } => with_number(tag::ACK, *count),
            PeerMessage::Stopping => vec![tag::STOPPING],
            PeerMessage::Confirmed => vec![tag::CONFIRMED],
        }
    }

    /// Decodes the first datagram of a channel, which has to be a greeting.
    ///
    /// # Errors
    /// [`WireError::Foreign`] if it does not begin with [`MAGIC`], and the errors of [`decode`](PeerMessage::decode).
    pub(crate) fn decode_first(datagram: &[u8], fds: usize) -> Result<PeerMessage, WireError> {
        if datagram.starts_with(&MAGIC) {
            PeerMessage::decode(datagram, fds)
        } else {
            Err(WireError::Foreign)
        }
    }

    /// Decodes a datagram that was received with `fds` descriptors.
    ///
    /// # Errors
    /// The datagram is not exactly one message of this version with its descriptors. A greeting of another version is
    /// accepted.
    pub(crate) fn decode(datagram: &[u8], fds: usize) -> Result<PeerMessage, WireError> {
        if datagram.len() > MAX_BYTES {
            return Err(WireError::Oversize);
        }
        let mut rest = FieldReader(datagram);
        if let Some(greeting) = datagram.strip_prefix(&MAGIC) {
            rest = FieldReader(greeting);
            let (version, capabilities, pid) = (rest.u16()?, rest.u32()?, rest.u32()?);
            let hello = PeerMessage::Hello {
                version,
                capabilities,
                pid,
            };
            // another version may have appended fields
            return if version == VERSION {
                rest.end(hello, fds)
            } else {
                Ok(hello)
            };
        }
        let message = match rest.u8().map_err(|_| WireError::Empty)? {
            tag::READY => PeerMessage::Ready,
            tag::FAILED => PeerMessage::Failed {
                reason: rest.text()?,
            },
            tag::LIVE => PeerMessage::Live,
            tag::SHARE => PeerMessage::Share,
            tag::PROBE => PeerMessage::Probe,
            tag::OLDER_PEER => PeerMessage::OlderPeer { count: rest.u64()? },
            tag::MOVED => PeerMessage::Moved,
            tag::RECALL => PeerMessage::Recall,
            tag::ALIVE => PeerMessage::Alive,
            tag::COUNTED => PeerMessage::Counted {
                piece: rest.text()?,
            },
            tag::CANCEL => PeerMessage::Cancel,
            tag::ACCEPTING => PeerMessage::Accepting,
            tag::CONNECTIONS => PeerMessage::Connections(rest.connections(fds)?),
            tag::ACK => PeerMessage::Ack { count: rest.u64()? },
            tag::STOPPING => PeerMessage::Stopping,
            tag::CONFIRMED => PeerMessage::Confirmed,
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

fn encode_connections(records: &[ConnectionRecord]) -> Vec<u8> {
    let size = records.iter().map(ConnectionRecord::size).sum::<usize>();
    let mut bytes = Vec::with_capacity(CONNECTIONS_HEADER + size);
    bytes.push(tag::CONNECTIONS);
    // a number that overflows belongs to a message that exceeds MAX_BYTES, which is not sent
    let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
    bytes.extend(count.to_le_bytes());
    for record in records {
        record.put(&mut bytes);
    }
    bytes
}

impl ConnectionRecord {
    /// Returns the size of the record in a message, in bytes.
    pub(super) fn size(&self) -> usize {
        RECORD_FIXED + self.peer.len() + self.local.len() + self.head.len()
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

/// Omits the bytes of the client, because they may contain secrets and the output is logged.
impl fmt::Debug for ConnectionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionRecord")
            .field("claim", &self.claim)
            .field("peer", &self.peer)
            .field("local", &self.local)
            .field("accepted_ago", &self.accepted_ago)
            .field("since_ago", &self.since_ago)
            .field("head", &format_args!("{} bytes", self.head.len()))
            .finish()
    }
}

/// Returns the longest prefix of at most `max` bytes that ends at a character boundary.
fn prefix(text: &str, max: usize) -> &str {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=max.min(text.len())).rev().find(fits).unwrap_or(0);
    &text[..end]
}

impl FieldReader<'_> {
    fn connections(&mut self, fds: usize) -> Result<Vec<ConnectionRecord>, WireError> {
        let count = usize::from(self.u16()?);
        if count != fds {
            return Err(WireError::Descriptors {
                expected: count,
                received: fds,
            });
        }
        // checked before memory is allocated, because the number of records is not trustworthy
        if count > self.0.len() / RECORD_FIXED {
            return Err(WireError::Truncated);
        }
        (0..count).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> Result<ConnectionRecord, WireError> {
        Ok(ConnectionRecord {
            claim: self.u32()?,
            peer: self.text()?,
            local: self.text()?,
            accepted_ago: self.u64()?,
            since_ago: self.u64()?,
            head: self.bytes()?.to_vec(),
        })
    }

    /// Returns the message if all bytes were read and the number of descriptors is right.
    fn end(self, message: PeerMessage, fds: usize) -> Result<PeerMessage, WireError> {
        let expected = message.descriptors();
        if !self.0.is_empty() {
            Err(WireError::Trailing {
                bytes: self.0.len(),
            })
        } else if expected != fds {
            Err(WireError::Descriptors {
                expected,
                received: fds,
            })
        } else {
            Ok(message)
        }
    }
}
