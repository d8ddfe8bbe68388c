//! Idle connections without a task: they wait in one table and one epoll instance until a byte arrives.
//!
//! Such a connection has no task, no parser, no buffer and no timer. All of them are registered with one epoll instance
//! (epoll(7)), and only the descriptor of that instance is registered with async-io's reactor. The instance is made with
//! rustix, because registering with the `polling` crate needs `unsafe`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use async_io::Async;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use slab::Slab;

use super::connection::Detached;
use crate::sync::lock::Mutex;

/// All idle connections of a process that have no task.
pub(crate) struct IdleSet {
    poller: Async<OwnedFd>,
    connections: Mutex<Slab<Detached>>,
}

/// The largest number of events for each call of epoll_wait(2).
const BATCH: usize = 256;

impl IdleSet {
    pub(crate) fn new() -> io::Result<Self> {
        let poller = Async::new_nonblocking(epoll::create(CreateFlags::CLOEXEC)?)?;
        Ok(IdleSet {
            poller,
            connections: Mutex::new(Slab::new()),
        })
    }

    /// Adds a connection. If its socket cannot be registered, the connection is closed and the error is returned.
    pub(crate) fn insert(&self, connection: Detached) -> io::Result<()> {
        let mut connections = self.connections.lock();
        let entry = connections.vacant_entry();
        let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ONESHOT;
        epoll::add(
            &self.poller,
            &connection.stream,
            EventData::new_u64(entry.key() as u64),
            interest,
        )?;
        entry.insert(connection);
        Ok(())
    }

    /// Returns the number of connections.
    pub(crate) fn len(&self) -> usize {
        self.connections.lock().len()
    }

    /// Waits until clients have sent something, then removes and returns their connections. Connections that their clients
    /// have closed are closed here and not returned.
    pub(crate) async fn next_readable(&self) -> io::Result<Vec<Detached>> {
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
        let (closed, readable): (Vec<_>, Vec<_>) = self
            .remove(keys)
            .into_iter()
            .partition(Detached::is_closed_by_client);
        for connection in closed {
            connection.close();
        }
        Ok(readable)
    }

    /// Removes and returns all connections for which `condition` returns true.
    pub(crate) fn remove_if(&self, condition: impl Fn(&Detached) -> bool) -> Vec<Detached> {
        self.remove_first(usize::MAX, condition)
    }

    /// Removes and returns up to `count` connections.
    pub(crate) fn remove_up_to(&self, count: usize) -> Vec<Detached> {
        self.remove_first(count, |_| true)
    }

    fn remove_first(&self, count: usize, condition: impl Fn(&Detached) -> bool) -> Vec<Detached> {
        let keys: Vec<usize> = {
            let connections = self.connections.lock();
            connections
                .iter()
                .filter(|(_, connection)| condition(connection))
                .map(|(key, _)| key)
                .take(count)
                .collect()
        };
        self.remove(keys)
    }

    /// Removes connections from the table and from the epoll instance. Keys that are not in the table are skipped.
    fn remove(&self, keys: impl IntoIterator<Item = usize>) -> Vec<Detached> {
        let mut connections = self.connections.lock();
        let mut removed = Vec::new();
        for key in keys {
            if let Some(connection) = connections.try_remove(key) {
                // epoll watches the open file description, which outlives a close(2) if another process has a copy
                let _ = epoll::delete(&self.poller, connection.stream.as_fd());
                removed.push(connection);
            }
        }
        removed
    }
}
