//! The entry points of the fuzz targets `bridge` and `head`.
//!
//! The crate slackwater includes this file as its module `http::fuzz` if it is compiled with `--cfg fuzzing`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::Bytes;
use futures_lite::future::block_on;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response, StatusCode};

use super::bridge::{fuzz as bridge_side, Allow};
use super::{
    error_response, framing, BodyError, Client, Context, DrainSignal, Endpoints, ErrorFormat,
    ResponseBody,
};
use crate::sync::lock::Mutex;

/// Passes a request and a response, both read from `input`, through the bridge. Checks that the result can be sent and
/// that nothing panics.
///
/// `input` is a list of parts, separated by zero bytes: the method, the target, names and values of headers up to an empty
/// part, and frames of the body up to an empty part; then the same for the response, with a status in place of method and
/// target.
pub fn bridge(input: &[u8]) {
    let mut parts = input.split(|&byte| byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let mut request = Request::builder().method(next()).uri(next());
    for (name, value) in pairs(&mut next) {
        request = request.header(name, value);
    }
    let frames = frames(&mut next);
    let Ok(request) = request.body(Frames::new(frames)) else {
        return;
    };
    let status = next().iter().fold(0_u16, |sum, &digit| {
        sum.wrapping_mul(10).wrapping_add(u16::from(digit) % 10)
    });
    let response = bridge_side::ScriptedResponse {
        status,
        headers: pairs(&mut next),
        body: self::frames(&mut next),
    };
    let is_head = request.method() == hyper::Method::HEAD;
    let response = block_on(bridge_side::answer(
        response,
        Allow::of([("GET", "/")]),
        request,
        context(),
    ));
    check(response, is_head);
}

fn pairs<'a>(next: &mut impl FnMut() -> &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
    std::iter::from_fn(|| Some((next(), next())).filter(|(name, _)| !name.is_empty())).collect()
}

fn frames<'a>(next: &mut impl FnMut() -> &'a [u8]) -> Vec<&'a [u8]> {
    std::iter::from_fn(|| Some(next()).filter(|frame| !frame.is_empty())).collect()
}

/// Checks that hyper can frame the response, and that the handler has not framed it.
fn check(response: Response<ResponseBody>, is_head: bool) {
    let (head, mut body) = response.into_parts();
    assert!(!head.status.is_informational(), "{}", head.status);
    assert!(!head.headers.contains_key(TRANSFER_ENCODING));
    assert!(is_head || !head.headers.contains_key(CONTENT_LENGTH));
    let bodiless =
        is_head || head.status == StatusCode::NO_CONTENT || head.status == StatusCode::NOT_MODIFIED;
    let declared = body.size_hint().exact();
    let mut sent = 0;
    let is_complete = block_on(std::future::poll_fn(|cx| loop {
        match task::ready!(Pin::new(&mut body).poll_frame(cx)) {
            Some(Ok(frame)) => sent += frame.data_ref().map_or(0, Bytes::len) as u64,
            Some(Err(_)) => return Poll::Ready(false),
            None => return Poll::Ready(true),
        }
    }));
    assert!(!bodiless || sent == 0);
    assert!(declared.is_none_or(|length| if is_complete {
        sent == length
    } else {
        sent <= length
    }));
}

/// Passes the bytes of a client through hyper, the check of transfer codings and the bridge, first at once, then in two
/// pieces. Checks that the answers are the same.
///
/// The first byte of `input` is the position of the split. The rest are the client's bytes.
pub fn head(input: &[u8]) {
    let Some((at, sent)) = input.split_first() else {
        return;
    };
    // hyper searches only the first read for the preface of HTTP/2
    if sent.windows(4).any(|window| window == b"PRI ") {
        return;
    }
    let at = usize::from(*at) * sent.len() / 256;
    let (whole, split) = (converse(&[sent]), converse(&[&sent[..at], &sent[at..]]));
    assert_eq!(
        whole,
        split,
        "{} and {}",
        whole.escape_ascii(),
        split.escape_ascii()
    );
}

