//! Lines of the control protocol: any bytes are parsed or rejected without a panic. A parsed value is encoded on one line
//! and parses to the same value again.
//!
//! ```text
//! tests/fuzz/run 60 control
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the target uses only a part of the module")]
#[path = "../../../framework/src/control/protocol.rs"]
mod protocol;

use protocol::{line, ControlRequest, ControlResponse};

fuzz_target!(|input: &[u8]| {
    if let Ok(request) = ControlRequest::read(input) {
        assert_eq!(
            ControlRequest::read(&line(&ControlRequest::new(request))),
            Ok(request)
        );
    }
    if let Ok(answer) = serde_json::from_slice::<ControlResponse>(input) {
        let encoded = line(&answer);
        assert_eq!(encoded.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(
            serde_json::from_slice::<ControlResponse>(&encoded).unwrap(),
            answer
        );
    }
});
