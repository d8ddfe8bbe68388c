//! The opening handshake (RFC 6455, section 4.2): what has to be right before a connection becomes a WebSocket.

use std::future::Future;
use std::time::Duration;

use async_std::task;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use futures_lite::future::block_on;
use tide::http::headers::{
    HeaderValues, CONNECTION, CONTENT_LENGTH, HOST, ORIGIN, TRANSFER_ENCODING, UPGRADE,
};
use tide::http::Method;
use tide::{Endpoint, Request, Response, StatusCode};

use super::conversation::{self, Manners};
use super::WebSocket;
use crate::app::request::{body_limit, parting, Parting};
use crate::error::Result;

/// The longest message where neither the route nor the settings limit a body.
const LARGE: u64 = 64 << 20;

/// How long a client may be silent before it is asked whether it is still there.
const PING: Duration = Duration::from_secs(30);

const KEY: &str = "sec-websocket-key";
const VERSION: &str = "sec-websocket-version";
const PROTOCOL: &str = "sec-websocket-protocol";
const ACCEPT: &str = "sec-websocket-accept";

/// A route of WebSockets: `handler` is called for each. See [`Upgrade`] for what is checked first.
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

/// A request that would become a WebSocket, and what is asked of it.
///
/// A request that asks for no WebSocket, or for another version than 13, is answered 426; one with a bad key or with
/// content 400; one from a page of another site 403.
///
/// ```
/// use slackwater::ws::Upgrade;
///
/// async fn chat(request: slackwater::Request<()>) -> tide::Result {
///     let name = request.url().query_pairs().find(|(key, _)| key == "name").map(|(_, name)| name.into_owned());
///     let name = name.ok_or_else(|| tide::Error::from_str(400, "who are you?"))?;
///     let upgrade = Upgrade::of(&request).protocols(["chat.v2", "chat.v1"]).max_message(64 << 10);
///     Ok(upgrade.serve(|socket| async move {
///         socket.send(format!("{name} came in")).await?;
///         Ok(())
///     }))
/// }
/// ```
#[derive(Debug)]
pub struct Upgrade {
    key: Result<String, Refusal>,
    offered: Vec<String>,
    protocol: Option<String>,
    origin: Option<String>,
    allowed: Origins,
    host: Option<String>,
    max_message: u64,
    ping: Option<Duration>,
    parting: Parting,
}

/// The pages that may open a WebSocket here.
#[derive(Debug)]
enum Origins {
    Same,
    Any,
    These(Vec<String>),
}

/// Why a connection cannot become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NotAsked,
    OtherVersion,
    BadKey,
    HasContent,
    OtherOrigin,
}

