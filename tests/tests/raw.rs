//! Requests as they should not be, byte for byte, and the one right answer to each. After all of them it still serves.

use std::time::Duration;

use slackwater_tests::conn::Fate;
use slackwater_tests::launch::Launch;

use crate::help::talk;

/// A request that is refused: its answer, and the connection is closed after it.
const REFUSED: &[(&str, &str, u16)] = &[
    ("no Host", "GET / HTTP/1.1\r\n\r\n", 400),
    ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("a Host with a path", "GET / HTTP/1.1\r\nHost: x/admin?\r\n\r\n", 400),
    ("a Host with user info", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    (
        "two lengths",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
    ),
    ("a signed length", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na", 400),
    ("a length that is no number", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
    ("an unknown coding", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: rot13\r\n\r\n", 400),
    ("a folded header", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    ("a space before the colon", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    ("a header without a colon", "GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400),
    ("a zero byte in a header", "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 400),
    ("a version of the future", "GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400),
    ("no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\u{7c}\x03\x03\r\n\r\n", 400),
    ("a line of nothing but spaces", "   \r\n\r\n", 400),
];

/// A request that is answered like any other, and the connection is kept.
const ANSWERED: &[(&str, &str, u16)] = &[
    ("an absolute target", "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    ("an empty line before it", "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    ("an unknown method", "BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ("a method without a route", "DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ("a path without a route", "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    (
        "chunk extensions",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n",
        200,
    ),
    (
        "trailers",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n",
        200,
    ),
];

#[test]
fn each_malformed_request_is_refused_and_the_connection_closed() {
    let process = Launch::playground().serve();
    let mut wrong = Vec::new();
    for (name, request, expected) in REFUSED {
        let (statuses, fate) = talk(&process, request, 1);
        if (statuses.as_slice(), &fate) != (&[*expected], &Fate::Closed) {
            wrong.push(format!("{name}: {statuses:?} and {fate:?}, not {expected} and closed"));
        }
    }
    assert_eq!(process.get("/"), "Hello, world!");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_unusual_request_is_answered_and_the_connection_kept() {
    let process = Launch::playground().serve();
    let mut wrong = Vec::new();
    for (name, request, expected) in ANSWERED {
        // the second one shows that the first was read to its end, and not one byte further
        let twice = format!("{request}GET /pid HTTP/1.1\r\nHost: x\r\n\r\n");
        let (statuses, fate) = talk(&process, twice, 2);
        if (statuses.as_slice(), &fate) != (&[*expected, 200], &Fate::KeptOpen) {
            wrong.push(format!("{name}: {statuses:?} and {fate:?}, not {expected}, 200 and kept"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_header_that_is_not_ascii_is_refused() {
    let process = Launch::playground().serve();
    let (statuses, _) = talk(&process, b"GET / HTTP/1.1\r\nHost: x\r\nA: \xff\xfe\r\n\r\n", 1);
    assert_eq!(statuses, [400]);
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn a_chunk_that_is_none_ends_the_connection_and_nothing_else() {
    let process = Launch::playground().serve();
    for chunk in ["ffffffffffffffffff\r\n", "nonsense\r\n", "1\r\nxy\r\n", "-1\r\n"] {
        let mut conn = process.conn();
        let head = "POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        conn.send(format!("{head}{chunk}")).unwrap();
        match conn.answer() {
            Ok(answer) => assert!((400..500).contains(&answer.status), "{chunk:?}: {answer:?}"),
            Err(failure) => panic!("{chunk:?}: {failure:?}"),
        }
        assert_eq!(conn.fate(Duration::from_secs(5)), Fate::Closed, "{chunk:?}");
    }
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn what_is_smuggled_after_a_refused_request_is_not_answered() {
    let process = Launch::playground().serve();
    let smuggled =
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
                    GET /pid HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut conn = process.conn();
    conn.send(smuggled).unwrap();
    let answer = conn.answer().unwrap();
    assert!(answer.closes(), "{answer:?}");
    assert_eq!(conn.fate(Duration::from_secs(5)), Fate::Closed);
}
