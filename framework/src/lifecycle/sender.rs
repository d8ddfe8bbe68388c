//! Sends connections to the process at the other end of a handover.
//!
//! [`ConnectionSender`] takes connections at a request boundary and packs them into messages. It keeps a copy of each
//! socket for the time of its [`CopyRetention`]. If the other process dies within that time, every connection that it
//! has not claimed is served here again.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_std::future::timeout;
use async_std::task::JoinHandle;
use event_listener::Event;
use futures_lite::future;

use super::handover::{Batch, Channel, ConnectionRecord, FullBatch};
use crate::http::clock::now;
use crate::http::connection::{Detached, Transfer};
use crate::http::states::TimedState;
use crate::http::Endpoints;
use crate::sync::limiter::{Limiter, Permit};
use crate::sync::lock::{Mutex, MutexGuard};
use crate::sys::claims::Claims;

/// The time that the other process has to acknowledge a batch of connections, or to answer a probe.
pub(super) const ACK_TIMEOUT: Duration = TimedState::HandedOver.fixed();

/// The sender of connections to one process.
pub(super) struct ConnectionSender {
    channel: Arc<Channel>,
    unconfirmed: Arc<Mutex<UnconfirmedQueue>>,
    acks: Arc<AckCounter>,
    /// The queue and its task, from the first call of [`transfers`](ConnectionSender::transfers) on.
    queue: Option<TransferQueue>,
}

struct TransferQueue {
    sender: Sender<Transfer>,
    /// A clone of the task's receiver, to take connections back that the task has not received.
    receiver: Receiver<Transfer>,
    task: JoinHandle<()>,
}

/// A connection that was sent, with a copy of its socket.
struct Unconfirmed {
    socket: Arc<OwnedFd>,
    endpoints: Arc<Endpoints>,
    accepted: u64,
    since: u64,
    head: bytes::Bytes,
    claim: u32,
}

/// The number of connections that the other process has acknowledged.
#[derive(Default)]
pub(super) struct AckCounter {
    count: AtomicU64,
    changed: Event,
}

/// The connections that were sent and may have to be taken back, in the order of sending.
struct UnconfirmedQueue {
    connections: VecDeque<Unconfirmed>,
    /// The number of connections that were sent before the first one in the queue.
    forgotten: u64,
    retention: CopyRetention,
}

/// The time for which copies are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyRetention {
    /// Until the upgrade is confirmed, because the other process may die before.
    UntilConfirmed,
    /// Until the connection is acknowledged.
    UntilAcked,
}

impl ConnectionSender {
    pub(super) fn new(channel: Arc<Channel>, retention: CopyRetention) -> Self {
        let unconfirmed = Arc::new(Mutex::new(UnconfirmedQueue {
            connections: VecDeque::new(),
            forgotten: 0,
            retention,
        }));
        ConnectionSender {
            channel,
            unconfirmed,
            acks: Arc::default(),
            queue: None,
        }
    }

    /// Returns the counter that the reader of the channel advances.
    pub(super) fn acks(&self) -> Arc<AckCounter> {
        self.acks.clone()
    }

    /// Returns the queue of connections to send. `on_error` runs if a connection cannot be sent.
    pub(super) fn transfers<F>(
        &mut self,
        on_error: impl FnOnce(io::Error) -> F + Send + 'static,
    ) -> Sender<Transfer>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let queue = self.queue.get_or_insert_with(|| {
            let (sender, receiver) = async_channel::unbounded();
            let task = SenderTask {
                transfers: receiver.clone(),
                unacked: VecDeque::new(),
                channel: self.channel.clone(),
                unconfirmed: self.unconfirmed.clone(),
                acks: self.acks.clone(),
                sent: 0,
                next_claim: 0,
            };
            let task = async_std::task::spawn(async move {
                if let Err(error) = task.run().await {
                    on_error(error).await;
                }
            });
            TransferQueue {
                sender,
                receiver,
                task,
            }
        });
        queue.sender.clone()
    }

    /// Forgets the copies of acknowledged connections, now and at each later acknowledgement, because a confirmed
    /// upgrade is not rolled back. Returns the number of connections that have been sent.
    pub(super) fn confirm(&self) -> usize {
        let mut unconfirmed = self.unconfirmed.lock();
        let sent = unconfirmed.connections.len();
        unconfirmed.retention = CopyRetention::UntilAcked;
        unconfirmed.forget_acked(self.acks.get());
        sent
    }

    /// Takes back every connection that the other process has not claimed, and every connection still in the queue.
    /// Connections that it has claimed are closed, because the state of their requests is unknown; their number is
    /// returned. Without `claims` every connection counts as unclaimed.
    ///
    /// Call this only after the other process was reaped: until then it may still read from them.
    pub(super) async fn take_back(
        &mut self,
        claims: Option<&Claims>,
        permits: &Arc<Limiter>,
    ) -> (Vec<Detached>, usize) {
        let Some(TransferQueue { receiver, task, .. }) = self.queue.take() else {
            return (vec![], 0);
        };
        task.cancel().await;
        // from here on sending to the queue fails, and the connection that was to be sent is served in this process
        receiver.close();
        let sent = std::mem::take(&mut self.unconfirmed.lock().connections);
        let is_claimed =
            |sent: &Unconfirmed| claims.is_some_and(|claims| claims.is_claimed(sent.claim));
        let (claimed, unread): (Vec<_>, Vec<_>) = sent.into_iter().partition(is_claimed);
        let mut back: Vec<Detached> = unread
            .into_iter()
            .filter_map(|sent| sent.into_connection(permits).ok())
            .collect();
        while let Ok(transfer) = receiver.try_recv() {
            back.push(transfer.connection);
        }
        (back, claimed.len())
    }
}

