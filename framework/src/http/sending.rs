//! Bounds the response bytes that a client has not taken: pieces, the send buffer of a connection, and the waiting.
//!
//! hyper polls a whole frame of a body before it looks at the window of the client, and holds it. So a body is only
//! polled for as many bytes as were taken from the send buffer of the connection and from the [`Memory`] of the process
//! before. They are returned when hyper drops the piece.
//!
//! Half of a send buffer is shared by all streams of the connection. The other half is a reserve: a stream that has
//! nothing unsent gets its part of it, so that streams that stall never stop those that do not. A connection that has
//! nothing unsent gets a piece of up to [`GUARANTEED`] bytes even if the budget of the process is exhausted.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use event_listener::{Event, EventListener};
use http_body::{Body, Frame};

use super::memory::Memory;
use super::ResponseBody;
use crate::error::BoxError;
use crate::sync::lock::{Mutex, MutexGuard};

/// The longest piece of a response over HTTP/2.
pub(crate) const PIECE: usize = 16 << 10;

/// The longest piece over HTTP/1.1, where one response at a time is sent.
const LONG_PIECE: usize = 256 << 10;

/// Unsent bytes that each connection may have while the budget of the process is exhausted.
const GUARANTEED: usize = 16 << 10;

/// Memory of an open HTTP/2 stream without its bodies: the task, the heads, the states of hyper and h2.
const STREAM: usize = 8 << 10;

/// Streams that each connection may open while the budget of the process is exhausted.
const GUARANTEED_STREAMS: usize = 4;

/// Pieces that are not sent yet of all responses of one connection.
#[derive(Debug)]
pub(crate) struct SendBuffer {
    memory: Arc<Memory>,
    shares: Shares,
    /// A lock and not an atomic: a taker that finds no room in the process must not be seen to take, because the
    /// waiters that this keeps from taking would have to be woken, and fail, and wake others in turn.
    used: Mutex<usize>,
    /// Open streams that are counted.
    streams: AtomicUsize,
    /// Notified when bytes are returned.
    returned: Event,
}

/// The share of an open stream in the budget of the process.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<SendBuffer>);

/// How a send buffer is divided.
#[derive(Clone, Copy, Debug)]
struct Shares {
    /// Bytes for whichever stream comes first.
    common: usize,
    /// Bytes for a stream that has nothing unsent.
    reserve: usize,
}

/// The pieces of one stream.
#[derive(Debug)]
struct Stream {
    buffer: Arc<SendBuffer>,
    used: AtomicUsize,
    /// Woken by a return of its own, which may entitle it to its reserve. The events wake one waiter for each return,
    /// and that may be another one.
    waiting: AtomicWaker,
}

/// Bytes of a stream, its connection and the process. They are returned on drop.
#[derive(Debug)]
struct Permit {
    stream: Arc<Stream>,
    bytes: usize,
}

/// A piece as hyper has it.
struct Piece {
    bytes: Bytes,
    _permit: Permit,
}

/// Hands a response body out in pieces.
#[derive(Debug)]
pub(crate) struct Sending {
    stream: Arc<Stream>,
    longest: usize,
    /// Polled from the body, but longer than what there was room for.
    rest: Bytes,
    /// Present while there is no room.
    waits: Option<Waits>,
}

/// The returns that may make room.
#[derive(Debug, Default)]
struct Waits {
    connection: Option<EventListener>,
    process: Option<EventListener>,
}

/// The part that has no room for a piece.
#[derive(Clone, Copy, Debug)]
enum Full {
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

    /// The bytes that a stream gets of the send buffer: 0 if it has to wait.
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

    /// The bytes that a stream gets although the process has none left: 0 if it has to wait.
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
    /// A buffer of `limit` bytes for up to `streams` responses at once.
    pub(crate) fn new(memory: &Arc<Memory>, limit: usize, streams: usize) -> Arc<Self> {
        Arc::new(SendBuffer {
            memory: memory.clone(),
            shares: Shares::of(limit, streams),
            used: Mutex::new(0),
            streams: AtomicUsize::new(0),
            returned: Event::new(),
        })
    }

