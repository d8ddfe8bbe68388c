//! One request and its answer, as hyper's service sees them: the handler's run to its end, its panic, its time, and
//! what becomes of a body that nobody read.
//!
//! A 101 is sent only after the whole request has been read (RFC 9110, section 7.8): what comes behind a request that has
//! not ended is its body, and not the other protocol. A client that sent `Expect: 100-continue` is therefore sent the 100
//! first, as that section demands; refusing it would refuse handshakes that are sound.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, ACCEPT, CONNECTION, EXPECT};
use hyper::{Request, Response, StatusCode, Version};

use super::body::{BodyError, HeldBody, RemainingBody, UnreadBody};
use super::clock::now;
use super::deadlines::ReadState;
use super::memory::{Exhausted, Held, FREE};
use super::sending::{OpenStream, SendBuffer, Sending};
use super::shared::Stage;
use super::state::{ConnState, InFlight, ProtocolSwitch, RequestInfo, WakeOnDrop};
use super::states::TimedState;
use super::{
    error_response, framing, DrainSignal, ErrorFormat, Reply, RequestBody, ResponseBody,
    ResponseFuture, RoutedService,
};
use crate::error::{panic_text, BoxError};
use crate::observe::access;
use crate::observe::metrics::Meter;
use crate::sync::limiter::{Limiter, Permit};

/// How much of a body that nobody wants is read, so that the connection can be kept.
const UNWANTED: u64 = 64 << 10;

/// A whole body up to this length is not counted over HTTP/2, so that an ordinary small answer costs nothing more.
const SHORT: usize = 1 << 10;

/// The service of one connection.
pub(crate) struct Exchanges {
    dispatcher: Arc<dyn RoutedService>,
    conn: Arc<ConnState>,
}

impl Exchanges {
    pub(crate) fn new(dispatcher: Arc<dyn RoutedService>, conn: Arc<ConnState>) -> Self {
        Exchanges { dispatcher, conn }
    }
}

impl hyper::service::Service<Request<Incoming>> for Exchanges {
    type Response = Response<Sent>;
    type Error = Infallible;
    type Future = Exchange;

    fn call(&self, request: Request<Incoming>) -> Exchange {
        Exchange::begin(&*self.dispatcher, &self.conn, request, None)
    }
}

/// What the exchanges of an HTTP/2 connection share.
pub(super) struct Multiplexed {
    /// Handlers, with those whose streams were reset: h2 does not count resets of streams that it has handed out
    /// (CVE-2023-44487).
    pub(super) at_work: Arc<Limiter>,
    /// Response bytes that the client has not taken.
    pub(super) send_buffer: Arc<SendBuffer>,
}

/// What a handler holds until it ends, also if its client does not wait for it.
struct AtWork {
    /// A place among the handlers of this client, if they are counted.
    _place: Option<Permit>,
    /// The memory of the request's head.
    _head: Option<Held>,
}

/// The future of one answer.
pub(crate) struct Exchange {
    /// `None` once the answer is on its way.
    part: Option<InFlight>,
    version: Version,
    /// The request's body, which the handler reads.
    unread: Option<UnreadBody>,
    /// The same, once the handler has answered and still holds it.
    held: Option<HeldBody>,
    expects: bool,
    /// In which form an error is to be told.
    accept: Option<HeaderValue>,
    access: Option<Box<access::AccessEntry>>,
    meter: Option<Box<Meter>>,
    /// The send buffer of an HTTP/2 connection.
    send_buffer: Option<Arc<SendBuffer>>,
    /// The share of an HTTP/2 stream in the memory budget.
    stream: Option<OpenStream>,
    state: State,
}

