//! Many connections that are only open, and whether they still are.

use crate::addr::Addr;
use crate::conn::{Conn, Fate, PATIENCE};
use crate::tally::{Failure, Tally};
use crate::wait;

/// What an idle connection has done before it fell idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// One request, which was answered: a kept-alive connection.
    OneRequest,
    /// Nothing: a connection that was opened ahead.
    Nothing,
}

/// A set of idle connections.
#[derive(Debug)]
pub struct Idle(Vec<Conn>);

/// The fates of a set of idle connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Still open.
    pub open: usize,
    /// Closed in order.
    pub closed: usize,
    /// Reset.
    pub reset: usize,
    /// With bytes to read that nobody had asked for.
    pub spoken: usize,
}

impl Idle {
    /// Opens `count` connections, one after another.
    ///
    /// # Panics
    ///
    /// When one cannot be opened or its request is not answered.
    #[must_use]
    pub fn open(addr: &Addr, count: usize, before: Before) -> Self {
        let open = |number| {
            let mut conn = Conn::open(addr)
                .unwrap_or_else(|failure| panic!("idle connection {number}: {failure:?}"));
            if before == Before::OneRequest {
                let answer = conn
                    .ask("/")
                    .unwrap_or_else(|failure| panic!("idle connection {number}: {failure:?}"));
                assert!(
                    answer.is_success() && !answer.closes(),
                    "idle connection {number}: {answer:?}"
                );
            }
            conn
        };
        Idle((0..count).map(open).collect())
    }

    /// How many there are, open or not.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What has become of them so far.
    #[must_use]
    pub fn fates(&self) -> Fates {
        let mut fates = Fates::default();
        for conn in &self.0 {
            match conn.glance() {
                Fate::KeptOpen => fates.open += 1,
                Fate::Closed => fates.closed += 1,
                Fate::Reset => fates.reset += 1,
                Fate::Sent(_) => fates.spoken += 1,
            }
        }
        fates
    }

    /// Asks once on each, and counts those that were closed or do not answer.
    #[must_use]
    pub fn ask_all(&mut self, path: &str) -> Tally {
        self.ask_each(path, |_| true)
    }

    /// Asks `/pid` on each; one that is answered by another process than `pid` counts as malformed.
    #[must_use]
    pub fn ask_all_of(&mut self, pid: u32) -> Tally {
        self.ask_each("/pid", |body| body == pid.to_string())
    }

    /// Asks on each until all are answered by `pid`: a connection that waits for a place on the way to another process is
    /// answered where it is.
    ///
    /// # Panics
    ///
    /// When they are not within [`PATIENCE`], and at once when anything fails.
    pub fn arrive_at(&mut self, pid: u32) {
        wait::until(
            PATIENCE,
            "all connections to be answered by the newest process",
            || {
                let mut all = true;
                let answered = self.ask_each("/pid", |body| {
                    all &= body == pid.to_string();
                    body.parse::<u32>().is_ok()
                });
                answered.assert_flawless();
                all.then_some(())
            },
        );
    }

    fn ask_each(&mut self, path: &str, mut right: impl FnMut(&str) -> bool) -> Tally {
        let mut tally = Tally::default();
        for (number, conn) in self.0.iter_mut().enumerate() {
            let begun = std::time::Instant::now();
            let outcome = match conn.glance() {
                Fate::KeptOpen => conn.ask(path),
                Fate::Closed => Err(Failure::ClosedWhileIdle),
                Fate::Reset => Err(Failure::Reset),
                Fate::Sent(_) => Err(Failure::Malformed),
            };
            match outcome {
                Ok(answer) if answer.is_success() && right(&answer.text()) => {
                    tally.answer(begun.elapsed());
                }
                Ok(answer) if answer.is_success() => {
                    tally.failure(Failure::Malformed, || {
                        format!("idle {number}: {}", answer.text())
                    });
                }
                Ok(answer) => tally.failure(Failure::BadStatus(answer.status), || {
                    format!("idle {number}")
                }),
                Err(failure) => tally.failure(failure, || format!("idle {number}")),
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::{soon, StandIn};

    #[test]
    fn idle_connections_are_seen_open_and_still_answer() {
        let server = StandIn::start();
        let mut idle = Idle::open(&server.addr(), 20, Before::OneRequest);
        assert_eq!(
            idle.fates(),
            Fates {
                open: 20,
                ..Fates::default()
            }
        );
        idle.ask_all("/").assert_flawless();
    }

    #[test]
    fn an_idle_connection_that_is_closed_is_counted() {
        let server = StandIn::start();
        let mut idle = Idle::open(&server.addr(), 3, Before::Nothing);
        assert_eq!(idle.ask_all("/once").answered(), 3);
        soon("the server closes them", || idle.fates().closed == 3);
        assert_eq!(idle.ask_all("/").count(Failure::ClosedWhileIdle), 3);
    }
}
