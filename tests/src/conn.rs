//! One client connection, byte by byte: what is sent in which pieces, what comes back, how it ends.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, set_socket_timeout, Timeout};
use rustix::net::{recv, send, shutdown, RecvFlags, SendFlags, Shutdown};

use crate::addr::Addr;
use crate::answer::{Answer, Framing};
use crate::tally::Failure;

/// How long a client waits for anything unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Open, and nothing to read.
    KeptOpen,
    /// Ended in the orderly way.
    Closed,
    /// Reset.
    Reset,
    /// Open, with bytes that nobody had asked for.
    Sent(Vec<u8>),
}

/// A connection as a client has it.
#[derive(Debug)]
pub struct Conn {
    fd: OwnedFd,
    unread: Vec<u8>,
    patience: Duration,
}

impl Conn {
    /// Connects, with [`PATIENCE`].
    ///
    /// # Errors
    ///
    /// Why it could not.
    pub fn open(addr: &Addr) -> Result<Self, Failure> {
        Conn::open_patient(addr, PATIENCE)
    }

    /// Connects; every later wait ends after `patience`.
    ///
    /// # Errors
    ///
    /// Why it could not.
    pub fn open_patient(addr: &Addr, patience: Duration) -> Result<Self, Failure> {
        let fd: OwnedFd = match addr {
            Addr::Tcp(addr) => TcpStream::connect_timeout(addr, patience).and_then(|stream| {
                stream.set_nodelay(true)?;
                Ok(stream.into())
            }),
            Addr::Unix(path) => UnixStream::connect(path).map(Into::into),
        }
        .map_err(|error| Failure::from_io(&error))?;
        let conn = Conn {
            fd,
            unread: Vec::new(),
            patience,
        };
        conn.limit(patience)?;
        Ok(conn)
    }

    fn limit(&self, wait: Duration) -> Result<(), Failure> {
        let wait = wait.max(Duration::from_millis(1));
        set_socket_timeout(&self.fd, Timeout::Recv, Some(wait)).map_err(failure)?;
        set_socket_timeout(&self.fd, Timeout::Send, Some(wait)).map_err(failure)
    }

