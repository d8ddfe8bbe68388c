//! Converts the head of a request from hyper's types to tide's.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::OnceLock;

use hyper::header::{HeaderValue, CONTENT_TYPE, COOKIE, UPGRADE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode, Version};
use tide::http::headers::{self, HeaderName, Headers};
use tide::http::{Method, Request};

use super::problem::RequestError;
use super::reader::{BodyReader, IncomingBody, SharedBodyError};
use super::target::Target;
use crate::http::body::BodyLimit;
use crate::http::{Client, Context, DrainSignal};

/// The framework's values for a request, stored in its extensions.
pub(crate) struct RequestContext {
    pub(crate) client: Client,
    /// The drain of the generation that answers.
    pub(crate) drain: DrainSignal,
    /// The limit on the request's body.
    pub(crate) limit: BodyLimit,
}

/// A valid request.
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once for each request; a box would cost more"
)]
pub(super) enum TideRequest {
    /// A request for a route. `body_error` is set if there is a body.
    Route {
        request: Request,
        body_error: Option<SharedBodyError>,
    },
    /// `OPTIONS *`, which concerns the server as a whole and has no route.
    ServerOptions,
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the head ends here, and its buffers are freed before the handler runs"
)]
pub(super) fn convert<B: IncomingBody>(
    head: Parts,
    body: B,
    limit: BodyLimit,
    context: Context,
) -> Result<TideRequest, RequestError> {
    let method = method(&head.method)?;
    let (url, authority) = match Target::of(&head, &context.endpoints.local)? {
        Target::Resource { url, authority } => (url, authority),
        Target::Server => return Ok(TideRequest::ServerOptions),
    };
    let mut request = Request::new(method, url);
    request.set_version(Some(version(head.version)));
    request.set_peer_addr(Some(context.endpoints.peer.as_str()));
    request.set_local_addr(Some(&*context.endpoints.local));
    copy_headers(&head.headers, request.as_mut(), head.version)?;
    if let Some(authority) = authority {
        request.insert_header(headers::HOST, authority);
    }
    let body_error =
        (!body.is_end_stream()).then(|| attach_body(&mut request, body, &head.headers));
    let Context { client, drain, .. } = context;
    request.ext_mut().insert(RequestContext {
        client,
        drain,
        limit,
    });
    Ok(TideRequest::Route {
        request,
        body_error,
    })
}

/// Sets the body of the request. It is not polled before the handler reads it, so "100 Continue" is not sent before
/// either.
fn attach_body<B: IncomingBody>(
    request: &mut Request,
    body: B,
    headers: &HeaderMap,
) -> SharedBodyError {
    let body_error = SharedBodyError::default();
    let length = body
        .size_hint()
        .exact()
        .and_then(|length| usize::try_from(length).ok());
    // only a body of unknown length can have trailers, and a handler that waits for them waits for the body's end
    let trailers = length.is_none().then(|| request.send_trailers());
    let reader = BodyReader::new(body, body_error.clone(), trailers);
    request.set_body(tide::Body::from_reader(reader, length));
    if !headers.contains_key(CONTENT_TYPE) {
        // set_body sets a type even if the client sent none
        request.remove_header(headers::CONTENT_TYPE);
    }
    body_error
}

/// Converts a method. tide supports a closed list of methods, and parses them in any case, but methods are
/// case-sensitive.
fn method(method: &hyper::Method) -> Result<Method, RequestError> {
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

const UNKNOWN_METHOD: RequestError =
    RequestError::unsupported(StatusCode::NOT_IMPLEMENTED, "the method is not supported");
const BAD_HEADER: RequestError =
    RequestError::new(StatusCode::BAD_REQUEST, "a header is not plain ASCII");

fn copy_headers(
    from: &HeaderMap,
    into: &mut Headers,
    version: Version,
) -> Result<(), RequestError> {
    reserve(into, from.keys_len());
    // hyper's iterator returns the values of one name in sequence
    let mut last = None;
    for (name, value) in from {
        let repeated = last.replace(name) == Some(name);
        match *name {
            // RFC 9110, section 7.8: HTTP/1.0 cannot upgrade
            UPGRADE if version == Version::HTTP_10 => {}
            // RFC 9113, section 8.2.3: HTTP/2 may send each cookie in a field of its own
            COOKIE if version == Version::HTTP_2 => {
                if !repeated {
                    let cookies = from.get_all(name).iter().map(text);
                    into.insert(
                        headers::COOKIE,
                        cookies.collect::<Result<Vec<_>, _>>()?.join("; "),
                    );
                }
            }
            _ if repeated => into.append(header_name(name)?, text(value)?),
            _ => drop(into.insert(header_name(name)?, text(value)?)),
        }
    }
    Ok(())
}

/// Gives empty headers the capacity for the headers of a browser, so that the map does not grow step by step, which
/// would hash each name three times.
///
/// http-types has no constructor with a capacity, but a clone keeps the capacity of its original.
fn reserve(headers: &mut Headers, names: usize) {
    static WITH_CAPACITY: OnceLock<Headers> = OnceLock::new();
    /// The numbers of names that exceed the capacity of new headers and fit into the larger capacity.
    const WORTH_IT: RangeInclusive<usize> = 4..=14;
    if WORTH_IT.contains(&names) {
        headers.clone_from(WITH_CAPACITY.get_or_init(|| {
            let mut request = Request::new(Method::Get, "http://localhost/");
            let names: Vec<String> = (0..*WORTH_IT.end())
                .map(|number| format!("n{number}"))
                .collect();
            for name in &names {
                request.append_header(&**name, "");
            }
            for name in &names {
                request.remove_header(&**name);
            }
            AsRef::<Headers>::as_ref(&request).clone()
        }));
    }
}

fn text(value: &HeaderValue) -> Result<&str, RequestError> {
    value.to_str().map_err(|_| BAD_HEADER)
}

/// Converts a name. A name that http-types has as a constant is not copied.
fn header_name(name: &hyper::header::HeaderName) -> Result<HeaderName, RequestError> {
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
