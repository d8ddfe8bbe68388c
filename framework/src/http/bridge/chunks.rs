//! Streamed response bodies: tide's reader, converted to hyper's frames.

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

use super::RequestSummary;
use crate::error::BoxError;
use crate::http::{BodyError, BoundedBody};

/// The size of a read in bytes.
const CHUNK: usize = 64 << 10;

/// The size of a copy in bytes from a body that is in memory.
const PIECE: usize = 256 << 10;

/// A reader with fewer bytes than this in its buffer is read directly. A typical one has 8 KiB in front of a file.
const SMALL: usize = 16 << 10;

/// The reader and the trailers of a response.
pub(super) struct BodySource {
    /// Bytes that were read while the response was converted.
    first: Bytes,
    pub(super) reader: BoxReader,
    mode: ReadMode,
    trailers: Option<Receiver>,
}

type BoxReader = Box<dyn AsyncBufRead + Send + Sync + Unpin>;

/// The way in which the reader is read.
#[derive(Clone, Copy)]
enum ReadMode {
    /// From the reader's buffer while that is large, so that a body in memory is copied only once.
    Buffered,
    /// By reads of [`CHUNK`] bytes, which bypass a smaller buffer of the reader.
    Direct,
}

impl BodySource {
    pub(super) fn of(from: &mut tide::http::Response) -> Self {
        let trailers = from.has_trailers().then(|| from.recv_trailers());
        BodySource {
            first: Bytes::new(),
            reader: from.take_body().into_reader(),
            mode: ReadMode::Buffered,
            trailers,
        }
    }

    /// Reads the next bytes, at most `left`. An empty result means the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>, left: usize) -> Poll<io::Result<Bytes>> {
        if !self.first.is_empty() {
            let length = self.first.len().min(left);
            return Poll::Ready(Ok(self.first.split_to(length)));
        }
        match self.mode {
            ReadMode::Direct => read(&mut self.reader, cx, left.min(CHUNK)),
            ReadMode::Buffered => {
                let buffer = ready!(Pin::new(&mut self.reader).poll_fill_buf(cx))?;
                if buffer.len() < SMALL {
                    self.mode = ReadMode::Direct;
                }
                let piece = Bytes::copy_from_slice(&buffer[..buffer.len().min(left).min(PIECE)]);
                Pin::new(&mut self.reader).consume(piece.len());
                Poll::Ready(Ok(piece))
            }
        }
    }

    /// Puts bytes in front of the reader.
    pub(super) fn prepend(&mut self, first: Bytes) {
        self.first = first;
    }
}

/// The length of the part of a body that has not been read yet.
#[derive(Clone, Copy)]
pub(super) enum Length {
    /// A number of bytes. More are not sent, and fewer are an error.
    Left(u64),
    /// Until the reader ends. HTTP/1.1 sends such a body in chunks.
    Unknown,
}

/// A response body as frames. If the reader fails, the connection is closed before the body's end, so that the client
/// detects the failure, and the error is logged.
pub(super) struct Chunks {
    source: BodySource,
    length: Length,
    sent: u64,
    section: Section,
    summary: RequestSummary,
}

/// The section of the body that is sent next.
enum Section {
    Data,
    Trailers,
    End,
}

impl Chunks {
    pub(super) fn new(source: BodySource, length: Length, summary: RequestSummary) -> Self {
        Chunks {
            source,
            length,
            sent: 0,
            section: Section::Data,
            summary,
        }
    }

    /// Reads the next bytes of the body, at most `longest`, or `None` at its end.
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
                format!("the reader ended {left} bytes before the declared length"),
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

    /// Converts trailers. An invalid field is left out and logged, because the response's head has already been sent.
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
                        "{}: the trailer {name:?} is not valid in HTTP; it is not sent",
                        self.summary
                    ),
                }
            }
        }
        fields
    }

    fn fail(&mut self, error: io::Error) -> BoxError {
        self.section = Section::End;
        let level = if is_caused_by_client(&error) {
            log::Level::Debug
        } else {
            log::Level::Error
        };
        log::log!(
            level,
            "{}: the response body failed after {} bytes: {error}",
            self.summary,
            self.sent
        );
        error.into()
    }
}

/// Returns true if the response failed because the handler reads it from the request's body, and that failed. Clients
/// cause this every day, so it is not logged as an error.
fn is_caused_by_client(error: &io::Error) -> bool {
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
            (&self.section, self.length),
            (Section::End, _) | (_, Length::Left(0))
        )
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Length::Left(left) => SizeHint::with_exact(left),
            Length::Unknown => SizeHint::default(),
        }
    }
}

impl BoundedBody for Chunks {
    fn poll_piece(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        longest: usize,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            match this.section {
                Section::Data => match ready!(this.poll_data(cx, longest)) {
                    Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(None) => this.section = Section::Trailers,
                    Err(error) => return Poll::Ready(Some(Err(this.fail(error)))),
                },
                Section::Trailers => {
                    let trailers = ready!(this.poll_trailers(cx));
                    this.section = Section::End;
                    return Poll::Ready(trailers.map(|fields| Ok(Frame::trailers(fields))));
                }
                Section::End => return Poll::Ready(None),
            }
        }
    }
}

thread_local! {
    /// The buffer that bodies are read into. It belongs to the thread, so that a waiting stream holds no buffer, and so
    /// that it is zeroed only once.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Reads once, at most `limit` bytes. A buffered reader bypasses its buffer for a read of [`CHUNK`] bytes.
fn read(reader: &mut BoxReader, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<Bytes>> {
    // taken, not borrowed, because the reader may itself poll another body on this thread
    let mut buffer = BUFFER.take();
    buffer.resize(CHUNK, 0);
    let polled = Pin::new(reader)
        .poll_read(cx, &mut buffer[..limit])
        .map(|result| {
            let taken = buffer.get(..result?);
            taken.map(Bytes::copy_from_slice).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the reader returned more bytes than its buffer holds",
                )
            })
        });
    BUFFER.set(buffer);
    polled
}
