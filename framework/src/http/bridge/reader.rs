//! A request's body as tide reads it: hyper's frames as an `AsyncBufRead`.

use std::io;
use std::pin::{pin, Pin};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_lite::{ready, AsyncBufRead, AsyncRead, Future};
use hyper::HeaderMap;
use tide::http::headers::HeaderName;
use tide::http::trailers::{self, Trailers};

use crate::http::BodyError;

/// What a request's body has to be to go to tide. `RequestBody` is; tests make their own.
pub(super) trait Body:
    http_body::Body<Data = Bytes, Error = BodyError> + Send + Sync + Unpin + 'static
{
}

impl<B: http_body::Body<Data = Bytes, Error = BodyError> + Send + Sync + Unpin + 'static> Body
    for B
{
}

/// Why the body of a request could not be read, told by its reader to whoever answers.
pub(super) type Broken = Arc<OnceLock<BodyError>>;

/// Reads frames as they are asked for, never ahead.
pub(super) struct Reader<B> {
    chunk: Bytes,
    rest: Rest<B>,
    /// Where the answer learns why reading failed.
    broken: Broken,
    trailers: Option<trailers::Sender>,
}

/// What is still to come after the chunk at hand.
enum Rest<B> {
    Frames(B),
    /// The body was dropped at once at its end: that frees the connection while the handler still works.
    Ended,
    Failed(BodyError),
}

impl<B: Body> Reader<B> {
    pub(super) fn new(body: B, broken: Broken, trailers: Option<trailers::Sender>) -> Self {
        Reader {
            chunk: Bytes::new(),
            rest: Rest::Frames(body),
            broken,
            trailers,
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            let body = match &mut self.rest {
                Rest::Frames(body) => body,
                Rest::Ended => return Poll::Ready(Ok(())),
                Rest::Failed(error) => return Poll::Ready(Err(io_error(*error))),
            };
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let ended = body.is_end_stream();
                    match frame.into_data() {
                        Ok(data) => self.chunk = data,
                        Err(frame) => self.deliver(frame.into_trailers().ok(), cx),
                    }
                    if ended {
                        self.end();
                    }
                }
                Some(Err(error)) => self.fail(error),
                None => self.end(),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn deliver(&mut self, fields: Option<HeaderMap>, cx: &mut Context<'_>) {
        if let (Some(fields), Some(sender)) = (fields, self.trailers.take()) {
            // the channel is empty and takes one: this is ready at once
            let _ = pin!(sender.send(trailers(&fields))).poll(cx);
        }
    }

    fn end(&mut self) {
        self.rest = Rest::Ended;
        self.trailers = None;
    }

    fn fail(&mut self, error: BodyError) {
        let _ = self.broken.set(error);
        self.rest = Rest::Failed(error);
        self.trailers = None;
    }
}

/// Fields that are not ASCII cannot be said in tide's types and are left out.
fn trailers(fields: &HeaderMap) -> Trailers {
    let mut trailers = Trailers::new();
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (HeaderName::from_str(name.as_str()), value.to_str()) {
            trailers.append(name, value);
        }
    }
    trailers
}

fn io_error(error: BodyError) -> io::Error {
    let kind = match error {
        BodyError::TooLarge => io::ErrorKind::InvalidData,
        BodyError::TimedOut => io::ErrorKind::TimedOut,
        BodyError::Cut => io::ErrorKind::UnexpectedEof,
        BodyError::Stopping => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error)
}

impl<B: Body> AsyncBufRead for Reader<B> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_chunk(cx))?;
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        let amount = amount.min(self.chunk.len());
        self.chunk.advance(amount);
    }
}

impl<B: Body> AsyncRead for Reader<B> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_chunk(cx))?;
        let amount = buf.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buf[..amount]);
        Poll::Ready(Ok(amount))
    }
}
