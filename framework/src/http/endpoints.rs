//! The addresses of a connection, as text.

use std::sync::Arc;

/// The two addresses of a connection. They are formatted once for each connection.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// The client's address, for example `127.0.0.1:53211`. For a Unix socket it is `unix:` and the client's path, which
    /// is usually empty.
    pub(crate) peer: String,
    /// The address of the listener: `127.0.0.1:8080`, or `unix:/run/app.sock`.
    pub(crate) local: Arc<str>,
}
