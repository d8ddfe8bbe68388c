//! Converts a response from tide's types to hyper's.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use futures_lite::AsyncBufRead;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{StatusCode, Version};
use tide::http::headers::HeaderValues;

use super::chunks::{BodySource, Chunks, Length};
use super::outcome::ErrorCause;
use super::problem::{self, ErrorInfo};
use super::{upgrade, RequestSummary};
use crate::http::ResponseBody;

/// A body up to this length in bytes is sent with its head, if it can be read without waiting.
const SHORT: usize = 64 << 10;

/// The same over HTTP/2, where many responses of one connection may wait.
const SHORT_OF_MANY: usize = 16 << 10;

type Response = tide::http::Response;

/// The reason why the handler's response cannot be sent. The client receives a 500.
struct InvalidResponse(String);

pub(super) fn convert(from: Response, summary: &RequestSummary) -> hyper::Response<ResponseBody> {
    match try_convert(from, summary) {
        Ok(response) => response,
        Err(InvalidResponse(reason)) => {
            log::error!("{summary}: 500 Internal Server Error: {reason}");
            problem::response(
                StatusCode::INTERNAL_SERVER_ERROR,
                &ErrorInfo::Cause(&reason),
                summary,
            )
        }
    }
}

fn try_convert(
    mut from: Response,
    summary: &RequestSummary,
) -> Result<hyper::Response<ResponseBody>, InvalidResponse> {
    let status = status(&from)?;
    let mut response = hyper::Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    *response.headers_mut() = headers(&from, status)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        response.extensions_mut().insert(upgrade::of(&mut from));
    } else if has_body(status) {
        *response.body_mut() = body(from, &mut response, summary)?;
    }
    Ok(response)
}

/// Converts the status. A 101 needs a handler that takes the connection. Every other 1xx is an interim response, which
/// a handler cannot send.
fn status(from: &Response) -> Result<StatusCode, InvalidResponse> {
    let code = u16::from(from.status());
    let status = StatusCode::from_u16(code)
        .map_err(|error| InvalidResponse(format!("status {code}: {error}")))?;
    match status {
        StatusCode::SWITCHING_PROTOCOLS if from.has_upgrade() => Ok(status),
        _ if status.is_informational() => Err(InvalidResponse(format!(
            "a handler cannot answer with status {code}"
        ))),
        _ => Ok(status),
    }
}

/// Returns true if a response with this status may have a body (RFC 9110, section 6.4.1).
fn has_body(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

/// Converts the headers, without the ones that frame the body or concern the connection, which hyper writes.
fn headers(from: &Response, status: StatusCode) -> Result<HeaderMap, InvalidResponse> {
    let headers: &tide::http::Headers = from.as_ref();
    // two more for a type and a length, which may be added later
    let mut into = HeaderMap::with_capacity(headers.names().count() + 2);
    for (name, values) in headers {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|_| {
            InvalidResponse(format!("{:?} is not a valid header name", name.as_str()))
        })?;
        match name {
            header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::TE => {}
            header::UPGRADE if !may_have_upgrade(status) => {}
            header::CONNECTION => {
                if let Some(option) = connection_option(values, status) {
                    into.insert(name, HeaderValue::from_static(option));
                }
            }
            _ if name == "keep-alive" || name == "proxy-connection" => {}
            _ => {
                for value in values {
                    into.append(name.clone(), header_value(&name, value.as_str())?);
                }
            }
        }
    }
    Ok(into)
}

/// Converts a value. http-types accepts a line break in a value, but the client would read the text after it as another
/// header or another response.
fn header_value(name: &HeaderName, value: &str) -> Result<HeaderValue, InvalidResponse> {
    // the log must not contain the value, which may be a secret
    HeaderValue::from_str(value).map_err(|_| {
        InvalidResponse(format!(
            "the value of the header {name} contains a line break or a control character"
        ))
    })
}

fn may_have_upgrade(status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || status == StatusCode::UPGRADE_REQUIRED
}

/// Returns the only option of `Connection` that a handler may set: to close, or to change the protocol.
fn connection_option(values: &HeaderValues, status: StatusCode) -> Option<&'static str> {
    let contains = |option: &str| {
        let options = values.iter().flat_map(|value| value.as_str().split(','));
        options
            .map(str::trim)
            .any(|other| other.eq_ignore_ascii_case(option))
    };
    match status {
        StatusCode::SWITCHING_PROTOCOLS => Some("upgrade"),
        _ if contains("close") => Some("close"),
        StatusCode::UPGRADE_REQUIRED if contains("upgrade") => Some("upgrade"),
        _ => None,
    }
}