/// Returns the answers to these pieces, without the parts that depend on the time at which a piece arrives.
fn converse(pieces: &[&[u8]]) -> Vec<u8> {
    let sent = Arc::<Mutex<Vec<u8>>>::default();
    let pieces = pieces
        .iter()
        .filter(|piece| !piece.is_empty())
        .map(|piece| Bytes::copy_from_slice(piece));
    let wire = Wire {
        pieces: pieces.collect(),
        pause: false,
        sent: sent.clone(),
    };
    let service = hyper::service::service_fn(|request: Request<Incoming>| async {
        if let Some(status) = framing::error_status(request.headers()) {
            return Ok::<_, Infallible>(with_close(error_response(status, ErrorFormat::Json)));
        }
        let response = bridge_side::ScriptedResponse {
            status: 200,
            headers: Vec::new(),
            body: vec![b"read"],
        };
        let has_body = !request.body().is_end_stream();
        let response = bridge_side::answer(
            response,
            Allow::default(),
            request.map(HyperBody),
            context(),
        )
        .await;
        // After a body that was not read to its end, hyper keeps the connection only if the rest has arrived already.
        let unread = has_body && response.status() != StatusCode::OK;
        Ok(if unread {
            with_close(response)
        } else {
            response
        })
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    let connection = builder
        .half_close(true)
        .auto_date_header(false)
        .header_read_timeout(None)
        .serve_connection(wire, service);
    // the answers show how the connection ended
    drop(block_on(connection));
    let all = std::mem::take(&mut *sent.lock());
    let mut all = without(&all, b"HTTP/1.1 100 Continue\r\n\r\n");
    // After a partial head, hyper parses again only when the head is complete. An error in a head that is never completed
    // may therefore be answered or not. An answer by hyper itself has only these headers.
    let last = all
        .windows(7)
        .rposition(|window| window == b"HTTP/1.")
        .unwrap_or(0);
    let mut fields = all[last..].split(|&byte| byte == b'\n').skip(1);
    let bare = fields.all(|field| {
        matches!(
            field,
            b"connection: close\r" | b"content-length: 0\r" | b"\r" | b""
        )
    });
    if bare && all.ends_with(b"content-length: 0\r\n\r\n") {
        all.truncate(last);
    }
    all
}

fn with_close(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn without(bytes: &[u8], pattern: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = bytes;
    while let Some((&first, more)) = rest.split_first() {
        match rest.strip_prefix(pattern) {
            Some(after) => rest = after,
            None => {
                kept.push(first);
                rest = more;
            }
        }
    }
    kept
}

fn context() -> Context {
    let endpoints = Endpoints {
        peer: "127.0.0.1:5000".into(),
        local: "127.0.0.1:8080".into(),
    };
    Context {
        endpoints: Arc::new(endpoints),
        client: Client::default(),
        drain: DrainSignal::default(),
    }
}

/// A body that returns its frames in order. The frames `cut` and `large` are errors.
struct Frames(VecDeque<Bytes>);

impl Frames {
    fn new(frames: Vec<&[u8]>) -> Self {
        Frames(frames.into_iter().map(Bytes::copy_from_slice).collect())
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.pop_front().map(|frame| match &frame[..] {
            b"cut" => Err(BodyError::Cut),
            b"large" => Err(BodyError::TooLarge),
            _ => Ok(Frame::data(frame)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// A body that hyper reads, with the framework's error type.
struct HyperBody(Incoming);

impl Body for HyperBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.0)
            .poll_frame(cx)
            .map(|frame| frame.map(|frame| frame.map_err(|_| BodyError::Cut)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A socket with scripted input: the pieces, then the end of the stream.
struct Wire {
    pieces: VecDeque<Bytes>,
    /// True after a piece: the next read returns `Pending` once.
    pause: bool,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.pause) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(piece) = self.pieces.front_mut() else {
            return Poll::Ready(Ok(()));
        };
        let taken = piece.split_to(piece.len().min(buf.remaining()));
        buf.put_slice(&taken);
        if piece.is_empty() {
            self.pieces.pop_front();
            self.pause = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sent.lock().extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
