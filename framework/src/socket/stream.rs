//! An accepted TCP or Unix stream socket with non-blocking reads and writes. It can be converted
//! back into its descriptor.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use super::watch::{PeerState, PolledSocket};

/// A connected socket that is registered with the poller.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Arc<OwnedFd>,
    polled: PolledSocket,
    /// The number of consecutive reads that returned data.
    consecutive_reads: AtomicU8,
}

/// The number of consecutive reads after which a connection yields to the other tasks of its
/// thread. Without this limit a client that never pauses would keep the thread to itself.
const MAX_CONSECUTIVE_READS: u8 = 32;

impl Stream {
    /// Registers `socket`, which must be non-blocking already. accept4(2) and the listeners of this
    /// crate create such sockets.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = Arc::new(socket);
        let polled = PolledSocket::new(&socket)?;
        Ok(Stream {
            socket,
            polled,
            consecutive_reads: AtomicU8::new(0),
        })
    }

    /// Removes the socket from the poller and returns its descriptor. Two pollers must not wait for
    /// the same socket, be they in one process or in two.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        drop(self.polled);
        // this is the only reference, so `try_clone` never runs
        Arc::try_unwrap(self.socket).or_else(|socket| socket.try_clone())
    }

    /// Reads available data. Returns 0 at the end of the stream.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let readiness = self.polled.read();
        loop {
            if readiness.poll_ready(cx).is_pending() {
                self.consecutive_reads.store(0, Ordering::Relaxed);
                return Poll::Pending;
            }
            // a plain load and store suffice, because only one task reads at a time
            let before = self.consecutive_reads.load(Ordering::Relaxed);
            if before == MAX_CONSECUTIVE_READS {
                self.consecutive_reads.store(0, Ordering::Relaxed);
                readiness.set_ready();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.consecutive_reads.store(before + 1, Ordering::Relaxed);
            match rustix::net::recv(&self.socket, &mut *buf, RecvFlags::empty()) {
                // fewer bytes than the buffer holds: the socket is empty, and new data causes a new
                // event
                Ok((n, _)) if 0 < n && n < buf.len() => return Poll::Ready(Ok(n)),
                Ok((n, _)) => {
                    readiness.set_ready();
                    return Poll::Ready(Ok(n));
                }
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => readiness.set_ready(),
                Err(error) => {
                    readiness.set_ready();
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
    }

    /// Returns the state of the peer without a read. Wakes `cx` when the state may have changed,
    /// unless a read waits as well: there is one waker for both.
    pub(crate) fn peer_state(&self, cx: &mut Context<'_>) -> PeerState {
        self.polled.peer_state(cx)
    }

    /// Writes from several buffers at once, as much as the send buffer takes.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let readiness = self.polled.write();
        loop {
            ready!(readiness.poll_ready(cx));
            let sent = match bufs {
                [one] => rustix::net::send(&self.socket, one, SendFlags::NOSIGNAL),
                many => {
                    let mut no_ancillary = SendAncillaryBuffer::default();
                    rustix::net::sendmsg(&self.socket, many, &mut no_ancillary, SendFlags::NOSIGNAL)
                }
            };
            match sent {
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => readiness.set_ready(),
                Ok(n) => {
                    readiness.set_ready();
                    return Poll::Ready(Ok(n));
                }
                Err(error) => {
                    readiness.set_ready();
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
    }

    /// Shuts down one or both directions, for every process that holds the socket.
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
    fn the_end_of_the_stream_is_read_after_the_last_bytes() {
        let (stream, mut theirs) = pair();
        theirs.write_all(b"the last").unwrap();
        drop(theirs);
        assert_eq!(read(&stream).unwrap(), b"the last");
        assert_eq!(read(&stream).unwrap(), b"");
        assert_eq!(read(&stream).unwrap(), b"");
    }

    #[test]
    fn no_data_is_missed_between_two_reads() {
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
    fn a_write_continues_when_a_full_send_buffer_has_space_again() {
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
    fn a_socket_is_still_open_after_it_left_the_poller() {
        let (stream, mut theirs) = pair();
        let mut ours = UnixStream::from(stream.into_fd().unwrap());
        theirs.write_all(b"to another").unwrap();
        ours.set_nonblocking(false).unwrap();
        let mut buf = [0; 10];
        ours.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"to another");
    }
}
