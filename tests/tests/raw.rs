//! The table of raw requests in `tests/raw`, on a real process: each case whole, byte by byte, and split at every offset;
//! and the same bytes to a plain hyper server. After all of them it still serves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::answer::Answer;
use slackwater_tests::conn::{self, Conn};
use slackwater_tests::launch::Launch;
use slackwater_tests::plain::Plain;
use slackwater_tests::raw::{table, Case, Expected, Fate, Right, Then};
use slackwater_tests::tally::Failure;

use crate::help::ms;

/// How long an end may take that must come.
const LONG: Duration = Duration::from_secs(20);

/// Clients at a time.
const CLIENTS: usize = 48;

/// Cases longer than this are split at some offsets only.
const LONGEST: usize = 1000;

/// How the bytes of a case are sent.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Whole,
    ByteByByte,
    /// In two pieces, the first so long.
    Split(usize),
}

#[test]
fn every_raw_request_of_the_table_has_its_one_answer_whole() {
    on_a_server(|_| vec![Manner::Whole]);
}

#[test]
fn every_raw_request_of_the_table_has_the_same_answer_byte_by_byte() {
    on_a_server(|case| {
        if case.bytes.len() <= LONGEST {
            vec![Manner::ByteByByte]
        } else {
            vec![]
        }
    });
}

#[test]
fn every_raw_request_of_the_table_has_the_same_answer_split_at_every_offset() {
    on_a_server(|case| {
        let length = case.bytes.len();
        let step = if length <= LONGEST { 1 } else { length / 50 };
        (1..length).step_by(step).map(Manner::Split).collect()
    });
}

#[test]
fn plain_hyper_answers_as_the_table_says_that_it_does() {
    let plain = Plain::start();
    let wrong = each(
        &table(),
        |_| vec![Manner::Whole],
        |case, manner| {
            let differs = case.hyper.as_ref().map(|differs| {
                let answers = differs.statuses.iter().map(|&status| Right {
                    status,
                    ..Right::default()
                });
                Expected {
                    answers: answers.collect(),
                    fate: differs.fate,
                }
            });
            match differs {
                Some(differs) if differs.fate == Fate::Any => Ok(()),
                None => try_case(&plain.addr(), case, manner, &case.right),
                Some(differs) => {
                    let same = try_case(&plain.addr(), case, manner, &case.right).is_ok();
                    if same && case.right.fate != Fate::Either {
                        return Err("it answers as we do; there is nothing to explain".to_owned());
                    }
                    try_case(&plain.addr(), case, manner, &differs)
                }
            }
        },
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn on_a_server(manners: impl Fn(&Case) -> Vec<Manner>) {
    let process = Launch::fixture().serve();
    let addr = process.addr();
    let wrong = each(&table(), manners, |case, manner| {
        try_case(&addr, case, manner, &case.right)
    });
    assert_eq!(
        process.conn().ask("/").map(|answer| answer.text()),
        Ok("root".to_owned())
    );
    assert!(!process.log().contains("panicked"), "{}", process.log());
    assert!(
        wrong.is_empty(),
        "{} are wrong, of them:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}

/// Tries all cases, many at a time; says what went wrong.
fn each(
    cases: &[Case],
    manners: impl Fn(&Case) -> Vec<Manner>,
    attempt: impl Fn(&Case, Manner) -> Result<(), String> + Sync,
) -> Vec<String> {
    let all: Vec<(&Case, Manner)> = cases
        .iter()
        .flat_map(|case| manners(case).into_iter().map(move |manner| (case, manner)))
        .collect();
    assert!(all.len() > 100, "the table is there");
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some((case, manner)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = attempt(case, *manner) {
                        let line = format!("{} ({manner:?}): {why}\n    {}", case.name, case.rfc);
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

fn try_case(addr: &Addr, case: &Case, manner: Manner, expected: &Expected) -> Result<(), String> {
    let mut conn = Conn::open_patient(addr, LONG).map_err(|failure| format!("{failure:?}"))?;
    // an answer may come before the last byte is sent: then sending may fail
    let _ = send(&mut conn, case, manner);
    let mut closes = false;
    for right in &expected.answers {
        let answer = receive(&mut conn, right)?;
        check(&answer, right)?;
        closes = answer.closes();
    }
    match expected.fate {
        Fate::Kept => goes_on(&mut conn, closes),
        Fate::Closed => ends(&mut conn),
        Fate::Either if closes => ends(&mut conn),
        Fate::Either => goes_on(&mut conn, closes),
        Fate::Any => Ok(()),
        Fate::Cut => match conn.fate(LONG) {
            conn::Fate::Closed | conn::Fate::Reset => Ok(()),
            fate => Err(format!("not closed: {fate:?}")),
        },
    }
}

fn send(conn: &mut Conn, case: &Case, manner: Manner) -> Result<(), Failure> {
    match manner {
        Manner::Whole => conn.send(&case.bytes)?,
        Manner::Split(first) => {
            conn.send(&case.bytes[..first])?;
            thread::sleep(ms(3));
            conn.send(&case.bytes[first..])?;
        }
        Manner::ByteByByte => {
            for byte in &case.bytes {
                conn.send([*byte])?;
                thread::sleep(ms(1));
                if case.right.fate == Fate::Closed && conn.glance() == conn::Fate::Closed {
                    break;
                }
            }
        }
    }
    match case.then {
        Then::Waits => Ok(()),
        Then::Ends => conn.half_close(),
    }
}

/// The next answer that is final: whether "100 Continue" comes depends on when the body does.
fn receive(conn: &mut Conn, right: &Right) -> Result<Answer, String> {
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

fn check(answer: &Answer, right: &Right) -> Result<(), String> {
    let said = |what: &str| {
        Err(format!(
            "{what}: {} {:?} {:?}",
            answer.status,
            answer.headers,
            answer.text()
        ))
    };
    if answer.status != right.status {
        return said(&format!("not {}", right.status));
    }
    if right
        .body
        .as_ref()
        .is_some_and(|body| *body != answer.text())
    {
        return said("another body");
    }
    for (name, value) in &right.with {
        match (answer.header(name), value) {
            (None, _) => return said(&format!("no {name}")),
            (Some(is), Some(value)) if is != value => {
                return said(&format!("{name} is not {value}"))
            }
            (Some(_), _) => {}
        }
    }
    match right
        .without
        .iter()
        .find(|name| answer.header(name).is_some())
    {
        Some(name) => said(&format!("it has {name}")),
        None => Ok(()),
    }
}

/// One more request is answered: the last one was read to its end, and not a byte further.
fn goes_on(conn: &mut Conn, closes: bool) -> Result<(), String> {
    if closes {
        return Err("the answer says that the connection closes".to_owned());
    }
    let marker = conn
        .ask("/status/418")
        .map_err(|failure| format!("not kept: {failure:?}"))?;
    let right = (marker.status, marker.text()) == (418, "body".to_owned());
    right
        .then_some(())
        .ok_or_else(|| format!("something else is answered: {marker:?}"))
}

fn ends(conn: &mut Conn) -> Result<(), String> {
    match conn.fate(LONG) {
        conn::Fate::Closed => Ok(()),
        fate => Err(format!("not closed: {fate:?}")),
    }
}
