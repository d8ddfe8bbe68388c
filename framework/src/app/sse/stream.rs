//! The response of an event stream. Its body polls the handler while the body is read.

use std::fmt;
use std::future::Future;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_io::Timer;
use futures_lite::{AsyncBufRead, AsyncRead, StreamExt};
use tide::{Body, Endpoint, Request, Response};

use super::Event;
use crate::app::request::drain_signal;
use crate::error::{BoxError, Result};
use crate::http::DrainSignal;
use crate::sync::lock::Mutex;

/// Time without an event after which a comment is sent. The comment keeps proxies from closing the connection, and the
/// write fails if the client is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Minimum of the `retry:` hint that is sent when the stream ends for a drain.
const MIN_RETRY: Duration = Duration::from_millis(100);

/// Capacity of the queue between handler and body. If it is full, [`Events::send`] waits.
const QUEUE: usize = 16;

/// Returns an endpoint that opens an event stream for each request. The stream ends when `handler` returns.
///
/// The handler is dropped at an await point if the client disconnects or the generation drains. At a drain, the events
/// sent so far and a `retry:` hint are written first. An error of the handler is logged and ends the stream.
///
/// ```
/// use slackwater::prelude::*;
///
/// let mut app = App::with_state("Hello".to_owned());
/// app.at("/events").get(slackwater::sse::endpoint(|request: slackwater::Request<String>, events| async move {
///     events.send(request.state().as_str()).await?;
///     Ok(())
/// }));
/// ```
pub fn endpoint<S, F, Fut>(handler: F) -> impl Endpoint<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(Request<S>, Events) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    move |request: Request<S>| {
        let drain = drain_signal(&request);
        let response = respond(drain, |events| handler(request, events));
        async { Ok(response) }
    }
}

/// Returns an event stream as a response, for endpoints that inspect the request first; see [`endpoint`].
///
/// ```
/// use slackwater::sse;
///
/// async fn events(request: slackwater::Request<()>) -> tide::Result {
///     let last = request.header("last-event-id").and_then(|id| id.as_str().parse::<u64>().ok());
///     Ok(sse::stream(&request, move |events| async move {
///         for n in last.map_or(0, |last| last + 1)..100 {
///             events.send(sse::Event::data("tick").id(n.to_string())).await?;
///         }
///         Ok(())
///     }))
/// }
/// ```
pub fn stream<S, F, Fut>(request: &Request<S>, handler: F) -> Response
where
    F: FnOnce(Events) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    respond(drain_signal(request), handler)
}

fn respond<F, Fut>(drain: DrainSignal, handler: F) -> Response
where
    F: FnOnce(Events) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, queue) = async_channel::bounded(QUEUE);
    let handler = Box::pin(handler(Events(sender)));
    let body = EventBody {
        chunk: Vec::new(),
        read: 0,
        queue: Box::pin(queue),
        handler: Mutex::new(HandlerState::Running {
            handler,
            drain: Box::pin(async move { drain.wait().await }),
            heartbeat: Timer::after(HEARTBEAT),
        }),
    };
    Response::builder(200)
        .content_type(tide::http::mime::SSE)
        .header("cache-control", "no-cache")
        // without this header, nginx buffers events until its buffer is full
        .header("x-accel-buffering", "no")
        .body(Body::from_reader(body, None))
        .build()
}

/// Sends events on a stream. Clones send on the same stream.
#[derive(Clone, Debug)]
pub struct Events(Sender<Event>);

/// The error of [`Events::send`]: the stream is closed, because the client disconnected, the generation drained or the
/// handler returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl Events {
    /// Sends an event. Waits while 16 events are queued for the client.
    ///
    /// # Errors
    /// The stream is closed. Only a clone outside the handler can observe this error, because the handler is dropped
    /// with the stream.
    ///
    /// ```
    /// # async fn handler(events: slackwater::sse::Events) -> slackwater::Result<()> {
    /// events.send("data alone").await?;
    /// events.send(slackwater::sse::Event::data("12 knots").name("wind")).await?;
    /// # Ok(()) }
    /// ```
    pub async fn send(&self, event: impl Into<Event>) -> Result<(), Closed> {
        self.0.send(event.into()).await.map_err(|_| Closed)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event stream is closed")
    }
}

impl std::error::Error for Closed {}

type Handler = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// The body of the response.
struct EventBody {
    /// Serialized events. The bytes before `read` have been read.
    chunk: Vec<u8>,
    read: usize,
    queue: Pin<Box<Receiver<Event>>>,
    /// The mutex is never contended. It exists because a body must be `Sync` and a handler is only `Send`.
    handler: Mutex<HandlerState>,
}

enum HandlerState {
    Running {
        handler: Handler,
        /// Resolves when the generation drains, with the delay for the client's reconnection.
        drain: Pin<Box<dyn Future<Output = Duration> + Send>>,
        heartbeat: Timer,
    },
    /// The handler returned or was dropped. The stream ends after the queued events and this last event.
    Finished(Option<Event>),
}

impl HandlerState {
    /// Polls the handler. Returns a heartbeat comment if one is due.
    fn poll(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        let HandlerState::Running {
            handler,
            drain,
            heartbeat,
        } = self
        else {
            return None;
        };
        if let Poll::Ready(result) = handler.as_mut().poll(cx) {
            if let Err(error) = result {
                log::error!("the handler of an event stream failed: {error}; the stream is closed");
            }
            *self = HandlerState::Finished(None);
        } else if let Poll::Ready(delay) = drain.as_mut().poll(cx) {
            *self = HandlerState::Finished(Some(Event::default().retry(MIN_RETRY + delay)));
        } else if Pin::new(heartbeat).poll(cx).is_ready() {
            return Some(Event::comment(""));
        }
        None
    }
}

impl EventBody {
    fn unread(&self) -> &[u8] {
        &self.chunk[self.read..]
    }

    fn push(&mut self, event: &Event) {
        self.chunk.extend_from_slice(event.to_string().as_bytes());
    }
}

impl AsyncBufRead for EventBody {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.read < this.chunk.len() {
            return Poll::Ready(Ok(this.unread()));
        }
        this.chunk.clear();
        this.read = 0;
        if let Some(heartbeat) = this.handler.get_mut().poll(cx) {
            this.push(&heartbeat);
        }
        while let Poll::Ready(Some(event)) = this.queue.poll_next(cx) {
            this.push(&event);
        }
        match this.handler.get_mut() {
            HandlerState::Finished(last) => {
                if let Some(last) = last.take() {
                    this.push(&last);
                }
            }
            HandlerState::Running { heartbeat, .. } if !this.chunk.is_empty() => {
                heartbeat.set_after(HEARTBEAT);
            }
            HandlerState::Running { .. } => return Poll::Pending,
        }
        Poll::Ready(Ok(this.unread()))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.read = (self.read + amount).min(self.chunk.len());
    }
}

impl AsyncRead for EventBody {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut unread = futures_lite::ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = unread.read(buf)?;
        self.consume(amount);
        Poll::Ready(Ok(amount))
    }
}
