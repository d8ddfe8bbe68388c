//! The memory budget of a process: bytes that the server holds for clients, and whose number the client decides.
//!
//! The limits on one head, one body and one message do not limit their sum. Therefore each of them takes its bytes from
//! this budget, and so do the unsent pieces of responses ([`send_buffer`](super::send_buffer)). The bytes are returned
//! when the buffer is dropped. While the budget is exhausted, new work is refused and responses wait.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use event_listener::Event;

/// Bytes of each head, body and message that are not counted, because nearly all of them are smaller.
pub(crate) const UNCOUNTED: usize = 4 << 10;

/// The budget of one process.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: AtomicUsize,
    used: AtomicUsize,
    /// Set when a request for bytes is refused, cleared when half of the budget is free again.
    exhausted: AtomicBool,
    /// Refused heads, bodies, messages and streams since the budget was exhausted; for the log.
    refused: AtomicUsize,
    /// Notified when bytes are returned.
    pub(super) bytes_returned: Event,
}

/// The error of a request for bytes for which the budget has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryExhausted;

/// The counted bytes of one head, body or message. They are returned on drop.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    /// Creates a budget of `limit` bytes; `None` means no limit.
    pub(crate) fn new(limit: Option<usize>) -> Arc<Self> {
        Arc::new(Memory {
            limit: AtomicUsize::new(limit.unwrap_or(usize::MAX)),
            used: AtomicUsize::new(0),
            exhausted: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            bytes_returned: Event::new(),
        })
    }

    /// Changes the limit. Bytes past a lowered limit stay held.
    pub(crate) fn set_limit(&self, limit: Option<usize>) {
        self.limit
            .store(limit.unwrap_or(usize::MAX), Ordering::Release);
        self.bytes_returned.notify(usize::MAX);
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Returns true from the first refusal until half of the budget is free again.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Counts a refusal for the log.
    pub(super) fn count_refusal(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes between `least` and `most` bytes, as many as fit. Returns `None` if `least` bytes do not fit.
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
                self.enter_exhaustion(used, limit);
                None
            }
        }
    }

    /// Takes bytes even past the limit: for the guaranteed share of a connection.
    pub(super) fn take_past_limit(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Puts bytes back and wakes one task that waits for room.
    pub(super) fn put_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let used = self.used.fetch_sub(bytes, Ordering::AcqRel) - bytes;
        if self.exhausted.load(Ordering::Relaxed) {
            self.leave_exhaustion(used);
        }
        self.bytes_returned.notify_additional(1);
    }

    /// Marks the budget as exhausted, and logs it the first time.
    fn enter_exhaustion(&self, used: usize, limit: usize) {
        if !self.exhausted.swap(true, Ordering::AcqRel) {
            log::warn!(
                "the memory budget is exhausted: responses wait, new requests and messages are refused; \
                 {used} bytes are held for clients, http.memory is {limit} bytes"
            );
        }
    }

    /// Clears the mark and logs it, if half of the budget is free.
    fn leave_exhaustion(&self, used: usize) {
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

/// Returns the number of bytes, between `least` and `most`, that still fit into the limit.
fn room(limit: usize, used: usize, least: usize, most: usize) -> Option<usize> {
    let room = limit.saturating_sub(used);
    (room >= least).then(|| room.min(most))
}

impl HeldBytes {
    /// Begins to count an item that holds no bytes yet.
    pub(crate) fn new(memory: &Arc<Memory>) -> Self {
        HeldBytes {
            memory: memory.clone(),
            bytes: 0,
        }
    }

    /// Begins to count another item of the same budget.
    #[cfg(feature = "ws")]
    pub(crate) fn new_in_same_budget(&self) -> Self {
        HeldBytes::new(&self.memory)
    }

    /// Counts the item as `bytes` long, without its first [`UNCOUNTED`] bytes.
    ///
    /// # Errors
    /// Fails if the budget has no room. The item is then counted as before.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), MemoryExhausted> {
        let bytes = bytes.saturating_sub(UNCOUNTED);
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => {
                if self.memory.take(more, more).is_none() {
                    self.memory.count_refusal();
                    return Err(MemoryExhausted);
                }
            }
            None => self.memory.put_back(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.memory.put_back(self.bytes);
    }
}

impl fmt::Display for MemoryExhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server is short of memory for its clients; try again later")
    }
}

impl std::error::Error for MemoryExhausted {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_budget_is_exhausted_until_half_of_it_is_free() {
        let memory = Memory::new(Some(100 << 10));
        let hold = |bytes| {
            let mut held = HeldBytes::new(&memory);
            held.resize(bytes).map(|()| held)
        };
        let (first, second) = (hold(64 << 10).unwrap(), hold(44 << 10).unwrap());
        assert_eq!(hold(5 << 10).unwrap_err(), MemoryExhausted);
        assert!(hold(UNCOUNTED).is_ok(), "small items are not counted");
        drop(second);
        assert!(memory.is_exhausted());
        drop(first);
        assert!(!memory.is_exhausted());
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn a_budget_without_a_limit_is_never_exhausted() {
        let memory = Memory::new(None);
        assert!(HeldBytes::new(&memory).resize(usize::MAX / 2).is_ok());
    }

    proptest! {
        #[test]
        fn items_never_take_more_than_the_limit_and_return_every_byte(
            limit in 0usize..100_000,
            steps in proptest::collection::vec((0usize..8, 0usize..60_000, any::<bool>()), 0..200),
        ) {
            let memory = Memory::new(Some(limit));
            let mut items: Vec<_> = (0..8).map(|_| (HeldBytes::new(&memory), 0)).collect();
            for (number, bytes, is_drop) in steps {
                if is_drop {
                    items[number] = (HeldBytes::new(&memory), 0);
                } else if items[number].0.resize(bytes).is_ok() {
                    items[number].1 = bytes.saturating_sub(UNCOUNTED);
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
