//! The wire format: every message is decoded as it was encoded, and every other datagram is refused.

use proptest::collection::vec;
use proptest::prelude::*;

use super::wire::{
    ConnectionRecord, PeerMessage, WireError, CONNECTIONS_HEADER, MAX_BYTES, MAX_FDS, VERSION,
};

fn any_record() -> impl Strategy<Value = ConnectionRecord> {
    let fields = (
        any::<u32>(),
        ".{0,40}",
        ".{0,40}",
        any::<u64>(),
        any::<u64>(),
        vec(any::<u8>(), 0..300),
    );
    fields.prop_map(
        |(claim, peer, local, accepted_ago, since_ago, head)| ConnectionRecord {
            claim,
            peer,
            local,
            accepted_ago,
            since_ago,
            head,
        },
    )
}

fn any_message() -> impl Strategy<Value = PeerMessage> {
    prop_oneof![
        (any::<u16>(), any::<u32>(), any::<u32>()).prop_map(|(version, capabilities, pid)| {
            PeerMessage::Hello {
                version,
                capabilities,
                pid,
            }
        }),
        Just(PeerMessage::Ready),
        ".{0,200}".prop_map(|reason| PeerMessage::Failed { reason }),
        Just(PeerMessage::Live),
        Just(PeerMessage::Share),
        Just(PeerMessage::Probe),
        any::<u64>().prop_map(|count| PeerMessage::OlderPeer { count }),
        Just(PeerMessage::Moved),
        Just(PeerMessage::Recall),
        Just(PeerMessage::Alive),
        ".{0,200}".prop_map(|piece| PeerMessage::Counted { piece }),
        Just(PeerMessage::Cancel),
        Just(PeerMessage::Accepting),
        vec(any_record(), 0..20).prop_map(PeerMessage::Connections),
        any::<u64>().prop_map(|count| PeerMessage::Ack { count }),
        Just(PeerMessage::Stopping),
        Just(PeerMessage::Confirmed),
    ]
}

fn connection(head: &[u8]) -> ConnectionRecord {
    ConnectionRecord {
        claim: 7,
        peer: "192.0.2.1:5000".into(),
        local: "198.51.100.1:80".into(),
        accepted_ago: 60_000,
        since_ago: 3,
        head: head.to_vec(),
    }
}

