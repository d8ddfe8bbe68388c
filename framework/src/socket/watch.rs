//! Readiness of connections: one edge-triggered epoll instance for all of them.
//!
//! async-io's reactor arms a socket again after each event. That costs a read that fails with EAGAIN and an
//! epoll_ctl(2) for each request. Here a socket is registered once, edge-triggered (epoll(7)). A read that
//! returned fewer bytes than it asked for has emptied the socket, so the next read waits for an event and makes no
//! system call that fails. Only the epoll descriptor itself is registered with async-io's reactor.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_io::{Async, Timer};
use atomic_waker::AtomicWaker;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use slab::Slab;

use crate::sync::lock::{Mutex, MutexGuard};

/// A socket that is registered with the [`Poller`]. Dropping it removes the registration.
#[derive(Debug)]
pub(super) struct PolledSocket {
    socket: Arc<OwnedFd>,
    /// The socket's key in [`Poller::sockets`].
    key: usize,
    readiness: Arc<SocketReadiness>,
}

/// The state of the peer as far as epoll reports it, without a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerState {
    /// The peer may send more data.
    Open,
    /// The peer has shut down its sending half or closed the socket. TCP does not distinguish the two.
    HalfClosed,
    /// The peer receives nothing any more: the connection was reset, or (Unix sockets) closed.
    Closed,
}

/// The readiness of both directions of a socket.
#[derive(Debug)]
struct SocketReadiness {
    /// Distinguishes this socket from earlier ones with the same key. An event that was queued for a socket that
    /// is closed by now must not reach the socket that reuses its key.
    serial: u32,
    read: Readiness,
    write: Readiness,
}

impl SocketReadiness {
    /// The data that epoll returns with each event of the socket: serial number and key.
    fn event_data(&self, key: usize) -> EventData {
        EventData::new_u64(u64::from(self.serial) << 32 | key as u64)
    }
}

/// The readiness of one direction of a socket, either reading or writing.
#[derive(Debug)]
pub(super) struct Readiness {
    /// Set if a system call may make progress. Cleared before each call, and set again by the next event, or by
    /// [`set_ready`](Readiness::set_ready) if the next call may succeed at once.
    ready: AtomicBool,
    /// Set once the direction has ended. From then on each call returns at once, with the same result.
    ended: AtomicBool,
    waker: AtomicWaker,
}

impl PolledSocket {
    pub(super) fn new(socket: &Arc<OwnedFd>) -> io::Result<Self> {
        let poller = Poller::get()?;
        // both directions start as ready: a client has often sent its request by now, and the send buffer is empty
        let readiness = Arc::new(SocketReadiness {
            serial: poller.next_serial.fetch_add(1, Ordering::Relaxed),
            read: Readiness::new(),
            write: Readiness::new(),
        });
        let key = poller.sockets().insert(readiness.clone());
        let data = readiness.event_data(key);
        // made before `epoll::add`, so that its drop frees the key if that fails
        let polled = PolledSocket {
            socket: socket.clone(),
            key,
            readiness,
        };
        let all = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&poller.epoll, socket, data, all)?;
        Ok(polled)
    }

    pub(super) fn read(&self) -> &Readiness {
        &self.readiness.read
    }

    /// Returns the state of the peer, and wakes `cx` when it may have changed.
    ///
    /// The readiness for reading stays as it is, so the next read misses no data.
    pub(super) fn peer_state(&self, cx: &mut Context<'_>) -> PeerState {
        let SocketReadiness { read, write, .. } = &*self.readiness;
        read.waker.register(cx.waker());
        if write.ended.load(Ordering::Acquire) {
            PeerState::Closed
        } else if read.ended.load(Ordering::Acquire) {
            PeerState::HalfClosed
        } else {
            PeerState::Open
        }
    }

    pub(super) fn write(&self) -> &Readiness {
        &self.readiness.write
    }
}

impl Drop for PolledSocket {
    fn drop(&mut self) {
        if let Ok(poller) = Poller::get() {
            // Closing the descriptor is not enough: epoll follows the open file description, which another process
            // may share.
            let _ = epoll::delete(&poller.epoll, &self.socket);
            poller.sockets().try_remove(self.key);
        }
    }
}