impl Upgrade {
    /// Looks at a request.
    ///
    /// ```
    /// # fn handler(request: slackwater::Request<()>) {
    /// let upgrade = slackwater::ws::Upgrade::of(&request);
    /// # }
    /// ```
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
            allowed: Origins::Same,
            host: text(HOST.as_str()),
            max_message: body_limit(request).unwrap_or(LARGE),
            ping: Some(PING),
            parting: parting(request),
        }
    }

    /// The subprotocols that are spoken here, the best first: the first of them that the client offers is agreed on.
    /// With none in common there is none, and it is the client's to be content with that.
    ///
    /// ```
    /// # fn handler(request: slackwater::Request<()>) {
    /// let upgrade = slackwater::ws::Upgrade::of(&request).protocols(["chat.v2", "chat.v1"]);
    /// # }
    /// ```
    #[must_use]
    pub fn protocols<'a>(mut self, spoken: impl IntoIterator<Item = &'a str>) -> Self {
        let mut spoken = spoken.into_iter();
        self.protocol = spoken
            .find(|spoken| self.offered.iter().any(|one| one == spoken))
            .map(str::to_owned);
        self
    }

    /// The longest message that is taken, in bytes and over all of its fragments; a longer one closes with 1009. By
    /// default the body limit of the route, which is `http.body_limit` (2 MiB) unless moved.
    ///
    /// ```
    /// # fn handler(request: slackwater::Request<()>) {
    /// let upgrade = slackwater::ws::Upgrade::of(&request).max_message(64 << 10);
    /// # }
    /// ```
    #[must_use]
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = bytes;
        self
    }

    /// After how long a silence the client is pinged, and after how much longer without any answer the connection is
    /// taken for dead; 30 seconds each by default. `None` waits for ever.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn handler(request: slackwater::Request<()>) {
    /// let upgrade = slackwater::ws::Upgrade::of(&request).ping(Some(Duration::from_secs(10)));
    /// # }
    /// ```
    #[must_use]
    pub fn ping(mut self, silence: Option<Duration>) -> Self {
        self.ping = silence;
        self
    }

    /// Lets the pages of these sites open a WebSocket here, beside those of this one: `https://shop.example`.
    ///
    /// Browsers send their cookies with the handshake and ask nobody, so by default a page of another site is
    /// refused: its `Origin` has to name the host that the request went to. A client that is no browser sends no
    /// `Origin`, and is not asked.
    ///
    /// ```
    /// # fn handler(request: slackwater::Request<()>) {
    /// let upgrade = slackwater::ws::Upgrade::of(&request).origins(["https://shop.example"]);
    /// # }
    /// ```
    #[must_use]
    pub fn origins<'a>(mut self, allowed: impl IntoIterator<Item = &'a str>) -> Self {
        self.allowed = Origins::These(allowed.into_iter().map(str::to_ascii_lowercase).collect());
        self
    }

    /// Lets the pages of any site open a WebSocket here: where nothing depends on a cookie.
    ///
    /// ```
    /// # fn handler(request: slackwater::Request<()>) {
    /// let upgrade = slackwater::ws::Upgrade::of(&request).any_origin();
    /// # }
    /// ```
    #[must_use]
    pub fn any_origin(mut self) -> Self {
        self.allowed = Origins::Any;
        self
    }

    /// The answer: a 101, after which `handler` has the WebSocket, or a refusal, and `handler` is not called.
    ///
    /// The connection closes when the handler returns. An error that it returns is logged; [`Closed`](super::Closed)
    /// is none.
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
            Err(refusal) => return refusal.answer(),
        };
        let mut response = Response::new(StatusCode::SwitchingProtocols);
        response.insert_header(UPGRADE, "websocket");
        response.insert_header(CONNECTION, "upgrade");
        response.insert_header(ACCEPT, derive_accept_key(key.as_bytes()));
        if let Some(protocol) = &self.protocol {
            response.insert_header(PROTOCOL, protocol.as_str());
        }
        // async for no reason: nothing in it waits
        let connection =
            block_on(AsMut::<tide::http::Response>::as_mut(&mut response).recv_upgrade());
        let Upgrade {
            protocol,
            max_message,
            ping,
            parting,
            ..
        } = self;
        let manners = Manners {
            max_message: usize::try_from(max_message).unwrap_or(usize::MAX),
            ping,
            parting,
        };
        task::spawn(async move {
            // none comes where the client was gone before the 101 was written
            if let Some(connection) = connection.await {
                conversation::hold(connection, protocol, manners, handler).await;
            }
        });
        response
    }

    fn checked(&self) -> Result<&str, Refusal> {
        let key = self.key.as_deref().map_err(|refusal| *refusal)?;
        let welcome = match (&self.origin, &self.allowed) {
            (None, _) | (_, Origins::Any) => true,
            (Some(origin), allowed) => {
                let origin = origin.to_ascii_lowercase();
                let listed = matches!(allowed, Origins::These(these) if these.contains(&origin));
                listed
                    || self
                        .host
                        .as_deref()
                        .is_some_and(|host| is_of(&origin, host))
            }
        };
        welcome.then_some(key).ok_or(Refusal::OtherOrigin)
    }
}

