//! Serves one request: runs the handler, catches its panic, enforces its timeout, and discards a request body that the
//! handler did not read.
//!
//! The response 101 is sent only after the whole request was read (RFC 9110, section 7.8), because bytes that follow an
//! unfinished request belong to its body and not to the new protocol. A client that sent `Expect: 100-continue` gets
//! the 100 first, as that section requires.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::Body;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, ACCEPT, CONNECTION, EXPECT};
use hyper::{Request, Response, StatusCode, Version};

use super::body::{data_length, BodyError, HeldBody, RemainingBody, UnreadBody};
use super::clock::now;
use super::deadlines::ReadState;
use super::memory::{HeldBytes, MemoryExhausted, UNCOUNTED};
use super::outgoing::{describe_request, splitter, OutgoingBody};
use super::send_buffer::{OpenStream, SendBuffer};
use super::shared::Stage;
use super::state::{ConnState, InFlight, ProtocolSwitch, RequestInfo, WakeOnDrop};
use super::states::TimedState;
use super::{
    error_response, framing, DrainSignal, ErrorFormat, Reply, RequestBody, ResponseBody,
    ResponseFuture, RoutedService,
};
use crate::error::panic_text;
use crate::observe::access;
use crate::observe::metrics::Meter;
use crate::sync::limiter::{Limiter, Permit};

/// Bytes of an unread request body that are discarded to keep the connection open. A longer body closes it.
const MAX_DISCARDED: u64 = 64 << 10;

/// The service of one connection.
pub(crate) struct ExchangeService {
    dispatcher: Arc<dyn RoutedService>,
    conn: Arc<ConnState>,
}

impl ExchangeService {
    pub(crate) fn new(dispatcher: Arc<dyn RoutedService>, conn: Arc<ConnState>) -> Self {
        ExchangeService { dispatcher, conn }
    }
}

impl hyper::service::Service<Request<Incoming>> for ExchangeService {
    type Response = Response<OutgoingBody>;
    type Error = Infallible;
    type Future = Exchange;

    fn call(&self, request: Request<Incoming>) -> Exchange {
        Exchange::begin(&*self.dispatcher, &self.conn, request, None)
    }
}

/// The limits that all exchanges of an HTTP/2 connection share.
pub(super) struct Http2Limits {
    /// Running handlers, including those whose streams were reset: h2 does not count resets of streams that it has
    /// handed out (CVE-2023-44487).
    pub(super) handlers: Arc<Limiter>,
    /// Response bytes that the client has not received.
    pub(super) send_buffer: Arc<SendBuffer>,
}

/// Resources that a handler occupies until it ends, even if its client has disconnected.
struct HandlerResources {
    /// A permit of [`Http2Limits::handlers`]. `None` over HTTP/1.1, where one handler runs at a time.
    _permit: Option<Permit>,
    /// The memory of the request's head.
    _head: Option<HeldBytes>,
}

/// A request and its response: the future that hyper polls for the response.
pub(crate) struct Exchange {
    /// `None` once the response was returned to hyper.
    in_flight: Option<InFlight>,
    version: Version,
    /// The request's body until the handler has responded.
    unread: Option<UnreadBody>,
    /// The request's body, if the handler has responded and still holds it.
    held: Option<HeldBody>,
    /// True if the client sent `Expect`.
    expects_continue: bool,
    /// The request's `Accept`, which selects the format of an error response.
    accept: Option<HeaderValue>,
    access: Option<Box<access::AccessEntry>>,
    meter: Option<Box<Meter>>,
    /// The send buffer of an HTTP/2 connection.
    send_buffer: Option<Arc<SendBuffer>>,
    /// The share of an HTTP/2 stream in the memory budget.
    stream: Option<OpenStream>,
    state: ExchangeState,
}