    /// A second handle on the same connection, to send on while this one receives.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub fn try_clone(&self) -> Result<Self, Failure> {
        let fd = self
            .fd
            .try_clone()
            .map_err(|error| Failure::from_io(&error))?;
        Ok(Conn {
            fd,
            unread: Vec::new(),
            patience: self.patience,
        })
    }

    /// Sends all of it.
    ///
    /// # Errors
    ///
    /// Why it could not.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            match send(&self.fd, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(failure(error)),
            }
        }
        Ok(())
    }

    /// Sends it in pieces of `size` bytes, a segment each, with `pause` between them.
    ///
    /// # Errors
    ///
    /// Why it could not.
    pub fn send_in_pieces(
        &mut self,
        bytes: &[u8],
        size: usize,
        pause: Duration,
    ) -> Result<(), Failure> {
        for piece in bytes.chunks(size) {
            self.send(piece)?;
            thread::sleep(pause);
        }
        Ok(())
    }

    /// Sends a GET for `path`.
    ///
    /// # Errors
    ///
    /// Why it could not.
    pub fn get(&mut self, path: &str) -> Result<(), Failure> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Sends a GET for `path` and reads its answer.
    ///
    /// # Errors
    ///
    /// Why there was none.
    pub fn ask(&mut self, path: &str) -> Result<Answer, Failure> {
        self.get(path)?;
        self.answer()
    }

    /// Says that nothing more will be sent, and goes on receiving.
    ///
    /// # Errors
    ///
    /// Why it could not.
    pub fn half_close(&mut self) -> Result<(), Failure> {
        shutdown(&self.fd, Shutdown::Write).map_err(failure)
    }

    /// Reads one whole answer. Answers of the 1xx kind are answers too.
    ///
    /// # Errors
    ///
    /// Why there was none, or not all of it.
    pub fn answer(&mut self) -> Result<Answer, Failure> {
        let mut answer = self.head()?;
        self.body(&mut answer)?;
        Ok(answer)
    }

    /// Reads the head of an answer.
    ///
    /// # Errors
    ///
    /// Why there was none, or not all of it.
    pub fn head(&mut self) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.patience;
        let end = self.find(b"\r\n\r\n", deadline)?;
        let answer = Answer::parse(&self.unread[..end])?;
        self.unread.drain(..end + 4);
        Ok(answer)
    }

    /// Reads the body that belongs to a head, into it: after an error it holds what has come.
    ///
    /// # Errors
    ///
    /// Why it is not all there.
    pub fn body(&mut self, answer: &mut Answer) -> Result<(), Failure> {
        match answer.framing()? {
            Framing::Empty => Ok(()),
            Framing::Length(length) => self.take(length, &mut answer.body),
            Framing::Chunked => {
                while let Some(chunk) = self.chunk()? {
                    answer.body.extend(chunk);
                }
                Ok(())
            }
            Framing::UntilClose => loop {
                answer.body.append(&mut self.unread);
                match self.fill(Instant::now() + self.patience) {
                    Ok(()) => {}
                    Err(Failure::ClosedBeforeAnswer) => return Ok(()),
                    Err(failure) => return Err(failure),
                }
            },
        }
    }

    /// Reads so many bytes and keeps none of them.
    ///
    /// # Errors
    ///
    /// Why they did not all come.
    pub fn discard(&mut self, length: u64) -> Result<(), Failure> {
        let mut missing = length;
        loop {
            let now = usize::try_from(missing)
                .unwrap_or(usize::MAX)
                .min(self.unread.len());
            self.unread.drain(..now);
            missing -= now as u64;
            if missing == 0 {
                return Ok(());
            }
            self.receive().map_err(inside)?;
        }
    }

    /// Reads one chunk of a chunked body; `None` after the last.
    ///
    /// # Errors
    ///
    /// Why it is not all there.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let end = self
            .find(b"\r\n", Instant::now() + self.patience)
            .map_err(inside)?;
        let line = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        let digits = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(digits.trim(), 16).map_err(|_| Failure::Malformed)?;
        self.unread.drain(..end + 2);
        let (mut chunk, mut line_end) = (Vec::new(), Vec::new());
        self.take(size, &mut chunk)?;
        self.take(2, &mut line_end)?;
        match (line_end == b"\r\n", size) {
            (false, _) => Err(Failure::Malformed),
            (true, 0) => Ok(None),
            (true, _) => Ok(Some(chunk)),
        }
    }

    /// Ends the connection without ceremony: the other side finds it reset. On a Unix socket it is closed.
    ///
    /// # Panics
    ///
    /// When the system does not have it.
    pub fn reset(self) {
        set_socket_linger(&self.fd, Some(Duration::ZERO)).expect("a socket that does not linger");
    }

    /// What becomes of the connection within `wait`, when nothing is asked on it.
    #[must_use]
    pub fn fate(&mut self, wait: Duration) -> Fate {
        if !self.unread.is_empty() {
            return Fate::Sent(std::mem::take(&mut self.unread));
        }
        let fate = match self.limit(wait).and_then(|()| self.receive()) {
            Ok(()) => Fate::Sent(std::mem::take(&mut self.unread)),
            Err(Failure::ClosedBeforeAnswer) => Fate::Closed,
            Err(Failure::TimedOut) => Fate::KeptOpen,
            Err(_) => Fate::Reset,
        };
        // a connection that can no longer be waited on shows it at the next use
        let _ = self.limit(self.patience);
        fate
    }

    /// What is known of the connection now, without taking anything from it.
    #[must_use]
    pub fn glance(&self) -> Fate {
        if !self.unread.is_empty() {
            return Fate::Sent(self.unread.clone());
        }
        let mut byte = [0];
        match recv(&self.fd, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Fate::Closed,
            Ok(_) => Fate::Sent(byte.to_vec()),
            Err(Errno::AGAIN | Errno::INTR) => Fate::KeptOpen,
            Err(_) => Fate::Reset,
        }
    }

    /// Moves `length` bytes to `into`.
    fn take(&mut self, length: usize, into: &mut Vec<u8>) -> Result<(), Failure> {
        let deadline = Instant::now() + self.patience;
        let mut missing = length;
        loop {
            let now = missing.min(self.unread.len());
            into.extend(self.unread.drain(..now));
            missing -= now;
            if missing == 0 {
                return Ok(());
            }
            self.fill(deadline).map_err(inside)?;
        }
    }

    /// Receives until `pattern` is there; gives its place.
    fn find(&mut self, pattern: &[u8], deadline: Instant) -> Result<usize, Failure> {
        let mut seen = 0;
        loop {
            let mut fresh = self.unread[seen..].windows(pattern.len());
            if let Some(place) = fresh.position(|window| window == pattern) {
                return Ok(seen + place);
            }
            let begun = !self.unread.is_empty();
            seen = self.unread.len().saturating_sub(pattern.len() - 1);
            self.fill(deadline)
                .map_err(|failure| if begun { inside(failure) } else { failure })?;
        }
    }

    /// Receives once, unless it took too long already.
    fn fill(&mut self, deadline: Instant) -> Result<(), Failure> {
        if Instant::now() > deadline {
            return Err(Failure::TimedOut);
        }
        self.receive()
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 16 << 10];
        loop {
            match recv(&self.fd, &mut buffer, RecvFlags::empty()) {
                Ok((_, 0)) => return Err(Failure::ClosedBeforeAnswer),
                Ok((_, count)) => {
                    self.unread.extend_from_slice(&buffer[..count]);
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(failure(error)),
            }
        }
    }
}

