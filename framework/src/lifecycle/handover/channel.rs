//! The channel between two generations: a pair of SEQPACKET Unix sockets that carries messages, and descriptors beside
//! them.
//!
//! SEQPACKET (unix(7)) keeps the borders of messages, keeps their order, and ends when the other side does, however
//! that came about. Descriptors travel as `SCM_RIGHTS` (cmsg(3)): the receiver gets its own for the same open file.

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

use super::wire::{Message, WireError, MAX_BYTES, MAX_FDS};
use crate::sync::lock::Mutex;

/// One end. Any number of tasks may send and receive on it at the same time: a message is sent whole or not at all.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Async<OwnedFd>,
    /// What messages are received into: the longest fits.
    buffer: Mutex<Vec<u8>>,
    /// Whether the other side has greeted, and so is one of us.
    greeted: AtomicBool,
}

/// Why nothing could be received.
#[derive(Debug)]
pub(crate) enum ReceiveError {
    /// The channel cannot be read.
    Io(io::Error),
    /// What came is no message. It is gone, and the descriptors that came with it are closed; the next one can be
    /// received.
    Message(WireError),
}

/// The control data of a message with as many descriptors as it can carry.
const CONTROL: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

/// What is asked for as a send buffer. The kernel doubles it for its own overhead, so that two of the longest messages
/// are on their way while a third is written.
const QUEUE: usize = 2 * MAX_BYTES;

/// How long to wait before descriptors are sent again that were too many in flight, of which nothing tells when it ends.
const TOO_MANY_IN_FLIGHT: Duration = Duration::from_millis(5);

impl Channel {
    /// A channel, and its other end for the process that is to be started: close-on-exec, and non-blocking already.
    ///
    /// # Errors
    /// The system has no descriptors or no memory for it.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        make_room(&ours)?;
        make_room(&theirs)?;
        Ok((Channel::over(Async::new_nonblocking(ours)?), theirs))
    }

    /// The end that whoever started this process has passed.
    ///
    /// # Errors
    /// It is something else than a SEQPACKET Unix socket.
    pub(crate) fn adopt(socket: OwnedFd) -> io::Result<Self> {
        let is_unix = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX);
        if !is_unix || sockopt::socket_type(&socket) != Ok(SocketType::SEQPACKET) {
            let what = "what was passed for the handover is no SEQPACKET Unix socket";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        make_room(&socket)?;
        Ok(Channel::over(Async::new(socket)?))
    }

    /// The other side's new partner: another process has greeted it, and leaves its end to this one.
    ///
    /// # Errors
    /// As [`adopt`](Channel::adopt).
    pub(crate) fn inherit(socket: OwnedFd) -> io::Result<Self> {
        let channel = Channel::adopt(socket)?;
        channel.greeted.store(true, Ordering::Release);
        Ok(channel)
    }

    /// This end, to be left to another process.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }

    fn over(socket: Async<OwnedFd>) -> Self {
        Channel {
            socket,
            buffer: Mutex::new(vec![0; MAX_BYTES]),
            greeted: AtomicBool::new(false),
        }
    }

    /// Sends a message with its descriptors, when there is room for it. The descriptors stay open here.
    ///
    /// A future that is dropped before it was ready has sent nothing.
    ///
    /// # Errors
    /// The other end is closed (`BrokenPipe`, or once `ConnectionReset`; what it sent before can still be received),
    /// the message is longer than [`MAX_BYTES`], or the descriptors are not those that belong to it.
    pub(crate) async fn send(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if message.descriptors() != fds.len() {
            let (belong, came) = (message.descriptors(), fds.len());
            let wrong = WireError::Descriptors { belong, came };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
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
                // a user without privileges may have no more in flight than one process may have open (unix(7))
                Err(error) if Errno::from_io_error(&error) == Some(Errno::TOOMANYREFS) => {
                    Timer::after(TOO_MANY_IN_FLIGHT).await;
                }
                sent => return sent,
            }
        }
    }

    /// Receives the next message with its descriptors, which are close-on-exec. `None`: the other end is closed, and
    /// all that was sent before has been received.
    ///
    /// A future that is dropped before it was ready has taken nothing.
    ///
    /// # Errors
    /// The channel cannot be read, or what came is no message: then the next one can be received all the same.
    pub(crate) async fn receive(&self) -> Result<Option<(Message, Vec<OwnedFd>)>, ReceiveError> {
        let receive = |socket: &OwnedFd| receive_now(socket, &mut self.buffer.lock());
        match self.socket.read_with(receive).await? {
            Received::End => Ok(None),
            Received::Spoilt(why) => Err(why.into()),
            Received::Datagram(datagram, fds) => Ok(Some((self.read(&datagram, fds.len())?, fds))),
        }
    }

    /// Whether the other side has said anything yet.
    pub(crate) fn is_greeted(&self) -> bool {
        self.greeted.load(Ordering::Acquire)
    }

    /// What comes before the greeting is no message yet: whoever was started may be no program of ours.
    fn read(&self, datagram: &[u8], fds: usize) -> Result<Message, WireError> {
        if self.is_greeted() {
            return Message::decode(datagram, fds);
        }
        let greeting = Message::decode_first(datagram, fds)?;
        self.greeted.store(true, Ordering::Release);
        Ok(greeting)
    }
}