impl UnconfirmedQueue {
    /// Forgets the copies of the first `acked` connections, unless they are kept until the upgrade is confirmed.
    fn forget_acked(&mut self, acked: u64) {
        if self.retention == CopyRetention::UntilAcked {
            let acked = usize::try_from(acked.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
            let forgotten = acked.min(self.connections.len());
            self.connections.drain(..forgotten);
            self.forgotten += forgotten as u64;
        }
    }
}

impl Unconfirmed {
    fn new(transfer: Transfer, claim: u32) -> io::Result<(Self, UnackedSocket)> {
        let Transfer {
            connection,
            permit: transfer_permit,
        } = transfer;
        let Detached {
            stream,
            endpoints,
            permit,
            accepted,
            since,
            head,
            claim: received_claim,
        } = connection;
        // A connection that was received but not read goes back to the process that sent it. That process still has a
        // copy. The claim prevents it from serving the copy as well.
        if let Some(received_claim) = received_claim {
            received_claim.write()?;
        }
        let socket = Arc::new(stream);
        let unacked = UnackedSocket {
            socket: socket.clone(),
            _permit: permit,
            _transfer_permit: transfer_permit,
        };
        Ok((
            Unconfirmed {
                socket,
                endpoints,
                accepted,
                since,
                head,
                claim,
            },
            unacked,
        ))
    }

    fn record(&self) -> ConnectionRecord {
        let now = now();
        ConnectionRecord {
            claim: self.claim,
            peer: self.endpoints.peer.clone(),
            local: self.endpoints.local.to_string(),
            accepted_ago: now.saturating_sub(self.accepted),
            since_ago: now.saturating_sub(self.since),
            head: self.head.to_vec(),
        }
    }

    fn into_connection(self, permits: &Arc<Limiter>) -> io::Result<Detached> {
        let Unconfirmed {
            socket,
            endpoints,
            accepted,
            since,
            head,
            ..
        } = self;
        let stream = Arc::try_unwrap(socket).or_else(|shared| shared.try_clone())?;
        Ok(Detached {
            stream,
            endpoints,
            permit: permits.acquire_unbounded(),
            accepted,
            head,
            since,
            claim: None,
        })
    }
}

/// A socket that was sent and is not acknowledged yet. It holds the permit of its connection, so that this process does
/// not exit before the other one has the connection.
struct UnackedSocket {
    socket: Arc<OwnedFd>,
    _permit: Permit,
    _transfer_permit: Permit,
}

/// A message that is not acknowledged yet.
struct UnackedBatch {
    _sockets: Vec<UnackedSocket>,
    /// The number of connections that were sent up to and including this message.
    count: u64,
    at: Instant,
}

/// The task that sends connections, as many in one message as are queued.
struct SenderTask {
    transfers: Receiver<Transfer>,
    unacked: VecDeque<UnackedBatch>,
    channel: Arc<Channel>,
    unconfirmed: Arc<Mutex<UnconfirmedQueue>>,
    acks: Arc<AckCounter>,
    sent: u64,
    next_claim: u32,
}

/// The next work of the sender task.
enum SenderWork {
    Send(Box<Transfer>),
    /// The first unacknowledged message was acknowledged.
    Acked,
}

impl SenderTask {
    /// Sends connections until the queue is closed and every message is acknowledged.
    async fn run(mut self) -> io::Result<()> {
        while let Some(work) = self.next().await? {
            match work {
                SenderWork::Send(first) => self.send_queued(*first).await?,
                SenderWork::Acked => self.release_acked(),
            }
        }
        Ok(())
    }

