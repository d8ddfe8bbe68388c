//! Bodies of requests and responses as streams of chunks.

use std::fmt;
use std::future::{poll_fn, ready, Future};
use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use futures_lite::{AsyncBufRead, AsyncRead, Stream};
use tide::{Body, Request};

use super::FromRequest;
use crate::app::Rejection;

/// A body that is read or written in chunks and never held in memory as a whole.
///
/// As an argument it is the request's body, limited by `http.body_limit` or the route's
/// [`BodyLimit`](crate::BodyLimit). As a return value each chunk is sent as soon as it is available.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[post("/length")]
/// async fn length(mut body: BodyStream) -> slackwater::Result<String> {
///     let mut length = 0;
///     while let Some(chunk) = body.next().await {
///         length += chunk?.len();
///     }
///     Ok(length.to_string())
/// }
///
/// #[post("/echo")]
/// async fn echo(body: BodyStream) -> BodyStream {
///     body
/// }
/// ```
pub struct BodyStream(Body);

impl BodyStream {
    /// Creates a response body from a stream of chunks.
    ///
    /// ```
    /// use slackwater::prelude::*;
    ///
    /// #[get("/letters")]
    /// async fn letters() -> BodyStream {
    ///     let chunks = ["a", "b", "c"].map(|letter| Ok(slackwater::Bytes::from(letter)));
    ///     BodyStream::new(async_std::stream::from_iter(chunks))
    /// }
    /// ```
    pub fn new(
        chunks: impl Stream<Item = io::Result<Bytes>> + Send + Sync + Unpin + 'static,
    ) -> Self {
        BodyStream(Body::from_reader(
            ChunkReader {
                chunks,
                current: Bytes::new(),
            },
            None,
        ))
    }

    /// Returns the next chunk, or `None` at the end of the body.
    ///
    /// # Errors
    /// The body exceeds its limit, is not received in time, or is incomplete. In a route, `?` turns the error into a
    /// response with the matching status.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    pub(in crate::app) fn into_body(self) -> Body {
        self.0
    }
}

impl<S> FromRequest<S> for BodyStream {
    const READS_BODY: bool = true;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        ready(Ok(BodyStream(request.take_body())))
    }
}

impl Stream for BodyStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = match ready!(Pin::new(&mut self.0).poll_fill_buf(cx)) {
            Ok([]) => return Poll::Ready(None),
            Ok(chunk) => Bytes::copy_from_slice(chunk),
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        Pin::new(&mut self.0).consume(chunk.len());
        Poll::Ready(Some(Ok(chunk)))
    }
}

impl AsyncRead for BodyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyStream")
    }
}

/// Adapts a stream of chunks to the reader that tide's body needs.
struct ChunkReader<S> {
    chunks: S,
    current: Bytes,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> AsyncBufRead for ChunkReader<S> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.current.is_empty() {
            match ready!(Pin::new(&mut this.chunks).poll_next(cx)) {
                Some(chunk) => this.current = chunk?,
                None => break,
            }
        }
        Poll::Ready(Ok(&this.current))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        let amount = amount.min(self.current.len());
        let _ = self.current.split_to(amount);
    }
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> AsyncRead for ChunkReader<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let chunk = ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = chunk.len().min(buf.len());
        buf[..amount].copy_from_slice(&chunk[..amount]);
        self.consume(amount);
        Poll::Ready(Ok(amount))
    }
}
