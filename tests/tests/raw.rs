//! The table of raw requests in `tests/raw`. Each case is sent to a real process whole, byte by byte, and split at every
//! offset, and to a plain hyper server. After all cases the process still serves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::answer::Answer;
use slackwater_tests::conn::{self, Conn};
use slackwater_tests::launch::Launch;
use slackwater_tests::plain_hyper::PlainHyper;
use slackwater_tests::raw::{table, AfterSending, Case, Expected, ExpectedAnswer, ExpectedEnd};
use slackwater_tests::tally::Failure;

use crate::help::ms;

/// The time limit on a response, and on the end of a connection that must be closed.
const LONG: Duration = Duration::from_secs(20);

/// Concurrent clients.
const CLIENTS: usize = 48;

/// The length in bytes up to which a case is split at every offset. Longer cases are split at about 50 offsets.
const LONGEST: usize = 1000;

/// The way in which the bytes of a case are sent.
#[derive(Clone, Copy, Debug)]
enum Delivery {
    Whole,
    ByteByByte,
    /// Sent in two pieces, the first of this length.
    Split(usize),
}

#[test]
fn every_raw_request_of_the_table_gets_its_answer_when_sent_whole() {
    on_a_server(|_| vec![Delivery::Whole]);
}

#[test]
fn every_raw_request_of_the_table_gets_its_answer_when_sent_byte_by_byte() {
    on_a_server(|case| {
        if case.bytes.len() <= LONGEST {
            vec![Delivery::ByteByByte]
        } else {
            vec![]
        }
    });
}

#[test]
fn every_raw_request_of_the_table_gets_its_answer_when_split_at_every_offset() {
    on_a_server(|case| {
        let length = case.bytes.len();
        let step = if length <= LONGEST { 1 } else { length / 50 };
        (1..length).step_by(step).map(Delivery::Split).collect()
    });
}