impl Exchange {
    /// Calls the handler. Responds with an error instead if the head is invalid, if the HTTP/2 connection has too many
    /// running handlers, or if the memory budget has no room.
    pub(super) fn begin(
        dispatcher: &dyn RoutedService,
        conn: &Arc<ConnState>,
        request: Request<Incoming>,
        http2: Option<&Http2Limits>,
    ) -> Exchange {
        let limits = conn.shared.limits();
        let began = now();
        conn.begin_request(RequestInfo {
            method: request.method().clone(),
            uri: request.uri().clone(),
            began,
        });
        conn.deadlines
            .start_answer_clock(TimedState::Handler, began, &limits);
        let access = conn
            .shared
            .access_log()
            .then(|| Box::new(access::AccessEntry::new(&conn.endpoints.peer, &request)));
        let expects_continue = request.headers().contains_key(EXPECT);
        let accept = request.headers().get(ACCEPT).cloned();
        let meter = conn.shared.metrics.is_on().then(|| {
            let route = dispatcher.template(request.uri().path(), &conn.endpoints);
            Box::new(conn.shared.metrics.meter(request.method().as_str(), route))
        });
        let in_flight = InFlight::new(conn, WakeOnDrop::Nothing);
        let too_many = || {
            let is_past = request.headers().len() > limits.max_headers;
            is_past.then_some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        };
        let handler_permit = http2.and_then(|http2| http2.handlers.try_acquire());
        let send_buffer = http2.map(|http2| http2.send_buffer.clone());
        let stream = send_buffer.as_ref().map(SendBuffer::open_stream);
        let head = match http2 {
            Some(_) => hold_head(conn, &request),
            // over HTTP/1.1 `io` counts the head while it is read
            None => Ok(None),
        };
        let no_room = || {
            let is_refused = head.is_err()
                || http2.is_some() && handler_permit.is_none()
                || matches!(stream, Some(None));
            is_refused.then_some(StatusCode::SERVICE_UNAVAILABLE)
        };
        if let Some(status) = framing::error_status(request.headers())
            .or_else(too_many)
            .or_else(no_room)
        {
            let state = ExchangeState::Done(PreparedResponse {
                response: error_response(status, ErrorFormat::of(accept.as_ref())),
                permit: None,
                persistence: Persistence::Close,
            });
            return Exchange {
                in_flight: Some(in_flight),
                version: request.version(),
                unread: None,
                held: None,
                expects_continue,
                accept,
                access,
                meter,
                send_buffer,
                stream: None,
                state,
            };
        }
        let resources = HandlerResources {
            _permit: handler_permit,
            _head: head.unwrap_or_default(),
        };
        let version = request.version();
        let request = request.map(|incoming| RequestBody::new(incoming, conn, limits.body_limit));
        let mut unread = request.body().unread_body();
        // the call itself may panic as well as the future that it returns
        let called = catch_unwind(AssertUnwindSafe(|| {
            let context = super::Context {
                endpoints: conn.endpoints.clone(),
                client: request.body().client(),
                drain: DrainSignal::default(),
            };
            dispatcher.call(request, context)
        }));
        let state = match called {
            Ok(Reply { response, permit }) => ExchangeState::Handler {
                reply: response,
                permit,
                resources,
            },
            Err(panic) => {
                // the handler has dropped the body, and the connection is closed
                unread = None;
                let form = ErrorFormat::of(accept.as_ref());
                ExchangeState::Done(PreparedResponse::after_panic(conn, &*panic, form))
            }
        };
        Exchange {
            in_flight: Some(in_flight),
            version,
            unread,
            held: None,
            expects_continue,
            accept,
            access,
            meter,
            send_buffer,
            stream: stream.flatten(),
            state,
        }
    }
}

/// Takes the memory of a long head from the budget. Returns `None` for a short head.
fn hold_head<B>(
    conn: &ConnState,
    request: &Request<B>,
) -> Result<Option<HeldBytes>, MemoryExhausted> {
    let fields: usize = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let bytes = fields
        + request
            .uri()
            .path_and_query()
            .map_or(0, |path| path.as_str().len());
    if bytes <= UNCOUNTED {
        return Ok(None);
    }
    let mut held = HeldBytes::new(&conn.shared.memory);
    held.resize(bytes)?;
    Ok(Some(held))
}

