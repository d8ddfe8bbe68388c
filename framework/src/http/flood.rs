//! Detects HTTP/2 clients that send many frames without effect.
//!
//! The server acknowledges each PING and SETTINGS (CVE-2019-9512, CVE-2019-9515), processes each PRIORITY
//! (CVE-2019-9513), and skips frames of unknown types (RFC 9113, section 5.5). Such a frame costs little, but a client
//! that sends hardly anything else is an attack on the server's time. The crate h2 limits the frames of requests, and
//! the streams that are reset before they are accepted. [`super::h2`] limits the streams that are reset later.

use super::clock::{now, Millis};

/// Idle frames that a client may send within [`PERIOD`]. More are a flood, unless the server sent more than twice their
/// bytes in that time: acknowledgements are at most as long as the frames.
const MAX_IDLE_FRAMES: u32 = 1000;
const PERIOD: Millis = 10_000;

/// Frame types (RFC 9113, section 6). Frames of all other types are idle frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// The length of the preface, which precedes the first frame.
const PREFACE: usize = 24;

/// The length of a frame's header.
const HEADER: usize = 9;

/// Counts the idle frames of one client by their headers.
#[derive(Debug)]
pub(super) struct FrameCounter {
    /// Bytes of the current frame, or of the preface, that are still to come.
    remaining: usize,
    header: [u8; HEADER],
    /// Bytes of the next frame's header that were received.
    received: usize,
    /// The start of the period that is counted.
    since: Millis,
    idle: u32,
    idle_bytes: u64,
    sent_bytes: u64,
}

impl FrameCounter {
    pub(super) fn new() -> Self {
        FrameCounter {
            remaining: PREFACE,
            header: [0; HEADER],
            received: 0,
            since: now(),
            idle: 0,
            idle_bytes: 0,
            sent_bytes: 0,
        }
    }

    /// Counts bytes that were sent to the client.
    pub(super) fn count_sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
    }

    /// Counts the frames in bytes that were received from the client.
    pub(super) fn count_received(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.remaining.min(bytes.len());
            self.remaining -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER - self.received).min(bytes.len());
            self.header[self.received..][..taken].copy_from_slice(&bytes[..taken]);
            self.received += taken;
            bytes = &bytes[taken..];
            if self.received == HEADER {
                self.count_frame();
            }
        }
    }

    /// Counts the frame whose header is complete.
    fn count_frame(&mut self) {
        let [a, b, c, kind, ..] = self.header;
        self.received = 0;
        self.remaining = u32::from_be_bytes([0, a, b, c]) as usize;
        if matches!(
            kind,
            DATA | HEADERS | RST_STREAM | WINDOW_UPDATE | CONTINUATION
        ) {
            return;
        }
        let now = now();
        if now > self.since.saturating_add(PERIOD) {
            (self.since, self.idle, self.idle_bytes, self.sent_bytes) = (now, 0, 0, 0);
        }
        self.idle += 1;
        self.idle_bytes += (HEADER + self.remaining) as u64;
    }

    /// Returns true if the client sends hardly anything but idle frames.
    pub(super) fn is_flood(&self) -> bool {
        self.idle > MAX_IDLE_FRAMES && self.sent_bytes <= 2 * self.idle_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 0];
        frame.resize(HEADER + usize::from(length), b'x');
        frame
    }

    fn count(frames: &[Vec<u8>]) -> FrameCounter {
        let mut counter = FrameCounter::new();
        counter.count_received(&[vec![b'P'; PREFACE], frames.concat()].concat());
        counter
    }

    #[test]
    fn a_thousand_idle_frames_are_accepted_and_one_more_is_a_flood() {
        let mut counter = count(&vec![frame(6, 8); 1000]);
        assert!(!counter.is_flood());
        counter.count_received(&frame(4, 0));
        assert!(counter.is_flood());
    }

    #[test]
    fn frames_of_requests_are_no_flood() {
        for kind in [DATA, HEADERS, RST_STREAM, WINDOW_UPDATE, CONTINUATION] {
            assert!(!count(&vec![frame(kind, 4); 5000]).is_flood(), "{kind}");
        }
    }

    #[test]
    fn a_client_that_receives_much_may_send_many_pings() {
        let mut counter = count(&vec![frame(6, 8); 1001]);
        counter.count_sent(1001 * 17);
        assert!(
            counter.is_flood(),
            "the server has sent no more than acknowledgements"
        );
        counter.count_sent(1001 * 17 + 1);
        assert!(!counter.is_flood());
    }

    proptest! {
        #[test]
        fn frames_are_counted_alike_for_any_split_of_their_bytes(
            frames in proptest::collection::vec((0u8..12, any::<u8>()), 0..20),
            size in 1usize..40,
        ) {
            let frames: Vec<_> = frames.into_iter().map(|(kind, length)| frame(kind, length)).collect();
            let whole = count(&frames);
            let mut split = FrameCounter::new();
            for piece in [vec![b'P'; PREFACE], frames.concat()].concat().chunks(size) {
                split.count_received(piece);
            }
            prop_assert_eq!((whole.idle, whole.idle_bytes), (split.idle, split.idle_bytes));
        }

        #[test]
        fn any_bytes_are_counted_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            FrameCounter::new().count_received(&bytes);
        }
    }
}
