//! Counts the response bytes that a connection has not sent yet.
//!
//! A piece of a response takes its bytes from the send buffer of the connection and from the [`Memory`] of the process
//! before it is polled. Both get them back when hyper drops the piece.
//!
//! Half of a send buffer is shared by all streams of the connection. The other half is a reserve: each stream without
//! unsent bytes gets an equal part of it, so that stalled streams never stop the others. A connection without unsent
//! bytes gets a piece of up to [`GUARANTEED`] bytes even if the budget of the process is exhausted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use atomic_waker::AtomicWaker;
use event_listener::Event;

use super::memory::Memory;
use crate::sync::lock::{Mutex, MutexGuard};

/// The longest piece of a response over HTTP/2.
pub(super) const PIECE: usize = 16 << 10;

/// Unsent bytes that each connection may have while the budget of the process is exhausted.
pub(super) const GUARANTEED: usize = 16 << 10;

/// Memory of an open HTTP/2 stream without its bodies: the task, the heads, the states of hyper and h2.
const STREAM: usize = 8 << 10;

/// Streams that each connection may open while the budget of the process is exhausted.
const GUARANTEED_STREAMS: usize = 4;

/// The unsent pieces of all responses of one connection.
#[derive(Debug)]
pub(crate) struct SendBuffer {
    pub(super) memory: Arc<Memory>,
    shares: Shares,
    /// A lock and not an atomic. A stream must not add its bytes before it has taken them from the process: other
    /// streams would find the buffer full, wait, be woken when the attempt fails, and then wake others in turn.
    used: Mutex<usize>,
    /// Open streams that are counted.
    streams: AtomicUsize,
    /// Notified when bytes are returned.
    pub(super) bytes_returned: Event,
}

/// The share of an open stream in the budget of the process. It is returned on drop.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<SendBuffer>);

/// The division of a send buffer.
#[derive(Clone, Copy, Debug)]
struct Shares {
    /// Bytes that any stream may take.
    common: usize,
    /// Bytes for each stream that has nothing unsent.
    reserve: usize,
}

/// The unsent bytes of one stream.
#[derive(Debug)]
pub(super) struct StreamUsage {
    pub(super) buffer: Arc<SendBuffer>,
    used: AtomicUsize,
    /// Woken when bytes of this stream are returned, because then the stream may take its reserve. The events of the
    /// connection and of the process wake one waiter for each return, and that may belong to another stream.
    pub(super) waker: AtomicWaker,
}

/// Bytes taken from a stream, its connection and the process. They are returned on drop.
#[derive(Debug)]
pub(super) struct SendPermit {
    stream: Arc<StreamUsage>,
    bytes: usize,
}

/// The budget that has no room for a piece.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shortage {
    Connection,
    Process,
}

impl Shares {
    fn of(limit: usize, streams: usize) -> Self {
        let reserve = (limit / 2 / streams.max(1)).max(1);
        Shares {
            common: limit.saturating_sub(reserve.saturating_mul(streams)),
            reserve,
        }
    }

    /// Returns the bytes that a stream gets from the send buffer: 0 if it has to wait.
    fn grant(self, connection_used: usize, stream_used: usize, wanted: usize) -> usize {
        let room = self.common.saturating_sub(connection_used);
        if room >= wanted.min(PIECE) {
            room.min(wanted)
        } else if stream_used == 0 {
            self.reserve.min(wanted)
        } else {
            0
        }
    }

    /// Returns the bytes that a stream gets although the process has none left: 0 if it has to wait.
    fn guarantee(self, connection_used: usize, stream_used: usize, granted: usize) -> usize {
        let bytes = self.reserve.min(GUARANTEED).min(granted);
        if stream_used == 0 && connection_used.saturating_add(bytes) <= GUARANTEED {
            bytes
        } else {
            0
        }
    }
}

impl SendBuffer {
    /// Creates a buffer of `limit` bytes for up to `streams` responses at once.
    pub(crate) fn new(memory: &Arc<Memory>, limit: usize, streams: usize) -> Arc<Self> {
        Arc::new(SendBuffer {
            memory: memory.clone(),
            shares: Shares::of(limit, streams),
            used: Mutex::new(0),
            streams: AtomicUsize::new(0),
            bytes_returned: Event::new(),
        })
    }

    /// Opens a stream, or returns `None` if the process has no room for it.
    ///
    /// While the budget is exhausted, a connection with unsent bytes gets no new stream. A connection without unsent
    /// bytes may have [`GUARANTEED_STREAMS`] streams past the budget.
    pub(crate) fn open_stream(self: &Arc<Self>) -> Option<OpenStream> {
        let others = self.streams.fetch_add(1, Ordering::AcqRel);
        let stalls = self.memory.is_exhausted() && *self.used() > 0;
        if stalls || self.memory.take(STREAM, STREAM).is_none() {
            if stalls || others >= GUARANTEED_STREAMS {
                self.streams.fetch_sub(1, Ordering::AcqRel);
                self.memory.count_refusal();
                return None;
            }
            self.memory.take_past_limit(STREAM);
        }
        Some(OpenStream(self.clone()))
    }

    fn used(&self) -> MutexGuard<'_, usize> {
        self.used.lock()
    }

    fn put_back(&self, bytes: usize) {
        self.memory.put_back(bytes);
        *self.used() -= bytes;
        if self.memory.is_exhausted() {
            // only streams without unsent bytes may use the guaranteed share; the first waiter may have unsent bytes
            self.bytes_returned.notify(usize::MAX);
        } else {
            self.bytes_returned.notify_additional(1);
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
        self.0.memory.put_back(STREAM);
    }
}

