//! Clients that are in the middle of a request while an upgrade runs: in flight, pipelined, or with half a head sent.

use crate::addr::Addr;
use crate::conn::Conn;
use crate::tally::{Failure, Tally};
use std::time::{Duration, Instant};

/// The longest time in which a connection moves to the new process after its last answer.
const MOVE_LIMIT: Duration = Duration::from_secs(15);
const HALF: &str = "GET /pid HTTP/1.1\r\nHost: localh";
const OTHER_HALF: &str = "ost\r\n\r\n";

/// Connections with a request that starts before an upgrade and ends after it.
#[derive(Debug)]
pub struct InFlightClients {
    in_flight: Vec<Conn>,
    pipelined: Vec<Conn>,
    half_read: Vec<Conn>,
    half_read_later: Vec<Conn>,
}

impl InFlightClients {
    /// Opens `count` connections of each of four kinds: a request of 500 ms in flight; three pipelined requests, of which
    /// the first takes 200 ms; half a head on a new connection; half a head after an answered request.
    ///
    /// # Errors
    ///
    /// Fails if a connection cannot be opened or written to, or if the request before a half head is not answered.
    pub fn start(addr: &Addr, count: usize) -> Result<Self, Failure> {
        let sent = |text: &'static str| {
            move |_| {
                let mut conn = Conn::open(addr)?;
                conn.send(text)?;
                Ok(conn)
            }
        };
        let half_head_after_request = |_| {
            let mut conn = Conn::open(addr)?;
            conn.fetch("/")?;
            conn.send(HALF)?;
            Ok(conn)
        };
        Ok(InFlightClients {
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
            half_read_later: (0..count)
                .map(half_head_after_request)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Finishes every request, then requests `/pid` on each connection until `newest` answers.
    ///
    /// Counts an answer for each connection on which all of that succeeded, and a failure for each other one.
    #[must_use]
    pub fn finish(self, newest: u32) -> Tally {
        let mut tally = Tally::default();
        let start = Instant::now();
        let mut count = |kind: &str, number, outcome: Result<(), String>| match outcome {
            Ok(()) => tally.answer(start.elapsed()),
            Err(why) => tally.failure(Failure::Malformed, || format!("{kind} {number}: {why}")),
        };
        for (number, mut conn) in self.half_read.into_iter().enumerate() {
            count(
                "half a head",
                number,
                finish_head(&mut conn).and_then(|()| wait_moved(&mut conn, newest)),
            );
        }
        for (number, mut conn) in self.half_read_later.into_iter().enumerate() {
            count(
                "half a later head",
                number,
                finish_head(&mut conn).and_then(|()| wait_moved(&mut conn, newest)),
            );
        }
        for (number, mut conn) in self.pipelined.into_iter().enumerate() {
            let answers = expect(&mut conn, |text| text == "slept")
                .and_then(|()| expect(&mut conn, |text| text == "xxxxxxxxxx"))
                .and_then(|()| expect(&mut conn, is_pid));
            count(
                "pipelined",
                number,
                answers.and_then(|()| wait_moved(&mut conn, newest)),
            );
        }
        for (number, mut conn) in self.in_flight.into_iter().enumerate() {
            let slept = expect(&mut conn, |text| text == "slept");
            count(
                "in flight",
                number,
                slept.and_then(|()| wait_moved(&mut conn, newest)),
            );
        }
        tally
    }
}

fn finish_head(conn: &mut Conn) -> Result<(), String> {
    conn.send(OTHER_HALF)
        .map_err(|failure| format!("{failure:?}"))?;
    expect(conn, is_pid)
}

fn wait_moved(conn: &mut Conn, newest: u32) -> Result<(), String> {
    let start = Instant::now();
    loop {
        conn.get("/pid")
            .map_err(|failure| format!("{failure:?} at its last request"))?;
        let answered_by = answer(conn)?;
        if answered_by == newest.to_string() {
            return Ok(());
        }
        // the old process answers until it has handed the connection over
        if !is_pid(&answered_by) || start.elapsed() > MOVE_LIMIT {
            return Err(format!("answered by {answered_by:?}"));
        }
    }
}

fn expect(conn: &mut Conn, is_right: impl Fn(&str) -> bool) -> Result<(), String> {
    let text = answer(conn)?;
    if is_right(&text) {
        Ok(())
    } else {
        Err(format!("answered {text:?}"))
    }
}

/// Reads an answer; returns its text if it is a 200 that keeps the connection open.
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
