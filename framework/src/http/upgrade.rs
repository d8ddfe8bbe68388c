//! A connection that changes its protocol, and the handler that takes it over after the 101.

use std::fmt;
use std::sync::Arc;

use futures_lite::{AsyncRead, AsyncWrite};

use crate::sync::lock::Mutex;

/// A connection after a 101: a stream of bytes in both directions.
pub(crate) trait Tunnel: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Tunnel for T {}

type Start = Box<dyn FnOnce(Box<dyn Tunnel>) + Send>;

/// The handler that waits for the connection, stored in the extensions of a 101. If it is dropped unused, the
/// handler's future resolves without a connection.
#[derive(Clone)]
pub(crate) struct Upgrade(Arc<Mutex<Option<Start>>>);

impl Upgrade {
    pub(crate) fn new(start: impl FnOnce(Box<dyn Tunnel>) + Send + 'static) -> Self {
        Upgrade(Arc::new(Mutex::new(Some(Box::new(start)))))
    }

    /// Passes the connection to the handler after the 101 was written. Only the first call has an effect.
    pub(crate) fn start(&self, tunnel: Box<dyn Tunnel>) {
        let start = self.0.lock().take();
        if let Some(start) = start {
            start(tunnel);
        }
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrade")
    }
}
