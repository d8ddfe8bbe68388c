//! One request and its answer, as hyper's service sees them: the handler's run to its end, its panic, its time, and
//! what becomes of a body that nobody read.

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
use hyper::{Request, Response, StatusCode};

use super::env::Stage;
use super::limits::{Seat, Seats};
use super::record::{self, Part, Record, Rest, Switch, Wakes};
use super::timeouts::{after, now};
use super::{framing, refusal, Form, Reply, RequestBody, ResponseBody};
use crate::error::{panic_text, BoxError};
use crate::observe::access;
use crate::observe::metrics::Meter;

/// How much of a body that nobody wants is read, so that the connection can be kept.
const UNWANTED: u64 = 64 << 10;

/// The service of one connection.
pub(crate) struct Exchanges {
    record: Arc<Record>,
}

impl Exchanges {
    pub(crate) fn new(record: Arc<Record>) -> Self {
        Exchanges { record }
    }
}

impl hyper::service::Service<Request<Incoming>> for Exchanges {
    type Response = Response<Sent>;
    type Error = Infallible;
    type Future = Exchange;

    fn call(&self, request: Request<Incoming>) -> Exchange {
        Exchange::begin(&self.record, request, None)
    }
}

/// The future of one answer.
pub(crate) struct Exchange {
    /// `None` once the answer is on its way.
    part: Option<Part>,
    expects: bool,
    /// In which form an error is to be told.
    accept: Option<HeaderValue>,
    access: Option<Box<access::Entry>>,
    meter: Option<Box<Meter>>,
    state: State,
}

impl Exchange {
    /// Hands a request in; refuses it where all places `at_work` are taken.
    pub(super) fn begin(
        record: &Arc<Record>,
        request: Request<Incoming>,
        at_work: Option<&Arc<Seats>>,
    ) -> Exchange {
        let limits = record.env.limits();
        let began = now();
        record.begin(record::Request {
            method: request.method().clone(),
            uri: request.uri().clone(),
            began,
        });
        record
            .clocks
            .answer_by(after(began, limits.request_timeout));
        let access = record
            .env
            .access_log()
            .then(|| Box::new(access::Entry::new(&record.ends.peer, &request)));
        let expects = request.headers().contains_key(EXPECT);
        let accept = request.headers().get(ACCEPT).cloned();
        let meter = record.env.metrics.is_on().then(|| {
            let route = record
                .env
                .door()
                .template(request.uri().path(), &record.ends);
            Box::new(record.env.metrics.meter(request.method().as_str(), route))
        });
        let part = Part::of(record, Wakes::Nobody);
        let too_many = || {
            let is_past = request.headers().len() > limits.max_headers;
            is_past.then_some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        };
        let place = at_work.and_then(Seats::try_take);
        let no_place =
            || (place.is_none() && at_work.is_some()).then_some(StatusCode::SERVICE_UNAVAILABLE);
        if let Some(status) = framing::fault(request.headers())
            .or_else(too_many)
            .or_else(no_place)
        {
            let state = State::Answered(Answer {
                response: refusal(status, Form::of(accept.as_ref())),
                seat: None,
                fate: Fate::Closed,
            });
            return Exchange {
                part: Some(part),
                expects,
                accept,
                access,
                meter,
                state,
            };
        }
        let request = request.map(|incoming| RequestBody::new(incoming, record, limits.body_limit));
        // the adapter's own part of the call may panic as well as its future
        let entered = catch_unwind(AssertUnwindSafe(|| {
            record.env.door().enter(request, &record.ends)
        }));
        let state = match entered {
            Ok((reply, seat)) => State::Handler { reply, seat, place },
            Err(panic) => {
                State::Answered(Answer::to_panic(record, &*panic, Form::of(accept.as_ref())))
            }
        };
        Exchange {
            part: Some(part),
            expects,
            accept,
            access,
            meter,
            state,
        }
    }
}

enum State {
    /// The handler works.
    Handler {
        reply: Reply,
        seat: Seat,
        /// Among those at work for this client, if they are counted.
        place: Option<Seat>,
    },
    /// It has answered, and the unread rest of the request is looked at.
    Rest {
        answer: Answer,
        rest: Rest,
        taken: u64,
        asked: bool,
    },
    /// All is known.
    Answered(Answer),
    Over,
}

struct Answer {
    response: Response<ResponseBody>,
    seat: Option<Seat>,
    fate: Fate,
}

/// What becomes of the connection after an answer, as far as this exchange is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Closed,
}

