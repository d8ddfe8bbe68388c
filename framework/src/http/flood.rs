//! Frames of HTTP/2 that ask for nothing: a client that sends little else is let go.
//!
//! Each PING and each SETTINGS is to be acknowledged (CVE-2019-9512, CVE-2019-9515), each PRIORITY is to be looked at
//! (CVE-2019-9513), and a frame of an unknown kind is to be skipped (RFC 9113, section 5.5). That costs little, and is
//! worth nothing where nothing else happens on the connection. Requests, what belongs to them, and streams that are
//! reset before they are accepted have guards of their own in h2; those that are reset later, in `h2`.

use super::clock::{now, Millis};

/// So many idle frames in so long are nobody's honest business, unless more than twice their bytes were sent to the client
/// meanwhile: acknowledging takes no more than was sent.
const IDLE_FRAMES: u32 = 1000;
const WHILE: Millis = 10_000;

/// RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// The length of the preface, which comes before the first frame, and of a frame's head.
const PREFACE: usize = 24;
const HEAD: usize = 9;

/// What one client has sent lately, by the heads of its frames.
#[derive(Debug)]
pub(super) struct Frames {
    /// How much of the current frame, or of the preface, is still to come.
    rest: usize,
    head: [u8; HEAD],
    /// How much of the next frame's head is there.
    known: usize,
    since: Millis,
    idle: u32,
    idle_bytes: u64,
    sent_bytes: u64,
}

impl Frames {
    pub(super) fn new() -> Self {
        Frames {
            rest: PREFACE,
            head: [0; HEAD],
            known: 0,
            since: now(),
            idle: 0,
            idle_bytes: 0,
            sent_bytes: 0,
        }
    }

    /// These bytes have been sent to the client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
    }

    /// These have come from it.
    pub(super) fn came(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.known).min(bytes.len());
            self.head[self.known..][..taken].copy_from_slice(&bytes[..taken]);
            self.known += taken;
            bytes = &bytes[taken..];
            if self.known == HEAD {
                self.begins();
            }
        }
    }

    /// A frame begins.
    fn begins(&mut self) {
        let [a, b, c, kind, ..] = self.head;
        self.known = 0;
        self.rest = u32::from_be_bytes([0, a, b, c]) as usize;
        if matches!(
            kind,
            DATA | HEADERS | RST_STREAM | WINDOW_UPDATE | CONTINUATION
        ) {
            return;
        }
        let now = now();
        if now > self.since.saturating_add(WHILE) {
            (self.since, self.idle, self.idle_bytes, self.sent_bytes) = (now, 0, 0, 0);
        }
        self.idle += 1;
        self.idle_bytes += (HEAD + self.rest) as u64;
    }

    /// Whether the client does little else.
    pub(super) fn are_a_flood(&self) -> bool {
        self.idle > IDLE_FRAMES && self.sent_bytes <= 2 * self.idle_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 0];
        frame.resize(HEAD + usize::from(length), b'x');
        frame
    }

    fn after(frames: &[Vec<u8>]) -> Frames {
        let mut seen = Frames::new();
        seen.came(&[vec![b'P'; PREFACE], frames.concat()].concat());
        seen
    }

    #[test]
    fn a_thousand_idle_frames_are_borne_and_one_more_is_not() {
        let mut seen = after(&vec![frame(6, 8); 1000]);
        assert!(!seen.are_a_flood());
        seen.came(&frame(4, 0));
        assert!(seen.are_a_flood());
    }

    #[test]
    fn what_belongs_to_requests_is_no_flood() {
        for kind in [DATA, HEADERS, RST_STREAM, WINDOW_UPDATE, CONTINUATION] {
            assert!(!after(&vec![frame(kind, 4); 5000]).are_a_flood(), "{kind}");
        }
    }

    #[test]
    fn a_client_that_is_sent_much_may_ping_much() {
        let mut seen = after(&vec![frame(6, 8); 1001]);
        seen.sent(1001 * 17);
        assert!(
            seen.are_a_flood(),
            "that is no more than the acknowledgements"
        );
        seen.sent(1001 * 17 + 1);
        assert!(!seen.are_a_flood());
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_they_are_split(
            frames in proptest::collection::vec((0u8..12, any::<u8>()), 0..20),
            size in 1usize..40,
        ) {
            let frames: Vec<_> = frames.into_iter().map(|(kind, length)| frame(kind, length)).collect();
            let whole = after(&frames);
            let mut split = Frames::new();
            [vec![b'P'; PREFACE], frames.concat()].concat().chunks(size).for_each(|piece| split.came(piece));
            prop_assert_eq!((whole.idle, whole.idle_bytes), (split.idle, split.idle_bytes));
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            Frames::new().came(&bytes);
        }
    }
}
