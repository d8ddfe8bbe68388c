//! The memory budget of a process: bytes that are held for clients and that a client decides the number of.
//!
//! Limits on one head, one body or one message do not bound their sum. Each of them takes what it holds from this
//! budget, [`sending`](super::sending) takes the unsent pieces of responses, and both return it when the buffer is
//! dropped. Past the limit new work is refused and responses wait.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use event_listener::Event;

/// Bytes of each head, body and message that are not counted, because nearly all of them are smaller.
pub(crate) const FREE: usize = 4 << 10;

/// The budget of one process.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: AtomicUsize,
    used: AtomicUsize,
    /// Set by the first taker that finds no room, cleared when half of the budget is free again.
    exhausted: AtomicBool,
    /// Refusals since the budget was exhausted; for the log.
    refused: AtomicUsize,
    /// Notified when bytes are returned.
    pub(super) returned: Event,
}

/// The budget has no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// The counted bytes of one head, body or message. They are returned on drop.
#[derive(Debug)]
pub(crate) struct Held {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    /// A budget of `limit` bytes; `None`: no limit.
    pub(crate) fn new(limit: Option<usize>) -> Arc<Self> {
        Arc::new(Memory {
            limit: AtomicUsize::new(limit.unwrap_or(usize::MAX)),
            used: AtomicUsize::new(0),
            exhausted: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            returned: Event::new(),
        })
    }

    /// Changes the limit. Bytes that are held beyond a lowered limit stay held.
    pub(crate) fn set_limit(&self, limit: Option<usize>) {
        self.limit
            .store(limit.unwrap_or(usize::MAX), Ordering::Release);
        self.returned.notify(usize::MAX);
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Returns true from the moment when the budget has run out until half of it is free.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Counts a refusal for the log.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Holds nothing yet: for an item whose size is not known at its start.
    pub(crate) fn holder(self: &Arc<Self>) -> Held {
        Held {
            memory: self.clone(),
            bytes: 0,
        }
    }

    /// Takes between `least` and `most` bytes, as many as there is room for.
    pub(super) fn take(&self, least: usize, most: usize) -> Option<usize> {
        let limit = self.limit.load(Ordering::Acquire);
        let mut taken = 0;
        let result = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                taken = room(limit, used, least, most)?;
                Some(used + taken)
            });
        match result {
            Ok(_) => Some(taken),
            Err(used) => {
                self.runs_out(used, limit);
                None
            }
        }
    }

    /// Takes bytes beyond the limit: for the guaranteed share of a connection.
    pub(super) fn take_beyond(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Returns bytes and wakes a taker that waits for them.
    pub(super) fn put_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let used = self.used.fetch_sub(bytes, Ordering::AcqRel) - bytes;
        if self.exhausted.load(Ordering::Relaxed) {
            self.recovers(used);
        }
        self.returned.notify_additional(1);
    }

    fn runs_out(&self, used: usize, limit: usize) {
        if !self.exhausted.swap(true, Ordering::AcqRel) {
            log::warn!(
                "the memory budget is exhausted: responses wait, new requests and messages are refused; \
                 {used} bytes are held for clients, http.memory is {limit} bytes"
            );
        }
    }

    fn recovers(&self, used: usize) {
        let limit = self.limit.load(Ordering::Acquire);
        if used <= limit / 2 && self.exhausted.swap(false, Ordering::AcqRel) {
            let refused = self.refused.swap(0, Ordering::AcqRel);
            log::info!(
                "the memory budget has room again; {used} bytes are held for clients, http.memory is {limit} bytes, \
                 refused meanwhile: {refused}"
            );
        }
    }
}

/// The bytes that a taker of at least `least` and at most `most` gets.
fn room(limit: usize, used: usize, least: usize, most: usize) -> Option<usize> {
    let room = limit.saturating_sub(used);
    (room >= least).then(|| room.min(most))
}

impl Held {
    /// Another item of the same budget, which holds nothing yet.
    #[cfg(feature = "ws")]
    pub(crate) fn another(&self) -> Held {
        self.memory.holder()
    }

    /// Counts the item as `bytes` long, without its first [`FREE`] bytes.
    ///
    /// # Errors
    /// The budget has no room; the item is counted as before.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let bytes = bytes.saturating_sub(FREE);
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => {
                if self.memory.take(more, more).is_none() {
                    self.memory.refuse();
                    return Err(Exhausted);
                }
            }
            None => self.memory.put_back(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.put_back(self.bytes);
    }
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server holds too much for its clients at the moment")
    }
}

impl std::error::Error for Exhausted {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_budget_is_exhausted_until_half_of_it_is_free() {
        let memory = Memory::new(Some(100 << 10));
        let hold = |bytes| {
            let mut held = memory.holder();
            held.resize(bytes).map(|()| held)
        };
        let (first, second) = (hold(64 << 10).unwrap(), hold(44 << 10).unwrap());
        assert_eq!(hold(5 << 10).unwrap_err(), Exhausted);
        assert!(hold(FREE).is_ok(), "small items are not counted");
        drop(second);
        assert!(memory.is_exhausted());
        drop(first);
        assert!(!memory.is_exhausted());
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn no_limit_is_never_exhausted() {
        let memory = Memory::new(None);
        assert!(memory.holder().resize(usize::MAX / 2).is_ok());
    }

    proptest! {
        #[test]
        fn items_of_any_sizes_never_take_more_than_the_limit_and_return_all_of_it(
            limit in 0usize..100_000,
            steps in proptest::collection::vec((0usize..8, 0usize..60_000, any::<bool>()), 0..200),
        ) {
            let memory = Memory::new(Some(limit));
            let mut items: Vec<_> = (0..8).map(|_| (memory.holder(), 0)).collect();
            for (number, bytes, drops) in steps {
                if drops {
                    items[number] = (memory.holder(), 0);
                } else if items[number].0.resize(bytes).is_ok() {
                    items[number].1 = bytes.saturating_sub(FREE);
                }
                let sum: usize = items.iter().map(|(_, counted)| counted).sum();
                prop_assert_eq!(memory.used(), sum);
                prop_assert!(sum <= limit);
            }
            drop(items);
            prop_assert_eq!(memory.used(), 0);
        }
    }
}
