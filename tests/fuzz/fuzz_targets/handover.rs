//! Messages of the handover protocol: any bytes are parsed or rejected without a panic. A parsed message is encoded in the
//! same bytes again.
//!
//! ```text
//! tests/fuzz/run 60 handover
//! ```
//!
//! The first byte of an input is the number of descriptors that are received with the datagram; the rest is the datagram.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the target uses only a part of the module")]
#[path = "../../../framework/src/lifecycle/handover/wire/mod.rs"]
mod wire;

use wire::{PeerMessage, VERSION};

fuzz_target!(|input: &[u8]| {
    let Some((fds, datagram)) = input.split_first() else {
        return;
    };
    let fds = usize::from(*fds);
    let first = PeerMessage::decode_first(datagram, fds);
    let Ok(message) = PeerMessage::decode(datagram, fds) else {
        assert!(first.is_err());
        return;
    };
    let encoded = message.encode();
    match message {
        // the greeting of another version may have more fields at its end
        PeerMessage::Hello { version, .. } if version != VERSION => {
            assert!(datagram.starts_with(&encoded))
        }
        _ => assert_eq!(encoded, datagram),
    }
    assert_eq!(first.is_ok(), matches!(message, PeerMessage::Hello { .. }));
});
