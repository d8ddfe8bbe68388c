//! The bridge between hyper and tide: for any request and any answer, the converted answer is valid.
//!
//! ```text
//! tests/fuzz/run 60 bridge
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| slackwater::fuzz::bridge(input));