impl Answer {
    fn to_panic(record: &Record, panic: &(dyn Any + Send), form: Form) -> Self {
        log::error!(
            "{} panicked: {}; answered 500, the process goes on",
            named(record),
            panic_text(panic)
        );
        // nobody reads the rest of its body any more
        drop(record.take_rest());
        let response = refusal(StatusCode::INTERNAL_SERVER_ERROR, form);
        Answer {
            response,
            seat: None,
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
            let record = part.record();
            let form = || Form::of(this.accept.as_ref());
            this.state = match std::mem::replace(&mut this.state, State::Over) {
                State::Handler {
                    mut reply,
                    seat,
                    place,
                } => match catch_unwind(AssertUnwindSafe(|| reply.as_mut().poll(cx))) {
                    Ok(Poll::Ready(response)) => {
                        let answer = Answer {
                            response,
                            seat: Some(seat),
                            fate: Fate::Kept,
                        };
                        look_for_rest(record, answer, this.expects)
                    }
                    Ok(Poll::Pending) if record.clocks.answer_overdue(now()) => {
                        let answer = overdue(record, reply, (seat, place), form());
                        look_for_rest(record, answer, this.expects)
                    }
                    Ok(Poll::Pending) => {
                        this.state = State::Handler { reply, seat, place };
                        return Poll::Pending;
                    }
                    Err(panic) => {
                        let mut answer = Answer::to_panic(record, &*panic, form());
                        answer.seat = Some(seat);
                        State::Answered(answer)
                    }
                },
                State::Rest {
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
                        this.state = State::Rest {
                            answer,
                            rest,
                            taken,
                            asked,
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

/// Decides what an unread rest of the request means for the connection.
fn look_for_rest(record: &Record, answer: Answer, expects: bool) -> State {
    record.clocks.answered();
    let Some(rest) = record.take_rest() else {
        return State::Answered(answer);
    };
    let waits_for_continue = expects && !rest.asked_for;
    if waits_for_continue || rest.incoming.size_hint().lower() > UNWANTED {
        return State::Answered(Answer {
            fate: Fate::Closed,
            ..answer
        });
    }
    State::Rest {
        answer,
        rest,
        taken: 0,
        asked: false,
    }
}

/// Reads what has already come of an unwanted body. hyper hands out a frame only between two polls, so the first
/// "nothing yet" is asked about once more.
fn poll_rest(
    rest: &mut Rest,
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
fn overdue(record: &Record, reply: Reply, seats: (Seat, Option<Seat>), form: Form) -> Answer {
    log::warn!(
        "{} took longer than http.request_timeout; answered 503, the handler goes on",
        named(record)
    );
    detach(reply, seats);
    Answer {
        response: refusal(StatusCode::SERVICE_UNAVAILABLE, form),
        seat: None,
        fate: Fate::Kept,
    }
}

/// Lets a handler that nobody waits for run to its end; its generation stays for it.
fn detach(reply: Reply, seats: (Seat, Option<Seat>)) {
    async_std::task::spawn(async move {
        let caught = AssertUnwindSafe(reply);
        if let Err(panic) = futures_lite::FutureExt::catch_unwind(caught).await {
            log::error!(
                "a handler whose client is gone panicked: {}",
                panic_text(&*panic)
            );
        }
        drop(seats);
    });
}

impl Exchange {
    /// Puts the answer on its way.
    fn send(&mut self, answer: Answer) -> Response<Sent> {
        let Answer {
            mut response,
            mut seat,
            fate,
        } = answer;
        let record = match &self.part {
            Some(part) => part.record().clone(),
            None => {
                return response.map(|_| Sent {
                    body: ResponseBody::Empty,
                    part: None,
                    _seat: None,
                    access: None,
                    meter: None,
                })
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if let Some(upgrade) = response.extensions_mut().remove() {
                record.switches(Switch {
                    upgrade,
                    request: record.request(),
                    seat: seat.take(),
                });
            }
        } else if fate == Fate::Closed || record.stage() >= Stage::LastCall {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let access = self.access.take().map(|mut entry| {
            entry.answered(response.status());
            entry
        });
        let part = self.part.take();
        let meter = self.meter.take().map(|mut meter| {
            meter.answered(response.status().as_u16());
            meter
        });
        response.map(|body| Sent {
            body,
            part,
            _seat: seat,
            access,
            meter,
        })
    }
}

impl Drop for Exchange {
    /// hyper drops the service's future when the client is gone: a handler that has begun runs to its end.
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            let record = part.record();
            record.clocks.answered();
            record.hangs_up();
            record.end();
            drop(record.take_rest());
        }
        let cut = self
            .part
            .as_ref()
            .is_some_and(|part| part.record().stage() == Stage::Cut);
        if let (Some(access), false) = (self.access.take(), cut) {
            access.log();
        }
        if let (State::Handler { reply, seat, place }, false) =
            (std::mem::replace(&mut self.state, State::Over), cut)
        {
            detach(reply, (seat, place));
        }
    }
}

/// A response's body on its way; the exchange is over when it is dropped.
pub(crate) struct Sent {
    body: ResponseBody,
    part: Option<Part>,
    /// Keeps the generation that answers until its last byte is handed on.
    _seat: Option<Seat>,
    access: Option<Box<access::Entry>>,
    meter: Option<Box<Meter>>,
}

#[cfg(feature = "http2")]
impl Sent {
    /// For the answer to a HEAD, which has all but this. (HTTP/1.1 leaves that to hyper.)
    pub(super) fn empty(&mut self) {
        self.body = ResponseBody::Empty;
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
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.body).poll_frame(cx)));
        let frame = match polled {
            Ok(poll) => ready!(poll),
            Err(panic) => {
                if let Some(part) = &this.part {
                    log::error!(
                        "the body of {} panicked: {}; the answer is cut",
                        named(part.record()),
                        panic_text(&*panic)
                    );
                }
                return Poll::Ready(Some(Err("the response body panicked".into())));
            }
        };
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            this.access.iter_mut().for_each(|access| access.sent(bytes));
            this.meter.iter().for_each(|meter| meter.sent(bytes));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            part.record().end();
        }
        if let Some(access) = self.access.take() {
            access.log();
        }
    }
}

fn named(record: &Record) -> String {
    match record.request() {
        Some(request) => format!(
            "{} {} from {}",
            request.method,
            request.uri.path(),
            record.ends.peer
        ),
        None => format!("a request from {}", record.ends.peer),
    }
}