impl Exchange {
    /// Hands a request in; refuses it if all places at work are taken or the memory budget has no room.
    pub(super) fn begin(
        dispatcher: &dyn RoutedService,
        conn: &Arc<ConnState>,
        request: Request<Incoming>,
        multiplexed: Option<&Multiplexed>,
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
        let expects = request.headers().contains_key(EXPECT);
        let accept = request.headers().get(ACCEPT).cloned();
        let meter = conn.shared.metrics.is_on().then(|| {
            let route = dispatcher.template(request.uri().path(), &conn.endpoints);
            Box::new(conn.shared.metrics.meter(request.method().as_str(), route))
        });
        let part = InFlight::new(conn, WakeOnDrop::Nothing);
        let too_many = || {
            let is_past = request.headers().len() > limits.max_headers;
            is_past.then_some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        };
        let place = multiplexed.and_then(|multiplexed| multiplexed.at_work.try_acquire());
        let send_buffer = multiplexed.map(|multiplexed| multiplexed.send_buffer.clone());
        // that of HTTP/1.1 is counted where it is read
        let stream = send_buffer.as_ref().map(SendBuffer::open_stream);
        let head = match multiplexed {
            Some(_) => hold_head(conn, &request),
            None => Ok(None),
        };
        let no_room = || {
            let is_refused = head.is_err()
                || multiplexed.is_some() && place.is_none()
                || matches!(stream, Some(None));
            is_refused.then_some(StatusCode::SERVICE_UNAVAILABLE)
        };
        if let Some(status) = framing::error_status(request.headers())
            .or_else(too_many)
            .or_else(no_room)
        {
            let state = State::Answered(Answer {
                response: error_response(status, ErrorFormat::of(accept.as_ref())),
                permit: None,
                fate: Fate::Closed,
            });
            return Exchange {
                part: Some(part),
                version: request.version(),
                unread: None,
                held: None,
                expects,
                accept,
                access,
                meter,
                send_buffer,
                stream: None,
                state,
            };
        }
        let place = AtWork {
            _place: place,
            _head: head.unwrap_or_default(),
        };
        let version = request.version();
        let request = request.map(|incoming| RequestBody::new(incoming, conn, limits.body_limit));
        let mut unread = request.body().unread();
        // the adapter's own part of the call may panic as well as its future
        let entered = catch_unwind(AssertUnwindSafe(|| {
            let context = super::Context {
                endpoints: conn.endpoints.clone(),
                client: request.body().client(),
                drain: DrainSignal::default(),
            };
            dispatcher.call(request, context)
        }));
        let state = match entered {
            Ok(Reply { response, permit }) => State::Handler {
                reply: response,
                permit,
                place,
            },
            Err(panic) => {
                // nobody reads the rest of the body any more
                unread = None;
                State::Answered(Answer::to_panic(
                    conn,
                    &*panic,
                    ErrorFormat::of(accept.as_ref()),
                ))
            }
        };
        Exchange {
            part: Some(part),
            version,
            unread,
            held: None,
            expects,
            accept,
            access,
            meter,
            send_buffer,
            stream: stream.flatten(),
            state,
        }
    }
}

/// Takes the memory of a head from the budget, if it is a long one.
fn hold_head<B>(conn: &ConnState, request: &Request<B>) -> Result<Option<Held>, Exhausted> {
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
    if bytes <= FREE {
        return Ok(None);
    }
    let mut held = conn.shared.memory.holder();
    held.resize(bytes)?;
    Ok(Some(held))
}

enum State {
    /// The handler works.
    Handler {
        reply: ResponseFuture,
        permit: Option<Permit>,
        place: AtWork,
    },
    /// It has answered, and the unread rest of the request is looked at.
    Discarding {
        answer: Answer,
        rest: RemainingBody,
        taken: u64,
        asked: bool,
    },
    /// It has answered 101, and the rest of the request is read to its end.
    BeforeSwitch {
        answer: Answer,
        rest: RemainingBody,
        taken: u64,
    },
    /// All is known.
    Answered(Answer),
    Over,
}

struct Answer {
    response: Response<ResponseBody>,
    permit: Option<Permit>,
    fate: Fate,
}

/// What becomes of the connection after an answer, as far as this exchange is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Closed,
}

impl Answer {
    fn to_panic(conn: &ConnState, panic: &(dyn Any + Send), form: ErrorFormat) -> Self {
        log::error!(
            "{} panicked: {}; answered 500, the process goes on",
            named(conn),
            panic_text(panic)
        );
        let response = error_response(StatusCode::INTERNAL_SERVER_ERROR, form);
        Answer {
            response,
            permit: None,
            fate: Fate::Closed,
        }
    }
}

