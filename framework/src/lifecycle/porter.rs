//! Carries connections to the new process of an upgrade, and keeps our copies of them until it is known to live.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_channel::Receiver;
use async_std::future::timeout;
use event_listener::Event as Notice;

use super::handover::{Batch, Channel, Full, Travelling};
use crate::http::connection::Connection;
use crate::http::limits::{Seat, Seats};
use crate::http::timeouts::now;
use crate::http::Ends;
use crate::socket::Stream;

/// How long a batch of connections may go without an answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// A connection that was sent, and our copy of its socket until that is known to have been right.
pub(super) struct Given {
    pub(super) socket: Arc<OwnedFd>,
    ends: Arc<Ends>,
    accepted: u64,
    since: u64,
    head: bytes::Bytes,
    pub(super) claim: u32,
}

/// How many connections the new process says it has.
#[derive(Default)]
pub(super) struct Taken {
    count: AtomicU64,
    changed: Notice,
}

/// Our copies of what was given.
#[derive(Default)]
pub(super) struct Kept {
    copies: Vec<Given>,
    until: Until,
}

/// How long a copy is kept.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Until {
    /// The new process may still die, and then they come back.
    #[default]
    Confirmed,
    /// It lives: what it says it has is its own.
    Taken,
}

impl Kept {
    fn add(&mut self, given: Given) {
        self.copies.push(given);
    }

    /// The new process has all that was given so far.
    fn taken(&mut self) {
        if self.until == Until::Taken {
            self.copies.clear();
        }
    }

    /// It is not expected to die any more; gives how many it has.
    pub(super) fn confirm(&mut self) -> usize {
        self.until = Until::Taken;
        std::mem::take(&mut self.copies).len()
    }

    pub(super) fn take(&mut self) -> Vec<Given> {
        std::mem::take(&mut self.copies)
    }
}

impl Given {
    fn of(connection: Connection, claim: u32) -> io::Result<(Self, Parcel)> {
        let Connection { stream, ends, seat, accepted, since, head, .. } = connection;
        // out of the reactor first: only one process may wait for a socket
        let socket = Arc::new(stream.into_fd()?);
        let parcel = Parcel { socket: socket.clone(), _seat: seat };
        Ok((Given { socket, ends, accepted, since, head, claim }, parcel))
    }

    fn travelling(&self) -> Travelling {
        let now = now();
        Travelling {
            claim: self.claim,
            peer: self.ends.peer.clone(),
            local: self.ends.local.to_string(),
            accepted_ago: now.saturating_sub(self.accepted),
            since_ago: now.saturating_sub(self.since),
            head: self.head.to_vec(),
        }
    }

    pub(super) fn connection(self, seats: &Arc<Seats>) -> io::Result<Connection> {
        let Given { socket, ends, accepted, since, head, .. } = self;
        let socket = Arc::try_unwrap(socket).or_else(|shared| shared.try_clone())?;
        let (stream, seat) = (Stream::new(socket)?, seats.squeeze_in());
        Ok(Connection { stream, ends, seat, accepted, head, since, claim: None })
    }
}

/// A socket on its way. Its seat is taken until the new process has it, so that this one does not end before.
struct Parcel {
    socket: Arc<OwnedFd>,
    _seat: Seat,
}

/// Carries connections to the new process, as many at a time as are there.
pub(super) struct Porter {
    pub(super) waiting: Receiver<Connection>,
    pub(super) channel: Arc<Channel>,
    pub(super) given: Arc<Mutex<Kept>>,
    pub(super) taken: Arc<Taken>,
    pub(super) sent: u64,
    pub(super) next_claim: u32,
}

impl Porter {
    pub(super) async fn carry(mut self) -> io::Result<()> {
        while let Ok(first) = self.waiting.recv().await {
            let mut batch = Batch::new();
            let mut next = Some(first);
            while let Some(connection) = next {
                if let Some(full) = self.pack(connection, &mut batch)? {
                    self.send(full).await?;
                }
                next = self.waiting.try_recv().ok();
            }
            if let Some(full) = batch.take() {
                self.send(full).await?;
            }
        }
        Ok(())
    }

    fn pack(
        &mut self,
        connection: Connection,
        batch: &mut Batch<Parcel>,
    ) -> io::Result<Option<Full<Parcel>>> {
        let (given, parcel) = Given::of(connection, self.next_claim)?;
        self.next_claim += 1;
        let entry = given.travelling();
        // kept before it is sent: whatever happens next, it is known
        self.given.lock().unwrap_or_else(PoisonError::into_inner).add(given);
        batch.push(entry, parcel).or_else(|large| {
            log::warn!(
                "the connection from {} has read too much ahead to travel; it is closed",
                large.entry.peer
            );
            let _ = rustix::net::shutdown(&large.socket.socket, rustix::net::Shutdown::Both);
            Ok(None)
        })
    }

    async fn send(&mut self, full: Full<Parcel>) -> io::Result<()> {
        let fds: Vec<_> = full.sockets.iter().map(|parcel| parcel.socket.as_fd()).collect();
        self.channel.send(&full.message, &fds).await?;
        self.sent += fds.len() as u64;
        let answered = timeout(ANSWER, self.taken.reaches(self.sent)).await;
        answered
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {ANSWER:?}")))?;
        self.given.lock().unwrap_or_else(PoisonError::into_inner).taken();
        Ok(())
    }
}

impl Taken {
    pub(super) fn set(&self, count: u64) {
        self.count.store(count, Ordering::Release);
        self.changed.notify(usize::MAX);
    }

    async fn reaches(&self, count: u64) {
        while self.count.load(Ordering::Acquire) < count {
            let changed = self.changed.listen();
            if self.count.load(Ordering::Acquire) < count {
                changed.await;
            }
        }
    }
}
