//! Limiter: how many there may be at once of something, and the moment when nobody is left.
//!
//! Connections take one of a process before they are accepted, requests take one of the generation that answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use event_listener::Event;

/// A number of seats. A connection past the last one waits in the kernel's backlog.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: AtomicUsize,
    taken: AtomicUsize,
    /// Told when one is free.
    free: Event,
    /// Told when the first is taken, and when the last is left.
    changed: Event,
}

/// The right of one connection, or one request, to be there.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Limiter>);

impl Limiter {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let (free, changed) = (Event::new(), Event::new());
        Arc::new(Limiter {
            limit: AtomicUsize::new(limit),
            taken: AtomicUsize::new(0),
            free,
            changed,
        })
    }

    /// As many as there are takers.
    pub(crate) fn unlimited() -> Arc<Self> {
        Self::new(usize::MAX)
    }

    /// How many seats there are; those taken beyond it stay taken until their connections end.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Release);
        self.free.notify(usize::MAX);
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Acquire)
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// Takes a seat if one is free.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let limit = self.limit();
        let one_more = |taken: usize| (taken < limit).then_some(taken + 1);
        let before = self
            .taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()?;
        if before == 0 {
            self.changed.notify(usize::MAX);
        }
        Some(Permit(self.clone()))
    }

    /// Takes a seat whether or not one is free: for one who must not be turned away.
    pub(crate) fn acquire_unbounded(self: &Arc<Self>) -> Permit {
        if self.taken.fetch_add(1, Ordering::AcqRel) == 0 {
            self.changed.notify(usize::MAX);
        }
        Permit(self.clone())
    }

    /// Waits for a free seat and takes it.
    pub(crate) async fn take(self: &Arc<Self>) -> Permit {
        loop {
            if let Some(permit) = self.try_acquire() {
                return permit;
            }
            let free = self.free.listen();
            match self.try_acquire() {
                Some(permit) => return permit,
                None => free.await,
            }
        }
    }

    /// Waits until nobody sits any more.
    pub(crate) async fn empty(&self) {
        self.until(|taken| taken == 0).await;
    }

    /// Waits until somebody sits.
    pub(crate) async fn occupied(&self) {
        self.until(|taken| taken > 0).await;
    }

    async fn until(&self, holds: impl Fn(usize) -> bool) {
        while !holds(self.taken()) {
            let changed = self.changed.listen();
            if !holds(self.taken()) {
                changed.await;
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.taken.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify(usize::MAX);
        }
        // one more than have been told already: each seat is worth a waiter
        self.0.free.notify_additional(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn past_the_last_seat_one_waits_for_a_seat_to_be_free() {
        block_on(async {
            let permits = Limiter::new(1);
            let first = permits.take().await;
            let mut second = Box::pin(permits.take());
            assert!(poll_once(&mut second).await.is_none());
            drop(first);
            assert!(poll_once(&mut second).await.is_some());
        });
    }

    #[test]
    fn a_raised_limit_seats_those_who_wait_and_a_lowered_one_unseats_nobody() {
        block_on(async {
            let permits = Limiter::new(1);
            let _first = permits.take().await;
            let mut second = Box::pin(permits.take());
            assert!(poll_once(&mut second).await.is_none());
            permits.set_limit(2);
            let _second = poll_once(&mut second).await.expect("a seat");
            permits.set_limit(0);
            assert_eq!(permits.taken(), 2);
            assert!(permits.try_acquire().is_none());
        });
    }
}