impl Answer {
    /// The answer where a handler has answered 101 and the rest of the request could not be read.
    fn in_place_of_101(conn: &ConnState, error: BodyError, form: ErrorFormat) -> Self {
        let status = error.status();
        log::info!(
            "{} cannot switch protocols: {error}; answered {status}",
            named(conn)
        );
        conn.deadlines.expect_nothing();
        Answer {
            response: error_response(status, form),
            permit: None,
            fate: Fate::Closed,
        }
    }
}

impl Future for Exchange {
    type Output = Result<Response<Sent>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let Some(part) = &this.part else {
                return Poll::Pending;
            };
            let conn = part.conn();
            let form = || ErrorFormat::of(this.accept.as_ref());
            this.state = match std::mem::replace(&mut this.state, State::Over) {
                State::Handler {
                    mut reply,
                    permit,
                    place,
                } => match catch_unwind(AssertUnwindSafe(|| reply.as_mut().poll(cx))) {
                    Ok(Poll::Ready(response)) => {
                        let answer = Answer {
                            response,
                            permit,
                            fate: Fate::Kept,
                        };
                        conn.deadlines.stop_answer_clock();
                        this.look_for_rest(answer)
                    }
                    Ok(Poll::Pending) if conn.deadlines.answer_overdue(now()) => {
                        let answer = overdue(conn, reply, (permit, place), form());
                        conn.deadlines.stop_answer_clock();
                        this.look_for_rest(answer)
                    }
                    Ok(Poll::Pending) => {
                        this.state = State::Handler {
                            reply,
                            permit,
                            place,
                        };
                        return Poll::Pending;
                    }
                    Err(panic) => {
                        let mut answer = Answer::to_panic(conn, &*panic, form());
                        answer.permit = permit;
                        // nobody reads the rest of the body any more
                        this.unread = None;
                        State::Answered(answer)
                    }
                },
                State::Discarding {
                    mut answer,
                    mut rest,
                    mut taken,
                    mut asked,
                } => match poll_rest(&mut rest, &mut taken, &mut asked, cx) {
                    Poll::Ready(fate) => {
                        answer.fate = fate;
                        State::Answered(answer)
                    }
                    Poll::Pending => {
                        this.state = State::Discarding {
                            answer,
                            rest,
                            taken,
                            asked,
                        };
                        return Poll::Pending;
                    }
                },
                State::BeforeSwitch {
                    answer,
                    mut rest,
                    mut taken,
                } => match poll_to_the_end(conn, &mut rest, &mut taken, cx) {
                    Poll::Ready(Ok(())) => State::Answered(answer),
                    Poll::Ready(Err(error)) => {
                        State::Answered(Answer::in_place_of_101(conn, error, form()))
                    }
                    Poll::Pending => {
                        this.state = State::BeforeSwitch {
                            answer,
                            rest,
                            taken,
                        };
                        return Poll::Pending;
                    }
                },
                State::Answered(answer) => return Poll::Ready(Ok(this.send(answer))),
                State::Over => return Poll::Pending,
            };
        }
    }
}

