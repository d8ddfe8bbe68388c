//! The messages of the handover: any bytes are refused or understood, never a panic; what is understood is said again
//! in the same bytes.
//!
//! ```text
//! tests/fuzz/run 60 handover
//! ```
//!
//! The first byte of an input is the number of descriptors that come with the datagram, which is the rest.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the decoder is tried, not all of the module")]
#[path = "../../../framework/src/lifecycle/handover/wire/mod.rs"]
mod wire;

use wire::{Message, VERSION};

fuzz_target!(|input: &[u8]| {
    let Some((fds, datagram)) = input.split_first() else {
        return;
    };
    let fds = usize::from(*fds);
    let first = Message::decode_first(datagram, fds);
    let Ok(message) = Message::decode(datagram, fds) else {
        assert!(first.is_err());
        return;
    };
    let said = message.encode();
    match message {
        // another version may have added to its greeting what we do not understand
        Message::Hello { version, .. } if version != VERSION => {
            assert!(datagram.starts_with(&said))
        }
        _ => assert_eq!(said, datagram),
    }
    assert_eq!(first.is_ok(), matches!(message, Message::Hello { .. }));
});