/// Other versions depend on these bytes.
#[test]
fn the_encoding_does_not_change() {
    let hello = PeerMessage::Hello {
        version: 1,
        capabilities: 0x0403_0201,
        pid: 9,
    };
    assert_eq!(
        hello.encode(),
        b"slackwtr\x01\x00\x01\x02\x03\x04\x09\x00\x00\x00"
    );
    assert_eq!(
        PeerMessage::Failed {
            reason: "no".into()
        }
        .encode(),
        b"\x02\x02\x00\x00\x00no"
    );
    assert_eq!(
        PeerMessage::Counted { piece: "[]".into() }.encode(),
        b"\x0e\x02\x00\x00\x00[]"
    );
    let simple = [
        (PeerMessage::Ready, 1),
        (PeerMessage::Live, 3),
        (PeerMessage::Share, 10),
        (PeerMessage::Probe, 11),
        (PeerMessage::Alive, 12),
        (PeerMessage::Recall, 13),
        (PeerMessage::Moved, 16),
        (PeerMessage::Cancel, 4),
        (PeerMessage::Accepting, 5),
        (PeerMessage::Stopping, 8),
        (PeerMessage::Confirmed, 9),
    ];
    for (message, tag) in simple {
        assert_eq!(message.encode(), [tag]);
    }
    assert_eq!(
        PeerMessage::Ack { count: 258 }.encode(),
        [7, 2, 1, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        PeerMessage::OlderPeer { count: 3 }.encode(),
        [15, 3, 0, 0, 0, 0, 0, 0, 0]
    );
    let one = ConnectionRecord {
        claim: 5,
        peer: "p".into(),
        local: "lo".into(),
        accepted_ago: 2,
        since_ago: 1,
        head: b"GET".to_vec(),
    };
    let expected = b"\x06\x01\x00\x05\x00\x00\x00\x01\x00\x00\x00p\x02\x00\x00\x00lo\
        \x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00GET";
    assert_eq!(PeerMessage::Connections(vec![one]).encode(), expected);
}

#[test]
fn the_first_message_has_to_be_a_greeting() {
    let hello = PeerMessage::Hello {
        version: VERSION,
        capabilities: 0,
        pid: 1,
    };
    assert_eq!(
        PeerMessage::decode_first(&hello.encode(), 0),
        Ok(hello.clone())
    );
    for foreign in [
        &b""[..],
        b"READY=1\n",
        b"slackwt",
        &PeerMessage::Ready.encode(),
        &[0xff; 100],
    ] {
        assert_eq!(
            PeerMessage::decode_first(foreign, 0),
            Err(WireError::Foreign)
        );
    }
    assert_eq!(
        PeerMessage::decode_first(&hello.encode()[..9], 0),
        Err(WireError::Truncated)
    );
}

#[test]
fn a_greeting_of_another_version_may_have_more_fields() {
    let hello = PeerMessage::Hello {
        version: VERSION + 1,
        capabilities: 3,
        pid: 1,
    };
    let mut bytes = hello.encode();
    bytes.extend(b"and more");
    assert_eq!(PeerMessage::decode_first(&bytes, 2), Ok(hello));
    let mut ours = PeerMessage::Hello {
        version: VERSION,
        capabilities: 3,
        pid: 1,
    }
    .encode();
    ours.extend(b"and more");
    assert_eq!(
        PeerMessage::decode_first(&ours, 0),
        Err(WireError::Trailing { bytes: 8 })
    );
}

#[test]
fn every_malformed_datagram_is_refused_with_its_own_error() {
    let cases: [(&[u8], usize, WireError); 9] = [
        (b"", 0, WireError::Empty),
        (b"\x00", 0, WireError::UnknownTag(0)),
        (b"READY=1", 0, WireError::UnknownTag(b'R')),
        (b"\x01\x00", 0, WireError::Trailing { bytes: 1 }),
        (b"\x07\x00", 0, WireError::Truncated),
        (b"\x02\xff\xff\xff\xffx", 0, WireError::Truncated),
        (b"\x02\x01\x00\x00\x00\xff", 0, WireError::NotText),
        (b"\x06\xff\xff", 65_535, WireError::Truncated),
        (
            b"\x06\x02\x00",
            1,
            WireError::Descriptors {
                expected: 2,
                received: 1,
            },
        ),
    ];
    for (bytes, fds, error) in cases {
        assert_eq!(PeerMessage::decode(bytes, fds), Err(error), "{bytes:?}");
    }
    assert_eq!(
        PeerMessage::decode(&[1; MAX_BYTES + 1], 0),
        Err(WireError::Oversize)
    );
}

#[test]
fn a_wrong_number_of_descriptors_is_refused() {
    let two = PeerMessage::Connections(vec![connection(b""), connection(b"GET / ")]);
    for (message, expected) in [(PeerMessage::Live, 1), (PeerMessage::Ready, 0), (two, 2)] {
        assert_eq!(message.descriptors(), expected);
        for received in (0..4).filter(|received| *received != expected) {
            let refused = WireError::Descriptors { expected, received };
            assert_eq!(
                PeerMessage::decode(&message.encode(), received),
                Err(refused)
            );
        }
    }
}

#[test]
fn a_long_reason_is_truncated_between_two_characters() {
    let reason = format!("x{}", "ü".repeat(MAX_BYTES));
    let bytes = PeerMessage::Failed {
        reason: reason.clone(),
    }
    .encode();
    assert!(
        bytes.len() <= MAX_BYTES && bytes.len() > MAX_BYTES - 2,
        "{}",
        bytes.len()
    );
    let Ok(PeerMessage::Failed { reason: truncated }) = PeerMessage::decode(&bytes, 0) else {
        panic!()
    };
    assert!(reason.starts_with(&truncated));
}

#[test]
fn bytes_of_the_client_are_not_printed() {
    let printed = format!("{:?}", connection(b"Cookie: secret"));
    assert!(
        printed.contains("head: 14 bytes") && !printed.contains("67, 111"),
        "{printed}"
    );
}

#[test]
fn errors_are_displayed_with_their_numbers() {
    assert_eq!(
        WireError::Descriptors {
            expected: 1,
            received: 0
        }
        .to_string(),
        "the message has 0 descriptors instead of 1"
    );
    assert_eq!(
        WireError::Oversize.to_string(),
        "the message is longer than 131072 bytes"
    );
}

proptest! {
    #[test]
    fn every_message_is_decoded_as_it_was_encoded(message in any_message()) {
        let bytes = message.encode();
        prop_assert!(bytes.len() <= MAX_BYTES);
        prop_assert_eq!(PeerMessage::decode(&bytes, message.descriptors()), Ok(message));
    }

    #[test]
    fn a_record_has_the_size_that_it_reports(record in any_record()) {
        prop_assert_eq!(record.size() + CONNECTIONS_HEADER, PeerMessage::Connections(vec![record]).encode().len());
    }

    #[test]
    fn a_truncated_message_is_refused(message in any_message(), at in any::<prop::sample::Index>()) {
        let bytes = message.encode();
        let truncated = &bytes[..at.index(bytes.len())];
        prop_assert!(PeerMessage::decode(truncated, message.descriptors()).is_err());
    }

    #[test]
    fn every_datagram_that_is_decoded_is_encoded_to_the_same_bytes_and_none_panics(
        bytes in vec(any::<u8>(), 0..400),
        fds in 0..=MAX_FDS,
    ) {
        let _ = PeerMessage::decode_first(&bytes, fds);
        if let Ok(message) = PeerMessage::decode(&bytes, fds) {
            prop_assert_eq!(message.encode(), bytes);
        }
    }

    #[test]
    fn a_message_with_a_byte_changed_never_panics(
        message in any_message(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = message.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = PeerMessage::decode(&bytes, message.descriptors());
    }
}
