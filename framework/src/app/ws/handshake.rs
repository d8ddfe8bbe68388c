//! The opening handshake (RFC 6455, section 4.2): the checks on a request before its connection becomes a WebSocket.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_std::task;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use futures_lite::future::block_on;
use tide::http::headers::{
    HeaderValues, CONNECTION, CONTENT_LENGTH, HOST, ORIGIN, TRANSFER_ENCODING, UPGRADE,
};
use tide::http::Method;
use tide::{Endpoint, Request, Response, StatusCode};

use super::conversation::{self, Options};
use super::WebSocket;
use crate::app::request::{body_limit, context, drain_signal};
use crate::error::Result;
use crate::http::memory::Memory;
use crate::http::DrainSignal;

/// Default limit on a message in bytes, if neither the route nor the settings limit a body.
const MAX_MESSAGE: u64 = 64 << 20;

/// Default time without received bytes after which the client is pinged.
const PING: Duration = Duration::from_secs(30);

const KEY: &str = "sec-websocket-key";
const VERSION: &str = "sec-websocket-version";
const PROTOCOL: &str = "sec-websocket-protocol";
const ACCEPT: &str = "sec-websocket-accept";

/// Returns an endpoint that opens a WebSocket for each request and calls `handler` with it. [`Upgrade`] lists the
/// checks on the request.
///
/// ```
/// use slackwater::prelude::*;
/// use slackwater::ws;
///
/// let mut app = App::with_state("Hello".to_owned());
/// app.at("/greet").get(ws::endpoint(|request: slackwater::Request<String>, socket| async move {
///     socket.send(request.state().as_str()).await?;
///     Ok(())
/// }));
/// ```
pub fn endpoint<S, F, Fut>(handler: F) -> impl Endpoint<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(Request<S>, WebSocket) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    move |request: Request<S>| {
        let handler = handler.clone();
        let response = Upgrade::of(&request).serve(move |socket| handler(request, socket));
        async { Ok(response) }
    }
}

/// A request for a WebSocket, and the options of the WebSocket.
///
/// The response is 426 if the request is not a WebSocket handshake or has another version than 13, 400 if its key is
/// invalid or if it has content, and 403 if its `Origin` is not allowed.
///
/// ```
/// use slackwater::ws::Upgrade;
///
/// async fn chat(request: slackwater::Request<()>) -> tide::Result {
///     let name = request.url().query_pairs().find(|(key, _)| key == "name").map(|(_, name)| name.into_owned());
///     let name = name.ok_or_else(|| tide::Error::from_str(400, "the parameter `name` is missing"))?;
///     let upgrade = Upgrade::of(&request).protocols(["chat.v2", "chat.v1"]).max_message(64 << 10);
///     Ok(upgrade.serve(|socket| async move {
///         socket.send(format!("{name} joined")).await?;
///         Ok(())
///     }))
/// }
/// ```
#[derive(Debug)]
pub struct Upgrade {
    key: Result<String, HandshakeError>,
    offered: Vec<String>,
    protocol: Option<String>,
    origin: Option<String>,
    allowed: AllowedOrigins,
    host: Option<String>,
    max_message: u64,
    ping: Option<Duration>,
    drain: DrainSignal,
    memory: Option<Arc<Memory>>,
}

/// The origins of the pages that may open a WebSocket.
#[derive(Debug)]
enum AllowedOrigins {
    /// Pages from the host in the request's `Host`.
    Same,
    /// All pages.
    Any,
    /// Pages from the same host, and pages with these origins, in lower case.
    List(Vec<String>),
}

/// The reason a handshake was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandshakeError {
    NotAHandshake,
    UnsupportedVersion,
    InvalidKey,
    HasContent,
    OriginNotAllowed,
}

impl Upgrade {
    /// Checks the handshake of a request.
    #[must_use]
    pub fn of<S>(request: &Request<S>) -> Self {
        let text = |name| {
            request
                .header(name)
                .map(|values| values.last().as_str().to_owned())
        };
        Upgrade {
            key: key(request),
            offered: request
                .header(PROTOCOL)
                .map(|values| tokens(values).map(str::to_owned).collect())
                .unwrap_or_default(),
            protocol: None,
            origin: text(ORIGIN.as_str()),
            allowed: AllowedOrigins::Same,
            host: text(HOST.as_str()),
            max_message: body_limit(request).unwrap_or(MAX_MESSAGE),
            ping: Some(PING),
            drain: drain_signal(request),
            memory: context(request)
                .and_then(|context| context.client.memory())
                .cloned(),
        }
    }

