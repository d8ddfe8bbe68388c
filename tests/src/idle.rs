//! A set of idle connections, and how many of them are still open.

use crate::addr::Addr;
use crate::conn::{Conn, SocketState, PATIENCE};
use crate::tally::{Failure, Tally};
use crate::wait;

/// The history of a connection before it became idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// A request that was answered: a kept-alive connection.
    OneRequest,
    /// No request: a connection opened in advance.
    NoRequest,
}

/// A set of idle connections.
#[derive(Debug)]
pub struct IdleConnections(Vec<Conn>);

/// The number of connections in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// Open, with nothing to read.
    pub open: usize,
    /// Closed with a FIN.
    pub closed: usize,
    /// Reset.
    pub reset: usize,
    /// Open, with bytes received that belong to no request.
    pub with_data: usize,
}

impl IdleConnections {
    /// Opens `count` connections, one after another.
    ///
    /// # Panics
    ///
    /// Panics if a connection cannot be opened or its request is not answered.
    #[must_use]
    pub fn open(addr: &Addr, count: usize, history: History) -> Self {
        let open = |number| {
            let mut conn = Conn::open(addr)
                .unwrap_or_else(|failure| panic!("idle connection {number}: {failure:?}"));
            if history == History::OneRequest {
                let answer = conn
                    .fetch("/")
                    .unwrap_or_else(|failure| panic!("idle connection {number}: {failure:?}"));
                assert!(
                    answer.is_success() && !answer.closes(),
                    "idle connection {number}: {answer:?}"
                );
            }
            conn
        };
        IdleConnections((0..count).map(open).collect())
    }

    /// Returns the number of connections, open or not.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Counts the connections by their present state.
    #[must_use]
    pub fn states(&self) -> StateCounts {
        let mut counts = StateCounts::default();
        for conn in &self.0 {
            match conn.state() {
                SocketState::Open => counts.open += 1,
                SocketState::Closed => counts.closed += 1,
                SocketState::Reset => counts.reset += 1,
                SocketState::Sent(_) => counts.with_data += 1,
            }
        }
        counts
    }

    /// Sends one request on each connection, and counts answers and failures.
    #[must_use]
    pub fn fetch_all(&mut self, path: &str) -> Tally {
        self.fetch_each(path, |_| true)
    }

    /// Requests `/pid` on each connection. An answer from another process than `pid` counts as malformed.
    #[must_use]
    pub fn fetch_all_from(&mut self, pid: u32) -> Tally {
        self.fetch_each("/pid", |body| body == pid.to_string())
    }

    /// Repeats a request on every connection until `pid` answers all of them.
    ///
    /// A connection that has not been handed over yet is answered by its present process.
    ///
    /// # Panics
    ///
    /// Panics if that takes longer than [`PATIENCE`], or if any request fails.
    pub fn wait_served_by(&mut self, pid: u32) {
        wait::until(
            PATIENCE,
            "the newest process answers all connections",
            || {
                let mut all = true;
                let tally = self.fetch_each("/pid", |body| {
                    all &= body == pid.to_string();
                    body.parse::<u32>().is_ok()
                });
                tally.assert_flawless();
                all.then_some(())
            },
        );
    }

    fn fetch_each(&mut self, path: &str, mut is_right: impl FnMut(&str) -> bool) -> Tally {
        let mut tally = Tally::default();
        for (number, conn) in self.0.iter_mut().enumerate() {
            let start = std::time::Instant::now();
            let outcome = match conn.state() {
                SocketState::Open => conn.fetch(path),
                SocketState::Closed => Err(Failure::ClosedWhileIdle),
                SocketState::Reset => Err(Failure::Reset),
                SocketState::Sent(_) => Err(Failure::Malformed),
            };
            match outcome {
                Ok(answer) if answer.is_success() && is_right(&answer.text()) => {
                    tally.answer(start.elapsed());
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
    use crate::faulty_server::{soon, FaultyServer};

    #[test]
    fn idle_connections_are_counted_as_open_and_still_answer() {
        let server = FaultyServer::start();
        let mut idle = IdleConnections::open(&server.addr(), 20, History::OneRequest);
        assert_eq!(
            idle.states(),
            StateCounts {
                open: 20,
                ..StateCounts::default()
            }
        );
        idle.fetch_all("/").assert_flawless();
    }

    #[test]
    fn an_idle_connection_that_is_closed_is_counted() {
        let server = FaultyServer::start();
        let mut idle = IdleConnections::open(&server.addr(), 3, History::NoRequest);
        assert_eq!(idle.fetch_all("/once").answered(), 3);
        soon("the server closes them", || idle.states().closed == 3);
        assert_eq!(idle.fetch_all("/").count(Failure::ClosedWhileIdle), 3);
    }
}
