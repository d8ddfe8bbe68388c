//! Request bodies: hyper's frames, converted to the `AsyncBufRead` that tide reads.

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

/// The body of a request that the bridge accepts: `RequestBody`, or a body of a test.
pub(super) trait IncomingBody:
    http_body::Body<Data = Bytes, Error = BodyError> + Send + Sync + Unpin + 'static
{
}

impl<B: http_body::Body<Data = Bytes, Error = BodyError> + Send + Sync + Unpin + 'static>
    IncomingBody for B
{
}

/// The error that ended the request's body. The reader sets it, and the conversion of the response reads it.
pub(super) type SharedBodyError = Arc<OnceLock<BodyError>>;

/// Reads one frame at a time, and only when tide reads.
pub(super) struct BodyReader<B> {
    chunk: Bytes,
    remaining: Remaining<B>,
    error: SharedBodyError,
    trailers: Option<trailers::Sender>,
}

/// The rest of the body after the current chunk.
enum Remaining<B> {
    Frames(B),
    /// The body was dropped when it ended, which frees the connection while the handler still works.
    Ended,
    Failed(BodyError),
}

impl<B: IncomingBody> BodyReader<B> {
    pub(super) fn new(body: B, error: SharedBodyError, trailers: Option<trailers::Sender>) -> Self {
        BodyReader {
            chunk: Bytes::new(),
            remaining: Remaining::Frames(body),
            error,
            trailers,
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            let body = match &mut self.remaining {
                Remaining::Frames(body) => body,
                Remaining::Ended => return Poll::Ready(Ok(())),
                Remaining::Failed(error) => return Poll::Ready(Err(io_error(*error))),
            };
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let ended = body.is_end_stream();
                    match frame.into_data() {
                        Ok(data) => self.chunk = data,
                        Err(frame) => self.send_trailers(frame.into_trailers().ok(), cx),
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

    fn send_trailers(&mut self, fields: Option<HeaderMap>, cx: &mut Context<'_>) {
        if let (Some(fields), Some(sender)) = (fields, self.trailers.take()) {
            // the channel is empty and holds one value, so the future is ready at once
            let _ = pin!(sender.send(trailers(&fields))).poll(cx);
        }
    }

    fn end(&mut self) {
        self.remaining = Remaining::Ended;
        self.trailers = None;
    }

    fn fail(&mut self, error: BodyError) {
        let _ = self.error.set(error);
        self.remaining = Remaining::Failed(error);
        self.trailers = None;
    }
}

/// Converts trailers. Fields that are not ASCII are left out, because tide's types cannot hold them.
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

impl<B: IncomingBody> AsyncBufRead for BodyReader<B> {
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

impl<B: IncomingBody> AsyncRead for BodyReader<B> {
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