    /// Sets the supported subprotocols in order of preference. The first protocol that the client offers is selected. If
    /// the client offers none of them, the WebSocket has no subprotocol, and the client decides whether it continues.
    #[must_use]
    pub fn protocols<'a>(mut self, supported: impl IntoIterator<Item = &'a str>) -> Self {
        let mut supported = supported.into_iter();
        self.protocol = supported
            .find(|protocol| self.offered.iter().any(|offered| offered == protocol))
            .map(str::to_owned);
        self
    }

    /// Sets the limit on a received message in bytes, over all of its fragments. A longer message closes the
    /// WebSocket with 1009. The default is the body limit of the route: [`BodyLimit`](crate::BodyLimit), or else
    /// `http.body_limit` (2 MiB).
    #[must_use]
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = bytes;
        self
    }

    /// Sets the time without received bytes after which the client is pinged. If the client then sends nothing for
    /// the same time, the connection is closed. The default is 30 seconds; `None` disables pings.
    #[must_use]
    pub fn ping(mut self, silence: Option<Duration>) -> Self {
        self.ping = silence;
        self
    }

    /// Allows pages with these origins, such as `https://shop.example`, in addition to pages of the same host.
    ///
    /// By default the `Origin` must name the same host as `Host`. Browsers send cookies with a handshake from any
    /// page, so without this check a page of another site could act with the user's session. A request without an
    /// `Origin` is always allowed, because it does not come from a browser.
    #[must_use]
    pub fn origins<'a>(mut self, allowed: impl IntoIterator<Item = &'a str>) -> Self {
        self.allowed =
            AllowedOrigins::List(allowed.into_iter().map(str::to_ascii_lowercase).collect());
        self
    }

    /// Allows pages of all origins. Use it only if the handler does not depend on cookies.
    #[must_use]
    pub fn any_origin(mut self) -> Self {
        self.allowed = AllowedOrigins::Any;
        self
    }

    /// Returns the response: 101, after which `handler` is called with the WebSocket, or an error response.
    ///
    /// The connection is closed when the handler returns. An error of the handler is logged, except
    /// [`Closed`](super::Closed).
    ///
    /// ```
    /// # use slackwater::ws::Upgrade;
    /// async fn echo(request: slackwater::Request<()>) -> tide::Result {
    ///     Ok(Upgrade::of(&request).serve(|mut socket| async move {
    ///         while let Some(message) = socket.recv().await {
    ///             socket.send(message).await?;
    ///         }
    ///         Ok(())
    ///     }))
    /// }
    /// ```
    #[must_use]
    pub fn serve<F, Fut>(self, handler: F) -> Response
    where
        F: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let key = match self.checked() {
            Ok(key) => key,
            Err(error) => return error.response(),
        };
        let mut response = Response::new(StatusCode::SwitchingProtocols);
        response.insert_header(UPGRADE, "websocket");
        response.insert_header(CONNECTION, "upgrade");
        response.insert_header(ACCEPT, derive_accept_key(key.as_bytes()));
        if let Some(protocol) = &self.protocol {
            response.insert_header(PROTOCOL, protocol.as_str());
        }
        // `recv_upgrade` is an async function that never waits, so `block_on` returns at once
        let connection =
            block_on(AsMut::<tide::http::Response>::as_mut(&mut response).recv_upgrade());
        let Upgrade {
            protocol,
            max_message,
            ping,
            drain,
            memory,
            ..
        } = self;
        let options = Options {
            max_message: usize::try_from(max_message).unwrap_or(usize::MAX),
            ping,
            drain,
            memory,
        };
        task::spawn(async move {
            // `None` if the client disconnected before the 101 was written
            if let Some(connection) = connection.await {
                conversation::hold(connection, protocol, options, handler).await;
            }
        });
        response
    }

    fn checked(&self) -> Result<&str, HandshakeError> {
        let key = self.key.as_deref().map_err(|error| *error)?;
        let allowed = match (&self.origin, &self.allowed) {
            (None, _) | (_, AllowedOrigins::Any) => true,
            (Some(origin), allowed) => {
                let origin = origin.to_ascii_lowercase();
                let listed =
                    matches!(allowed, AllowedOrigins::List(list) if list.contains(&origin));
                listed
                    || self
                        .host
                        .as_deref()
                        .is_some_and(|host| is_same_host(&origin, host))
            }
        };
        allowed
            .then_some(key)
            .ok_or(HandshakeError::OriginNotAllowed)
    }
}

/// Returns true if the origin's host and port are those of `host`. The scheme is not compared, because a proxy may
/// terminate TLS.
fn is_same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let without_default_port = |authority: &str| {
        authority
            .strip_suffix(default_port)
            .unwrap_or(authority)
            .to_owned()
    };
    without_default_port(authority) == without_default_port(&host.to_ascii_lowercase())
}