#[test]
fn plain_hyper_answers_as_listed_in_the_table() {
    let plain = PlainHyper::start();
    let wrong = each(
        &table(),
        |_| vec![Delivery::Whole],
        |case, delivery| {
            let differs = case.hyper.as_ref().map(|differs| {
                let answers = differs.statuses.iter().map(|&status| ExpectedAnswer {
                    status,
                    ..ExpectedAnswer::default()
                });
                Expected {
                    answers: answers.collect(),
                    end: differs.end,
                }
            });
            match differs {
                Some(differs) if differs.end == ExpectedEnd::Any => Ok(()),
                None => try_case(&plain.addr(), case, delivery, &case.expected),
                Some(differs) => {
                    let same = try_case(&plain.addr(), case, delivery, &case.expected).is_ok();
                    if same && case.expected.end != ExpectedEnd::Either {
                        return Err(
                            "hyper answers as the table requires; remove the line `hyper:`"
                                .to_owned(),
                        );
                    }
                    try_case(&plain.addr(), case, delivery, &differs)
                }
            }
        },
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn on_a_server(deliveries: impl Fn(&Case) -> Vec<Delivery>) {
    let process = Launch::fixture().serve();
    let addr = process.addr();
    let wrong = each(&table(), deliveries, |case, delivery| {
        try_case(&addr, case, delivery, &case.expected)
    });
    assert_eq!(
        process.conn().fetch("/").map(|answer| answer.text()),
        Ok("root".to_owned())
    );
    assert!(!process.log().contains("panicked"), "{}", process.log());
    assert!(
        wrong.is_empty(),
        "{} attempts failed; the first are:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}

/// Tries all cases concurrently, and returns a line for each failed attempt.
fn each(
    cases: &[Case],
    deliveries: impl Fn(&Case) -> Vec<Delivery>,
    attempt: impl Fn(&Case, Delivery) -> Result<(), String> + Sync,
) -> Vec<String> {
    let all: Vec<(&Case, Delivery)> = cases
        .iter()
        .flat_map(|case| {
            deliveries(case)
                .into_iter()
                .map(move |delivery| (case, delivery))
        })
        .collect();
    assert!(all.len() > 100, "the table has cases");
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some((case, delivery)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = attempt(case, *delivery) {
                        let line = format!("{} ({delivery:?}): {why}\n    {}", case.name, case.rfc);
                        wrong
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(line);
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn try_case(
    addr: &Addr,
    case: &Case,
    delivery: Delivery,
    expected: &Expected,
) -> Result<(), String> {
    let mut conn = Conn::open_patient(addr, LONG).map_err(|failure| format!("{failure:?}"))?;
    // sending may fail, because the server may answer and close before the last byte
    let _ = send(&mut conn, case, delivery);
    let mut closes = false;
    for right in &expected.answers {
        let answer = receive(&mut conn, right)?;
        check(&answer, right)?;
        closes = answer.closes();
    }
    match expected.end {
        ExpectedEnd::Either if !closes => goes_on(&mut conn, closes),
        ExpectedEnd::Kept => goes_on(&mut conn, closes),
        ExpectedEnd::Closed | ExpectedEnd::Either => ends(&mut conn),
        ExpectedEnd::Any => Ok(()),
        ExpectedEnd::Cut => match conn.state_after(LONG) {
            conn::SocketState::Closed | conn::SocketState::Reset => Ok(()),
            fate => Err(format!("not closed: {fate:?}")),
        },
    }
}

fn send(conn: &mut Conn, case: &Case, delivery: Delivery) -> Result<(), Failure> {
    match delivery {
        Delivery::Whole => conn.send(&case.bytes)?,
        Delivery::Split(first) => {
            conn.send(&case.bytes[..first])?;
            thread::sleep(ms(3));
            conn.send(&case.bytes[first..])?;
        }
        Delivery::ByteByByte => {
            for byte in &case.bytes {
                conn.send([*byte])?;
                thread::sleep(ms(1));
                if case.expected.end == ExpectedEnd::Closed
                    && conn.state() == conn::SocketState::Closed
                {
                    break;
                }
            }
        }
    }
    match case.then {
        AfterSending::Wait => Ok(()),
        AfterSending::HalfClose => conn.half_close(),
    }
}

/// Returns the next final answer.
///
/// Skips "100 Continue", which the server sends only if the body has not arrived yet.
fn receive(conn: &mut Conn, right: &ExpectedAnswer) -> Result<Answer, String> {
    let failed = |failure| format!("{failure:?} instead of {}", right.status);
    loop {
        let mut answer = conn.head().map_err(failed)?;
        if answer.status == 100 {
            continue;
        }
        if !right.to_head {
            conn.body(&mut answer).map_err(failed)?;
        }
        return Ok(answer);
    }
}

fn check(answer: &Answer, right: &ExpectedAnswer) -> Result<(), String> {
    let differs = |what: &str| {
        Err(format!(
            "{what}: {} {:?} {:?}",
            answer.status,
            answer.headers,
            answer.text()
        ))
    };
    if answer.status != right.status {
        return differs(&format!("the status is not {}", right.status));
    }
    if right
        .body
        .as_ref()
        .is_some_and(|body| *body != answer.text())
    {
        return differs("another body");
    }
    for (name, value) in &right.with {
        match (answer.header(name), value) {
            (None, _) => return differs(&format!("no {name}")),
            (Some(is), Some(value)) if is != value => {
                return differs(&format!("{name} is not {value}"))
            }
            (Some(_), _) => {}
        }
    }
    match right
        .without
        .iter()
        .find(|name| answer.header(name).is_some())
    {
        Some(name) => differs(&format!("an unexpected {name}")),
        None => Ok(()),
    }
}

/// Checks that the server answers one more request, so that it read the last request exactly to its end.
fn goes_on(conn: &mut Conn, closes: bool) -> Result<(), String> {
    if closes {
        return Err("the answer has Connection: close".to_owned());
    }
    let marker = conn
        .fetch("/status/418")
        .map_err(|failure| format!("not kept: {failure:?}"))?;
    let right = (marker.status, marker.text()) == (418, "body".to_owned());
    right
        .then_some(())
        .ok_or_else(|| format!("unexpected answer: {marker:?}"))
}

fn ends(conn: &mut Conn) -> Result<(), String> {
    match conn.state_after(LONG) {
        conn::SocketState::Closed => Ok(()),
        fate => Err(format!("not closed: {fate:?}")),
    }
}
