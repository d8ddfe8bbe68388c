//! An accepted stream socket, TCP or Unix alike: non-blocking reads and writes, and a way back to the bare descriptor.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use super::watch::{PeerState, Watched};

/// A connected socket that is watched.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Arc<OwnedFd>,
    watched: Watched,
    /// How often something could be read without a pause.
    in_a_row: AtomicU8,
}

/// After so many reads the others of a thread have their turn: whoever reads until nothing is left would stay with a
/// client that never pauses.
const IN_A_ROW: u8 = 32;

impl Stream {
    /// Takes a socket that is non-blocking already, as `accept4(2)` and our own listeners make them.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = Arc::new(socket);
        let watched = Watched::new(&socket)?;
        Ok(Stream {
            socket,
            watched,
            in_a_row: AtomicU8::new(0),
        })
    }

    /// Leaves those that are watched: a socket that another process or poller is to read must not be watched here.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        drop(self.watched);
        // nobody else ever holds it
        Arc::try_unwrap(self.socket).or_else(|socket| socket.try_clone())
    }

    /// Reads what has come; 0 is the end.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let change = self.watched.read();
        loop {
            if change.poll(cx).is_pending() {
                self.in_a_row.store(0, Ordering::Relaxed);
                return Poll::Pending;
            }
            // one task reads at a time
            let before = self.in_a_row.load(Ordering::Relaxed);
            if before == IN_A_ROW {
                self.in_a_row.store(0, Ordering::Relaxed);
                change.goes_on();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.in_a_row.store(before + 1, Ordering::Relaxed);
            match rustix::net::recv(&self.socket, &mut *buf, RecvFlags::empty()) {
                // less than asked for: nothing is left, and what comes next is a change
                Ok((n, _)) if 0 < n && n < buf.len() => return Poll::Ready(Ok(n)),
                Ok((n, _)) => {
                    change.goes_on();
                    return Poll::Ready(Ok(n));
                }
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => change.goes_on(),
                Err(error) => {
                    change.goes_on();
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
    }

    /// What is known of the other end without reading; `cx` is woken when that changes, unless a read waits as well.
    pub(crate) fn hears(&self, cx: &mut Context<'_>) -> PeerState {
        self.watched.hears(cx)
    }

    /// Writes from several buffers at once, as much as the socket takes.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let change = self.watched.write();
        loop {
            ready!(change.poll(cx));
            let sent = match bufs {
                [one] => rustix::net::send(&self.socket, one, SendFlags::NOSIGNAL),
                many => {
                    let mut nothing = SendAncillaryBuffer::default();
                    rustix::net::sendmsg(&self.socket, many, &mut nothing, SendFlags::NOSIGNAL)
                }
            };
            match sent {
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => change.goes_on(),
                Ok(n) => {
                    change.goes_on();
                    return Poll::Ready(Ok(n));
                }
                Err(error) => {
                    change.goes_on();
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
    }

    /// Shuts one side or both down, for every process that holds the socket.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        rustix::net::shutdown(&self.socket, how).map_err(io::Error::from)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use async_std::task::block_on;

    use super::*;

    fn pair() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Stream::new(ours.into()).unwrap(), theirs)
    }

    fn read(stream: &Stream) -> io::Result<Vec<u8>> {
        let mut buf = [0; 64];
        let n = block_on(poll_fn(|cx| stream.poll_read(cx, &mut buf)))?;
        Ok(buf[..n].to_vec())
    }

    #[test]
    fn an_end_that_comes_with_the_last_bytes_is_read_after_them() {
        let (stream, mut theirs) = pair();
        theirs.write_all(b"the last").unwrap();
        drop(theirs);
        assert_eq!(read(&stream).unwrap(), b"the last");
        assert_eq!(read(&stream).unwrap(), b"");
        assert_eq!(read(&stream).unwrap(), b"");
    }

    #[test]
    fn no_piece_is_missed_between_a_read_and_the_next() {
        let (stream, mut theirs) = pair();
        let client = std::thread::spawn(move || {
            for _ in 0..10_000 {
                theirs.write_all(b"ping").unwrap();
                theirs.read_exact(&mut [0; 4]).unwrap();
            }
        });
        for _ in 0..10_000 {
            assert_eq!(read(&stream).unwrap(), b"ping");
            block_on(poll_fn(|cx| {
                stream.poll_write(cx, &[IoSlice::new(b"pong")])
            }))
            .unwrap();
        }
        client.join().unwrap();
    }

    #[test]
    fn a_full_socket_is_written_on_when_there_is_room() {
        let (stream, mut theirs) = pair();
        let client = std::thread::spawn(move || {
            let mut all = vec![];
            theirs.read_to_end(&mut all).unwrap();
            all.len()
        });
        let (mut left, piece) = (4 << 20, vec![0; 64 << 10]);
        while left > 0 {
            let buf = &piece[..piece.len().min(left)];
            left -= block_on(poll_fn(|cx| stream.poll_write(cx, &[IoSlice::new(buf)]))).unwrap();
        }
        drop(stream);
        assert_eq!(client.join().unwrap(), 4 << 20);
    }

    #[test]
    fn a_socket_that_was_let_go_is_still_open() {
        let (stream, mut theirs) = pair();
        let mut ours = UnixStream::from(stream.into_fd().unwrap());
        theirs.write_all(b"to another").unwrap();
        ours.set_nonblocking(false).unwrap();
        let mut buf = [0; 10];
        ours.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"to another");
    }
}
