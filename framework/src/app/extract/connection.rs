//! Extractors for the client's address and for the drain of the generation.

use std::fmt;
use std::future::{pending, ready, Future};
use std::net::SocketAddr;

use tide::Request;

use super::FromRequest;
use crate::app::request::context;
use crate::app::Rejection;
use crate::sync::token::Token;

/// The address of the client. Behind a proxy this is the address of the proxy.
///
/// It is displayed as `127.0.0.1:53211`, or, on a Unix socket, as `unix:` and the client's path, which is usually
/// empty.
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
    /// Returns the IP address and port; `None` on a Unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.parse().ok()
    }
}

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

/// A signal that the handler must finish, because a reload or an upgrade replaces its generation or the process
/// stops. Use it in handlers that otherwise run for a long time.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[get("/wait")]
/// async fn wait(draining: Draining) -> &'static str {
///     draining.wait().await;
///     "the server is draining"
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Draining(Option<Token>);

impl Draining {
    /// Resolves when the generation begins to drain.
    pub async fn wait(&self) {
        match &self.0 {
            Some(token) => token.wait().await,
            None => pending().await,
        }
    }

    /// Returns true if the generation drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.as_ref().is_some_and(Token::is_triggered)
    }
}

impl<S> FromRequest<S> for Draining {
    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        ready(Ok(Draining(
            context(request).and_then(|context| context.drain.token()),
        )))
    }
}
