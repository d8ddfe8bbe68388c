//! The wire format: what is said is understood, and what is not said that way is refused.

use proptest::collection::vec;
use proptest::prelude::*;

use super::wire::{
    Message, Travelling, WireError, CONNECTIONS_HEADER, MAX_BYTES, MAX_FDS, VERSION,
};

fn travelling() -> impl Strategy<Value = Travelling> {
    let fields = (
        any::<u32>(),
        ".{0,40}",
        ".{0,40}",
        any::<u64>(),
        any::<u64>(),
        vec(any::<u8>(), 0..300),
    );
    fields.prop_map(
        |(claim, peer, local, accepted_ago, since_ago, head)| Travelling {
            claim,
            peer,
            local,
            accepted_ago,
            since_ago,
            head,
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<u16>(), any::<u32>(), any::<u32>()).prop_map(|(version, capabilities, pid)| {
            Message::Hello {
                version,
                capabilities,
                pid,
            }
        }),
        Just(Message::Ready),
        ".{0,200}".prop_map(|why| Message::Failed { why }),
        Just(Message::Live),
        Just(Message::Share),
        Just(Message::Probe),
        any::<u64>().prop_map(|count| Message::Elder { count }),
        Just(Message::Moved),
        Just(Message::Recall),
        Just(Message::Alive),
        ".{0,200}".prop_map(|piece| Message::Counted { piece }),
        Just(Message::Cancel),
        Just(Message::Accepting),
        vec(travelling(), 0..20).prop_map(Message::Connections),
        any::<u64>().prop_map(|count| Message::Taken { count }),
        Just(Message::Stopping),
        Just(Message::Confirmed),
    ]
}

fn connection(head: &[u8]) -> Travelling {
    Travelling {
        claim: 7,
        peer: "192.0.2.1:5000".into(),
        local: "198.51.100.1:80".into(),
        accepted_ago: 60_000,
        since_ago: 3,
        head: head.to_vec(),
    }
}

/// The bytes of a message are a promise to the next version.
#[test]
fn the_bytes_are_these() {
    let hello = Message::Hello {
        version: 1,
        capabilities: 0x0403_0201,
        pid: 9,
    };
    assert_eq!(
        hello.encode(),
        b"slackwtr\x01\x00\x01\x02\x03\x04\x09\x00\x00\x00"
    );
    assert_eq!(
        Message::Failed { why: "no".into() }.encode(),
        b"\x02\x02\x00\x00\x00no"
    );
    assert_eq!(
        Message::Counted { piece: "[]".into() }.encode(),
        b"\x0e\x02\x00\x00\x00[]"
    );
    let simple = [
        (Message::Ready, 1),
        (Message::Live, 3),
        (Message::Share, 10),
        (Message::Probe, 11),
        (Message::Alive, 12),
        (Message::Recall, 13),
        (Message::Elder { count: 0 }, 15),
        (Message::Moved, 16),
        (Message::Cancel, 4),
        (Message::Accepting, 5),
        (Message::Stopping, 8),
        (Message::Confirmed, 9),
    ];
    for (message, tag) in simple {
        assert_eq!(message.encode(), [tag]);
    }
    assert_eq!(
        Message::Taken { count: 258 }.encode(),
        [7, 2, 1, 0, 0, 0, 0, 0, 0]
    );
    let one = Travelling {
        claim: 5,
        peer: "p".into(),
        local: "lo".into(),
        accepted_ago: 2,
        since_ago: 1,
        head: b"GET".to_vec(),
    };
    let expected = b"\x06\x01\x00\x05\x00\x00\x00\x01\x00\x00\x00p\x02\x00\x00\x00lo\
        \x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00GET";
    assert_eq!(Message::Connections(vec![one]).encode(), expected);
}

#[test]
fn the_first_message_has_to_be_a_greeting() {
    let hello = Message::Hello {
        version: VERSION,
        capabilities: 0,
        pid: 1,
    };
    assert_eq!(Message::decode_first(&hello.encode(), 0), Ok(hello.clone()));
    for foreign in [
        &b""[..],
        b"READY=1\n",
        b"slackwt",
        &Message::Ready.encode(),
        &[0xff; 100],
    ] {
        assert_eq!(Message::decode_first(foreign, 0), Err(WireError::Foreign));
    }
    assert_eq!(
        Message::decode_first(&hello.encode()[..9], 0),
        Err(WireError::Truncated)
    );
}

