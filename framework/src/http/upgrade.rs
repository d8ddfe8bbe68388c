//! A connection that changes its protocol: what is left of it after a 101, and who waits for it.

use std::fmt;
use std::sync::Arc;

use futures_lite::{AsyncRead, AsyncWrite};

use crate::sync::lock::Mutex;

/// A connection after a 101: bytes both ways.
pub(crate) trait Tunnel: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Tunnel for T {}

type Start = Box<dyn FnOnce(Box<dyn Tunnel>) + Send>;

/// Who waits for the connection, in the extensions of a 101. Dropped unused, it tells the waiting side that there
/// will be none.
#[derive(Clone)]
pub(crate) struct Upgrade(Arc<Mutex<Option<Start>>>);

impl Upgrade {
    pub(crate) fn new(start: impl FnOnce(Box<dyn Tunnel>) + Send + 'static) -> Self {
        Upgrade(Arc::new(Mutex::new(Some(Box::new(start)))))
    }

    /// Gives the connection away, when the 101 is written. Only the first call does anything.
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
