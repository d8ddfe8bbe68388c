//! Who asked, and whether they are still there while a handler works.
//!
//! hyper does not read while a request is answered, so that a client that closes its sending half gets its answer, and
//! requests that were sent ahead wait in the socket. Whether the client is still there is told by the watch all the same
//! ([`Stream::peer_state`](crate::socket::Stream::peer_state)); `io` asks whenever hyper has nothing to do.

use std::future::{pending, Future};
use std::sync::Arc;

use super::memory::Memory;
use super::state::ConnState;

/// The client of one request; nobody, where no connection brought it.
#[derive(Clone, Default)]
pub(crate) struct Client(Option<Arc<ConnState>>);

impl Client {
    pub(super) fn of(conn: &Arc<ConnState>) -> Self {
        Client(Some(conn.clone()))
    }

    /// The memory budget of the process that serves the client.
    pub(crate) fn memory(&self) -> Option<&Arc<Memory>> {
        self.0.as_ref().map(|conn| &conn.shared.memory)
    }

    /// Resolves when the client has ended what it sends, or is gone.
    pub(crate) fn hung_up(&self) -> impl Future<Output = ()> + Send + 'static {
        // not the record itself: whoever waits keeps nothing of the connection
        let token = self.0.as_ref().map(|conn| conn.hung_up());
        async move {
            match token {
                Some(token) => token.wait().await,
                None => pending().await,
            }
        }
    }
}