/// Returns the client's key if the request is a valid handshake.
fn key<S>(request: &Request<S>) -> Result<String, HandshakeError> {
    let contains = |name, token: &str| {
        request
            .header(name)
            .is_some_and(|values| tokens(values).any(|member| member.eq_ignore_ascii_case(token)))
    };
    if request.method() != Method::Get
        || !contains(UPGRADE, "websocket")
        || !contains(CONNECTION, "upgrade")
    {
        return Err(HandshakeError::NotAHandshake);
    }
    let only = |name| match request.header(name) {
        Some(values) if values.iter().count() == 1 => Some(values.last().as_str()),
        _ => None,
    };
    if only(VERSION) != Some("13") {
        return Err(HandshakeError::UnsupportedVersion);
    }
    if has_content(request) {
        return Err(HandshakeError::HasContent);
    }
    only(KEY)
        .filter(|key| is_nonce(key))
        .map(str::to_owned)
        .ok_or(HandshakeError::InvalidKey)
}

/// Returns true if the request announces content. A handshake is a GET (RFC 6455, section 4.1), whose content has no
/// meaning (RFC 9110, section 9.3.1), and it must end before the first frame.
fn has_content<S>(request: &Request<S>) -> bool {
    let is_positive = |values: &HeaderValues| {
        let length = values.last().as_str().trim().parse::<u64>();
        length != Ok(0)
    };
    request.header(TRANSFER_ENCODING).is_some()
        || request.header(CONTENT_LENGTH).is_some_and(is_positive)
}

/// Returns true if the key is 16 bytes in base64: 22 digits, the last of which carries two bits, and two padding
/// characters.
fn is_nonce(key: &str) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key.as_bytes() {
        [digits @ .., b'=', b'='] => {
            digits.len() == 22
                && digits.iter().all(is_digit)
                && matches!(digits[21], b'A' | b'Q' | b'g' | b'w')
        }
        _ => false,
    }
}

/// Returns the members of a comma-separated header.
fn tokens(values: &HeaderValues) -> impl Iterator<Item = &str> {
    values
        .iter()
        .flat_map(|value| value.as_str().split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

impl HandshakeError {
    fn response(self) -> Response {
        let (status, detail) = match self {
            HandshakeError::NotAHandshake => (
                StatusCode::UpgradeRequired,
                "only WebSocket handshakes are accepted",
            ),
            HandshakeError::UnsupportedVersion => (
                StatusCode::UpgradeRequired,
                "only WebSocket version 13 is supported",
            ),
            HandshakeError::InvalidKey => (
                StatusCode::BadRequest,
                "Sec-WebSocket-Key is not 16 bytes in base64",
            ),
            HandshakeError::HasContent => (
                StatusCode::BadRequest,
                "a WebSocket handshake has no content",
            ),
            HandshakeError::OriginNotAllowed => {
                (StatusCode::Forbidden, "the Origin is not allowed")
            }
        };
        let mut response = Response::new(status);
        response.set_error(tide::Error::from_str(status, detail));
        if status == StatusCode::UpgradeRequired {
            response.insert_header(UPGRADE, "websocket");
            response.insert_header(CONNECTION, "upgrade");
            response.insert_header(VERSION, "13");
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_sixteen_bytes_in_base64() {
        for key in [
            "dGhlIHNhbXBsZSBub25jZQ==",
            "AAAAAAAAAAAAAAAAAAAAAA==",
            "/+/+/+/+/+/+/+/+/+/+/w==",
        ] {
            assert!(is_nonce(key), "{key}");
        }
        let invalid = [
            "",
            "==",
            "dGhlIHNhbXBsZSBub25jZR==",
            "dGhlIHNhbXBsZSBub25jZQ",
            "c2hvcnQ=",
            "dGhlIHNhbXBsZSBub25j ZQ==",
        ];
        for key in invalid {
            assert!(!is_nonce(key), "{key}");
        }
    }

    #[test]
    fn an_origin_matches_the_host_with_and_without_tls() {
        let same = [
            ("http://shop.example", "shop.example"),
            ("https://shop.example", "Shop.Example:443"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("https://[::1]:8443", "[::1]:8443"),
        ];
        for (origin, host) in same {
            assert!(is_same_host(origin, host), "{origin} {host}");
        }
        let other = [
            ("http://evil.example", "shop.example"),
            ("http://shop.example:81", "shop.example"),
            ("null", "shop.example"),
            ("file://shop.example", "shop.example"),
            ("http://shop.example.evil.example", "shop.example"),
        ];
        for (origin, host) in other {
            assert!(!is_same_host(origin, host), "{origin} {host}");
        }
    }
}
