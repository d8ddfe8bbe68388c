//! Many clients at once, each asking as fast as it is told to, until all are told to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::addr::Addr;
use crate::conn::{Conn, Fate, PATIENCE};
use crate::tally::{Failure, Tally};
use crate::wait;

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// One request after another on one connection.
    KeepAlive,
    /// Each request on a connection of its own, which the server is asked to close.
    NewConnection,
    /// One connection, with so long between an answer and the next request.
    Thinking(Duration),
}

/// A load to be put on a server.
#[derive(Clone, Debug)]
pub struct Load {
    addr: Addr,
    path: String,
    patience: Duration,
    at_most: Duration,
    clients: Vec<Pattern>,
}

impl Load {
    /// On the server at `addr`, asking for `/`; with no clients yet.
    #[must_use]
    pub fn on(addr: &Addr) -> Self {
        Load {
            addr: addr.clone(),
            path: "/".into(),
            patience: PATIENCE,
            at_most: Duration::from_secs(120),
            clients: vec![],
        }
    }

    /// Adds `count` clients of a kind.
    #[must_use]
    pub fn clients(mut self, count: usize, pattern: Pattern) -> Self {
        self.clients.extend(std::iter::repeat_n(pattern, count));
        self
    }

    /// What they ask for.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// How long a client waits for an answer, a connection included.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// When they stop though nobody told them to.
    #[must_use]
    pub fn at_most(mut self, at_most: Duration) -> Self {
        self.at_most = at_most;
        self
    }

    /// Starts them, a thread each.
    #[must_use]
    pub fn start(self) -> Running {
        let orders = Arc::new(Orders {
            stop: AtomicBool::new(false),
            answered: AtomicU64::new(0),
        });
        let end = Instant::now() + self.at_most;
        let spawn = |pattern: &Pattern| {
            let client = Client {
                addr: self.addr.clone(),
                path: self.path.clone(),
                patience: self.patience,
                pattern: *pattern,
                end,
                orders: orders.clone(),
                tally: Tally::default(),
            };
            thread::spawn(move || client.run())
        };
        let threads = self.clients.iter().map(spawn).collect();
        Running { orders, threads }
    }
}

#[derive(Debug)]
struct Orders {
    stop: AtomicBool,
    answered: AtomicU64,
}

/// A load that is on; it ends when it is told to stop or dropped.
#[derive(Debug)]
pub struct Running {
    orders: Arc<Orders>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Running {
    /// How many requests were answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.orders.answered.load(Ordering::Relaxed)
    }

    /// Waits until `more` requests were answered from now on.
    ///
    /// # Panics
    ///
    /// When they are not within `within`.
    pub fn wait_for(&self, more: u64, within: Duration) {
        let goal = self.answered() + more;
        wait::until(within, &format!("{more} more answers under load"), || {
            (self.answered() >= goal).then_some(())
        });
    }

    /// Tells all clients to stop after their present request and sums up what happened to them.
    #[must_use]
    pub fn stop(mut self) -> Tally {
        self.finish()
    }

    fn finish(&mut self) -> Tally {
        self.orders.stop.store(true, Ordering::Release);
        let mut sum = Tally::default();
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(tally) => sum.add(tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        sum
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = self.finish();
        }
        self.orders.stop.store(true, Ordering::Release);
    }
}

struct Client {
    addr: Addr,
    path: String,
    patience: Duration,
    pattern: Pattern,
    end: Instant,
    orders: Arc<Orders>,
    tally: Tally,
}

