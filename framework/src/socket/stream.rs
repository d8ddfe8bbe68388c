//! An accepted stream socket, TCP or Unix alike: non-blocking reads and writes, and a way back to the bare descriptor.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{ready, Context, Poll};

use async_io::Async;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

/// A connected socket that waits in the reactor.
#[derive(Debug)]
pub(crate) struct Stream(Async<OwnedFd>);

impl Stream {
    /// Takes a socket that is non-blocking already, as `accept4(2)` and our own listeners make them.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        Async::new_nonblocking(socket).map(Stream)
    }

    /// Leaves the reactor: a socket that another process or poller is to read must not be watched here.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        self.0.into_inner()
    }

    /// Reads what has come; 0 is the end.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match rustix::net::recv(&self.0, &mut *buf, RecvFlags::empty()) {
                Ok((n, _)) => return Poll::Ready(Ok(n)),
                Err(Errno::AGAIN) => ready!(self.0.poll_readable(cx))?,
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Writes from several buffers at once, as much as the socket takes.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let sent = match bufs {
                [one] => rustix::net::send(&self.0, one, SendFlags::NOSIGNAL),
                many => {
                    let mut nothing = SendAncillaryBuffer::default();
                    rustix::net::sendmsg(&self.0, many, &mut nothing, SendFlags::NOSIGNAL)
                }
            };
            match sent {
                Ok(n) => return Poll::Ready(Ok(n)),
                Err(Errno::AGAIN) => ready!(self.0.poll_writable(cx))?,
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
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
        rustix::net::shutdown(&self.0, how).map_err(io::Error::from)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