impl StreamUsage {
    pub(super) fn new(buffer: Arc<SendBuffer>) -> Arc<Self> {
        Arc::new(StreamUsage {
            buffer,
            used: AtomicUsize::new(0),
            waker: AtomicWaker::new(),
        })
    }

    /// Takes up to `wanted` bytes.
    ///
    /// # Errors
    /// Returns the budget that has no room.
    pub(super) fn take(self: &Arc<Self>, wanted: usize) -> Result<SendPermit, Shortage> {
        let SendBuffer { memory, shares, .. } = &*self.buffer;
        let mut used = self.buffer.used();
        // only this stream adds to its own bytes, so the number cannot grow before the end of this function
        let stream_used = self.used.load(Ordering::Acquire);
        let granted = shares.grant(*used, stream_used, wanted);
        if granted == 0 {
            return Err(Shortage::Connection);
        }
        let bytes = memory.take(granted.min(PIECE), granted).unwrap_or_else(|| {
            let bytes = shares.guarantee(*used, stream_used, granted);
            memory.take_past_limit(bytes);
            bytes
        });
        if bytes == 0 {
            return Err(Shortage::Process);
        }
        *used += bytes;
        drop(used);
        self.used.fetch_add(bytes, Ordering::AcqRel);
        Ok(SendPermit {
            stream: self.clone(),
            bytes,
        })
    }
}

impl SendPermit {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives the bytes past `to` back.
    pub(super) fn shrink(&mut self, to: usize) {
        let returned = self.bytes.saturating_sub(to);
        if returned > 0 {
            self.bytes -= returned;
            self.put_back(returned);
        }
    }

    fn put_back(&self, bytes: usize) {
        self.stream.used.fetch_sub(bytes, Ordering::AcqRel);
        self.stream.buffer.put_back(bytes);
        self.stream.waker.wake();
    }
}

impl Drop for SendPermit {
    fn drop(&mut self) {
        self.put_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn streams(buffer: &Arc<SendBuffer>, number: usize) -> Vec<Arc<StreamUsage>> {
        (0..number)
            .map(|_| StreamUsage::new(buffer.clone()))
            .collect()
    }

    proptest! {
        #[test]
        fn pieces_never_take_more_than_the_limits_of_connection_and_process_and_return_every_byte(
            limit in 1usize..300_000,
            process in 0usize..600_000,
            steps in proptest::collection::vec((0usize..12, 1usize..300_000, any::<bool>(), 0usize..64), 0..300),
        ) {
            const STREAMS: usize = 4;
            let memory = Memory::new(Some(process));
            let buffers: Vec<_> = (0..3).map(|_| SendBuffer::new(&memory, limit, STREAMS)).collect();
            let all: Vec<_> = buffers.iter().flat_map(|buffer| streams(buffer, STREAMS)).collect();
            let mut permits: Vec<SendPermit> = Vec::new();
            for (stream, wanted, is_drop, divisor) in steps {
                if is_drop && !permits.is_empty() {
                    permits.swap_remove(divisor % permits.len());
                } else if let Ok(mut permit) = all[stream].take(wanted) {
                    prop_assert!((1..=wanted).contains(&permit.bytes));
                    permit.shrink(permit.bytes.div_ceil(divisor.max(1)));
                    permits.push(permit);
                }
                let sum: usize = permits.iter().map(|permit| permit.bytes).sum();
                prop_assert_eq!(memory.used(), sum);
                prop_assert!(sum <= process + buffers.len() * GUARANTEED, "{} of {}", sum, process);
                for (buffer, streams) in buffers.iter().zip(all.chunks(STREAMS)) {
                    let used = *buffer.used();
                    let of_streams: usize = streams.iter().map(|stream| stream.used.load(Ordering::Relaxed)).sum();
                    prop_assert_eq!(used, of_streams);
                    prop_assert!(used <= limit.max(STREAMS), "{} of {}", used, limit);
                }
            }
            drop(permits);
            prop_assert_eq!(memory.used(), 0);
        }

        #[test]
        fn a_stream_without_unsent_bytes_always_gets_room_in_the_send_buffer(
            limit in 1usize..300_000,
            used in 0usize..400_000,
            wanted in 1usize..300_000,
        ) {
            prop_assert!(Shares::of(limit, 128).grant(used, 0, wanted) > 0);
        }

        #[test]
        fn a_connection_without_unsent_bytes_gets_room_even_if_the_process_has_none(
            limit in 1usize..300_000,
            wanted in 1usize..300_000,
        ) {
            let memory = Memory::new(Some(0));
            let stream = &streams(&SendBuffer::new(&memory, limit, 128), 1)[0];
            prop_assert!(stream.take(wanted).is_ok());
        }
    }

    #[test]
    fn open_streams_are_counted_and_a_few_of_each_connection_are_guaranteed() {
        let memory = Memory::new(Some(2 * STREAM));
        let (first, second) = (
            SendBuffer::new(&memory, 1 << 20, 128),
            SendBuffer::new(&memory, 1 << 20, 128),
        );
        let mut open: Vec<_> = (0..6).map_while(|_| first.open_stream()).collect();
        assert_eq!(open.len(), GUARANTEED_STREAMS);
        open.extend((0..6).map_while(|_| second.open_stream()));
        assert_eq!(open.len(), 2 * GUARANTEED_STREAMS);
        let unsent = streams(&second, 1)[0].take(PIECE).unwrap();
        open.pop();
        assert!(
            second.open_stream().is_none(),
            "a connection with unsent bytes opened a stream"
        );
        drop(unsent);
        assert!(second.open_stream().is_some());
        drop(open);
        assert_eq!(memory.used(), 0);
    }
}
