//! Clients that an upgrade finds in the middle of something: in flight, pipelined, with half a head sent.

use crate::addr::Addr;
use crate::conn::Conn;
use crate::tally::{Failure, Tally};
use std::time::{Duration, Instant};

/// Within so long a connection arrives after its last answer.
const SOON: Duration = Duration::from_secs(15);
const HALF: &str = "GET /pid HTTP/1.1\r\nHost: localh";
const OTHER_HALF: &str = "ost\r\n\r\n";

/// Connections that have begun something before an upgrade, and end it after it.
#[derive(Debug)]
pub struct Passengers {
    in_flight: Vec<Conn>,
    pipelined: Vec<Conn>,
    half_read: Vec<Conn>,
    half_read_later: Vec<Conn>,
}

impl Passengers {
    /// Opens `count` connections of each kind: a request of 500 ms in flight, three requests in one segment of which
    /// the first takes 200 ms, half a head on a fresh connection, and half a head after an answered request.
    ///
    /// # Errors
    ///
    /// When one cannot be opened or written to, or the answer before its half head does not come.
    pub fn board(addr: &Addr, count: usize) -> Result<Self, Failure> {
        let sent = |text: &'static str| {
            move |_| {
                let mut conn = Conn::open(addr)?;
                conn.send(text)?;
                Ok(conn)
            }
        };
        let asked_before = |_| {
            let mut conn = Conn::open(addr)?;
            conn.ask("/")?;
            conn.send(HALF)?;
            Ok(conn)
        };
        Ok(Passengers {
            in_flight: (0..count)
                .map(sent("GET /sleep/500 HTTP/1.1\r\nHost: a\r\n\r\n"))
                .collect::<Result<_, _>>()?,
            pipelined: (0..count)
                .map(sent(concat!(
                    "GET /sleep/200 HTTP/1.1\r\nHost: a\r\n\r\n",
                    "GET /bytes/10 HTTP/1.1\r\nHost: a\r\n\r\n",
                    "GET /pid HTTP/1.1\r\nHost: a\r\n\r\n",
                )))
                .collect::<Result<_, _>>()?,
            half_read: (0..count).map(sent(HALF)).collect::<Result<_, _>>()?,
            half_read_later: (0..count).map(asked_before).collect::<Result<_, _>>()?,
        })
    }

    /// Ends what was begun; each connection is then asked `/pid` until `newest` answers, which has to be soon.
    #[must_use]
    pub fn arrive(self, newest: u32) -> Tally {
        let mut tally = Tally::default();
        let begun = Instant::now();
        let mut arrived = |kind: &str, number, outcome: Result<(), String>| match outcome {
            Ok(()) => tally.answer(begun.elapsed()),
            Err(why) => tally.failure(Failure::Malformed, || format!("{kind} {number}: {why}")),
        };
        for (number, mut conn) in self.half_read.into_iter().enumerate() {
            arrived(
                "half a head",
                number,
                finish(&mut conn).and_then(|()| last(&mut conn, newest)),
            );
        }
        for (number, mut conn) in self.half_read_later.into_iter().enumerate() {
            arrived(
                "half a later head",
                number,
                finish(&mut conn).and_then(|()| last(&mut conn, newest)),
            );
        }
        for (number, mut conn) in self.pipelined.into_iter().enumerate() {
            let answers = expect(&mut conn, |text| text == "slept")
                .and_then(|()| expect(&mut conn, |text| text == "xxxxxxxxxx"))
                .and_then(|()| expect(&mut conn, is_pid));
            arrived(
                "pipelined",
                number,
                answers.and_then(|()| last(&mut conn, newest)),
            );
        }
        for (number, mut conn) in self.in_flight.into_iter().enumerate() {
            let slept = expect(&mut conn, |text| text == "slept");
            arrived(
                "in flight",
                number,
                slept.and_then(|()| last(&mut conn, newest)),
            );
        }
        tally
    }
}

fn finish(conn: &mut Conn) -> Result<(), String> {
    conn.send(OTHER_HALF)
        .map_err(|failure| format!("{failure:?}"))?;
    expect(conn, is_pid)
}

fn last(conn: &mut Conn, newest: u32) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        conn.get("/pid")
            .map_err(|failure| format!("{failure:?} at its last request"))?;
        let answered_by = answer(conn)?;
        if answered_by == newest.to_string() {
            return Ok(());
        }
        // until there is a place for it on the way, it is answered where it is
        if !is_pid(&answered_by) || begun.elapsed() > SOON {
            return Err(format!("answered by {answered_by:?}"));
        }
    }
}

fn expect(conn: &mut Conn, right: impl Fn(&str) -> bool) -> Result<(), String> {
    let text = answer(conn)?;
    if right(&text) {
        Ok(())
    } else {
        Err(format!("answered {text:?}"))
    }
}

/// The text of an answer that is sound, and keeps the connection.
fn answer(conn: &mut Conn) -> Result<String, String> {
    let answer = conn.answer().map_err(|failure| format!("{failure:?}"))?;
    if answer.status == 200 && !answer.closes() {
        Ok(answer.text())
    } else {
        Err(format!("{answer:?}"))
    }
}

fn is_pid(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}
