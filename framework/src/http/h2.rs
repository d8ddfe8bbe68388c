//! HTTP/2 by prior knowledge (RFC 9113, section 3.3): a connection with many exchanges at once.
//!
//! Each stream has a record of its own, in the ledger beside that of its connection: so it has the limits and timeouts
//! of any request, is named in a shutdown's report, and is waited for. What differs is the end: such a connection cannot
//! be taken apart between two requests, so it never travels or parks. It is told to go with GOAWAY, its streams finish,
//! and its client comes back on another.

use std::convert::Infallible;
use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_LENGTH};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::{Method, Request, Response};

use super::clock::now;
use super::connection::Connection;
use super::deadlines::{Deadlines, ReadState};
use super::exchange::{Exchange, Multiplexed, Sent};
use super::io::Io;
use super::linger::{self, SendProgress};
use super::sending::SendBuffer;
use super::shared::{Shared, Stage};
use super::state::{ConnState, InFlight, WakeOnDrop};
use super::states::TimedState;
use super::RoutedService;
use crate::config;
use crate::error::BoxError;
use crate::socket::{unacknowledged, Stream as Socket};
use crate::sync::limiter::Limiter;
use crate::sync::lock::Mutex;
use crate::sys::claims::Claim;

/// How much of one answer is kept for a client that does not take it.
const SEND_BUFFER: usize = 64 << 10;

/// Streams that a client opened and reset before they were looked at, and streams that it broke: past so many the
/// connection is refused (CVE-2023-44487, CVE-2025-8671).
const RESET_BY_CLIENT: usize = 20;
const RESET_FOR_CLIENT: usize = 128;

/// Serves a connection whose preface has come, until it ends. `enlist` is shown the record of the connection, and that
/// of each stream; what it gives is dropped with what it was given for.
pub(crate) async fn serve<L, F>(
    connection: Connection,
    shared: &Arc<Shared>,
    dispatcher: &Arc<dyn RoutedService>,
    enlist: F,
) where
    L: Send + Sync + Unpin + 'static,
    F: Fn(&Arc<ConnState>) -> L + Send + Sync + 'static,
{
    let Connection {
        stream,
        endpoints,
        permit: _permit,
        accepted,
        head,
        claim,
        ..
    } = connection;
    // before the first byte is written: hyper writes its SETTINGS before it reads
    if let Some(Err(error)) = claim.map(Claim::write) {
        log::warn!("{error}; the connection from {} is closed", endpoints.peer);
        return;
    }
    let conn = ConnState::new(
        shared,
        &endpoints,
        accepted,
        Deadlines::new(ReadState::Nothing, accepted, accepted, &shared.limits()),
    );
    let _listed = enlist(&conn);
    // never at a boundary
    let _part = InFlight::new(&conn, WakeOnDrop::Nothing);
    let limits = shared.limits();
    let census = Arc::new(Census {
        connection: conn.clone(),
        streams: AtomicUsize::new(0),
        multiplexed: Multiplexed {
            at_work: Limiter::new(limits.max_streams.saturating_mul(2)),
            send_buffer: SendBuffer::new(&shared.memory, limits.send_buffer, limits.max_streams),
        },
        arriving: Mutex::default(),
    });
    let streams = Streams {
        dispatcher: dispatcher.clone(),
        census: census.clone(),
        enlist,
    };
    let ending = {
        let io = Io::of_http2(&stream, head, conn.clone());
        let hyper = builder(&limits, census.clone()).serve_connection(io, streams);
        let hyper = pin!(hyper);
        let driver = Driver {
            hyper,
            socket: &stream,
            census,
            phase: Phase::Busy,
        };
        driver.await
    };
    if ending == Ending::Lingering {
        linger::close(&stream, &conn).await;
    }
}

fn builder(limits: &config::Http, census: Arc<Census>) -> http2::Builder<Spawner> {
    let mut builder = http2::Builder::new(Spawner(census));
    builder
        .max_concurrent_streams(u32::try_from(limits.max_streams).unwrap_or(u32::MAX))
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_BY_CLIENT)
        .max_local_error_reset_streams(RESET_FOR_CLIENT);
    builder
}

