//! A limiter with permits, and notifications for its first and last permit.
//!
//! A connection acquires a permit of the process before it is accepted. A request acquires one of
//! its generation, so that the generation can wait for its last request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use event_listener::Event;

/// A limit on the number of permits. A connection past the limit waits in the accept queue of the
/// kernel.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: AtomicUsize,
    in_use: AtomicUsize,
    /// Notified when a permit is released or the limit changes.
    free: Event,
    /// Notified when the first permit is acquired, and when the last one is released.
    changed: Event,
}

/// A permit of a [`Limiter`]. Dropping it releases it.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Limiter>);

impl Limiter {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let (free, changed) = (Event::new(), Event::new());
        Arc::new(Limiter {
            limit: AtomicUsize::new(limit),
            in_use: AtomicUsize::new(0),
            free,
            changed,
        })
    }

    /// A limiter that never refuses a permit. It still counts them.
    pub(crate) fn unlimited() -> Arc<Self> {
        Self::new(usize::MAX)
    }

    /// Changes the limit. Permits past a lowered limit stay valid until they are dropped.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Release);
        self.free.notify(usize::MAX);
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Acquire)
    }

    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Acquire)
    }

    /// Acquires a permit if one is free.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let limit = self.limit();
        let increment = |in_use: usize| (in_use < limit).then_some(in_use + 1);
        let before = self
            .in_use
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, increment)
            .ok()?;
        if before == 0 {
            self.changed.notify(usize::MAX);
        }
        Some(Permit(self.clone()))
    }

    /// Acquires a permit past the limit if need be: for connections that must not be refused.
    pub(crate) fn acquire_unbounded(self: &Arc<Self>) -> Permit {
        if self.in_use.fetch_add(1, Ordering::AcqRel) == 0 {
            self.changed.notify(usize::MAX);
        }
        Permit(self.clone())
    }

    /// Waits for a free permit and acquires it.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Permit {
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

    /// Waits until no permit is in use.
    pub(crate) async fn wait_until_unused(&self) {
        self.until(|in_use| in_use == 0).await;
    }

    /// Waits until at least one permit is in use.
    pub(crate) async fn wait_until_used(&self) {
        self.until(|in_use| in_use > 0).await;
    }

    async fn until(&self, holds: impl Fn(usize) -> bool) {
        while !holds(self.in_use()) {
            let changed = self.changed.listen();
            if !holds(self.in_use()) {
                changed.await;
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.in_use.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify(usize::MAX);
        }
        // not `notify`, which does nothing while a task that was notified before has not run yet: each
        // released permit must wake one more task
        self.0.free.notify_additional(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn past_the_limit_a_task_waits_for_a_free_permit() {
        block_on(async {
            let permits = Limiter::new(1);
            let first = permits.acquire().await;
            let mut second = Box::pin(permits.acquire());
            assert!(poll_once(&mut second).await.is_none());
            drop(first);
            assert!(poll_once(&mut second).await.is_some());
        });
    }

    #[test]
    fn a_raised_limit_wakes_waiting_tasks_and_a_lowered_limit_revokes_no_permit() {
        block_on(async {
            let permits = Limiter::new(1);
            let _first = permits.acquire().await;
            let mut second = Box::pin(permits.acquire());
            assert!(poll_once(&mut second).await.is_none());
            permits.set_limit(2);
            let _second = poll_once(&mut second).await.expect("a permit");
            permits.set_limit(0);
            assert_eq!(permits.in_use(), 2);
            assert!(permits.try_acquire().is_none());
        });
    }
}
