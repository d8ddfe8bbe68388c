//! The channel between two processes: a pair of Unix sockets that carries messages and descriptors.
//!
//! The sockets are of type SEQPACKET (unix(7)), which keeps message boundaries and order, and reports the end of the
//! other process. Descriptors are sent as `SCM_RIGHTS` (cmsg(3)): the receiver gets new ones for the same open files.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_io::{Async, Timer};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::{fcntl_setfd, retry_on_intr, Errno, FdFlags};
use rustix::net::{
    recvmsg, sendmsg, socketpair, sockopt, AddressFamily, RecvAncillaryBuffer,
    RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};

use super::wire::{PeerMessage, WireError, MAX_BYTES, MAX_FDS};
use crate::sync::lock::Mutex;

/// An end of a channel. Any number of tasks may send and receive at the same time, because a message is sent and
/// received as a whole.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Async<OwnedFd>,
    /// The receive buffer. The longest message fits.
    buffer: Mutex<Vec<u8>>,
    /// True once the other process has sent its greeting, and so is not a foreign program.
    greeted: AtomicBool,
}

/// The reason why no message could be received.
#[derive(Debug)]
pub(crate) enum ReceiveError {
    /// Reading from the channel failed.
    Io(io::Error),
    /// The datagram is not a message. It is dropped and its descriptors are closed; the next message can be received.
    Malformed(WireError),
}

/// The size of the control data of a message with [`MAX_FDS`] descriptors.
const CONTROL: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

/// The size of the send buffer in bytes. The kernel doubles it for its own overhead, so that two messages of the
/// maximum size can be queued while a third is written.
const SEND_BUFFER: usize = 2 * MAX_BYTES;

/// The delay before descriptors are sent again after ETOOMANYREFS. No event reports that fewer are in flight.
const IN_FLIGHT_RETRY: Duration = Duration::from_millis(5);

impl Channel {
    /// Creates a channel. The second value is the other end for the process that will be started. It is close-on-exec and
    /// non-blocking.
    ///
    /// # Errors
    /// The kernel has no descriptors or no memory left.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        enlarge_send_buffer(&ours)?;
        enlarge_send_buffer(&theirs)?;
        Ok((Channel::with_socket(Async::new_nonblocking(ours)?), theirs))
    }

    /// Takes over the end of a channel that was inherited from the old process.
    ///
    /// # Errors
    /// The descriptor is not a SEQPACKET Unix socket.
    pub(crate) fn adopt(socket: OwnedFd) -> io::Result<Self> {
        let is_unix = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX);
        if !is_unix || sockopt::socket_type(&socket) != Ok(SocketType::SEQPACKET) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor that was passed for the handover is not a SEQPACKET Unix socket",
            ));
        }
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        enlarge_send_buffer(&socket)?;
        Ok(Channel::with_socket(Async::new(socket)?))
    }

    /// Takes over the end of a channel from another process, which has already exchanged greetings on it.
    ///
    /// # Errors
    /// As [`adopt`](Channel::adopt).
    pub(crate) fn inherit(socket: OwnedFd) -> io::Result<Self> {
        let channel = Channel::adopt(socket)?;
        channel.greeted.store(true, Ordering::Release);
        Ok(channel)
    }

    /// Returns the descriptor of this end, to pass it to another process.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }

    fn with_socket(socket: Async<OwnedFd>) -> Self {
        Channel {
            socket,
            buffer: Mutex::new(vec![0; MAX_BYTES]),
            greeted: AtomicBool::new(false),
        }
    }

    /// Sends a message with its descriptors, as soon as the send buffer has room. The descriptors stay open here.
    ///
    /// A future that is dropped before it completes has sent nothing.
    ///
    /// # Errors
    /// The other end is closed (`BrokenPipe`, or once `ConnectionReset`; its earlier messages can still be received), the
    /// message is longer than [`MAX_BYTES`], or the number of descriptors is wrong.
    pub(crate) async fn send(
        &self,
        message: &PeerMessage,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        if message.descriptors() != fds.len() {
            let (expected, received) = (message.descriptors(), fds.len());
            let error = WireError::Descriptors { expected, received };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let datagram = message.encode();
        if datagram.len() > MAX_BYTES {
            return Err(Errno::MSGSIZE.into());
        }
        loop {
            match self
                .socket
                .write_with(|socket| send_now(socket, &datagram, fds))
                .await
            {
                // without privileges, a user may have as many descriptors in flight as one process may open (unix(7))
                Err(error) if Errno::from_io_error(&error) == Some(Errno::TOOMANYREFS) => {
                    Timer::after(IN_FLIGHT_RETRY).await;
                }
                sent => return sent,
            }
        }
    }

    /// Receives the next message with its descriptors, which are close-on-exec. Returns `None` after the last message if
    /// the other end is closed.
    ///
    /// A future that is dropped before it completes has received nothing.
    ///
    /// # Errors
    /// Reading failed, or the datagram is not a message. After the latter the next message can be received.
    pub(crate) async fn receive(
        &self,
    ) -> Result<Option<(PeerMessage, Vec<OwnedFd>)>, ReceiveError> {
        let receive = |socket: &OwnedFd| receive_now(socket, &mut self.buffer.lock());
        match self.socket.read_with(receive).await? {
            Datagram::End => Ok(None),
            Datagram::Damaged(why) => Err(why.into()),
            Datagram::Whole(datagram, fds) => Ok(Some((self.decode(&datagram, fds.len())?, fds))),
        }
    }

    /// Returns true if the other process has sent its greeting.
    pub(crate) fn is_greeted(&self) -> bool {
        self.greeted.load(Ordering::Acquire)
    }

    /// Decodes a datagram. The first one has to be a greeting, because the other process may be a foreign program.
    fn decode(&self, datagram: &[u8], fds: usize) -> Result<PeerMessage, WireError> {
        if self.is_greeted() {
            return PeerMessage::decode(datagram, fds);
        }
        let greeting = PeerMessage::decode_first(datagram, fds)?;
        self.greeted.store(true, Ordering::Release);
        Ok(greeting)
    }
}

