//! Many concurrent clients that send requests until they are stopped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::addr::Addr;
use crate::conn::{Conn, SocketState, PATIENCE};
use crate::tally::{Failure, Tally};
use crate::wait;

/// The pattern in which a client sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Sends one request after another on one connection.
    KeepAlive,
    /// Opens a connection for each request, which carries `Connection: close`.
    NewConnection,
    /// Uses one connection and pauses between an answer and the next request.
    Thinking(Duration),
}

/// The description of a load: a server, a path, and clients.
#[derive(Clone, Debug)]
pub struct Load {
    addr: Addr,
    path: String,
    patience: Duration,
    at_most: Duration,
    clients: Vec<Pattern>,
}

impl Load {
    /// Creates a load of `GET /` on the server at `addr`, without clients.
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

    /// Adds `count` clients with this pattern.
    #[must_use]
    pub fn clients(mut self, count: usize, pattern: Pattern) -> Self {
        self.clients.extend(std::iter::repeat_n(pattern, count));
        self
    }

    /// Sets the path of the requests.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Sets the timeout of a client for a connection and for an answer. Default: [`PATIENCE`].
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets the time after which the clients stop by themselves. Default: 120 seconds.
    #[must_use]
    pub fn at_most(mut self, at_most: Duration) -> Self {
        self.at_most = at_most;
        self
    }

    /// Starts the clients, one thread for each.
    #[must_use]
    pub fn start(self) -> RunningLoad {
        let shared = Arc::new(Shared {
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
                shared: shared.clone(),
                tally: Tally::default(),
            };
            thread::spawn(move || client.run())
        };
        let threads = self.clients.iter().map(spawn).collect();
        RunningLoad { shared, threads }
    }
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
}

/// A running load. It ends with [`stop`](Self::stop) or when it is dropped.
#[derive(Debug)]
pub struct RunningLoad {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Tally>>,
}

impl RunningLoad {
    /// Returns the number of requests answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Waits until `more` further requests are answered.
    ///
    /// # Panics
    ///
    /// Panics if that takes longer than `within`.
    pub fn wait_for(&self, more: u64, within: Duration) {
        let goal = self.answered() + more;
        wait::until(within, &format!("{more} more answers under load"), || {
            (self.answered() >= goal).then_some(())
        });
    }

    /// Stops all clients after their present request and returns the sum of their tallies.
    #[must_use]
    pub fn stop(mut self) -> Tally {
        self.finish()
    }

    fn finish(&mut self) -> Tally {
        self.shared.stop.store(true, Ordering::Release);
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

impl Drop for RunningLoad {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = self.finish();
        }
        self.shared.stop.store(true, Ordering::Release);
    }
}

struct Client {
    addr: Addr,
    path: String,
    patience: Duration,
    pattern: Pattern,
    end: Instant,
    shared: Arc<Shared>,
    tally: Tally,
}

impl Client {
    fn run(mut self) -> Tally {
        let start = Instant::now();
        let mut connection = None;
        while !self.is_over() {
            match self.request_once(&mut connection) {
                Ok(took) => {
                    self.shared.answered.fetch_add(1, Ordering::Relaxed);
                    self.tally.answer(took);
                }
                Err(failure) => {
                    let about = format!(
                        "{:?} client, {:?} after its start",
                        self.pattern,
                        start.elapsed()
                    );
                    self.tally.failure(failure, || about);
                    connection = None;
                    // do not retry in a busy loop while the server is down
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
        self.tally
    }

    fn is_over(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire) || Instant::now() >= self.end
    }

    /// Sends one request, on the kept connection or on a new one.
    fn request_once(&mut self, connection: &mut Option<Conn>) -> Result<Duration, Failure> {
        let start = Instant::now();
        let mut conn = match connection.take() {
            Some(conn) => conn,
            None => Conn::open_patient(&self.addr, self.patience)?,
        };
        conn.send(self.head())?;
        let answer = conn.answer()?;
        let took = start.elapsed();
        let outcome = if answer.is_success() {
            Ok(took)
        } else {
            Err(Failure::BadStatus(answer.status))
        };
        match self.pattern {
            Pattern::NewConnection => {}
            _ if answer.closes() => self.tally.announced_close(),
            Pattern::KeepAlive => *connection = Some(conn),
            Pattern::Thinking(pause) => *connection = self.think(conn, pause),
        }
        outcome
    }

    fn head(&self) -> String {
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

    /// Leaves the connection idle for `pause`. Returns `None` and counts a failure if the server closed it meanwhile.
    fn think(&mut self, mut conn: Conn, pause: Duration) -> Option<Conn> {
        match conn.state_after(pause) {
            SocketState::Open => return Some(conn),
            SocketState::Closed => self
                .tally
                .failure(Failure::ClosedWhileIdle, || format!("within {pause:?}")),
            SocketState::Reset => self.tally.failure(Failure::Reset, || "while idle".into()),
            SocketState::Sent(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                self.tally.failure(Failure::Malformed, || {
                    format!("without a request: {text:?}")
                });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty_server::FaultyServer;

    fn load(server: &FaultyServer, path: &str, pattern: Pattern) -> Tally {
        let running = Load::on(&server.addr())
            .path(path)
            .patience(Duration::from_millis(300))
            .clients(2, pattern)
            .start();
        thread::sleep(Duration::from_millis(100));
        running.stop()
    }

    #[test]
    fn clients_send_requests_until_they_are_stopped() {
        let server = FaultyServer::start();
        let running = Load::on(&server.addr())
            .clients(3, Pattern::KeepAlive)
            .clients(2, Pattern::Thinking(Duration::from_millis(5)))
            .start();
        running.wait_for(50, Duration::from_secs(5));
        running.stop().assert_flawless();
    }

    #[test]
    fn an_unannounced_close_is_a_failure_and_an_announced_one_is_not() {
        let server = FaultyServer::start();
        let announced = load(&server, "/close", Pattern::KeepAlive);
        assert!(announced.announced_closes() > 0, "{announced}");
        announced.assert_flawless();
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
        let server = FaultyServer::start();
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
    fn a_load_ends_by_itself_at_its_time_limit() {
        let server = FaultyServer::start();
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
