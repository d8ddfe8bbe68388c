//! The errors of decoding.

use std::fmt;

use super::MAX_BYTES;

/// The reason why a datagram is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    /// The first datagram is not a greeting: the sender is a foreign program.
    Foreign,
    /// The datagram is longer than any message.
    Oversize,
    /// The datagram ends before its last field.
    Truncated,
    /// The datagram continues after its last field.
    Trailing { bytes: usize },
    /// The tag is unknown in this version.
    UnknownTag(u8),
    /// The datagram has no bytes.
    Empty,
    /// The datagram was received with a wrong number of descriptors.
    Descriptors { expected: usize, received: usize },
    /// The kernel could not deliver all descriptors that were sent with the datagram.
    DescriptorsLost,
    /// A text is not UTF-8.
    NotText,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Foreign => {
                f.write_str("the first message is not a greeting of slackwater's handover")
            }
            WireError::Oversize => write!(f, "the message is longer than {MAX_BYTES} bytes"),
            WireError::Truncated => f.write_str("the message is truncated"),
            WireError::Trailing { bytes } => write!(f, "the message is {bytes} bytes too long"),
            WireError::UnknownTag(tag) => write!(f, "the kind of the message is unknown ({tag})"),
            WireError::Empty => f.write_str("the message is empty"),
            WireError::Descriptors { expected, received } => {
                write!(
                    f,
                    "the message has {received} descriptors instead of {expected}"
                )
            }
            WireError::DescriptorsLost => f.write_str(
                "descriptors were lost: more were sent than a message can carry or than this process may open \
                 (RLIMIT_NOFILE)",
            ),
            WireError::NotText => f.write_str("a text in the message is not UTF-8"),
        }
    }
}

impl std::error::Error for WireError {}