/// Whether a page of this origin came from that host. The scheme is not compared: TLS may end before this server.
fn is_of(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |authority: &str| {
        authority
            .strip_suffix(default)
            .unwrap_or(authority)
            .to_owned()
    };
    bare(authority) == bare(&host.to_ascii_lowercase())
}

/// The client's key, if this is a handshake at all.
fn key<S>(request: &Request<S>) -> Result<String, Refusal> {
    let says = |name, token: &str| {
        request
            .header(name)
            .is_some_and(|values| tokens(values).any(|said| said.eq_ignore_ascii_case(token)))
    };
    if request.method() != Method::Get
        || !says(UPGRADE, "websocket")
        || !says(CONNECTION, "upgrade")
    {
        return Err(Refusal::NotAsked);
    }
    let only = |name| match request.header(name) {
        Some(values) if values.iter().count() == 1 => Some(values.last().as_str()),
        _ => None,
    };
    if only(VERSION) != Some("13") {
        return Err(Refusal::OtherVersion);
    }
    if has_content(request) {
        return Err(Refusal::HasContent);
    }
    only(KEY)
        .filter(|key| is_nonce(key))
        .map(str::to_owned)
        .ok_or(Refusal::BadKey)
}

/// Returns true if the request announces content. A handshake is a GET (RFC 6455, section 4.1), whose content has no
/// meaning (RFC 9110, section 9.3.1), and it must end before the first frame.
fn has_content<S>(request: &Request<S>) -> bool {
    let says_more_than_zero = |values: &HeaderValues| {
        let length = values.last().as_str().trim().parse::<u64>();
        length != Ok(0)
    };
    request.header(TRANSFER_ENCODING).is_some()
        || request
            .header(CONTENT_LENGTH)
            .is_some_and(says_more_than_zero)
}

/// Sixteen bytes in base64: 22 digits, of which the last carries four bits, and two signs of padding.
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

/// The members of a header that is a list.
fn tokens(values: &HeaderValues) -> impl Iterator<Item = &str> {
    values
        .iter()
        .flat_map(|value| value.as_str().split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

impl Refusal {
    fn answer(self) -> Response {
        let (status, why) = match self {
            Refusal::NotAsked => (StatusCode::UpgradeRequired, "this is a WebSocket"),
            Refusal::OtherVersion => (
                StatusCode::UpgradeRequired,
                "only version 13 of WebSocket is spoken here",
            ),
            Refusal::BadKey => (
                StatusCode::BadRequest,
                "Sec-WebSocket-Key is not 16 bytes in base64",
            ),
            Refusal::HasContent => (
                StatusCode::BadRequest,
                "a WebSocket handshake has no content",
            ),
            Refusal::OtherOrigin => (StatusCode::Forbidden, "the page is of another site"),
        };
        let mut response = Response::new(status);
        response.set_error(tide::Error::from_str(status, why));
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
        let others = [
            "",
            "==",
            "dGhlIHNhbXBsZSBub25jZR==",
            "dGhlIHNhbXBsZSBub25jZQ",
            "c2hvcnQ=",
            "dGhlIHNhbXBsZSBub25j ZQ==",
        ];
        for key in others {
            assert!(!is_nonce(key), "{key}");
        }
    }

    #[test]
    fn an_origin_is_the_hosts_own_whatever_ends_tls() {
        let same = [
            ("http://shop.example", "shop.example"),
            ("https://shop.example", "Shop.Example:443"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("https://[::1]:8443", "[::1]:8443"),
        ];
        for (origin, host) in same {
            assert!(is_of(origin, host), "{origin} {host}");
        }
        let other = [
            ("http://evil.example", "shop.example"),
            ("http://shop.example:81", "shop.example"),
            ("null", "shop.example"),
            ("file://shop.example", "shop.example"),
            ("http://shop.example.evil.example", "shop.example"),
        ];
        for (origin, host) in other {
            assert!(!is_of(origin, host), "{origin} {host}");
        }
    }
}
