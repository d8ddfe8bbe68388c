//! Gives connections to the process at the other end of a handover, and keeps our copies until they are surely its.

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
use event_listener::Event as Notice;
use futures_lite::future;

use super::handover::{Batch, Channel, Full, Travelling};
use crate::http::deadlines::now;
use crate::http::detached::Detached;
use crate::http::states::State;
use crate::http::transfer::Transfer;
use crate::http::Endpoints;
use crate::sync::limiter::{Limiter, Permit};
use crate::sync::lock::{Mutex, MutexGuard};
use crate::sys::claims::{Claim, Claims};

/// How long the other process may take to answer a batch of connections, or whether it lives.
pub(super) const ANSWER: Duration = State::HandedOver.fixed();

/// All that is given to one process.
pub(super) struct Giving {
    channel: Arc<Channel>,
    kept: Arc<Mutex<Kept>>,
    taken: Arc<Taken>,
    /// Once there is something to give.
    way: Option<Way>,
}

/// The way by which connections leave.
struct Way {
    entry: Sender<Transfer>,
    /// The same way at its other end: connections that were to leave and have not been picked up by the porter.
    waiting: Receiver<Transfer>,
    porter: JoinHandle<()>,
}

/// A connection that was sent, and our copy of its socket until that is known to have been right.
struct Given {
    socket: Arc<OwnedFd>,
    endpoints: Arc<Endpoints>,
    accepted: u64,
    since: u64,
    head: bytes::Bytes,
    claim: u32,
}

/// How many connections the other process says it has.
#[derive(Default)]
pub(super) struct Taken {
    count: AtomicU64,
    changed: Notice,
}

/// Our copies of what was given, in the order in which it was.
struct Kept {
    copies: VecDeque<Given>,
    /// How many were given before them.
    forgotten: u64,
    until: Until,
}

/// How long a copy is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The other process may still die, and then they come back.
    Confirmed,
    /// It lives: what it says it has is its own.
    Taken,
}

impl Giving {
    pub(super) fn new(channel: Arc<Channel>, until: Until) -> Self {
        let kept = Arc::new(Mutex::new(Kept {
            copies: VecDeque::new(),
            forgotten: 0,
            until,
        }));
        Giving {
            channel,
            kept,
            taken: Arc::default(),
            way: None,
        }
    }

    /// Where the answers of the other process are counted.
    pub(super) fn taken(&self) -> Arc<Taken> {
        self.taken.clone()
    }

    /// The way by which connections leave. `failed` is run when one cannot be given.
    pub(super) fn open_way<F>(
        &mut self,
        failed: impl FnOnce(io::Error) -> F + Send + 'static,
    ) -> Sender<Transfer>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let way = self.way.get_or_insert_with(|| {
            let (entry, waiting) = async_channel::unbounded();
            let porter = Porter {
                waiting: waiting.clone(),
                on_the_way: VecDeque::new(),
                channel: self.channel.clone(),
                kept: self.kept.clone(),
                taken: self.taken.clone(),
                sent: 0,
                next_claim: 0,
            };
            let porter = async_std::task::spawn(async move {
                if let Err(error) = porter.carry().await {
                    failed(error).await;
                }
            });
            Way {
                entry,
                waiting,
                porter,
            }
        });
        way.entry.clone()
    }

    /// The other process is not expected to die any more: our copies of what it has are forgotten. Returns how many were
    /// given.
    pub(super) fn confirm(&self) -> usize {
        let mut kept = self.kept.lock();
        let given = kept.copies.len();
        kept.until = Until::Taken;
        kept.forget(self.taken.get());
        given
    }

    /// After the death of the other process: the connections that it has not touched, and those that it never got, come
    /// back. Those that it has begun to read, by its `claims`, end with our copies, for nobody knows what became of
    /// their requests; returns how many those are.
    pub(super) async fn take_back(
        &mut self,
        claims: Option<&Claims>,
        permits: &Arc<Limiter>,
    ) -> (Vec<Detached>, usize) {
        let Some(Way {
            waiting, porter, ..
        }) = self.way.take()
        else {
            return (vec![], 0);
        };
        porter.cancel().await;
        // whoever wants to leave from here on stays by itself
        waiting.close();
        let given = std::mem::take(&mut self.kept.lock().copies);
        let is_claimed =
            |given: &Given| claims.is_some_and(|claims| claims.is_claimed(given.claim));
        let (claimed, unread): (Vec<_>, Vec<_>) = given.into_iter().partition(is_claimed);
        let mut back: Vec<Detached> = unread
            .into_iter()
            .filter_map(|given| given.connection(permits).ok())
            .collect();
        back.extend(
            std::iter::from_fn(|| waiting.try_recv().ok()).map(|transfer| transfer.connection),
        );
        (back, claimed.len())
    }
}

impl Kept {
    /// Forgets the copies of what the other process has, by the number that it says.
    fn forget(&mut self, taken: u64) {
        if self.until == Until::Taken {
            let theirs =
                usize::try_from(taken.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
            let forgotten = self.copies.drain(..theirs.min(self.copies.len())).count();
            self.forgotten += forgotten as u64;
        }
    }
}

impl Given {
    fn of(transfer: Transfer, claim: u32) -> io::Result<(Self, Parcel)> {
        let Transfer { connection, place } = transfer;
        let Detached {
            stream,
            endpoints,
            permit,
            accepted,
            since,
            head,
            claim: theirs,
        } = connection;
        // one that came from there and goes back unread: their copy of it is out of date
        theirs.map_or(Ok(()), Claim::write)?;
        let socket = Arc::new(stream);
        let parcel = Parcel {
            socket: socket.clone(),
            _permit: permit,
            _place: place,
        };
        Ok((
            Given {
                socket,
                endpoints,
                accepted,
                since,
                head,
                claim,
            },
            parcel,
        ))
    }