    /// Opens a stream. Refuses it if the process has no room, or is short of room and the client has not taken all
    /// that was sent to it before. The first few streams of a connection that takes everything need no room.
    pub(crate) fn open_stream(self: &Arc<Self>) -> Option<OpenStream> {
        let others = self.streams.fetch_add(1, Ordering::AcqRel);
        let stalls = self.memory.is_exhausted() && *self.used() > 0;
        if stalls || self.memory.take(STREAM, STREAM).is_none() {
            if stalls || others >= GUARANTEED_STREAMS {
                self.streams.fetch_sub(1, Ordering::AcqRel);
                self.memory.refuse();
                return None;
            }
            self.memory.take_beyond(STREAM);
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
            // the guaranteed share is for streams that have nothing unsent, and the first waiter may not be one
            self.returned.notify(usize::MAX);
        } else {
            self.returned.notify_additional(1);
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
        self.0.memory.put_back(STREAM);
    }
}

impl Stream {
    /// Takes up to `wanted` bytes, if there is room.
    fn take(self: &Arc<Self>, wanted: usize) -> Result<Permit, Full> {
        let SendBuffer { memory, shares, .. } = &*self.buffer;
        let mut used = self.buffer.used();
        // only this stream adds to it, so that it cannot grow meanwhile
        let stream_used = self.used.load(Ordering::Acquire);
        let granted = shares.grant(*used, stream_used, wanted);
        if granted == 0 {
            return Err(Full::Connection);
        }
        let bytes = memory.take(granted.min(PIECE), granted).unwrap_or_else(|| {
            let bytes = shares.guarantee(*used, stream_used, granted);
            memory.take_beyond(bytes);
            bytes
        });
        if bytes == 0 {
            return Err(Full::Process);
        }
        *used += bytes;
        drop(used);
        self.used.fetch_add(bytes, Ordering::AcqRel);
        Ok(Permit {
            stream: self.clone(),
            bytes,
        })
    }
}

impl Permit {
    fn shrink(&mut self, to: usize) {
        let returned = self.bytes.saturating_sub(to);
        if returned > 0 {
            self.bytes -= returned;
            self.put_back(returned);
        }
    }