impl Readiness {
    fn new() -> Self {
        Readiness {
            ready: AtomicBool::new(true),
            ended: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// Waits until a system call may make progress, and clears the readiness.
    ///
    /// The readiness is cleared before the call and not after it. An event that arrives during the call sets it
    /// again, so no event is lost.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.take() {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        // an event may have arrived before the waker was registered
        if self.take() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn take(&self) -> bool {
        self.ready.swap(false, Ordering::AcqRel) || self.ended.load(Ordering::Acquire)
    }

    /// Sets the readiness again, after a call that did not end with EAGAIN. An edge-triggered epoll sends no event
    /// for data or space that was there before.
    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Records an event and wakes the waiting task.
    fn notify(&self, ended: bool) {
        if ended {
            self.ended.store(true, Ordering::Release);
        }
        self.set_ready();
        self.waker.wake();
    }
}

/// The epoll instance of the process, and all sockets that are registered with it.
struct Poller {
    epoll: Async<OwnedFd>,
    sockets: Mutex<Slab<Arc<SocketReadiness>>>,
    next_serial: AtomicU32,
}

/// The maximum number of events of an epoll_wait(2).
const BATCH: usize = 64;

impl Poller {
    /// Returns the poller of the process. The first call creates it and starts it.
    fn get() -> io::Result<&'static Arc<Poller>> {
        static POLLER: OnceLock<Arc<Poller>> = OnceLock::new();
        if let Some(poller) = POLLER.get() {
            return Ok(poller);
        }
        let epoll = Async::new_nonblocking(epoll::create(CreateFlags::CLOEXEC)?)?;
        let poller = Arc::new(Poller {
            epoll,
            sockets: Mutex::default(),
            next_serial: AtomicU32::new(0),
        });
        let mut first = false;
        let poller = POLLER.get_or_init(|| {
            first = true;
            poller
        });
        if first {
            poller.clone().wake();
        }
        Ok(poller)
    }

    fn sockets(&self) -> MutexGuard<'_, Slab<Arc<SocketReadiness>>> {
        self.sockets.lock()
    }

    /// Dispatches the pending events, and registers this poller with the reactor for the next ones.
    fn run(self: &Arc<Self>) -> io::Result<()> {
        self.dispatch_events()?;
        let waker = Waker::from(self.clone());
        // the reactor may first return ready for the events that were dispatched above; only `Pending` registers
        // the waker
        while let Poll::Ready(ready) = self.epoll.poll_readable(&mut Context::from_waker(&waker)) {
            ready?;
        }
        Ok(())
    }

    /// Takes up to [`BATCH`] events from epoll and wakes the tasks of their sockets.
    fn dispatch_events(&self) -> io::Result<()> {
        let mut room = [const { MaybeUninit::uninit() }; BATCH];
        let no_wait = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let events = match epoll::wait(&self.epoll, &mut room, Some(&no_wait)) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in &*events {
            // cloned, so that the lock is free while a task is woken: that may drop a socket, which needs the lock
            let key = (event.data.u64() & u64::from(u32::MAX)) as usize;
            let readiness = self.sockets().get(key).cloned();
            // the key may belong to a newer socket by now
            let readiness =
                readiness.filter(|readiness| readiness.event_data(key).u64() == event.data.u64());
            let Some(SocketReadiness { read, write, .. }) = readiness.as_deref() else {
                continue;
            };
            let (flags, closed) = (event.flags, EventFlags::HUP | EventFlags::ERR);
            if flags.intersects(EventFlags::IN | EventFlags::RDHUP | closed) {
                read.notify(flags.intersects(EventFlags::HUP | EventFlags::RDHUP));
            }
            if flags.intersects(EventFlags::OUT | closed) {
                write.notify(flags.contains(EventFlags::HUP));
            }
        }
        Ok(())
    }
}

/// The reactor calls the poller directly, and the poller wakes the tasks of the connections. A task in between, which
/// would read the events, would delay each connection by one turn of the executor.
impl Wake for Poller {
    fn wake(self: Arc<Self>) {
        if let Err(error) = self.run() {
            log::error!("cannot wait for events of connections: {error}; retrying in 1 second");
            async_std::task::spawn(async move {
                Timer::after(Duration::from_secs(1)).await;
                self.wake();
            });
        }
    }
}