/// An end inside an answer is another failure than one before it.
fn inside(failure: Failure) -> Failure {
    if failure == Failure::ClosedBeforeAnswer {
        Failure::CutInTheMiddle
    } else {
        failure
    }
}

fn failure(error: Errno) -> Failure {
    Failure::from_io(&error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::StandIn;

    fn conn(server: &StandIn) -> Conn {
        Conn::open_patient(&server.addr(), Duration::from_millis(500)).unwrap()
    }

    #[test]
    fn every_failure_is_told_apart() {
        let server = StandIn::start();
        let mut found = Vec::new();
        for path in [
            "/gone",
            "/cut",
            "/cut-chunk",
            "/reset",
            "/silent",
            "/malformed",
        ] {
            found.push(conn(&server).ask(path).unwrap_err());
        }
        use Failure::{ClosedBeforeAnswer, CutInTheMiddle, Malformed, Reset, TimedOut};
        assert_eq!(
            found,
            [
                ClosedBeforeAnswer,
                CutInTheMiddle,
                CutInTheMiddle,
                Reset,
                TimedOut,
                Malformed
            ]
        );
    }

    #[test]
    fn nobody_there_is_refused() {
        let addr = StandIn::start().addr();
        assert_eq!(Conn::open(&addr).unwrap_err(), Failure::Refused);
        assert_eq!(
            Conn::open(&Addr::Unix("/nonexistent/socket".into())).unwrap_err(),
            Failure::Refused
        );
    }

    #[test]
    fn answers_are_read_one_after_another() {
        let server = StandIn::start();
        let mut conn = conn(&server);
        conn.send_in_pieces(
            b"GET / HTTP/1.1\r\n\r\nGET /chunks HTTP/1.1\r\n\r\n",
            1,
            Duration::ZERO,
        )
        .unwrap();
        assert_eq!(conn.answer().unwrap().text(), "stand-in");
        assert_eq!(conn.answer().unwrap().text(), "one two three");
        assert_eq!(
            (conn.glance(), conn.fate(Duration::from_millis(20))),
            (Fate::KeptOpen, Fate::KeptOpen)
        );
        assert_eq!(conn.ask("/until-close").unwrap().text(), "all of it");
        assert_eq!(
            (conn.glance(), conn.fate(Duration::from_millis(20))),
            (Fate::Closed, Fate::Closed)
        );
    }
}
