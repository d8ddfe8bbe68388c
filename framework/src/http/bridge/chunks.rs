//! A response's body as it comes: tide's reader as hyper's frames.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_lite::{ready, AsyncBufRead, AsyncRead};
use http_body::{Body, Frame, SizeHint};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tide::http::trailers::{Receiver, Trailers};

use super::Asked;
use crate::error::BoxError;
use crate::http::{BodyError, Pieces};

/// How much is read at a time.
const CHUNK: usize = 64 << 10;

/// How much is copied at a time of a body that is in memory, and so takes more than that already.
const PIECE: usize = 256 << 10;

/// A reader that has less than this in its buffer is read directly. Most have a buffer of 8 KiB in front of a file.
const SMALL: usize = 16 << 10;

/// Where the bytes of an answer come from.
pub(super) struct Source {
    /// What was read before it was known that the rest has to be waited for.
    first: Bytes,
    pub(super) reader: Reader,
    way: Way,
    trailers: Option<Receiver>,
}

type Reader = Box<dyn AsyncBufRead + Send + Sync + Unpin>;

/// How the reader is read.
#[derive(Clone, Copy)]
enum Way {
    /// By what it has in its buffer, as long as that is much: a body that is in memory is copied once.
    Buffered,
    /// By reads of our own size, which go round a buffer that is smaller than that.
    Direct,
}

impl Source {
    pub(super) fn of(from: &mut tide::http::Response) -> Self {
        let trailers = from.has_trailers().then(|| from.recv_trailers());
        Source {
            first: Bytes::new(),
            reader: from.take_body().into_reader(),
            way: Way::Buffered,
            trailers,
        }
    }

    /// The next piece of no more than what is `left`; an empty one at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>, left: usize) -> Poll<io::Result<Bytes>> {
        if !self.first.is_empty() {
            let length = self.first.len().min(left);
            return Poll::Ready(Ok(self.first.split_to(length)));
        }
        match self.way {
            Way::Direct => read(&mut self.reader, cx, left.min(CHUNK)),
            Way::Buffered => {
                let buffer = ready!(Pin::new(&mut self.reader).poll_fill_buf(cx))?;
                if buffer.len() < SMALL {
                    self.way = Way::Direct;
                }
                let piece = Bytes::copy_from_slice(&buffer[..buffer.len().min(left).min(PIECE)]);
                Pin::new(&mut self.reader).consume(piece.len());
                Poll::Ready(Ok(piece))
            }
        }
    }

    /// Gives back what was read but not sent.
    pub(super) fn put_back(&mut self, first: Bytes) {
        self.first = first;
    }
}

/// How much of a body is still to come.
#[derive(Clone, Copy)]
pub(super) enum Length {
    /// So many bytes: more are not sent, fewer are an error.
    Left(u64),
    /// Until the reader ends: sent in chunks.
    Unknown,
}

/// The frames of an answer. One that fails in the middle is cut, so that the client knows, and the log says why.
pub(super) struct Chunks {
    source: Source,
    length: Length,
    sent: u64,
    part: Part,
    asked: Asked,
}

enum Part {
    Data,
    Trailers,
    End,
}

impl Chunks {
    pub(super) fn new(source: Source, length: Length, asked: Asked) -> Self {
        Chunks {
            source,
            length,
            sent: 0,
            part: Part::Data,
            asked,
        }
    }

    /// The next piece of the body, or `None` at its end.
    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        longest: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        let left = match self.length {
            Length::Left(0) => return Poll::Ready(Ok(None)),
            Length::Left(left) => usize::try_from(left).map_or(longest, |left| left.min(longest)),
            Length::Unknown => longest,
        };
        let data = ready!(self.source.poll_piece(cx, left))?;
        let taken = data.len() as u64;
        match &mut self.length {
            Length::Left(left) if taken == 0 => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it ended {left} bytes before its declared length"),
            ))),
            Length::Left(left) => {
                *left -= taken.min(*left);
                self.sent += taken;
                Poll::Ready(Ok(Some(data)))
            }
            Length::Unknown => {
                self.sent += taken;
                Poll::Ready(Ok((taken > 0).then_some(data)))
            }
        }
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Option<HeaderMap>> {
        let Some(receiver) = &mut self.source.trailers else {
            return Poll::Ready(None);
        };
        let trailers = ready!(Pin::new(receiver).poll(cx));
        Poll::Ready(trailers.map(|trailers| self.fields(&trailers)))
    }

    /// It is too late for another answer: a field that may not be sent is left out, and the log says so.
    fn fields(&self, trailers: &Trailers) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, values) in trailers.iter() {
            for value in values {
                let parsed = HeaderName::from_bytes(name.as_str().as_bytes())
                    .ok()
                    .zip(HeaderValue::from_str(value.as_str()).ok());
                match parsed {
                    Some((name, value)) => drop(fields.append(name, value)),
                    None => log::error!(
                        "{}: the trailer {name:?} may not be sent as it is",
                        self.asked
                    ),
                }
            }
        }
        fields
    }

    fn fail(&mut self, error: io::Error) -> BoxError {
        self.part = Part::End;
        let level = if is_the_clients(&error) {
            log::Level::Debug
        } else {
            log::Level::Error
        };
        log::log!(
            level,
            "{}: the body failed after {} bytes: {error}",
            self.asked,
            self.sent
        );
        error.into()
    }
}

/// Whether the answer fails because it is made of the request's body, and that has failed: what clients do every day
/// has no place among a log's errors.
fn is_the_clients(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<BodyError>())
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll_piece(cx, PIECE)
    }

    fn is_end_stream(&self) -> bool {
        matches!(
            (&self.part, self.length),
            (Part::End, _) | (_, Length::Left(0))
        )
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Length::Left(left) => SizeHint::with_exact(left),
            Length::Unknown => SizeHint::default(),
        }
    }
}

impl Pieces for Chunks {
    fn poll_piece(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        longest: usize,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            match this.part {
                Part::Data => match ready!(this.poll_data(cx, longest)) {
                    Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(None) => this.part = Part::Trailers,
                    Err(error) => return Poll::Ready(Some(Err(this.fail(error)))),
                },
                Part::Trailers => {
                    let trailers = ready!(this.poll_trailers(cx));
                    this.part = Part::End;
                    return Poll::Ready(trailers.map(|fields| Ok(Frame::trailers(fields))));
                }
                Part::End => return Poll::Ready(None),
            }
        }
    }
}

thread_local! {
    /// Where bodies are read into: one for each thread, so that a stream that waits holds no buffer, and so that
    /// nothing is zeroed for each read.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Reads once, up to `most` bytes. Readers with a buffer of their own go round it for a piece of this size.
fn read(reader: &mut Reader, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<Bytes>> {
    // taken, not borrowed: a reader may itself poll a body on this thread
    let mut buffer = BUFFER.take();
    buffer.resize(CHUNK, 0);
    let polled = Pin::new(reader)
        .poll_read(cx, &mut buffer[..most])
        .map(|result| {
            let taken = buffer.get(..result?);
            taken.map(Bytes::copy_from_slice).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a reader claims more bytes than it was asked for",
                )
            })
        });
    BUFFER.set(buffer);
    polled
}
