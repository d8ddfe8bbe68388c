//! A body piece by piece, in and out.

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

/// A body that is read, or written, piece by piece: nothing of it is kept.
///
/// As an argument it is the request's body, up to `http.body_limit` or the route's [`BodyLimit`](crate::BodyLimit); as an
/// answer it is sent as it comes.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[post("/length")]
/// async fn length(mut body: BodyStream) -> slackwater::Result<String> {
///     let mut length = 0;
///     while let Some(piece) = body.next().await {
///         length += piece?.len();
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
    /// An answer of the pieces that a stream gives.
    ///
    /// ```
    /// use slackwater::prelude::*;
    ///
    /// #[get("/letters")]
    /// async fn letters() -> BodyStream {
    ///     let pieces = ["a", "b", "c"].map(|letter| Ok(slackwater::Bytes::from(letter)));
    ///     BodyStream::new(async_std::stream::from_iter(pieces))
    /// }
    /// ```
    pub fn new(
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + Sync + Unpin + 'static,
    ) -> Self {
        BodyStream(Body::from_reader(
            Pieces {
                pieces,
                at_hand: Bytes::new(),
            },
            None,
        ))
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// When the body is longer than its limit, does not come in time, or ends before its end. `?` in a route turns this
    /// into the right status.
    ///
    /// ```
    /// # async fn doc(mut body: slackwater::BodyStream) -> slackwater::Result<()> {
    /// while let Some(piece) = body.next().await {
    ///     println!("{} bytes", piece?.len());
    /// }
    /// # Ok(()) }
    /// ```
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
        let piece = match ready!(Pin::new(&mut self.0).poll_fill_buf(cx)) {
            Ok([]) => return Poll::Ready(None),
            Ok(piece) => Bytes::copy_from_slice(piece),
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        Pin::new(&mut self.0).consume(piece.len());
        Poll::Ready(Some(Ok(piece)))
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

/// A stream of pieces as what tide's body reads from.
struct Pieces<P> {
    pieces: P,
    at_hand: Bytes,
}

impl<P: Stream<Item = io::Result<Bytes>> + Unpin> AsyncBufRead for Pieces<P> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.at_hand.is_empty() {
            match ready!(Pin::new(&mut this.pieces).poll_next(cx)) {
                Some(piece) => this.at_hand = piece?,
                None => break,
            }
        }
        Poll::Ready(Ok(&this.at_hand))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        let amount = amount.min(self.at_hand.len());
        let _ = self.at_hand.split_to(amount);
    }
}

impl<P: Stream<Item = io::Result<Bytes>> + Unpin> AsyncRead for Pieces<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let piece = ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = piece.len().min(buf.len());
        buf[..amount].copy_from_slice(&piece[..amount]);
        self.consume(amount);
        Poll::Ready(Ok(amount))
    }
}
