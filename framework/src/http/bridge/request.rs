//! A request's head, from hyper's types to tide's.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use hyper::header::{HeaderValue, CONTENT_TYPE, COOKIE, UPGRADE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode, Version};
use tide::http::headers::{self, HeaderName, Headers};
use tide::http::{Method, Request};

use super::problem::Refusal;
use super::reader::{Body, Broken, Reader};
use super::target::Target;
use crate::http::body::BodyLimit;
use crate::http::{Client, Context};
use crate::sync::token::Token;

/// What the framework gives a request on its way: found in its extensions.
pub(crate) struct Given {
    /// Who asks.
    pub(crate) client: Client,
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
    Request {
        request: Request,
        broken: Option<Broken>,
    },
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
    let (url, authority) = match Target::of(&head, &context.endpoints.local)? {
        Target::Resource { url, authority } => (url, authority),
        Target::Server => return Ok(Arrived::ServerOptions),
    };
    let mut request = Request::new(method, url);
    request.set_version(Some(version(head.version)));
    request.set_peer_addr(Some(context.endpoints.peer.as_str()));
    request.set_local_addr(Some(&*context.endpoints.local));
    copy(&head.headers, request.as_mut(), head.version)?;
    if let Some(authority) = authority {
        request.insert_header(headers::HOST, authority);
    }
    let broken = (!body.is_end_stream()).then(|| attach(&mut request, body, &head.headers));
    let Context {
        client,
        draining,
        spread,
        ..
    } = context;
    request.ext_mut().insert(Given {
        client,
        draining,
        spread,
        limit,
    });
    Ok(Arrived::Request { request, broken })
}

/// Gives the request its body, which is not polled before a handler reads it: so "100 Continue" is not sent either.
fn attach<B: Body>(request: &mut Request, body: B, headers: &HeaderMap) -> Broken {
    let broken = Broken::default();
    let length = body
        .size_hint()
        .exact()
        .and_then(|length| usize::try_from(length).ok());
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
    make_room(into, from.keys_len());
    // values of one name come one after the other
    let mut last = None;
    for (name, value) in from {
        let repeated = last.replace(name) == Some(name);
        match *name {
            // RFC 9110, section 7.8: HTTP/1.0 cannot upgrade
            UPGRADE if version == Version::HTTP_10 => {}
            // RFC 9113, section 8.2.3: HTTP/2 may send each cookie in a field of its own
            COOKIE if version == Version::HTTP_2 => {
                if !repeated {
                    let crumbs = from.get_all(name).iter().map(text);
                    into.insert(
                        headers::COOKIE,
                        crumbs.collect::<Result<Vec<_>, _>>()?.join("; "),
                    );
                }
            }
            _ if repeated => into.append(header_name(name)?, text(value)?),
            _ => drop(into.insert(header_name(name)?, text(value)?)),
        }
    }
    Ok(())
}

/// Headers with the room for as many as a browser sends. They cannot be made with it, but a copy has what its original
/// had; filling them one by one instead would hash each name three times over.
fn make_room(headers: &mut Headers, names: usize) {
    static ROOMY: OnceLock<Headers> = OnceLock::new();
    /// What fits without more room, and what fits into the room there is.
    const WORTH_IT: RangeInclusive<usize> = 4..=14;
    if WORTH_IT.contains(&names) {
        headers.clone_from(ROOMY.get_or_init(|| {
            let mut request = Request::new(Method::Get, "http://localhost/");
            let names: Vec<String> = (0..*WORTH_IT.end())
                .map(|number| format!("n{number}"))
                .collect();
            names
                .iter()
                .for_each(|name| request.append_header(&**name, ""));
            names
                .iter()
                .for_each(|name| drop(request.remove_header(&**name)));
            AsRef::<Headers>::as_ref(&request).clone()
        }));
    }
}

fn text(value: &HeaderValue) -> Result<&str, Refusal> {
    value.to_str().map_err(|_| BAD_HEADER)
}

/// Names that http-types knows cost nothing; any other is copied.
fn header_name(name: &hyper::header::HeaderName) -> Result<HeaderName, Refusal> {
    use hyper::header as known;
    Ok(match *name {
        known::ACCEPT => headers::ACCEPT,
        known::ACCEPT_CHARSET => headers::ACCEPT_CHARSET,
        known::ACCEPT_ENCODING => headers::ACCEPT_ENCODING,
        known::ACCEPT_LANGUAGE => headers::ACCEPT_LANGUAGE,
        known::ACCESS_CONTROL_REQUEST_HEADERS => headers::ACCESS_CONTROL_REQUEST_HEADERS,
        known::ACCESS_CONTROL_REQUEST_METHOD => headers::ACCESS_CONTROL_REQUEST_METHOD,
        known::AUTHORIZATION => headers::AUTHORIZATION,
        known::CACHE_CONTROL => headers::CACHE_CONTROL,
        known::CONNECTION => headers::CONNECTION,
        known::CONTENT_ENCODING => headers::CONTENT_ENCODING,
        known::CONTENT_LENGTH => headers::CONTENT_LENGTH,
        known::CONTENT_TYPE => headers::CONTENT_TYPE,
        known::COOKIE => headers::COOKIE,
        known::DATE => headers::DATE,
        known::EXPECT => headers::EXPECT,
        known::FORWARDED => headers::FORWARDED,
        known::HOST => headers::HOST,
        known::IF_MATCH => headers::IF_MATCH,
        known::IF_MODIFIED_SINCE => headers::IF_MODIFIED_SINCE,
        known::IF_NONE_MATCH => headers::IF_NONE_MATCH,
        known::IF_RANGE => headers::IF_RANGE,
        known::IF_UNMODIFIED_SINCE => headers::IF_UNMODIFIED_SINCE,
        known::ORIGIN => headers::ORIGIN,
        known::PRAGMA => headers::PRAGMA,
        known::REFERER => headers::REFERER,
        known::TE => headers::TE,
        known::TRAILER => headers::TRAILER,
        known::TRANSFER_ENCODING => headers::TRANSFER_ENCODING,
        known::UPGRADE => headers::UPGRADE,
        known::USER_AGENT => headers::USER_AGENT,
        known::VIA => headers::VIA,
        _ => HeaderName::from_str(name.as_str()).map_err(|_| BAD_HEADER)?,
    })
}