/// Sees to it that the longest message fits into the send buffer, which is never made smaller. (The receiving side of
/// a Unix socket has no buffer of its own: what is on its way counts with the sender.)
fn make_room(socket: &OwnedFd) -> io::Result<()> {
    if sockopt::socket_send_buffer_size(socket)? < 2 * QUEUE {
        sockopt::set_socket_send_buffer_size(socket, QUEUE)?;
    }
    Ok(())
}

fn send_now(socket: &OwnedFd, datagram: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); CONTROL];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        // more than MAX_FDS
        return Err(Errno::MSGSIZE.into());
    }
    let iov = [IoSlice::new(datagram)];
    retry_on_intr(|| sendmsg(socket, &iov, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// What a read of the socket gave.
enum Received {
    /// Its bytes, and what came with them.
    Datagram(Vec<u8>, Vec<OwnedFd>),
    /// A message that the kernel could not deliver whole. What was delivered of it is closed.
    Spoilt(WireError),
    End,
}

fn receive_now(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Received> {
    // a peer that closed without having read everything: this is said once, before what it had sent itself
    match receive_datagram(socket, buffer) {
        Err(Errno::CONNRESET) => match receive_datagram(socket, buffer) {
            Err(Errno::CONNRESET) => Ok(Received::End),
            again => Ok(again?),
        },
        received => Ok(received?),
    }
}

fn receive_datagram(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut space = [MaybeUninit::uninit(); CONTROL];
    // closes what has not been drained from it
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = {
        let mut iov = [IoSliceMut::new(buffer)];
        retry_on_intr(|| recvmsg(socket, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC))?
    };
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Received::Spoilt(WireError::Oversize));
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Ok(Received::Spoilt(WireError::DescriptorsLost));
    }
    let fds: Vec<OwnedFd> = control.drain().flat_map(descriptors).collect();
    match received.bytes {
        0 if fds.is_empty() && is_closed(socket)? => Ok(Received::End),
        0 => Ok(Received::Spoilt(WireError::Empty)),
        bytes => Ok(Received::Datagram(buffer[..bytes].to_vec(), fds)),
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

/// An end and an empty message read the same: nothing. Only the end hangs up.
fn is_closed(socket: &impl AsFd) -> Result<bool, Errno> {
    let mut this = [PollFd::new(socket, PollFlags::RDHUP)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    retry_on_intr(|| poll(&mut this, Some(&at_once)))?;
    Ok(this[0]
        .revents()
        .intersects(PollFlags::RDHUP | PollFlags::HUP))
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReceiveError::Io(_) => "cannot read from the other generation",
            ReceiveError::Message(_) => "cannot make sense of what the other generation sent",
        })
    }
}

impl std::error::Error for ReceiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReceiveError::Io(error) => Some(error),
            ReceiveError::Message(error) => Some(error),
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
        ReceiveError::Message(error)
    }
}

#[cfg(test)]
mod tests;
