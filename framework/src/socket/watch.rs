//! When connections can be read and written: one epoll instance for all of them, which tells of each change once.
//!
//! async-io's reactor is asked anew after each event: a failed read and an epoll_ctl(2) for each request. Here a socket
//! is registered once, edge-triggered (epoll(7)), and a read that gave less than it could have needs no second one to
//! know that nothing is left. Only the instance itself waits in async-io's reactor.

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

/// A socket's place among the watched ones; it is left when this is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    socket: Arc<OwnedFd>,
    key: usize,
    changes: Arc<Changes>,
}

/// What is known of the other end without reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerState {
    /// It may say more, if it has not already.
    Open,
    /// It has shut its sending half down, or closed. Over TCP both look the same.
    HalfClosed,
    /// Nothing that is sent arrives any more: the connection was reset or, where that can be known, closed.
    Closed,
}

/// What is known of a socket.
#[derive(Debug)]
struct Changes {
    /// Tells the socket from those that had its place before it.
    number: u32,
    read: Change,
    write: Change,
}

impl Changes {
    /// What epoll says of it: its number, and its place.
    fn event(&self, key: usize) -> EventData {
        EventData::new_u64(u64::from(self.number) << 32 | key as u64)
    }
}

/// What is known of one direction of a socket.
#[derive(Debug)]
pub(super) struct Change {
    /// Whether a try may give more than the last one.
    worth: AtomicBool,
    /// Whether it is over: then every try gives the same answer, at once.
    over: AtomicBool,
    waiting: AtomicWaker,
}

impl Watched {
    pub(super) fn new(socket: &Arc<OwnedFd>) -> io::Result<Self> {
        let watch = Watch::get()?;
        // the first try needs no telling: often enough something has come before now, and there is room
        let changes = Arc::new(Changes {
            number: watch.next.fetch_add(1, Ordering::Relaxed),
            read: Change::new(),
            write: Change::new(),
        });
        let key = watch.places().insert(changes.clone());
        let event = changes.event(key);
        let watched = Watched {
            socket: socket.clone(),
            key,
            changes,
        };
        let all = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&watch.epoll, socket, event, all)?;
        Ok(watched)
    }

    pub(super) fn read(&self) -> &Change {
        &self.changes.read
    }

    /// Takes no change from whoever reads next.
    pub(super) fn hears(&self, cx: &mut Context<'_>) -> PeerState {
        let Changes { read, write, .. } = &*self.changes;
        read.waiting.register(cx.waker());
        if write.over.load(Ordering::Acquire) {
            PeerState::Closed
        } else if read.over.load(Ordering::Acquire) {
            PeerState::HalfClosed
        } else {
            PeerState::Open
        }
    }

    pub(super) fn write(&self) -> &Change {
        &self.changes.write
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Ok(watch) = Watch::get() {
            // epoll follows the open description: a descriptor that is only closed may stay watched
            let _ = epoll::delete(&watch.epoll, &self.socket);
            watch.places().try_remove(self.key);
        }
    }
}

impl Change {
    fn new() -> Self {
        Change {
            worth: AtomicBool::new(true),
            over: AtomicBool::new(false),
            waiting: AtomicWaker::new(),
        }
    }

    /// Waits until a try is worth it. Whatever changes from here on is told once more, so that none is missed during
    /// the try.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.take() {
            return Poll::Ready(());
        }
        self.waiting.register(cx.waker());
        if self.take() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn take(&self) -> bool {
        self.worth.swap(false, Ordering::AcqRel) || self.over.load(Ordering::Acquire)
    }

    /// The try ended before what there was did: the next one is worth it as well.
    pub(super) fn goes_on(&self) {
        self.worth.store(true, Ordering::Release);
    }

    fn tell(&self, over: bool) {
        if over {
            self.over.store(true, Ordering::Release);
        }
        self.worth.store(true, Ordering::Release);
        self.waiting.wake();
    }
}

/// All watched sockets of the process.
struct Watch {
    epoll: Async<OwnedFd>,
    places: Mutex<Slab<Arc<Changes>>>,
    next: AtomicU32,
}

/// How many changes are taken at a time.
const BATCH: usize = 64;

impl Watch {
    fn get() -> io::Result<&'static Arc<Watch>> {
        static WATCH: OnceLock<Arc<Watch>> = OnceLock::new();
        if let Some(watch) = WATCH.get() {
            return Ok(watch);
        }
        let epoll = Async::new_nonblocking(epoll::create(CreateFlags::CLOEXEC)?)?;
        let watch = Arc::new(Watch {
            epoll,
            places: Mutex::default(),
            next: AtomicU32::new(0),
        });
        let mut first = false;
        let watch = WATCH.get_or_init(|| {
            first = true;
            watch
        });
        if first {
            watch.clone().wake();
        }
        Ok(watch)
    }

    fn places(&self) -> MutexGuard<'_, Slab<Arc<Changes>>> {
        self.places.lock()
    }

    /// Tells of the changes that have come, and has the reactor wake this again when there are more.
    fn look(self: &Arc<Self>) -> io::Result<()> {
        self.tell()?;
        let waker = Waker::from(self.clone());
        // at first it may still say yes for what has just been taken
        while let Poll::Ready(ready) = self.epoll.poll_readable(&mut Context::from_waker(&waker)) {
            ready?;
        }
        Ok(())
    }

    fn tell(&self) -> io::Result<()> {
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
            // not under the lock: whoever is told may leave its place
            let key = (event.data.u64() & u64::from(u32::MAX)) as usize;
            let changes = self.places().get(key).cloned();
            // the place may have become another's since the event came
            let changes = changes.filter(|changes| changes.event(key).u64() == event.data.u64());
            let Some(Changes { read, write, .. }) = changes.as_deref() else {
                continue;
            };
            let (flags, gone) = (event.flags, EventFlags::HUP | EventFlags::ERR);
            if flags.intersects(EventFlags::IN | EventFlags::RDHUP | gone) {
                read.tell(flags.intersects(EventFlags::HUP | EventFlags::RDHUP));
            }
            if flags.intersects(EventFlags::OUT | gone) {
                write.tell(flags.contains(EventFlags::HUP));
            }
        }
        Ok(())
    }
}

/// The reactor wakes the watch itself and not a task that would look: so whoever is told runs no later than if it waited
/// in the reactor.
impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        if let Err(error) = self.look() {
            log::error!("connections cannot be watched: {error}; tried again in a second");
            async_std::task::spawn(async move {
                Timer::after(Duration::from_secs(1)).await;
                self.wake();
            });
        }
    }
}