/// Converts the body to its cheapest form, and adds the headers that depend on it.
fn body(
    mut from: Response,
    into: &mut hyper::Response<ResponseBody>,
    summary: &RequestSummary,
) -> Result<ResponseBody, InvalidResponse> {
    let status = into.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if from.len() == Some(0) && is_error {
        let info = from
            .ext()
            .get::<ErrorCause>()
            .map_or(ErrorInfo::None, |ErrorCause(cause)| ErrorInfo::Cause(cause));
        let details = problem::describe(into.headers_mut(), status, &info, summary.error_format());
        return Ok(full(details, into, summary));
    }
    if summary.is_head() {
        if let Some(length) = length_for_head(&from) {
            into.headers_mut().insert(header::CONTENT_LENGTH, length);
        }
        return Ok(ResponseBody::Empty);
    }
    match from.len() {
        Some(0) => Ok(ResponseBody::Empty),
        // a body of known length cannot have trailers
        Some(length) if !from.has_trailers() => sized(&mut from, length, summary),
        _ => Ok(stream(BodySource::of(&mut from), Length::Unknown, summary)),
    }
}

fn full(
    bytes: Bytes,
    into: &mut hyper::Response<ResponseBody>,
    summary: &RequestSummary,
) -> ResponseBody {
    if summary.is_head() {
        into.headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        return ResponseBody::Empty;
    }
    ResponseBody::Full(bytes)
}

/// Returns the length that the response to GET would have: the body's, or the handler's `Content-Length` if it made no
/// body for HEAD.
fn length_for_head(from: &Response) -> Option<HeaderValue> {
    match from.len() {
        Some(0) => {
            let length = from
                .header(tide::http::headers::CONTENT_LENGTH)?
                .last()
                .as_str();
            length.parse::<u64>().ok().map(HeaderValue::from)
        }
        length => length.map(HeaderValue::from),
    }
}

/// Converts a body of known length. A short body that can be read without waiting becomes one buffer; any other is
/// streamed.
fn sized(
    from: &mut Response,
    length: usize,
    summary: &RequestSummary,
) -> Result<ResponseBody, InvalidResponse> {
    let mut source = BodySource::of(from);
    let short = if summary.version == Version::HTTP_2 {
        SHORT_OF_MANY
    } else {
        SHORT
    };
    if length > short {
        return Ok(stream(source, Length::Left(length as u64), summary));
    }
    match prefetch(&mut source, length)? {
        Prefetch::Complete(bytes) => Ok(ResponseBody::Full(bytes)),
        Prefetch::Partial(bytes) => {
            source.prepend(bytes);
            Ok(stream(source, Length::Left(length as u64), summary))
        }
    }
}

/// The result of reading a body without waiting.
enum Prefetch {
    Complete(Bytes),
    /// The bytes before the first read that would have waited.
    Partial(Bytes),
}

/// Reads up to `length` bytes without waiting. No waker is needed, because an incomplete body is polled again as a
/// stream.
fn prefetch(source: &mut BodySource, length: usize) -> Result<Prefetch, InvalidResponse> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut bytes = BytesMut::new();
    loop {
        let chunk = match Pin::new(&mut source.reader).poll_fill_buf(&mut cx) {
            Poll::Ready(Ok([])) => {
                let read = bytes.len();
                return Err(InvalidResponse(format!(
                    "the response body ended after {read} of {length} bytes"
                )));
            }
            Poll::Ready(Ok(chunk)) => &chunk[..chunk.len().min(length - bytes.len())],
            Poll::Ready(Err(error)) => {
                return Err(InvalidResponse(format!(
                    "the response body could not be read: {error}"
                )))
            }
            Poll::Pending => return Ok(Prefetch::Partial(bytes.freeze())),
        };
        let taken = chunk.len();
        if taken == length {
            // most bodies are in one piece, which takes one buffer of the right size and one copy
            return Ok(Prefetch::Complete(Bytes::copy_from_slice(chunk)));
        }
        bytes.reserve(length - bytes.len());
        bytes.extend_from_slice(chunk);
        Pin::new(&mut source.reader).consume(taken);
        if bytes.len() == length {
            return Ok(Prefetch::Complete(bytes.freeze()));
        }
    }
}

fn stream(source: BodySource, length: Length, summary: &RequestSummary) -> ResponseBody {
    ResponseBody::Stream(Box::pin(Chunks::new(source, length, summary.clone())))
}