/// The progress of an exchange.
enum ExchangeState {
    /// The handler runs.
    Handler {
        reply: ResponseFuture,
        permit: Option<Permit>,
        resources: HandlerResources,
    },
    /// The handler has responded, and the unread part of the request's body is discarded.
    Discarding {
        prepared: PreparedResponse,
        remaining: RemainingBody,
        discarded: u64,
        was_pending: bool,
    },
    /// The handler has responded with 101, and the request is read to its end.
    BeforeSwitch {
        prepared: PreparedResponse,
        remaining: RemainingBody,
        discarded: u64,
    },
    /// The response can be sent.
    Done(PreparedResponse),
    /// The response was returned to hyper.
    Over,
}

/// A response that is not sent yet.
struct PreparedResponse {
    response: Response<ResponseBody>,
    /// Keeps the responding generation of the application from ending.
    permit: Option<Permit>,
    persistence: Persistence,
}

/// The use of the connection after the response (RFC 9112, section 9.3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Persistence {
    KeepAlive,
    Close,
}

impl PreparedResponse {
    /// Logs the panic of a handler and prepares 500.
    fn after_panic(conn: &ConnState, panic: &(dyn Any + Send), form: ErrorFormat) -> Self {
        log::error!(
            "the handler of {} panicked: {}; the response is 500 and the process continues",
            describe_request(conn),
            panic_text(panic)
        );
        let response = error_response(StatusCode::INTERNAL_SERVER_ERROR, form);
        PreparedResponse {
            response,
            permit: None,
            persistence: Persistence::Close,
        }
    }

    /// Prepares an error in place of 101, because the request could not be read to its end.
    fn after_failed_switch(conn: &ConnState, error: BodyError, form: ErrorFormat) -> Self {
        let status = error.status();
        log::info!(
            "{} cannot switch protocols: {error}; the response is {status}",
            describe_request(conn)
        );
        conn.deadlines.expect_nothing();
        PreparedResponse {
            response: error_response(status, form),
            permit: None,
            persistence: Persistence::Close,
        }
    }
}

impl Future for Exchange {
    type Output = Result<Response<OutgoingBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let Some(in_flight) = &this.in_flight else {
                return Poll::Pending;
            };
            let conn = in_flight.conn();
            let form = || ErrorFormat::of(this.accept.as_ref());
            this.state = match std::mem::replace(&mut this.state, ExchangeState::Over) {
                ExchangeState::Handler {
                    mut reply,
                    permit,
                    resources,
                } => match catch_unwind(AssertUnwindSafe(|| reply.as_mut().poll(cx))) {
                    Ok(Poll::Ready(response)) => {
                        let prepared = PreparedResponse {
                            response,
                            permit,
                            persistence: Persistence::KeepAlive,
                        };
                        conn.deadlines.stop_answer_clock();
                        this.handle_unread_body(prepared)
                    }
                    Ok(Poll::Pending) if conn.deadlines.answer_overdue(now()) => {
                        let prepared = time_out(conn, reply, (permit, resources), form());
                        conn.deadlines.stop_answer_clock();
                        this.handle_unread_body(prepared)
                    }
                    Ok(Poll::Pending) => {
                        this.state = ExchangeState::Handler {
                            reply,
                            permit,
                            resources,
                        };
                        return Poll::Pending;
                    }
                    Err(panic) => {
                        let mut prepared = PreparedResponse::after_panic(conn, &*panic, form());
                        prepared.permit = permit;
                        // the handler has dropped the body, and the connection is closed
                        this.unread = None;
                        ExchangeState::Done(prepared)
                    }
                },
                ExchangeState::Discarding {
                    mut prepared,
                    mut remaining,
                    mut discarded,
                    mut was_pending,
                } => match poll_discard(&mut remaining, &mut discarded, &mut was_pending, cx) {
                    Poll::Ready(persistence) => {
                        prepared.persistence = persistence;
                        ExchangeState::Done(prepared)
                    }
                    Poll::Pending => {
                        this.state = ExchangeState::Discarding {
                            prepared,
                            remaining,
                            discarded,
                            was_pending,
                        };
                        return Poll::Pending;
                    }
                },
                ExchangeState::BeforeSwitch {
                    prepared,
                    mut remaining,
                    mut discarded,
                } => match poll_discard_all(conn, &mut remaining, &mut discarded, cx) {
                    Poll::Ready(Ok(())) => ExchangeState::Done(prepared),
                    Poll::Ready(Err(error)) => {
                        let prepared = PreparedResponse::after_failed_switch(conn, error, form());
                        ExchangeState::Done(prepared)
                    }
                    Poll::Pending => {
                        this.state = ExchangeState::BeforeSwitch {
                            prepared,
                            remaining,
                            discarded,
                        };
                        return Poll::Pending;
                    }
                },
                ExchangeState::Done(prepared) => return Poll::Ready(Ok(this.send(prepared))),
                ExchangeState::Over => return Poll::Pending,
            };
        }
    }
}

