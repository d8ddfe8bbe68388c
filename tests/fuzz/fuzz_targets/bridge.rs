//! The bridge between hyper and tide: any request, any answer, and what comes out can be sent.
//!
//! ```text
//! tests/fuzz/run 60 bridge
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| slackwater::fuzz::bridge(input));