    fn put_back(&self, bytes: usize) {
        self.stream.used.fetch_sub(bytes, Ordering::AcqRel);
        self.stream.buffer.put_back(bytes);
        self.stream.waiting.wake();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.put_back(self.bytes);
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Sending {
    /// One of many responses of a connection.
    pub(crate) fn of(buffer: &Arc<SendBuffer>) -> Self {
        Self::with(buffer.clone(), PIECE)
    }

    /// The only response of a connection at its time.
    pub(crate) fn alone(memory: &Arc<Memory>, limit: usize) -> Self {
        Self::with(SendBuffer::new(memory, limit, 1), LONG_PIECE)
    }

    fn with(buffer: Arc<SendBuffer>, longest: usize) -> Self {
        Sending {
            stream: Arc::new(Stream {
                buffer,
                used: AtomicUsize::new(0),
                waiting: AtomicWaker::new(),
            }),
            longest,
            rest: Bytes::new(),
            waits: None,
        }
    }

    /// Returns true while the body waits for room, and not for its source.
    #[cfg(feature = "http2")]
    pub(crate) fn waits(&self) -> bool {
        self.waits.is_some()
    }

    /// What was polled of the body and not handed out yet.
    pub(crate) fn rest(&self) -> usize {
        self.rest.len()
    }

    /// The next frame of `body`, once there is room for it.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut ResponseBody,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() && body.is_end_stream() {
            return Pin::new(body).poll_frame(cx);
        }
        let wanted = match self.rest.len() {
            0 => self.longest,
            rest => rest.min(self.longest),
        };
        let mut permit = ready!(self.poll_take(cx, wanted));
        if self.rest.is_empty() {
            match ready!(body.poll_piece(cx, permit.bytes)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        let bytes = self.rest.split_to(self.rest.len().min(permit.bytes));
        permit.shrink(bytes.len());
        let piece = Piece {
            bytes,
            _permit: permit,
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Permit> {
        let has_waited = self.waits.is_some();
        loop {
            let full = match self.stream.take(wanted) {
                Ok(permit) => {
                    self.waits = None;
                    if has_waited {
                        // one return may be room for several
                        self.stream.buffer.returned.notify(1);
                        self.stream.buffer.memory.returned.notify(1);
                    }
                    return Poll::Ready(permit);
                }
                Err(full) => full,
            };
            self.stream.waiting.register(cx.waker());
            let waits = self.waits.get_or_insert_default();
            // where it begins to listen, it tries once more: no return may fall between the two
            if !waits.listens(&self.stream.buffer, full) && waits.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Waits {
    /// Listens for the returns that may make room; gives whether it has just begun to.
    fn listens(&mut self, buffer: &SendBuffer, full: Full) -> bool {
        let mut begins = false;
        let mut listen = |listener: &mut Option<EventListener>, event: &Event| {
            if listener.is_none() {
                *listener = Some(event.listen());
                begins = true;
            }
        };
        listen(&mut self.connection, &buffer.returned);
        match full {
            Full::Process => listen(&mut self.process, &buffer.memory.returned),
            // a return that is of no use here is for another connection
            Full::Connection => self.process = None,
        }
        begins
    }

    /// Ready when bytes were returned; listens to that event no longer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut polled = Poll::Pending;
        for listener in [&mut self.connection, &mut self.process] {
            if let Some(listening) = listener {
                if Pin::new(listening).poll(cx).is_ready() {
                    *listener = None;
                    polled = Poll::Ready(());
                }
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_fn, poll_once};
    use proptest::prelude::*;

    fn streams(buffer: &Arc<SendBuffer>, number: usize) -> Vec<Arc<Stream>> {
        let stream = |_| {
            Arc::new(Stream {
                buffer: buffer.clone(),
                used: AtomicUsize::new(0),
                waiting: AtomicWaker::new(),
            })
        };
        (0..number).map(stream).collect()
    }

    proptest! {
        #[test]
        fn pieces_never_take_more_than_a_connection_or_the_process_has_and_return_all_of_it(
            limit in 1usize..300_000,
            process in 0usize..600_000,
            steps in proptest::collection::vec((0usize..12, 1usize..300_000, any::<bool>(), 0usize..64), 0..300),
        ) {
            const STREAMS: usize = 4;
            let memory = Memory::new(Some(process));
            let buffers: Vec<_> = (0..3).map(|_| SendBuffer::new(&memory, limit, STREAMS)).collect();
            let all: Vec<_> = buffers.iter().flat_map(|buffer| streams(buffer, STREAMS)).collect();
            let mut permits: Vec<Permit> = Vec::new();
            for (stream, wanted, drops, which) in steps {
                if drops && !permits.is_empty() {
                    permits.swap_remove(which % permits.len());
                } else if let Ok(mut permit) = all[stream].take(wanted) {
                    prop_assert!((1..=wanted).contains(&permit.bytes));
                    permit.shrink(permit.bytes.div_ceil(which.max(1)));
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
        fn a_stream_that_has_nothing_unsent_always_gets_a_piece_of_its_connection(
            limit in 1usize..300_000,
            used in 0usize..400_000,
            wanted in 1usize..300_000,
        ) {
            prop_assert!(Shares::of(limit, 128).grant(used, 0, wanted) > 0);
        }

        #[test]
        fn a_connection_that_has_nothing_unsent_always_gets_a_piece_of_the_process(
            limit in 1usize..300_000,
            wanted in 1usize..300_000,
        ) {
            let memory = Memory::new(Some(0));
            let stream = &streams(&SendBuffer::new(&memory, limit, 128), 1)[0];
            prop_assert!(stream.take(wanted).is_ok());
        }
    }

    async fn next(
        sending: &mut Sending,
        body: &mut ResponseBody,
    ) -> Option<Result<Frame<Bytes>, BoxError>> {
        poll_fn(|cx| sending.poll_frame(body, cx)).await
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
        assert!(second.open_stream().is_none(), "it takes nothing");
        drop(unsent);
        assert!(second.open_stream().is_some());
        drop(open);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn a_body_that_waits_for_room_goes_on_when_a_piece_is_dropped() {
        let memory = Memory::new(Some(PIECE));
        let buffer = SendBuffer::new(&memory, 1 << 20, 1);
        let mut other = Sending::of(&SendBuffer::new(&memory, 1 << 20, 1));
        block_on(async {
            let mut sending = Sending::of(&buffer);
            let mut body = ResponseBody::Full(vec![b'x'; 3 * PIECE].into());
            let first = next(&mut sending, &mut body).await;
            let guaranteed = poll_fn(|cx| other.poll_take(cx, PIECE)).await;
            assert_eq!(
                guaranteed.bytes, GUARANTEED,
                "another connection has its share"
            );
            assert!(poll_once(next(&mut sending, &mut body)).await.is_none());
            drop(guaranteed);
            assert!(
                poll_once(next(&mut sending, &mut body)).await.is_none(),
                "that was beyond the limit"
            );
            drop(first);
            let mut sent = PIECE;
            while let Some(frame) = next(&mut sending, &mut body).await {
                sent += frame.unwrap().into_data().unwrap().len();
            }
            assert_eq!(sent, 3 * PIECE);
        });
        assert_eq!(memory.used(), 0);
    }

    /// A race between the drop of a piece and a stream that begins to wait: a lost notification would hang.
    #[test]
    fn no_return_is_lost_between_a_failed_take_and_the_wait() {
        for _ in 0..200 {
            let memory = Memory::new(Some(PIECE));
            let buffer = SendBuffer::new(&memory, 2 * PIECE, 1);
            let taken = streams(&buffer, 1)[0].take(PIECE);
            let dropper = std::thread::spawn(move || drop(taken));
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    let buffer = buffer.clone();
                    std::thread::spawn(move || {
                        let mut sending = Sending::of(&buffer);
                        drop(block_on(poll_fn(|cx| sending.poll_take(cx, PIECE))));
                    })
                })
                .collect();
            dropper.join().unwrap();
            waiters
                .into_iter()
                .for_each(|waiter| waiter.join().unwrap());
            assert_eq!(memory.used(), 0);
        }
    }
}
