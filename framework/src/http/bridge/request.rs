//! A request's head, from hyper's types to tide's.

use std::str::FromStr;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, COOKIE, UPGRADE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode, Version};
use tide::http::headers::{self, HeaderName, Headers};
use tide::http::{Method, Request};

use super::problem::Refusal;
use super::reader::{Body, Broken, Reader};
use super::target::Target;
use crate::http::body::BodyLimit;
use crate::http::Context;
use crate::token::Token;

/// What the framework gives a request on its way: found in its extensions.
pub(crate) struct Given {
    /// Told when the generation that answers is to finish.
    pub(crate) draining: Token,
    /// Over how long what then has to end is spread.
    pub(crate) spread: Duration,
    /// How much of the body is taken.
    pub(crate) limit: BodyLimit,
}

/// A request that may be answered.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each request, moved once; a box would cost more"
)]
pub(super) enum Arrived {
    /// One for a route. `broken` is there where a body is.
    Request { request: Request, broken: Option<Broken> },
    /// `OPTIONS *`, which no route stands for.
    ServerOptions,
}

pub(super) fn convert<B: Body>(
    head: Parts,
    body: B,
    limit: BodyLimit,
    context: Context,
) -> Result<Arrived, Refusal> {
    let method = method(&head.method)?;
    let (url, authority) = match Target::of(&head, &context.ends.local)? {
        Target::Resource { url, authority } => (url, authority),
        Target::Server => return Ok(Arrived::ServerOptions),
    };
    let mut request = Request::new(method, url);
    request.set_version(Some(version(head.version)));
    request.set_peer_addr(Some(context.ends.peer.as_str()));
    request.set_local_addr(Some(&*context.ends.local));
    copy(&head.headers, request.as_mut(), head.version)?;
    if let Some(authority) = authority {
        request.insert_header(headers::HOST, authority);
    }
    let broken = (!body.is_end_stream()).then(|| attach(&mut request, body, &head.headers));
    request.ext_mut().insert(Given { draining: context.draining, spread: context.spread, limit });
    Ok(Arrived::Request { request, broken })
}

/// Gives the request its body, which is not polled before a handler reads it: so "100 Continue" is not sent either.
fn attach<B: Body>(request: &mut Request, body: B, headers: &HeaderMap) -> Broken {
    let broken = Broken::default();
    let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    // only a body in chunks can have trailers, and whoever asks for them waits for the body to end
    let trailers = length.is_none().then(|| request.send_trailers());
    let reader = Reader::new(body, broken.clone(), trailers);
    request.set_body(tide::Body::from_reader(reader, length));
    if !headers.contains_key(CONTENT_TYPE) {
        // set_body names a type where the client named none
        request.remove_header(headers::CONTENT_TYPE);
    }
    broken
}

/// tide's methods are a closed list, and methods are case-sensitive.
fn method(method: &hyper::Method) -> Result<Method, Refusal> {
    match *method {
        hyper::Method::GET => Ok(Method::Get),
        hyper::Method::POST => Ok(Method::Post),
        hyper::Method::HEAD => Ok(Method::Head),
        hyper::Method::PUT => Ok(Method::Put),
        _ => match method.as_str().parse::<Method>() {
            Ok(known) if known.as_ref() == method.as_str() => Ok(known),
            _ => Err(UNKNOWN_METHOD),
        },
    }
}

fn version(version: Version) -> tide::http::Version {
    match version {
        Version::HTTP_09 => tide::http::Version::Http0_9,
        Version::HTTP_10 => tide::http::Version::Http1_0,
        Version::HTTP_2 => tide::http::Version::Http2_0,
        Version::HTTP_3 => tide::http::Version::Http3_0,
        _ => tide::http::Version::Http1_1,
    }
}

const UNKNOWN_METHOD: Refusal =
    Refusal::of_sound_request(StatusCode::NOT_IMPLEMENTED, "the method is not known here");
const BAD_HEADER: Refusal = Refusal::new(StatusCode::BAD_REQUEST, "a header is not plain ASCII");

fn copy(from: &HeaderMap, into: &mut Headers, version: Version) -> Result<(), Refusal> {
    for name in from.keys() {
        // RFC 9110, section 7.8: HTTP/1.0 cannot upgrade
        if name == UPGRADE && version == Version::HTTP_10 {
            continue;
        }
        // RFC 9113, section 8.2.3: HTTP/2 may send each cookie in a field of its own
        if name == COOKIE && version == Version::HTTP_2 {
            let crumbs = from.get_all(name).iter().map(|value| value.to_str().map_err(|_| BAD_HEADER));
            into.insert(headers::COOKIE, crumbs.collect::<Result<Vec<_>, _>>()?.join("; "));
            continue;
        }
        let mut values = from.get_all(name).iter().map(|value| value.to_str().map_err(|_| BAD_HEADER));
        let Some(first) = values.next() else { continue };
        into.insert(header_name(name)?, first?);
        for value in values {
            into.append(header_name(name)?, value?);
        }
    }
    Ok(())
}

/// Names that http-types knows cost nothing; any other is copied.
fn header_name(name: &hyper::header::HeaderName) -> Result<HeaderName, Refusal> {
    Ok(match name.as_str() {
        "host" => headers::HOST,
        "user-agent" => headers::USER_AGENT,
        "accept" => headers::ACCEPT,
        "accept-encoding" => headers::ACCEPT_ENCODING,
        "accept-language" => headers::ACCEPT_LANGUAGE,
        "connection" => headers::CONNECTION,
        "content-length" => headers::CONTENT_LENGTH,
        "content-type" => headers::CONTENT_TYPE,
        "cookie" => headers::COOKIE,
        "authorization" => headers::AUTHORIZATION,
        "cache-control" => headers::CACHE_CONTROL,
        "if-modified-since" => headers::IF_MODIFIED_SINCE,
        "if-none-match" => headers::IF_NONE_MATCH,
        "origin" => headers::ORIGIN,
        "referer" => headers::REFERER,
        "transfer-encoding" => headers::TRANSFER_ENCODING,
        "upgrade" => headers::UPGRADE,
        other => HeaderName::from_str(other).map_err(|_| BAD_HEADER)?,
    })
}
