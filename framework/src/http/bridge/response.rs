//! An answer, from tide's types to hyper's.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use futures_lite::AsyncBufRead;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{StatusCode, Version};
use tide::http::headers::HeaderValues;

use super::chunks::{Chunks, Length, Source};
use super::outcome::Cause;
use super::problem::{self, Known};
use super::{upgrade, Asked};
use crate::http::ResponseBody;

/// A body up to this length is sent with its head, if it is there already.
const SHORT: usize = 64 << 10;

/// The same over HTTP/2, where many responses wait for one client.
const SHORT_OF_MANY: usize = 16 << 10;

type Response = tide::http::Response;

/// Why an answer cannot be sent as the handler meant it; the client gets a 500.
struct Fault(String);

pub(super) fn convert(from: Response, asked: &Asked) -> hyper::Response<ResponseBody> {
    match try_convert(from, asked) {
        Ok(response) => response,
        Err(Fault(why)) => {
            log::error!("{asked}: 500 Internal Server Error: {why}");
            problem::whole(
                StatusCode::INTERNAL_SERVER_ERROR,
                &Known::Cause(&why),
                asked,
            )
        }
    }
}

fn try_convert(mut from: Response, asked: &Asked) -> Result<hyper::Response<ResponseBody>, Fault> {
    let status = status(&from)?;
    let mut response = hyper::Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    *response.headers_mut() = headers(&from, status)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        response.extensions_mut().insert(upgrade::of(&mut from));
    } else if has_body(status) {
        *response.body_mut() = body(from, &mut response, asked)?;
    }
    Ok(response)
}

/// A 101 needs somebody who takes the connection; every other 1xx would not be the answer, but come before it.
fn status(from: &Response) -> Result<StatusCode, Fault> {
    let code = u16::from(from.status());
    let status =
        StatusCode::from_u16(code).map_err(|error| Fault(format!("status {code}: {error}")))?;
    match status {
        StatusCode::SWITCHING_PROTOCOLS if from.has_upgrade() => Ok(status),
        _ if status.is_informational() => {
            Err(Fault(format!("a handler cannot answer with status {code}")))
        }
        _ => Ok(status),
    }
}

/// RFC 9110, section 6.4.1.
fn has_body(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

/// The handler's headers, without those that frame the body or belong to the connection: hyper writes these.
fn headers(from: &Response, status: StatusCode) -> Result<HeaderMap, Fault> {
    let headers: &tide::http::Headers = from.as_ref();
    // room for a type or a length that is added later
    let mut into = HeaderMap::with_capacity(headers.names().count() + 2);
    for (name, values) in headers {
        let name = HeaderName::from_bytes(name.as_str().as_bytes())
            .map_err(|_| Fault(format!("{:?} is not the name of a header", name.as_str())))?;
        match name {
            header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::TE => {}
            header::UPGRADE if !may_name_protocols(status) => {}
            header::CONNECTION => {
                if let Some(option) = connection(values, status) {
                    into.insert(name, HeaderValue::from_static(option));
                }
            }
            _ if name == "keep-alive" || name == "proxy-connection" => {}
            _ => {
                for value in values {
                    into.append(name.clone(), checked(&name, value.as_str())?);
                }
            }
        }
    }
    Ok(into)
}

/// http-types takes a value with a line break in it: sent as it is, the rest would be a header or an answer of its own.
fn checked(name: &HeaderName, value: &str) -> Result<HeaderValue, Fault> {
    // the value itself may be a secret, and has no place in the log
    HeaderValue::from_str(value).map_err(|_| {
        Fault(format!(
            "the value of the header {name} has a line break or a control character"
        ))
    })
}

fn may_name_protocols(status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || status == StatusCode::UPGRADE_REQUIRED
}

/// What a handler may decide about the connection: to close it, or to change its protocol.
fn connection(values: &HeaderValues, status: StatusCode) -> Option<&'static str> {
    let says = |option: &str| {
        let options = values.iter().flat_map(|value| value.as_str().split(','));
        options
            .map(str::trim)
            .any(|said| said.eq_ignore_ascii_case(option))
    };
    match status {
        StatusCode::SWITCHING_PROTOCOLS => Some("upgrade"),
        _ if says("close") => Some("close"),
        StatusCode::UPGRADE_REQUIRED if says("upgrade") => Some("upgrade"),
        _ => None,
    }
}

