//! The client of a request, and whether it is still connected while the handler works.
//!
//! hyper does not read from the socket while a handler works. Therefore a client that half-closes still receives its
//! answer, and pipelined requests wait in the socket. The socket's watch reports a disconnection nevertheless
//! ([`Stream::peer_state`](crate::socket::Stream::peer_state)); `io` checks it whenever hyper is idle.

use std::future::{pending, Future};
use std::sync::Arc;

use super::memory::Memory;
use super::state::ConnState;

/// The client of one request. It is empty if the request came without a connection, as in a test in process.
#[derive(Clone, Default)]
pub(crate) struct Client(Option<Arc<ConnState>>);

impl Client {
    pub(super) fn of(conn: &Arc<ConnState>) -> Self {
        Client(Some(conn.clone()))
    }

    /// Returns the memory budget of the process, or `None` without a connection.
    pub(crate) fn memory(&self) -> Option<&Arc<Memory>> {
        self.0.as_ref().map(|conn| &conn.shared.memory)
    }

    /// Resolves when the client disconnects or half-closes.
    pub(crate) fn hung_up(&self) -> impl Future<Output = ()> + Send + 'static {
        // only the token: the future must not keep the state of the connection alive
        let token = self.0.as_ref().map(|conn| conn.half_closed());
        async move {
            match token {
                Some(token) => token.wait().await,
                None => pending().await,
            }
        }
    }
}
