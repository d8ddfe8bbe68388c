//! Lines at the control socket: any bytes are refused or understood, never a panic; what is understood is said again the
//! same, on one line.
//!
//! ```text
//! tests/fuzz/run 60 control
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the reader is tried, not all of the module")]
#[path = "../../../framework/src/control/protocol.rs"]
mod protocol;

use protocol::{line, ControlRequest, ControlResponse};

fuzz_target!(|input: &[u8]| {
    if let Ok(ask) = ControlRequest::read(input) {
        assert_eq!(ControlRequest::read(&line(&ControlRequest::new(ask))), Ok(ask));
    }
    if let Ok(answer) = serde_json::from_slice::<ControlResponse>(input) {
        let said = line(&answer);
        assert_eq!(said.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(serde_json::from_slice::<ControlResponse>(&said).unwrap(), answer);
    }
});
