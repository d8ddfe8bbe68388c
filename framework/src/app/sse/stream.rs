//! The answer that carries events: a body that runs its handler for as long as it is read.

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
use crate::app::request::{parting, Parting};
use crate::error::{BoxError, Result};
use crate::sync::lock::Mutex;

/// After so long without an event a comment is sent: it keeps middlemen from giving up, and shows who is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// No client comes back sooner than this after it was sent away.
const LEAST_RETRY: Duration = Duration::from_millis(100);

/// How many events wait for a client before its handler does.
const QUEUE: usize = 16;

/// A route of events: `handler` is called for each client, and the stream ends when it returns.
///
/// It is dropped where it waits when the client is gone or the server is to finish: what it has sent by then is sent,
/// followed by a `retry:` hint. An error that it returns is logged, and ends the stream.
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
        let parting = parting(&request);
        let response = respond(parting, |events| handler(request, events));
        async { Ok(response) }
    }
}

/// The answer to a request whose handler has looked at it first; see [`endpoint`].
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
    respond(parting(request), handler)
}

fn respond<F, Fut>(parting: Parting, handler: F) -> Response
where
    F: FnOnce(Events) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, queue) = async_channel::bounded(QUEUE);
    let handler = Box::pin(handler(Events(sender)));
    let stream = Stream {
        chunk: Vec::new(),
        read: 0,
        queue: Box::pin(queue),
        talk: Mutex::new(Talk::On {
            handler,
            told: Box::pin(async move { parting.told().await }),
            silence: Timer::after(HEARTBEAT),
        }),
    };
    Response::builder(200)
        .content_type(tide::http::mime::SSE)
        .header("cache-control", "no-cache")
        // nginx would otherwise keep events until a buffer is full
        .header("x-accel-buffering", "no")
        .body(Body::from_reader(stream, None))
        .build()
}

/// Where a handler sends its events. Clones send on the same stream.
#[derive(Clone, Debug)]
pub struct Events(Sender<Event>);

/// The stream has ended: its client is gone, or its handler has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Events {
    /// Sends an event; waits where the client takes them more slowly than they come.
    ///
    /// # Errors
    /// The stream has ended. Only a clone that was kept elsewhere sees that.
    ///
    /// ```
    /// # async fn handler(events: slackwater::sse::Events) -> slackwater::Result<()> {
    /// events.send("data alone").await?;
    /// events.send(slackwater::sse::Event::data("12 knots").name("wind")).await?;
    /// # Ok(()) }
    /// ```
    pub async fn send(&self, event: impl Into<Event>) -> Result<(), Gone> {
        self.0.send(event.into()).await.map_err(|_| Gone)
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event stream has ended")
    }
}

impl std::error::Error for Gone {}

type Handler = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// The body of the answer.
struct Stream {
    /// Events as text, read up to `read`.
    chunk: Vec<u8>,
    read: usize,
    queue: Pin<Box<Receiver<Event>>>,
    /// Never contended: a body may be shared between threads, a handler only sent.
    talk: Mutex<Talk>,
}

enum Talk {
    On {
        handler: Handler,
        /// When to send the client away, and for how long.
        told: Pin<Box<dyn Future<Output = Duration> + Send>>,
        silence: Timer,
    },
    /// Nothing more comes than what is in the queue, and this.
    Over(Option<Event>),
}

impl Talk {
    /// Lets the handler work. Gives what is to be sent beside its events.
    fn poll(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        let Talk::On {
            handler,
            told,
            silence,
        } = self
        else {
            return None;
        };
        if let Poll::Ready(result) = handler.as_mut().poll(cx) {
            if let Err(error) = result {
                log::error!("an event stream failed: {error}; it ends here");
            }
            *self = Talk::Over(None);
        } else if let Poll::Ready(away) = told.as_mut().poll(cx) {
            *self = Talk::Over(Some(Event::default().retry(LEAST_RETRY + away)));
        } else if Pin::new(silence).poll(cx).is_ready() {
            return Some(Event::comment(""));
        }
        None
    }
}

impl Stream {
    fn unread(&self) -> &[u8] {
        &self.chunk[self.read..]
    }

    fn push(&mut self, event: &Event) {
        self.chunk.extend_from_slice(event.to_string().as_bytes());
    }
}

impl AsyncBufRead for Stream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.read < this.chunk.len() {
            return Poll::Ready(Ok(this.unread()));
        }
        this.chunk.clear();
        this.read = 0;
        let beside = this.talk.get_mut().poll(cx);
        beside.iter().for_each(|event| this.push(event));
        while let Poll::Ready(Some(event)) = this.queue.poll_next(cx) {
            this.push(&event);
        }
        match this.talk.get_mut() {
            Talk::Over(last) => {
                let last = last.take();
                last.iter().for_each(|event| this.push(event));
            }
            Talk::On { silence, .. } if !this.chunk.is_empty() => silence.set_after(HEARTBEAT),
            Talk::On { .. } => {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(this.unread()))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.read = (self.read + amount).min(self.chunk.len());
    }
}

impl AsyncRead for Stream {
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
