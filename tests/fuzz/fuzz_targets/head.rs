//! Request heads and targets: the answers do not depend on how the bytes are split, and nothing panics.
//!
//! ```text
//! tests/fuzz/run 60 head
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| slackwater::fuzz::head(input));