/// The body in its cheapest form; adds the headers that depend on it.
fn body(
    mut from: Response,
    into: &mut hyper::Response<ResponseBody>,
    asked: &Asked,
) -> Result<ResponseBody, Fault> {
    let status = into.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if from.len() == Some(0) && is_error {
        let known = from
            .ext()
            .get::<Cause>()
            .map_or(Known::Nothing, |Cause(cause)| Known::Cause(cause));
        let details = problem::describe(into.headers_mut(), status, &known, asked.form());
        return Ok(full(details, into, asked));
    }
    if asked.is_head() {
        if let Some(length) = length_for_head(&from) {
            into.headers_mut().insert(header::CONTENT_LENGTH, length);
        }
        return Ok(ResponseBody::Empty);
    }
    match from.len() {
        Some(0) => Ok(ResponseBody::Empty),
        // only chunks can carry trailers
        Some(length) if !from.has_trailers() => sized(&mut from, length, asked),
        _ => Ok(stream(Source::of(&mut from), Length::Unknown, asked)),
    }
}

fn full(bytes: Bytes, into: &mut hyper::Response<ResponseBody>, asked: &Asked) -> ResponseBody {
    if asked.is_head() {
        into.headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        return ResponseBody::Empty;
    }
    ResponseBody::Full(bytes)
}

/// The length that GET would have: that of the body, or, where a handler made none for HEAD, what its header says.
fn length_for_head(from: &Response) -> Option<HeaderValue> {
    match from.len() {
        Some(0) => {
            let said = from
                .header(tide::http::headers::CONTENT_LENGTH)?
                .last()
                .as_str();
            said.parse::<u64>().ok().map(HeaderValue::from)
        }
        length => length.map(HeaderValue::from),
    }
}

/// A body of known length: in one piece if it is short and there already, else as it comes.
fn sized(from: &mut Response, length: usize, asked: &Asked) -> Result<ResponseBody, Fault> {
    let mut source = Source::of(from);
    let short = if asked.version == Version::HTTP_2 {
        SHORT_OF_MANY
    } else {
        SHORT
    };
    if length > short {
        return Ok(stream(source, Length::Left(length as u64), asked));
    }
    match gather(&mut source, length)? {
        Gathered::All(bytes) => Ok(ResponseBody::Full(bytes)),
        Gathered::Some(bytes) => {
            source.put_back(bytes);
            Ok(stream(source, Length::Left(length as u64), asked))
        }
    }
}

enum Gathered {
    All(Bytes),
    /// What was there without waiting.
    Some(Bytes),
}

/// Reads what is there, up to `length`. It does not wait for more, and need not be woken: what is not all there is polled
/// again as a stream.
fn gather(source: &mut Source, length: usize) -> Result<Gathered, Fault> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut gathered = BytesMut::new();
    loop {
        let chunk = match Pin::new(&mut source.reader).poll_fill_buf(&mut cx) {
            Poll::Ready(Ok([])) => {
                let got = gathered.len();
                return Err(Fault(format!(
                    "the body ended after {got} of {length} bytes"
                )));
            }
            Poll::Ready(Ok(chunk)) => &chunk[..chunk.len().min(length - gathered.len())],
            Poll::Ready(Err(error)) => {
                return Err(Fault(format!("the body could not be read: {error}")))
            }
            Poll::Pending => return Ok(Gathered::Some(gathered.freeze())),
        };
        let taken = chunk.len();
        if taken == length {
            // most bodies come in one piece: one buffer of the right size, one copy
            return Ok(Gathered::All(Bytes::copy_from_slice(chunk)));
        }
        gathered.reserve(length - gathered.len());
        gathered.extend_from_slice(chunk);
        Pin::new(&mut source.reader).consume(taken);
        if gathered.len() == length {
            return Ok(Gathered::All(gathered.freeze()));
        }
    }
}

fn stream(source: Source, length: Length, asked: &Asked) -> ResponseBody {
    ResponseBody::Stream(Box::pin(Chunks::new(source, length, asked.clone())))
}
