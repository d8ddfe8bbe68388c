//! Connections that are silent: an entry each in one table, all waiting in one poller, until a byte comes.
//!
//! A parked connection has no task, no parser, no buffer and no timer. Its socket waits in an epoll instance of its
//! own (epoll(7)), and that instance's descriptor is the only thing of them all that waits in the reactor. (The
//! `polling` crate would do, but its registration is `unsafe`; rustix's is not.)

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use async_io::Async;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use slab::Slab;

use super::detached::Detached;
use crate::sync::lock::Mutex;

/// All silent connections of a process.
pub(crate) struct IdleSet {
    poller: Async<OwnedFd>,
    places: Mutex<Slab<Detached>>,
}

/// How many of them are looked at in one go.
const BATCH: usize = 256;

impl IdleSet {
    pub(crate) fn new() -> io::Result<Self> {
        let poller = Async::new_nonblocking(epoll::create(CreateFlags::CLOEXEC)?)?;
        Ok(IdleSet {
            poller,
            places: Mutex::new(Slab::new()),
        })
    }

    /// Parks a connection. One whose socket cannot be watched is closed.
    pub(crate) fn park(&self, parked: Detached) -> io::Result<()> {
        let mut places = self.places.lock();
        let place = places.vacant_entry();
        let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ONESHOT;
        epoll::add(
            &self.poller,
            &parked.stream,
            EventData::new_u64(place.key() as u64),
            interest,
        )?;
        place.insert(parked);
        Ok(())
    }

    /// How many are parked.
    pub(crate) fn len(&self) -> usize {
        self.places.lock().len()
    }

    /// Waits until some of them have something to say, and hands those out. Those whose clients are gone are closed.
    pub(crate) async fn woken(&self) -> io::Result<Vec<Detached>> {
        self.poller.readable().await?;
        let mut events = Vec::with_capacity(BATCH);
        let no_wait = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match epoll::wait(
            &self.poller,
            rustix::buffer::spare_capacity(&mut events),
            Some(&no_wait),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let keys = events.iter().map(|event| event.data.u64() as usize);
        let (over, speak): (Vec<_>, Vec<_>) =
            self.leave(keys).into_iter().partition(Detached::is_over);
        over.into_iter().for_each(Detached::close);
        Ok(speak)
    }

    /// Takes those out that `which` accepts.
    pub(crate) fn take_all(&self, which: impl Fn(&Detached) -> bool) -> Vec<Detached> {
        self.take(usize::MAX, which)
    }

    /// Takes as many out as there are, up to this number.
    pub(crate) fn take_some(&self, most: usize) -> Vec<Detached> {
        self.take(most, |_| true)
    }

    fn take(&self, most: usize, which: impl Fn(&Detached) -> bool) -> Vec<Detached> {
        let keys: Vec<usize> = {
            let places = self.places.lock();
            places
                .iter()
                .filter(|(_, parked)| which(parked))
                .map(|(key, _)| key)
                .take(most)
                .collect()
        };
        self.leave(keys)
    }

    /// Takes these out of the table and out of the poller.
    fn leave(&self, keys: impl IntoIterator<Item = usize>) -> Vec<Detached> {
        let mut places = self.places.lock();
        let left = keys.into_iter().filter_map(|key| places.try_remove(key));
        // epoll follows the open description: a descriptor that is only closed may stay watched
        left.inspect(|parked| {
            let _ = epoll::delete(&self.poller, parked.stream.as_fd());
        })
        .collect()
    }
}