/// Polls hyper, and keeps the time of the connection as a whole.
struct Driver<'a, H> {
    hyper: Pin<&'a mut H>,
    socket: &'a Socket,
    census: Arc<Census>,
    phase: Phase,
}

/// How a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The client is to receive all that was written: an answer, a GOAWAY.
    Lingering,
    /// The client takes nothing, or everything is cut.
    AtOnce,
}

enum Phase {
    /// Streams are open.
    Busy,
    /// None is: so for `http.idle_timeout` at most.
    Idle,
    /// GOAWAY is sent; streams that are open come to their end.
    Leaving,
    /// The last one has, and the client is to take what is left of the answers, and to acknowledge the GOAWAY.
    Left { progress: SendProgress, writes: u32 },
}

impl<L, F> Future for Driver<'_, http2::Connection<Io<&Socket>, Streams<F>, Spawner>>
where
    L: Send + Sync + Unpin + 'static,
    F: Fn(&Arc<ConnState>) -> L + Send + Sync + 'static,
{
    type Output = Ending;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let this = &mut *self;
        let conn = &this.census.connection;
        conn.register(cx.waker());
        let overdue = conn.deadlines.answer_overdue(now());
        if conn.stage() == Stage::Cut || conn.deadlines.write_overdue(now()) {
            return Poll::Ready(Ending::AtOnce);
        }
        match &mut this.phase {
            Phase::Left { progress, .. } if overdue => {
                if !progress.update(unacknowledged(this.socket), now()) {
                    return Poll::Ready(Ending::Lingering);
                }
                this.restart_clock();
            }
            Phase::Busy | Phase::Idle if overdue || conn.stage() != Stage::Open => {
                this.hyper.as_mut().graceful_shutdown();
                this.enter(Phase::Leaving);
            }
            Phase::Busy | Phase::Idle | Phase::Leaving | Phase::Left { .. } => {}
        }
        let conn = &this.census.connection;
        if let Poll::Ready(end) = this.hyper.as_mut().poll(cx) {
            if let Err(error) = end {
                log::debug!(
                    "an HTTP/2 connection from {} ended: {error}",
                    conn.endpoints.peer
                );
            }
            return Poll::Ready(Ending::Lingering);
        }
        let open = this.census.streams.load(Ordering::Acquire) > 0;
        match &mut this.phase {
            Phase::Busy if !open => this.enter(Phase::Idle),
            Phase::Leaving if !open => {
                let progress = SendProgress::new(unacknowledged(this.socket), now());
                let writes = this.census.connection.writes();
                this.enter(Phase::Left { progress, writes });
            }
            Phase::Left { writes, .. } if *writes != this.census.connection.writes() => {
                *writes = this.census.connection.writes();
                this.restart_clock();
            }
            Phase::Idle if open => this.enter(Phase::Busy),
            Phase::Busy | Phase::Idle | Phase::Leaving | Phase::Left { .. } => {}
        }
        Poll::Pending
    }
}

impl<H> Driver<'_, H> {
    /// Begins a phase, and its clock.
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.restart_clock();
    }

    /// Starts the clock of the phase anew. It is the clock of answers, which an HTTP/2 connection as a whole has no other
    /// use for.
    fn restart_clock(&self) {
        let phase = &self.phase;
        let conn = &self.census.connection;
        conn.deadlines
            .start_answer_clock(phase.state(), now(), &conn.shared.limits());
    }
}

impl Phase {
    fn state(&self) -> TimedState {
        match self {
            Phase::Busy => TimedState::Http2Busy,
            Phase::Idle => TimedState::Http2Idle,
            Phase::Leaving => TimedState::Http2Leaving,
            Phase::Left { .. } => TimedState::Http2Left,
        }
    }
}

/// What the parts of a connection know of its streams.
struct Census {
    connection: Arc<ConnState>,
    streams: AtomicUsize,
    multiplexed: Multiplexed,
    /// The stream that hyper has just called the service for, and is about to spawn.
    arriving: Mutex<Option<Arc<ConnState>>>,
}

