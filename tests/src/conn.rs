//! A client connection: sends bytes in chosen pieces, reads answers, reports how the connection ended.

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

/// The default timeout of a client for each wait.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The state of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketState {
    /// Open, with nothing to read.
    Open,
    /// Closed by the server with a FIN.
    Closed,
    /// Reset by the server.
    Reset,
    /// Open, with bytes received that belong to no request.
    Sent(Vec<u8>),
}

/// A client's side of a connection.
#[derive(Debug)]
pub struct Conn {
    fd: OwnedFd,
    unread: Vec<u8>,
    patience: Duration,
}

impl Conn {
    /// Connects with the timeout [`PATIENCE`].
    ///
    /// # Errors
    ///
    /// Returns the kind of failure.
    pub fn open(addr: &Addr) -> Result<Self, Failure> {
        Conn::open_patient(addr, PATIENCE)
    }

    /// Connects with the timeout `patience`, which also limits every later wait.
    ///
    /// # Errors
    ///
    /// Returns the kind of failure.
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

    /// Returns a second handle on the connection, so that a second thread can receive while the first sends.
    ///
    /// # Errors
    ///
    /// Fails if no descriptor is left.
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

    /// Sends all bytes.
    ///
    /// # Errors
    ///
    /// Returns the kind of failure.
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

    /// Sends the bytes in pieces of `size`, one segment for each, with `pause` between them.
    ///
    /// # Errors
    ///
    /// Returns the kind of failure.
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
    /// Returns the kind of failure.
    pub fn get(&mut self, path: &str) -> Result<(), Failure> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Sends a GET for `path` and reads its answer.
    ///
    /// # Errors
    ///
    /// Returns the kind of failure if there is no answer.
    pub fn fetch(&mut self, path: &str) -> Result<Answer, Failure> {
        self.get(path)?;
        self.answer()
    }

    /// Closes the sending side. Receiving remains possible.
    ///
    /// # Errors
    ///
    /// Returns the kind of failure.
    pub fn half_close(&mut self) -> Result<(), Failure> {
        shutdown(&self.fd, Shutdown::Write).map_err(failure)
    }

    /// Reads one whole answer. A 1xx answer counts as an answer.
    ///
    /// # Errors
    ///
    /// Returns the kind of failure if the answer is missing or incomplete.
    pub fn answer(&mut self) -> Result<Answer, Failure> {
        let mut answer = self.head()?;
        self.body(&mut answer)?;
        Ok(answer)
    }

    /// Reads the head of an answer.
    ///
    /// # Errors
    ///
    /// Returns the kind of failure if the answer is missing or incomplete.
    pub fn head(&mut self) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.patience;
        let end = self.find(b"\r\n\r\n", deadline)?;
        let answer = Answer::parse(&self.unread[..end])?;
        self.unread.drain(..end + 4);
        Ok(answer)
    }

    /// Reads the body of an answer into it. After an error `answer` holds the bytes received so far.
    ///
    /// # Errors
    ///
    /// Returns the kind of failure if it is incomplete.
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

    /// Reads and discards `length` bytes.
    ///
    /// # Errors
    ///
    /// Returns the kind of failure if fewer bytes were received.
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

    /// Reads one chunk of a chunked body; returns `None` at the last, empty chunk.
    ///
    /// # Errors
    ///
    /// Returns the kind of failure if it is incomplete.
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

    /// Resets the connection (RST). A Unix socket is closed instead.
    ///
    /// # Panics
    ///
    /// Panics if the socket option is refused.
    pub fn reset(self) {
        set_socket_linger(&self.fd, Some(Duration::ZERO)).expect("a socket that does not linger");
    }

    /// Waits for data or for the end of the connection, at most `wait`, and returns its state. Sends nothing.
    #[must_use]
    pub fn state_after(&mut self, wait: Duration) -> SocketState {
        if !self.unread.is_empty() {
            return SocketState::Sent(std::mem::take(&mut self.unread));
        }
        let state = match self.limit(wait).and_then(|()| self.receive()) {
            Ok(()) => SocketState::Sent(std::mem::take(&mut self.unread)),
            Err(Failure::ClosedBeforeAnswer) => SocketState::Closed,
            Err(Failure::TimedOut) => SocketState::Open,
            Err(_) => SocketState::Reset,
        };
        // if the timeout cannot be restored, the next use of the connection fails
        let _ = self.limit(self.patience);
        state
    }

    /// Returns the present state of the connection without waiting and without consuming data.
    #[must_use]
    pub fn state(&self) -> SocketState {
        if !self.unread.is_empty() {
            return SocketState::Sent(self.unread.clone());
        }
        let mut byte = [0];
        match recv(&self.fd, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => SocketState::Closed,
            Ok(_) => SocketState::Sent(byte.to_vec()),
            Err(Errno::AGAIN | Errno::INTR) => SocketState::Open,
            Err(_) => SocketState::Reset,
        }
    }

    /// Moves `length` bytes into `into`.
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

    /// Receives until `pattern` is in the buffer; returns its offset.
    fn find(&mut self, pattern: &[u8], deadline: Instant) -> Result<usize, Failure> {
        let mut seen = 0;
        loop {
            let mut fresh = self.unread[seen..].windows(pattern.len());
            if let Some(place) = fresh.position(|window| window == pattern) {
                return Ok(seen + place);
            }
            let is_inside = !self.unread.is_empty();
            seen = self.unread.len().saturating_sub(pattern.len() - 1);
            self.fill(deadline)
                .map_err(|failure| if is_inside { inside(failure) } else { failure })?;
        }
    }

    /// Receives once, unless the deadline has passed.
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

/// Converts the failure "closed before the answer" to "cut in the middle", because a part of the answer was received.
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
    use crate::faulty_server::FaultyServer;

    fn conn(server: &FaultyServer) -> Conn {
        Conn::open_patient(&server.addr(), Duration::from_millis(500)).unwrap()
    }

    #[test]
    fn every_kind_of_failure_is_distinguished() {
        let server = FaultyServer::start();
        let mut failures = Vec::new();
        for path in [
            "/gone",
            "/cut",
            "/cut-chunk",
            "/reset",
            "/silent",
            "/malformed",
        ] {
            failures.push(conn(&server).fetch(path).unwrap_err());
        }
        use Failure::{ClosedBeforeAnswer, CutInTheMiddle, Malformed, Reset, TimedOut};
        assert_eq!(
            failures,
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
    fn a_connection_without_a_listener_is_refused() {
        let addr = FaultyServer::start().addr();
        assert_eq!(Conn::open(&addr).unwrap_err(), Failure::Refused);
        assert_eq!(
            Conn::open(&Addr::Unix("/nonexistent/socket".into())).unwrap_err(),
            Failure::Refused
        );
    }

    #[test]
    fn answers_are_read_one_after_another() {
        let server = FaultyServer::start();
        let mut conn = conn(&server);
        conn.send_in_pieces(
            b"GET / HTTP/1.1\r\n\r\nGET /chunks HTTP/1.1\r\n\r\n",
            1,
            Duration::ZERO,
        )
        .unwrap();
        assert_eq!(conn.answer().unwrap().text(), "faulty");
        assert_eq!(conn.answer().unwrap().text(), "one two three");
        assert_eq!(
            (conn.state(), conn.state_after(Duration::from_millis(20))),
            (SocketState::Open, SocketState::Open)
        );
        assert_eq!(conn.fetch("/until-close").unwrap().text(), "all of it");
        assert_eq!(
            (conn.state(), conn.state_after(Duration::from_millis(20))),
            (SocketState::Closed, SocketState::Closed)
        );
    }
}