/// Makes the send buffer large enough for the longest message. It is never made smaller. The receiving end has no buffer
/// of its own, because the kernel counts queued messages against the sender.
fn enlarge_send_buffer(socket: &OwnedFd) -> io::Result<()> {
    if sockopt::socket_send_buffer_size(socket)? < 2 * SEND_BUFFER {
        sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER)?;
    }
    Ok(())
}

fn send_now(socket: &OwnedFd, datagram: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); CONTROL];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        // more than MAX_FDS descriptors
        return Err(Errno::MSGSIZE.into());
    }
    let iov = [IoSlice::new(datagram)];
    retry_on_intr(|| sendmsg(socket, &iov, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// The result of a read from the socket.
enum Datagram {
    Whole(Vec<u8>, Vec<OwnedFd>),
    /// A message that the kernel could not deliver as a whole. The delivered descriptors are closed.
    Damaged(WireError),
    End,
}

fn receive_now(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Datagram> {
    // the kernel reports once that the peer has closed without reading everything, before the peer's own messages
    match receive_datagram(socket, buffer) {
        Err(Errno::CONNRESET) => match receive_datagram(socket, buffer) {
            Err(Errno::CONNRESET) => Ok(Datagram::End),
            again => Ok(again?),
        },
        received => Ok(received?),
    }
}

fn receive_datagram(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Datagram, Errno> {
    let mut space = [MaybeUninit::uninit(); CONTROL];
    // descriptors that were not drained are closed on drop
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = {
        let mut iov = [IoSliceMut::new(buffer)];
        retry_on_intr(|| recvmsg(socket, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC))?
    };
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Datagram::Damaged(WireError::Oversize));
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Ok(Datagram::Damaged(WireError::DescriptorsLost));
    }
    let fds: Vec<OwnedFd> = control.drain().flat_map(descriptors).collect();
    match received.bytes {
        0 if fds.is_empty() && is_closed(socket)? => Ok(Datagram::End),
        0 => Ok(Datagram::Damaged(WireError::Empty)),
        bytes => Ok(Datagram::Whole(buffer[..bytes].to_vec(), fds)),
    }
}

fn descriptors(message: RecvAncillaryMessage<'_>) -> impl Iterator<Item = OwnedFd> + '_ {
    match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    }
    .into_iter()
    .flatten()
}

/// Returns true if the other end is closed. A read returns no bytes for that and for an empty message, but only the
/// former raises a hangup.
fn is_closed(socket: &impl AsFd) -> Result<bool, Errno> {
    let mut events = [PollFd::new(socket, PollFlags::RDHUP)];
    let immediately = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    retry_on_intr(|| poll(&mut events, Some(&immediately)))?;
    Ok(events[0]
        .revents()
        .intersects(PollFlags::RDHUP | PollFlags::HUP))
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReceiveError::Io(_) => "cannot read from the handover channel",
            ReceiveError::Malformed(_) => "received a datagram that is not a message",
        })
    }
}

impl std::error::Error for ReceiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReceiveError::Io(error) => Some(error),
            ReceiveError::Malformed(error) => Some(error),
        }
    }
}

impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> Self {
        ReceiveError::Io(error)
    }
}

impl From<WireError> for ReceiveError {
    fn from(error: WireError) -> Self {
        ReceiveError::Malformed(error)
    }
}

#[cfg(test)]
mod tests;
