//! Heads and targets, from bytes to answers: whole or split anywhere, the answers are the same, and nothing panics.
//!
//! ```text
//! tests/fuzz/run 60 head
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| slackwater::fuzz::head(input));