#[test]
fn a_greeting_of_another_version_is_understood_whatever_it_adds() {
    let hello = Message::Hello {
        version: VERSION + 1,
        capabilities: 3,
        pid: 1,
    };
    let mut bytes = hello.encode();
    bytes.extend(b"and more");
    assert_eq!(Message::decode_first(&bytes, 2), Ok(hello));
    let mut ours = Message::Hello {
        version: VERSION,
        capabilities: 3,
        pid: 1,
    }
    .encode();
    ours.extend(b"and more");
    assert_eq!(
        Message::decode_first(&ours, 0),
        Err(WireError::Trailing { bytes: 8 })
    );
}

#[test]
fn what_is_no_message_is_refused_for_what_is_wrong() {
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
            WireError::Descriptors { belong: 2, came: 1 },
        ),
    ];
    for (bytes, fds, error) in cases {
        assert_eq!(Message::decode(bytes, fds), Err(error), "{bytes:?}");
    }
    assert_eq!(
        Message::decode(&[1; MAX_BYTES + 1], 0),
        Err(WireError::Oversize)
    );
}

#[test]
fn descriptors_are_neither_missing_nor_too_many() {
    let two = Message::Connections(vec![connection(b""), connection(b"GET / ")]);
    for (message, belong) in [(Message::Live, 1), (Message::Ready, 0), (two, 2)] {
        assert_eq!(message.descriptors(), belong);
        for came in (0..4).filter(|came| *came != belong) {
            let refused = WireError::Descriptors { belong, came };
            assert_eq!(Message::decode(&message.encode(), came), Err(refused));
        }
    }
}

#[test]
fn a_reason_too_long_is_cut_between_two_characters() {
    let why = format!("x{}", "ü".repeat(MAX_BYTES));
    let bytes = Message::Failed { why: why.clone() }.encode();
    assert!(
        bytes.len() <= MAX_BYTES && bytes.len() > MAX_BYTES - 2,
        "{}",
        bytes.len()
    );
    let Ok(Message::Failed { why: cut }) = Message::decode(&bytes, 0) else {
        panic!()
    };
    assert!(why.starts_with(&cut));
}

#[test]
fn what_a_client_sent_is_not_printed() {
    let printed = format!("{:?}", connection(b"Cookie: secret"));
    assert!(
        printed.contains("head: 14 bytes") && !printed.contains("67, 111"),
        "{printed}"
    );
}

#[test]
fn every_error_is_said_in_words() {
    assert_eq!(
        WireError::Descriptors { belong: 1, came: 0 }.to_string(),
        "a message with 0 descriptors instead of 1"
    );
    assert_eq!(
        WireError::Oversize.to_string(),
        "a message of more than 131072 bytes"
    );
}

proptest! {
    #[test]
    fn what_is_said_is_understood(message in message()) {
        let bytes = message.encode();
        prop_assert!(bytes.len() <= MAX_BYTES);
        prop_assert_eq!(Message::decode(&bytes, message.descriptors()), Ok(message));
    }

    #[test]
    fn an_entry_is_as_long_as_it_says(entry in travelling()) {
        prop_assert_eq!(entry.size() + CONNECTIONS_HEADER, Message::Connections(vec![entry]).encode().len());
    }

    #[test]
    fn a_message_cut_anywhere_is_refused(message in message(), at in any::<prop::sample::Index>()) {
        let bytes = message.encode();
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(Message::decode(cut, message.descriptors()).is_err());
    }

    #[test]
    fn whatever_is_understood_is_said_that_way_and_nothing_panics(
        bytes in vec(any::<u8>(), 0..400),
        fds in 0..=MAX_FDS,
    ) {
        let _ = Message::decode_first(&bytes, fds);
        if let Ok(message) = Message::decode(&bytes, fds) {
            prop_assert_eq!(message.encode(), bytes);
        }
    }

    #[test]
    fn a_message_with_a_byte_changed_never_panics(
        message in message(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = message.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Message::decode(&bytes, message.descriptors());
    }
}