/// Reads the rest of a request that is answered 101, within the limits of a body that nobody wants.
fn poll_to_the_end(
    conn: &ConnState,
    rest: &mut RemainingBody,
    taken: &mut u64,
    cx: &mut Context<'_>,
) -> Poll<Result<(), BodyError>> {
    loop {
        if conn.stage() >= Stage::Stop {
            return Poll::Ready(Err(BodyError::Stopping));
        }
        if taken.saturating_add(rest.incoming.size_hint().lower()) > UNWANTED {
            return Poll::Ready(Err(BodyError::TooLarge));
        }
        match Pin::new(&mut rest.incoming).poll_frame(cx) {
            Poll::Ready(None) => return Poll::Ready(Ok(())),
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(BodyError::Cut)),
            Poll::Ready(Some(Ok(frame))) => {
                *taken += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Pending if conn.deadlines.read_overdue(now()) => {
                return Poll::Ready(Err(BodyError::TimedOut))
            }
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Reads what has already come of an unwanted body. hyper hands out a frame only between two polls, so the first
/// "nothing yet" is asked about once more.
fn poll_rest(
    rest: &mut RemainingBody,
    taken: &mut u64,
    asked: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Fate> {
    loop {
        match Pin::new(&mut rest.incoming).poll_frame(cx) {
            Poll::Ready(None) => return Poll::Ready(Fate::Kept),
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Fate::Closed),
            Poll::Ready(Some(Ok(frame))) => {
                *asked = false;
                *taken += frame.data_ref().map_or(0, |data| data.len() as u64);
                if *taken > UNWANTED {
                    return Poll::Ready(Fate::Closed);
                }
            }
            Poll::Pending if *asked => return Poll::Ready(Fate::Closed),
            Poll::Pending => {
                *asked = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

/// The answer where the handler took longer than `http.request_timeout`. The handler itself goes on alone.
fn overdue(
    conn: &ConnState,
    reply: ResponseFuture,
    permits: (Option<Permit>, AtWork),
    form: ErrorFormat,
) -> Answer {
    log::warn!(
        "{} took longer than http.request_timeout; answered 503, the handler goes on",
        named(conn)
    );
    detach(reply, permits);
    Answer {
        response: error_response(StatusCode::SERVICE_UNAVAILABLE, form),
        permit: None,
        fate: Fate::Kept,
    }
}

/// Lets a handler that nobody waits for run to its end; its generation stays for it.
fn detach(reply: ResponseFuture, permits: (Option<Permit>, AtWork)) {
    async_std::task::spawn(async move {
        let caught = AssertUnwindSafe(reply);
        if let Err(panic) = futures_lite::FutureExt::catch_unwind(caught).await {
            log::error!(
                "a handler whose client is gone panicked: {}",
                panic_text(&*panic)
            );
        }
        drop(permits);
    });
}

impl Exchange {
    /// Decides what an unread rest of the request means for the answer and for the connection.
    fn look_for_rest(&mut self, mut answer: Answer) -> State {
        let Some(part) = &self.part else {
            return State::Over;
        };
        let conn = part.conn();
        if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if self.version == Version::HTTP_11 {
                let Some(rest) = self.unread.take().and_then(|unread| unread.take()) else {
                    return State::Answered(answer);
                };
                conn.deadlines
                    .set_read_state(ReadState::BeforeSwitch, &conn.shared.limits());
                return State::BeforeSwitch {
                    answer,
                    rest,
                    taken: 0,
                };
            }
            // RFC 9110, section 7.8, and RFC 9113, section 8.6: no other version has a 101
            answer.response = error_response(
                StatusCode::UPGRADE_REQUIRED,
                ErrorFormat::of(self.accept.as_ref()),
            );
        }
        let rest = match self.unread.take().map(UnreadBody::returned) {
            Some(Ok(Some(rest))) => rest,
            Some(Err(held)) => {
                self.held = Some(held);
                return State::Answered(answer);
            }
            Some(Ok(None)) | None => return State::Answered(answer),
        };
        let waits_for_continue = self.expects && !rest.asked_for;
        if waits_for_continue || rest.incoming.size_hint().lower() > UNWANTED {
            answer.fate = Fate::Closed;
            return State::Answered(answer);
        }
        State::Discarding {
            answer,
            rest,
            taken: 0,
            asked: false,
        }
    }

    /// Puts the answer on its way.
    fn send(&mut self, answer: Answer) -> Response<Sent> {
        let Answer {
            mut response,
            mut permit,
            fate,
        } = answer;
        let conn = match &self.part {
            Some(part) => part.conn().clone(),
            None => {
                return response.map(|_| Sent {
                    body: ResponseBody::Empty,
                    sending: None,
                    part: None,
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
        } else if fate == Fate::Closed || conn.stage() >= Stage::NoKeepAlive {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let access = self.access.take().map(|mut entry| {
            entry.set_status(response.status());
            entry
        });
        let part = self.part.take();
        let meter = self.meter.take().map(|mut meter| {
            meter.set_status(response.status().as_u16());
            meter
        });
        let held = self.held.take();
        let sending = sending(&conn, self.send_buffer.as_ref(), response.body());
        let stream = self.stream.take();
        response.map(|body| Sent {
            body,
            sending,
            part,
            held,
            _permit: permit,
            _stream: stream,
            access,
            meter,
        })
    }
}

/// The count of a body's unsent bytes. Short bodies of one connection have a bound of their own and are not counted.
fn sending(
    conn: &ConnState,
    send_buffer: Option<&Arc<SendBuffer>>,
    body: &ResponseBody,
) -> Option<Box<Sending>> {
    match (body, send_buffer) {
        (ResponseBody::Empty, _) | (ResponseBody::Full(_), None) => None,
        (ResponseBody::Full(bytes), Some(_)) if bytes.len() <= SHORT => None,
        (_, Some(buffer)) => Some(Box::new(Sending::of(buffer))),
        (ResponseBody::Stream(_), None) => {
            let limit = conn.shared.limits().send_buffer;
            Some(Box::new(Sending::alone(&conn.shared.memory, limit)))
        }
    }
}

impl Drop for Exchange {
    /// hyper drops the service's future when the client is gone: a handler that has begun runs to its end.
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            let conn = part.conn();
            conn.deadlines.stop_answer_clock();
            conn.on_half_close();
            conn.end_request(self.held.take());
        }
        let cut = self
            .part
            .as_ref()
            .is_some_and(|part| part.conn().stage() == Stage::Cut);
        if let (Some(access), false) = (self.access.take(), cut) {
            access.log();
        }
        if let (
            State::Handler {
                reply,
                permit,
                place,
            },
            false,
        ) = (std::mem::replace(&mut self.state, State::Over), cut)
        {
            detach(reply, (permit, place));
        }
    }
}

/// A response's body on its way; the exchange is over when it is dropped.
pub(crate) struct Sent {
    body: ResponseBody,
    /// Absent where the body's unsent bytes are not counted.
    sending: Option<Box<Sending>>,
    part: Option<InFlight>,
    /// The request's body, if the handler holds it.
    held: Option<HeldBody>,
    /// Keeps the generation that answers until its last byte is handed on.
    _permit: Option<Permit>,
    _stream: Option<OpenStream>,
    access: Option<Box<access::AccessEntry>>,
    meter: Option<Box<Meter>>,
}

#[cfg(feature = "http2")]
impl Sent {
    /// For the answer to a HEAD, which has all but this. (HTTP/1.1 leaves that to hyper.)
    pub(super) fn empty(&mut self) {
        self.body = ResponseBody::Empty;
        self.sending = None;
    }

    /// Returns true while the body waits for the client to take earlier bytes.
    pub(super) fn waits(&self) -> bool {
        self.sending.as_ref().is_some_and(|sending| sending.waits())
    }
}

impl Sent {
    /// Bytes that were polled from the body and not handed out yet.
    fn rest(&self) -> u64 {
        self.sending
            .as_ref()
            .map_or(0, |sending| sending.rest() as u64)
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let polled = catch_unwind(AssertUnwindSafe(|| match &mut this.sending {
            Some(sending) => sending.poll_frame(&mut this.body, cx),
            None => Pin::new(&mut this.body).poll_frame(cx),
        }));
        let frame = match polled {
            Ok(poll) => ready!(poll),
            Err(panic) => {
                if let Some(part) = &this.part {
                    log::error!(
                        "the body of {} panicked: {}; the answer is cut",
                        named(part.conn()),
                        panic_text(&*panic)
                    );
                }
                return Poll::Ready(Some(Err("the response body panicked".into())));
            }
        };
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            this.access
                .iter_mut()
                .for_each(|access| access.add_bytes(bytes));
            this.meter.iter().for_each(|meter| meter.add_bytes(bytes));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest() == 0 && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest();
        if rest > 0 {
            let upper = hint.upper().map(|upper| upper.saturating_add(rest));
            let lower = hint.lower().saturating_add(rest);
            hint = SizeHint::new();
            hint.set_lower(lower);
            upper.into_iter().for_each(|upper| hint.set_upper(upper));
        }
        hint
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        // it may be what holds the request's body
        self.body = ResponseBody::Empty;
        if let Some(part) = &self.part {
            part.conn().end_request(self.held.take());
        }
        if let Some(access) = self.access.take() {
            access.log();
        }
    }
}

fn named(conn: &ConnState) -> String {
    match conn.request() {
        Some(request) => format!(
            "{} {} from {}",
            request.method,
            request.uri.path(),
            conn.endpoints.peer
        ),
        None => format!("a request from {}", conn.endpoints.peer),
    }
}
