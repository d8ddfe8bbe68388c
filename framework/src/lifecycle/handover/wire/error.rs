//! Why a datagram is no message, and how that is said.

use std::fmt;

use super::MAX_BYTES;

/// Why a datagram is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    /// The first datagram is no greeting: whoever sent it does not speak this at all.
    Foreign,
    /// It is longer than any message.
    Oversize,
    /// It ends before its last field does.
    Truncated,
    /// It goes on after its last field.
    Trailing { bytes: usize },
    /// It begins with a tag that this version does not know.
    UnknownTag(u8),
    /// It has no byte at all.
    Empty,
    /// It brought another number of descriptors than belong to it.
    Descriptors { belong: usize, came: usize },
    /// The kernel could not deliver all descriptors that were sent with it.
    DescriptorsLost,
    /// A text is not UTF-8.
    NotText,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Foreign => f.write_str("the first message is no greeting of slackwater's handover"),
            WireError::Oversize => write!(f, "a message of more than {MAX_BYTES} bytes"),
            WireError::Truncated => f.write_str("a message that ends too early"),
            WireError::Trailing { bytes } => write!(f, "a message with {bytes} bytes too many"),
            WireError::UnknownTag(tag) => write!(f, "a message of an unknown kind ({tag})"),
            WireError::Empty => f.write_str("an empty message"),
            WireError::Descriptors { belong, came } => {
                write!(f, "a message with {came} descriptors instead of {belong}")
            }
            WireError::DescriptorsLost => f.write_str(
                "descriptors were lost: more were sent than a message carries or than this process may open \
                 (RLIMIT_NOFILE)",
            ),
            WireError::NotText => f.write_str("a message with a text that is not UTF-8"),
        }
    }
}

impl std::error::Error for WireError {}
