//! WebSockets (RFC 6455): a handler for each, and all that the protocol asks for around it.
//!
//! A handler receives and sends messages. Everything else is done for it: the handshake and its checks, pings in both
//! directions, fragments, limits, the closing handshake, and the end: when the server is to finish, each client is told
//! with the close code 1012 ("service restart") at a moment of its own within `shutdown.close_spread`, so that they do
//! not all come back at once. A client that does not answer that is cut with everything else, and named in the report
//! of the shutdown.
//!
//! ```
//! use slackwater::prelude::*;
//! use slackwater::ws;
//!
//! let mut app = App::new();
//! app.at("/echo").get(ws::endpoint(|_: slackwater::Request<()>, mut socket| async move {
//!     while let Some(message) = socket.recv().await {
//!         socket.send(message).await?;
//!     }
//!     Ok(())
//! }));
//! ```
//!
//! [`Upgrade`] is for a handler that looks at the request first, chooses a subprotocol or moves a limit.

mod conversation;
mod handshake;
mod heard;
mod socket;

pub use handshake::{endpoint, Upgrade};
pub use socket::{Closed, Message, Sender, WebSocket};