    fn travelling(&self) -> Travelling {
        let now = now();
        Travelling {
            claim: self.claim,
            peer: self.endpoints.peer.clone(),
            local: self.endpoints.local.to_string(),
            accepted_ago: now.saturating_sub(self.accepted),
            since_ago: now.saturating_sub(self.since),
            head: self.head.to_vec(),
        }
    }

    fn connection(self, permits: &Arc<Limiter>) -> io::Result<Detached> {
        let Given {
            socket,
            endpoints,
            accepted,
            since,
            head,
            ..
        } = self;
        let socket = Arc::try_unwrap(socket).or_else(|shared| shared.try_clone())?;
        Ok(Detached {
            stream: socket,
            endpoints,
            permit: permits.acquire_unbounded(),
            accepted,
            head,
            since,
            claim: None,
        })
    }
}

/// A socket on its way. Its seat is taken until the other process has it, so that this one does not end before.
struct Parcel {
    socket: Arc<OwnedFd>,
    _permit: Permit,
    _place: Permit,
}

/// A message that has been sent, until it is answered.
struct Sent {
    _parcels: Vec<Parcel>,
    /// How many connections have been given with it.
    count: u64,
    at: Instant,
}

/// Carries connections to the other process, as many at a time as are there.
struct Porter {
    waiting: Receiver<Transfer>,
    on_the_way: VecDeque<Sent>,
    channel: Arc<Channel>,
    kept: Arc<Mutex<Kept>>,
    taken: Arc<Taken>,
    sent: u64,
    next_claim: u32,
}

/// What the porter has to do next.
enum Next {
    Leaves(Box<Transfer>),
    Answered,
}

impl Porter {
    /// Carries whatever is there, until nobody can come any more and all is answered.
    async fn carry(mut self) -> io::Result<()> {
        while let Some(next) = self.next().await? {
            match next {
                Next::Leaves(first) => self.send_all(*first).await?,
                Next::Answered => self.settle(),
            }
        }
        Ok(())
    }

    async fn next(&self) -> io::Result<Option<Next>> {
        let leaves = async {
            match self.waiting.recv().await {
                Ok(first) => Ok(Some(Next::Leaves(Box::new(first)))),
                Err(_) if self.on_the_way.is_empty() => Ok(None),
                Err(_) => future::pending().await,
            }
        };
        let answered = async {
            match self.on_the_way.front() {
                Some(sent) => self.answered(sent).await.map(|()| Some(Next::Answered)),
                None => future::pending().await,
            }
        };
        future::or(answered, leaves).await
    }

    async fn send_all(&mut self, first: Transfer) -> io::Result<()> {
        let mut batch = Batch::new();
        let mut next = Some(first);
        while let Some(transfer) = next {
            if let Some(full) = self.pack(transfer, &mut batch)? {
                self.send(full).await?;
            }
            next = self.waiting.try_recv().ok();
        }
        match batch.take() {
            Some(full) => self.send(full).await,
            None => Ok(()),
        }
    }

    fn pack(
        &mut self,
        transfer: Transfer,
        batch: &mut Batch<Parcel>,
    ) -> io::Result<Option<Full<Parcel>>> {
        let (given, parcel) = Given::of(transfer, self.next_claim)?;
        self.next_claim += 1;
        let entry = given.travelling();
        // kept before it is sent: whatever happens next, it is known
        self.kept().copies.push_back(given);
        batch.push(entry, parcel).or_else(|large| {
            log::warn!(
                "the connection from {} has read too much ahead to travel; it is closed",
                large.entry.peer
            );
            let _ = rustix::net::shutdown(&large.socket.socket, rustix::net::Shutdown::Both);
            self.kept().copies.pop_back();
            Ok(None)
        })
    }

    async fn send(&mut self, full: Full<Parcel>) -> io::Result<()> {
        let fds: Vec<_> = full
            .sockets
            .iter()
            .map(|parcel| parcel.socket.as_fd())
            .collect();
        self.channel.send(&full.message, &fds).await?;
        self.sent += fds.len() as u64;
        self.on_the_way.push_back(Sent {
            _parcels: full.sockets,
            count: self.sent,
            at: Instant::now(),
        });
        Ok(())
    }

    /// Waits for the answer to a message. There is no way back from a process that is here to stay: one that is slow has
    /// what it was sent, and only its end says that it never will.
    async fn answered(&self, sent: &Sent) -> io::Result<()> {
        let answer = self.taken.reaches(sent.count);
        match timeout(ANSWER.saturating_sub(sent.at.elapsed()), answer).await {
            Ok(()) => {}
            Err(_) if self.kept().until == Until::Taken => self.taken.reaches(sent.count).await,
            Err(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer within {ANSWER:?}"),
                ));
            }
        }
        Ok(())
    }

    /// Lets go of what has been answered.
    fn settle(&mut self) {
        let taken = self.taken.get();
        while self
            .on_the_way
            .front()
            .is_some_and(|sent| sent.count <= taken)
        {
            self.on_the_way.pop_front();
        }
        self.kept().forget(taken);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock()
    }
}

impl Taken {
    pub(super) fn get(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, count: u64) {
        // two processes answer for a moment while one leaves its end of the channel to the next
        self.count.fetch_max(count, Ordering::AcqRel);
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
