//! HTTP/2 with prior knowledge (RFC 9113, section 3.3): a connection with many exchanges at once.
//!
//! Each stream has a [`ConnState`] and a registration of its own, beside those of its connection. Thus a stream has the
//! limits and timeouts of any request, is named in the report of a shutdown, and delays the shutdown until it ends.
//!
//! Unlike an HTTP/1.1 connection, an HTTP/2 connection cannot be taken apart between two requests. It therefore never
//! enters the `IdleSet` and never moves to another process. The server sends GOAWAY instead, waits for the open
//! streams, and closes; the client opens a new connection.

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
use super::exchange::{Exchange, Http2Limits};
use super::io::Io;
use super::linger::{self, SendProgress};
use super::outgoing::OutgoingBody;
use super::send_buffer::SendBuffer;
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

/// Bytes of one response that h2 may buffer while the client's window is full.
const SEND_BUFFER: usize = 64 << 10;

/// Streams that the client reset before the server accepted them. More close the connection (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;

/// Streams that the server reset because the client broke the protocol. More close the connection (CVE-2025-8671).
const MAX_LOCAL_RESETS: usize = 128;

/// Serves a connection whose preface was received, until it ends.
///
/// `register` registers the state of the connection and of each stream. The returned registration is dropped when the
/// connection or the stream ends.
pub(crate) async fn serve<L, F>(
    connection: Connection,
    shared: &Arc<Shared>,
    dispatcher: &Arc<dyn RoutedService>,
    register: F,
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
    // the claim must be written before the first byte to the client, and hyper writes SETTINGS before it reads
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
    let _registration = register(&conn);
    // held to the end, because an HTTP/2 connection is never at a request boundary
    let _in_flight = InFlight::new(&conn, WakeOnDrop::Nothing);
    let limits = shared.limits();
    let state = Arc::new(Http2State {
        connection: conn.clone(),
        streams: AtomicUsize::new(0),
        limits: Http2Limits {
            handlers: Limiter::new(limits.max_streams.saturating_mul(2)),
            send_buffer: SendBuffer::new(&shared.memory, limits.send_buffer, limits.max_streams),
        },
        new_stream: Mutex::default(),
    });
    let service = StreamService {
        dispatcher: dispatcher.clone(),
        state: state.clone(),
        register,
    };
    let closing = {
        let io = Io::of_http2(&stream, head, conn.clone());
        let hyper = builder(&limits, state.clone()).serve_connection(io, service);
        let hyper = pin!(hyper);
        let driver = Http2Driver {
            hyper,
            socket: &stream,
            state,
            phase: Http2Phase::Busy,
        };
        driver.await
    };
    if closing == Closing::Linger {
        linger::close(&stream, &conn).await;
    }
}

fn builder(limits: &config::Http, state: Arc<Http2State>) -> http2::Builder<StreamSpawner> {
    let mut builder = http2::Builder::new(StreamSpawner(state));
    builder
        .max_concurrent_streams(u32::try_from(limits.max_streams).unwrap_or(u32::MAX))
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS);
    builder
}

/// The future of a connection: polls hyper and enforces the timeouts of the connection as a whole.
struct Http2Driver<'a, H> {
    hyper: Pin<&'a mut H>,
    socket: &'a Socket,
    state: Arc<Http2State>,
    phase: Http2Phase,
}

/// The way in which a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// The socket stays open until the client has received everything, for example a response or a GOAWAY.
    Linger,
    /// The socket closes now, because the client receives nothing or the shutdown is out of time.
    Immediate,
}

/// A phase of a connection. [`TimedState`] has the clock of each.
enum Http2Phase {
    /// Streams are open.
    Busy,
    /// No stream is open. `http.idle_timeout` ends the phase.
    Idle,
    /// GOAWAY was sent, and streams are open.
    Draining,
    /// GOAWAY was sent, and the last stream has ended. The client receives the rest of the responses and acknowledges
    /// the GOAWAY.
    Drained { progress: SendProgress, writes: u32 },
}

impl<L, F> Future
    for Http2Driver<'_, http2::Connection<Io<&Socket>, StreamService<F>, StreamSpawner>>
where
    L: Send + Sync + Unpin + 'static,
    F: Fn(&Arc<ConnState>) -> L + Send + Sync + 'static,
{
    type Output = Closing;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Closing> {
        let this = &mut *self;
        let conn = &this.state.connection;
        conn.register(cx.waker());
        let overdue = conn.deadlines.answer_overdue(now());
        if conn.stage() == Stage::Cut || conn.deadlines.write_overdue(now()) {
            return Poll::Ready(Closing::Immediate);
        }
        match &mut this.phase {
            Http2Phase::Drained { progress, .. } if overdue => {
                if !progress.update(unacknowledged(this.socket), now()) {
                    return Poll::Ready(Closing::Linger);
                }
                this.restart_deadline();
            }
            Http2Phase::Busy | Http2Phase::Idle if overdue || conn.stage() != Stage::Open => {
                this.hyper.as_mut().graceful_shutdown();
                this.enter(Http2Phase::Draining);
            }
            Http2Phase::Busy
            | Http2Phase::Idle
            | Http2Phase::Draining
            | Http2Phase::Drained { .. } => {}
        }
        let conn = &this.state.connection;
        if let Poll::Ready(end) = this.hyper.as_mut().poll(cx) {
            if let Err(error) = end {
                log::debug!(
                    "the HTTP/2 connection from {} ended with an error: {error}",
                    conn.endpoints.peer
                );
            }
            return Poll::Ready(Closing::Linger);
        }
        let open = this.state.streams.load(Ordering::Acquire) > 0;
        match &mut this.phase {
            Http2Phase::Busy if !open => this.enter(Http2Phase::Idle),
            Http2Phase::Draining if !open => {
                let progress = SendProgress::new(unacknowledged(this.socket), now());
                let writes = this.state.connection.writes();
                this.enter(Http2Phase::Drained { progress, writes });
            }
            Http2Phase::Drained { writes, .. } if *writes != this.state.connection.writes() => {
                *writes = this.state.connection.writes();
                this.restart_deadline();
            }
            Http2Phase::Idle if open => this.enter(Http2Phase::Busy),
            Http2Phase::Busy
            | Http2Phase::Idle
            | Http2Phase::Draining
            | Http2Phase::Drained { .. } => {}
        }
        Poll::Pending
    }
}