    async fn next(&self) -> io::Result<Option<SenderWork>> {
        let transfer = async {
            match self.transfers.recv().await {
                Ok(first) => Ok(Some(SenderWork::Send(Box::new(first)))),
                Err(_) if self.unacked.is_empty() => Ok(None),
                Err(_) => future::pending().await,
            }
        };
        let acked = async {
            match self.unacked.front() {
                Some(batch) => self
                    .wait_for_ack(batch)
                    .await
                    .map(|()| Some(SenderWork::Acked)),
                None => future::pending().await,
            }
        };
        future::or(acked, transfer).await
    }

    async fn send_queued(&mut self, first: Transfer) -> io::Result<()> {
        let mut batch = Batch::new();
        let mut next = Some(first);
        while let Some(transfer) = next {
            if let Some(full) = self.pack(transfer, &mut batch)? {
                self.send(full).await?;
            }
            next = self.transfers.try_recv().ok();
        }
        match batch.take() {
            Some(full) => self.send(full).await,
            None => Ok(()),
        }
    }

    fn pack(
        &mut self,
        transfer: Transfer,
        batch: &mut Batch<UnackedSocket>,
    ) -> io::Result<Option<FullBatch<UnackedSocket>>> {
        let (unconfirmed, sent) = Unconfirmed::new(transfer, self.next_claim)?;
        self.next_claim += 1;
        let record = unconfirmed.record();
        // stored before it is sent, so that it can be taken back at any point from here on
        self.unconfirmed().connections.push_back(unconfirmed);
        batch.push(record, sent).or_else(|oversized| {
            log::warn!(
                "the connection from {} cannot be handed over and is closed: too many bytes were read ahead, {}",
                oversized.record.peer,
                oversized.record.head.len()
            );
            let _ = rustix::net::shutdown(&oversized.socket.socket, rustix::net::Shutdown::Both);
            self.unconfirmed().connections.pop_back();
            Ok(None)
        })
    }

    async fn send(&mut self, full: FullBatch<UnackedSocket>) -> io::Result<()> {
        let fds: Vec<_> = full
            .sockets
            .iter()
            .map(|sent| sent.socket.as_fd())
            .collect();
        self.channel.send(&full.message, &fds).await?;
        self.sent += fds.len() as u64;
        self.unacked.push_back(UnackedBatch {
            _sockets: full.sockets,
            count: self.sent,
            at: Instant::now(),
        });
        Ok(())
    }

    /// Waits for the acknowledgement of a message. The wait has no deadline once the upgrade is confirmed: the other
    /// process has the connections, however slow it is, and only its exit ends the wait.
    async fn wait_for_ack(&self, batch: &UnackedBatch) -> io::Result<()> {
        let acked = self.acks.wait_for(batch.count);
        match timeout(ACK_TIMEOUT.saturating_sub(batch.at.elapsed()), acked).await {
            Ok(()) => {}
            Err(_) if self.unconfirmed().retention == CopyRetention::UntilAcked => {
                self.acks.wait_for(batch.count).await;
            }
            Err(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no acknowledgement within {ACK_TIMEOUT:?}"),
                ));
            }
        }
        Ok(())
    }

    /// Releases the sockets and permits of acknowledged messages.
    fn release_acked(&mut self) {
        let acked = self.acks.get();
        while self
            .unacked
            .front()
            .is_some_and(|batch| batch.count <= acked)
        {
            self.unacked.pop_front();
        }
        self.unconfirmed().forget_acked(acked);
    }

    fn unconfirmed(&self) -> MutexGuard<'_, UnconfirmedQueue> {
        self.unconfirmed.lock()
    }
}

impl AckCounter {
    pub(super) fn get(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn advance_to(&self, count: u64) {
        // never lowered: while one process passes its end of the channel to the next, both may acknowledge
        self.count.fetch_max(count, Ordering::AcqRel);
        self.changed.notify(usize::MAX);
    }

    async fn wait_for(&self, count: u64) {
        while self.get() < count {
            let changed = self.changed.listen();
            if self.get() < count {
                changed.await;
            }
        }
    }
}