/// The service of one connection.
struct Streams<F> {
    census: Arc<Census>,
    dispatcher: Arc<dyn RoutedService>,
    enlist: F,
}

impl<L, F> hyper::service::Service<Request<Incoming>> for Streams<F>
where
    L: Send + Sync + Unpin + 'static,
    F: Fn(&Arc<ConnState>) -> L,
{
    type Response = Response<Answer<L>>;
    type Error = Infallible;
    type Future = Stream<L>;

    fn call(&self, request: Request<Incoming>) -> Stream<L> {
        let ConnState {
            shared, endpoints, ..
        } = &*self.census.connection;
        let conn = ConnState::new(
            shared,
            endpoints,
            now(),
            Deadlines::new(ReadState::Nothing, 0, 0, &shared.limits()),
        );
        self.census.streams.fetch_add(1, Ordering::AcqRel);
        let place = Place {
            conn: conn.clone(),
            _line: (self.enlist)(&conn),
            census: self.census.clone(),
        };
        let method = request.method().clone();
        let exchange = Exchange::begin(
            &*self.dispatcher,
            &conn,
            request,
            Some(&self.census.multiplexed),
        );
        *self.census.arriving.lock() = Some(conn);
        Stream {
            exchange,
            method,
            place: Some(place),
        }
    }
}

/// A stream's line in the ledger, and its share of the count.
struct Place<L> {
    conn: Arc<ConnState>,
    _line: L,
    census: Arc<Census>,
}

impl<L> Drop for Place<L> {
    fn drop(&mut self) {
        if self.census.streams.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.census.connection.wake();
        }
    }
}

/// The future of one answer.
struct Stream<L> {
    exchange: Exchange,
    method: Method,
    place: Option<Place<L>>,
}

impl<L: Unpin> Future for Stream<L> {
    type Output = Result<Response<Answer<L>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.exchange).poll(cx))?;
        let place = self.place.take();
        if self.method == Method::HEAD {
            // RFC 9110, section 9.3.2: as the answer to a GET, and no content
            let length = response
                .body()
                .size_hint()
                .exact()
                .filter(|_| !response.body().is_end_stream());
            if let Some(length) = length {
                response
                    .headers_mut()
                    .entry(CONTENT_LENGTH)
                    .or_insert_with(|| length.into());
            }
            response.body_mut().empty();
        }
        // RFC 9113, section 8.2.2: a connection is not an answer's to close
        response.headers_mut().remove(CONNECTION);
        Poll::Ready(Ok(response.map(|sent| Answer { sent, place })))
    }
}

/// A response's body on its way. hyper asks for the next piece when the client has room for one: what is asked for no
/// more has stalled.
struct Answer<L> {
    sent: Sent,
    place: Option<Place<L>>,
}

impl<L: Unpin> Body for Answer<L> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let conn = this.place.as_ref().map(|place| &*place.conn);
        let polled = Pin::new(&mut this.sent).poll_frame(cx);
        if let Some(conn) = conn {
            match &polled {
                // the clock runs on: no room is as good as no window
                Poll::Pending if this.sent.waits() => conn.on_write_blocked(),
                Poll::Pending | Poll::Ready(None) => conn.deadlines.stop_write_clock(),
                Poll::Ready(Some(_)) => {
                    conn.deadlines.stop_write_clock();
                    conn.on_write_blocked();
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.sent.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.sent.size_hint()
    }
}

/// Runs streams, each until it ends, stalls or is cut.
#[derive(Clone)]
struct Spawner(Arc<Census>);

impl<S: Future<Output = ()> + Send + 'static> Executor<S> for Spawner {
    fn execute(&self, stream: S) {
        let conn = self.0.arriving.lock().take();
        let mut stream = Box::pin(stream);
        async_std::task::spawn(poll_fn(move |cx| {
            if let Some(conn) = &conn {
                conn.register(cx.waker());
                if conn.stage() == Stage::Cut || conn.deadlines.write_overdue(now()) {
                    // dropped, it resets the stream
                    return Poll::Ready(());
                }
            }
            stream.as_mut().poll(cx)
        }));
    }
}