impl<H> Http2Driver<'_, H> {
    /// Enters a phase and starts its deadline.
    fn enter(&mut self, phase: Http2Phase) {
        self.phase = phase;
        self.restart_deadline();
    }

    /// Restarts the deadline of the phase. It uses the deadline for responses in [`Deadlines`], which is free here: each
    /// stream has deadlines of its own.
    fn restart_deadline(&self) {
        let phase = &self.phase;
        let conn = &self.state.connection;
        conn.deadlines
            .start_answer_clock(phase.state(), now(), &conn.shared.limits());
    }
}

impl Http2Phase {
    fn state(&self) -> TimedState {
        match self {
            Http2Phase::Busy => TimedState::Http2Busy,
            Http2Phase::Idle => TimedState::Http2Idle,
            Http2Phase::Draining => TimedState::Http2Leaving,
            Http2Phase::Drained { .. } => TimedState::Http2Left,
        }
    }
}

/// The state that the driver, the service and the streams of one connection share.
struct Http2State {
    connection: Arc<ConnState>,
    /// The number of open streams.
    streams: AtomicUsize,
    limits: Http2Limits,
    /// The stream for which hyper has called the service, and which it spawns next.
    new_stream: Mutex<Option<Arc<ConnState>>>,
}

/// The service of one connection.
struct StreamService<F> {
    dispatcher: Arc<dyn RoutedService>,
    state: Arc<Http2State>,
    register: F,
}

impl<L, F> hyper::service::Service<Request<Incoming>> for StreamService<F>
where
    L: Send + Sync + Unpin + 'static,
    F: Fn(&Arc<ConnState>) -> L,
{
    type Response = Response<StreamBody<L>>;
    type Error = Infallible;
    type Future = StreamFuture<L>;

    fn call(&self, request: Request<Incoming>) -> StreamFuture<L> {
        let ConnState {
            shared, endpoints, ..
        } = &*self.state.connection;
        let conn = ConnState::new(
            shared,
            endpoints,
            now(),
            Deadlines::new(ReadState::Nothing, 0, 0, &shared.limits()),
        );
        self.state.streams.fetch_add(1, Ordering::AcqRel);
        let guard = StreamGuard {
            conn: conn.clone(),
            _registration: (self.register)(&conn),
            state: self.state.clone(),
        };
        let method = request.method().clone();
        let exchange = Exchange::begin(&*self.dispatcher, &conn, request, Some(&self.state.limits));
        *self.state.new_stream.lock() = Some(conn);
        StreamFuture {
            exchange,
            method,
            guard: Some(guard),
        }
    }
}

/// Keeps a stream registered and counted.
struct StreamGuard<L> {
    conn: Arc<ConnState>,
    _registration: L,
    state: Arc<Http2State>,
}

impl<L> Drop for StreamGuard<L> {
    fn drop(&mut self) {
        if self.state.streams.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.state.connection.wake();
        }
    }
}

/// The future of one response.
struct StreamFuture<L> {
    exchange: Exchange,
    method: Method,
    guard: Option<StreamGuard<L>>,
}

impl<L: Unpin> Future for StreamFuture<L> {
    type Output = Result<Response<StreamBody<L>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.exchange).poll(cx))?;
        let guard = self.guard.take();
        if self.method == Method::HEAD {
            // RFC 9110, section 9.3.2: the head of the response to GET, without its content
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
            response.body_mut().remove_body();
        }
        // RFC 9113, section 8.2.2: HTTP/2 has no `Connection` field
        response.headers_mut().remove(CONNECTION);
        Poll::Ready(Ok(response.map(|body| StreamBody { body, guard })))
    }
}

/// The response body of a stream.
///
/// hyper polls for the next frame when the client's window has room. A body that is not polled has therefore stalled.
struct StreamBody<L> {
    body: OutgoingBody,
    guard: Option<StreamGuard<L>>,
}

impl<L: Unpin> Body for StreamBody<L> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let conn = this.guard.as_ref().map(|guard| &*guard.conn);
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Some(conn) = conn {
            match &polled {
                // a full send buffer stalls the stream like a full window does
                Poll::Pending if this.body.waits_for_room() => conn.on_write_blocked(),
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
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Spawns a task for each stream. The task ends when the stream ends or stalls, or when the shutdown is out of time.
#[derive(Clone)]
struct StreamSpawner(Arc<Http2State>);

impl<S: Future<Output = ()> + Send + 'static> Executor<S> for StreamSpawner {
    fn execute(&self, stream: S) {
        let conn = self.0.new_stream.lock().take();
        let mut stream = Box::pin(stream);
        async_std::task::spawn(poll_fn(move |cx| {
            if let Some(conn) = &conn {
                conn.register(cx.waker());
                if conn.stage() == Stage::Cut || conn.deadlines.write_overdue(now()) {
                    // dropping hyper's future resets the stream
                    return Poll::Ready(());
                }
            }
            stream.as_mut().poll(cx)
        }));
    }
}