/// Discards the rest of a request before a 101, up to [`MAX_DISCARDED`] bytes and within `http.body_timeout`.
fn poll_discard_all(
    conn: &ConnState,
    remaining: &mut RemainingBody,
    discarded: &mut u64,
    cx: &mut Context<'_>,
) -> Poll<Result<(), BodyError>> {
    loop {
        if conn.stage() >= Stage::Stop {
            return Poll::Ready(Err(BodyError::Stopping));
        }
        if discarded.saturating_add(remaining.incoming.size_hint().lower()) > MAX_DISCARDED {
            return Poll::Ready(Err(BodyError::TooLarge));
        }
        match Pin::new(&mut remaining.incoming).poll_frame(cx) {
            Poll::Ready(None) => return Poll::Ready(Ok(())),
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(BodyError::Cut)),
            Poll::Ready(Some(Ok(frame))) => {
                *discarded += data_length(&frame);
            }
            Poll::Pending if conn.deadlines.read_overdue(now()) => {
                return Poll::Ready(Err(BodyError::TimedOut))
            }
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Discards the part of an unread body that has already arrived. Returns [`Persistence::Close`] if the rest has not
/// arrived, or if the part is longer than [`MAX_DISCARDED`].
///
/// hyper hands out a frame only between two polls of the connection. Therefore the first `Pending` polls once more, and
/// only the second in a row means that no frame is there.
fn poll_discard(
    remaining: &mut RemainingBody,
    discarded: &mut u64,
    was_pending: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Persistence> {
    loop {
        match Pin::new(&mut remaining.incoming).poll_frame(cx) {
            Poll::Ready(None) => return Poll::Ready(Persistence::KeepAlive),
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Persistence::Close),
            Poll::Ready(Some(Ok(frame))) => {
                *was_pending = false;
                *discarded += data_length(&frame);
                if *discarded > MAX_DISCARDED {
                    return Poll::Ready(Persistence::Close);
                }
            }
            Poll::Pending if *was_pending => return Poll::Ready(Persistence::Close),
            Poll::Pending => {
                *was_pending = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

/// Prepares 503 for a handler that exceeds `http.request_timeout`. The handler continues in a task of its own.
fn time_out(
    conn: &ConnState,
    reply: ResponseFuture,
    resources: (Option<Permit>, HandlerResources),
    form: ErrorFormat,
) -> PreparedResponse {
    log::warn!(
        "the handler of {} exceeded http.request_timeout; the response is 503 and the handler continues",
        describe_request(conn)
    );
    detach(reply, resources);
    PreparedResponse {
        response: error_response(StatusCode::SERVICE_UNAVAILABLE, form),
        permit: None,
        persistence: Persistence::KeepAlive,
    }
}

/// Runs a handler to its end in a task of its own, with its permit, so that its generation waits for it.
fn detach(reply: ResponseFuture, resources: (Option<Permit>, HandlerResources)) {
    async_std::task::spawn(async move {
        let reply = AssertUnwindSafe(reply);
        if let Err(panic) = futures_lite::FutureExt::catch_unwind(reply).await {
            log::error!(
                "a handler panicked after its client had disconnected or its request had timed out: {}",
                panic_text(&*panic)
            );
        }
        drop(resources);
    });
}

impl Exchange {
    /// Decides what happens to an unread request body: it is discarded, left to the handler, or closes the connection.
    fn handle_unread_body(&mut self, mut prepared: PreparedResponse) -> ExchangeState {
        let Some(in_flight) = &self.in_flight else {
            return ExchangeState::Over;
        };
        let conn = in_flight.conn();
        if prepared.response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if self.version == Version::HTTP_11 {
                let Some(remaining) = self.unread.take().and_then(|unread| unread.take()) else {
                    return ExchangeState::Done(prepared);
                };
                conn.deadlines
                    .set_read_state(ReadState::BeforeSwitch, &conn.shared.limits());
                return ExchangeState::BeforeSwitch {
                    prepared,
                    remaining,
                    discarded: 0,
                };
            }
            // RFC 9110, section 7.8, and RFC 9113, section 8.6: only HTTP/1.1 has the status 101
            prepared.response = error_response(
                StatusCode::UPGRADE_REQUIRED,
                ErrorFormat::of(self.accept.as_ref()),
            );
        }
        let remaining = match self.unread.take().map(UnreadBody::reclaim) {
            Some(Ok(Some(remaining))) => remaining,
            Some(Err(held)) => {
                self.held = Some(held);
                return ExchangeState::Done(prepared);
            }
            Some(Ok(None)) | None => return ExchangeState::Done(prepared),
        };
        let waits_for_continue = self.expects_continue && !remaining.was_polled;
        if waits_for_continue || remaining.incoming.size_hint().lower() > MAX_DISCARDED {
            prepared.persistence = Persistence::Close;
            return ExchangeState::Done(prepared);
        }
        ExchangeState::Discarding {
            prepared,
            remaining,
            discarded: 0,
            was_pending: false,
        }
    }

    /// Completes the response for hyper.
    fn send(&mut self, prepared: PreparedResponse) -> Response<OutgoingBody> {
        let PreparedResponse {
            mut response,
            mut permit,
            persistence,
        } = prepared;
        let conn = match &self.in_flight {
            Some(in_flight) => in_flight.conn().clone(),
            None => {
                return response.map(|_| OutgoingBody {
                    body: ResponseBody::Empty,
                    splitter: None,
                    in_flight: None,
                    held: None,
                    _permit: None,
                    _stream: None,
                    access: None,
                    meter: None,
                })
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if let Some(upgrade) = response.extensions_mut().remove() {
                conn.set_protocol_switch(ProtocolSwitch {
                    upgrade,
                    request: conn.request(),
                    permit: permit.take(),
                });
            }
        } else if persistence == Persistence::Close || conn.stage() >= Stage::NoKeepAlive {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let mut access = self.access.take();
        if let Some(access) = &mut access {
            access.set_status(response.status());
        }
        let mut meter = self.meter.take();
        if let Some(meter) = &mut meter {
            meter.set_status(response.status().as_u16());
        }
        let in_flight = self.in_flight.take();
        let held = self.held.take();
        let splitter = splitter(&conn, self.send_buffer.as_ref(), response.body());
        let stream = self.stream.take();
        response.map(|body| OutgoingBody {
            body,
            splitter,
            in_flight,
            held,
            _permit: permit,
            _stream: stream,
            access,
            meter,
        })
    }
}

impl Drop for Exchange {
    /// Detaches a running handler, which then runs to its end. hyper drops the exchange when the client disconnects. At
    /// [`Stage::Cut`] the handler is dropped as well.
    fn drop(&mut self) {
        let mut is_cut = false;
        if let Some(in_flight) = &self.in_flight {
            let conn = in_flight.conn();
            is_cut = conn.stage() == Stage::Cut;
            conn.deadlines.stop_answer_clock();
            conn.on_half_close();
            conn.end_request(self.held.take());
        }
        if is_cut {
            return;
        }
        if let Some(access) = self.access.take() {
            access.log();
        }
        if let ExchangeState::Handler {
            reply,
            permit,
            resources,
        } = std::mem::replace(&mut self.state, ExchangeState::Over)
        {
            detach(reply, (permit, resources));
        }
    }
}
