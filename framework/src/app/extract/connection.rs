//! What a handler may know of its connection and its generation.

use std::fmt;
use std::future::{pending, ready, Future};
use std::net::SocketAddr;

use tide::Request;

use super::FromRequest;
use crate::app::request::given;
use crate::app::Rejection;
use crate::sync::token::Token;

/// Who asks: the other end of the connection. Behind a proxy that is the proxy.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[get("/peer")]
/// async fn peer(peer: Peer) -> String {
///     peer.to_string()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer(String);

impl Peer {
    /// Its address, if it is one of IP.
    ///
    /// ```
    /// # fn doc(peer: slackwater::Peer) -> bool {
    /// peer.address().is_some_and(|address| address.ip().is_loopback())
    /// # }
    /// ```
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.parse().ok()
    }
}

/// `127.0.0.1:53211`; over a Unix socket `unix:` and the client's path, most often empty.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<S> FromRequest<S> for Peer {
    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        ready(Ok(Peer(request.peer_addr().unwrap_or("").to_owned())))
    }
}

/// Whether the handler is to finish: its generation is replaced, or the process stops. For handlers that would go on.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[get("/wait")]
/// async fn wait(draining: Draining) -> &'static str {
///     draining.wait().await;
///     "the server has other plans"
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Draining(Option<Token>);

impl Draining {
    /// Resolves when the handler is to finish.
    ///
    /// ```
    /// # async fn doc(draining: slackwater::Draining) { draining.wait().await; }
    /// ```
    pub async fn wait(&self) {
        match &self.0 {
            Some(token) => token.wait().await,
            None => pending().await,
        }
    }

    /// Whether it has been told to.
    ///
    /// ```
    /// # fn doc(draining: slackwater::Draining) -> bool { draining.told() }
    /// ```
    #[must_use]
    pub fn told(&self) -> bool {
        self.0.as_ref().is_some_and(Token::is_triggered)
    }
}

impl<S> FromRequest<S> for Draining {
    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        ready(Ok(Draining(
            given(request).map(|given| given.draining.clone()),
        )))
    }
}