impl Client {
    fn run(mut self) -> Tally {
        let begun = Instant::now();
        let mut kept = None;
        while !self.is_over() {
            match self.turn(&mut kept) {
                Ok(took) => {
                    self.orders.answered.fetch_add(1, Ordering::Relaxed);
                    self.tally.answer(took);
                }
                Err(failure) => {
                    let about = format!(
                        "{:?} client, {:?} after its start",
                        self.pattern,
                        begun.elapsed()
                    );
                    self.tally.failure(failure, || about);
                    kept = None;
                    // a server that is gone is not asked a million times
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
        self.tally
    }

    fn is_over(&self) -> bool {
        self.orders.stop.load(Ordering::Acquire) || Instant::now() >= self.end
    }

    /// One request, on the connection that was kept or on a new one.
    fn turn(&mut self, kept: &mut Option<Conn>) -> Result<Duration, Failure> {
        let begun = Instant::now();
        let mut conn = match kept.take() {
            Some(conn) => conn,
            None => Conn::open_patient(&self.addr, self.patience)?,
        };
        conn.send(self.request())?;
        let answer = conn.answer()?;
        let took = begun.elapsed();
        let verdict = if answer.is_success() {
            Ok(took)
        } else {
            Err(Failure::BadStatus(answer.status))
        };
        match self.pattern {
            Pattern::NewConnection => {}
            _ if answer.closes() => self.tally.polite_close(),
            Pattern::KeepAlive => *kept = Some(conn),
            Pattern::Thinking(pause) => *kept = self.think(conn, pause),
        }
        verdict
    }

    fn request(&self) -> String {
        let close = if self.pattern == Pattern::NewConnection {
            "Connection: close\r\n"
        } else {
            ""
        };
        format!(
            "GET {} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n",
            self.path
        )
    }

    /// Leaves the connection idle for a while; it is lost where the server closed it meanwhile.
    fn think(&mut self, mut conn: Conn, pause: Duration) -> Option<Conn> {
        match conn.fate(pause) {
            Fate::KeptOpen => return Some(conn),
            Fate::Closed => self
                .tally
                .failure(Failure::ClosedWhileIdle, || format!("within {pause:?}")),
            Fate::Reset => self.tally.failure(Failure::Reset, || "while idle".into()),
            Fate::Sent(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                self.tally
                    .failure(Failure::Malformed, || format!("unasked: {text:?}"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::StandIn;

    fn load(server: &StandIn, path: &str, pattern: Pattern) -> Tally {
        let running = Load::on(&server.addr())
            .path(path)
            .patience(Duration::from_millis(300))
            .clients(2, pattern)
            .start();
        thread::sleep(Duration::from_millis(100));
        running.stop()
    }

    #[test]
    fn clients_ask_until_they_are_told_to_stop() {
        let server = StandIn::start();
        let running = Load::on(&server.addr())
            .clients(3, Pattern::KeepAlive)
            .clients(2, Pattern::Thinking(Duration::from_millis(5)))
            .start();
        running.wait_for(50, Duration::from_secs(5));
        running.stop().assert_flawless();
    }

    #[test]
    fn an_announced_close_is_no_failure_and_a_silent_one_is() {
        let server = StandIn::start();
        let polite = load(&server, "/close", Pattern::KeepAlive);
        assert!(polite.polite_closes() > 0, "{polite}");
        polite.assert_flawless();
        let idle = load(
            &server,
            "/once",
            Pattern::Thinking(Duration::from_millis(20)),
        );
        assert!(idle.count(Failure::ClosedWhileIdle) > 0, "{idle}");
        let busy = load(&server, "/once", Pattern::KeepAlive);
        assert!(
            busy.count(Failure::ClosedBeforeAnswer) + busy.count(Failure::Reset) > 0,
            "{busy}"
        );
    }

    #[test]
    fn failures_are_counted_by_kind() {
        let server = StandIn::start();
        for (path, failure) in [
            ("/503", Failure::BadStatus(503)),
            ("/cut", Failure::CutInTheMiddle),
            ("/gone", Failure::ClosedBeforeAnswer),
            ("/reset", Failure::Reset),
            ("/malformed", Failure::Malformed),
            ("/silent", Failure::TimedOut),
        ] {
            let tally = load(&server, path, Pattern::NewConnection);
            assert!(
                tally.count(failure) > 0 && tally.count(failure) == tally.failed(),
                "{path}: {tally}"
            );
        }
    }

    #[test]
    fn a_load_that_nobody_stops_ends() {
        let server = StandIn::start();
        let running = Load::on(&server.addr())
            .clients(1, Pattern::KeepAlive)
            .at_most(Duration::from_millis(50))
            .start();
        let ended = || {
            running
                .threads
                .iter()
                .all(JoinHandle::is_finished)
                .then_some(())
        };
        wait::until(Duration::from_secs(5), "the load ends", ended);
    }
}
