//! WebSockets (RFC 6455).
//!
//! A handler receives and sends messages. The framework does the rest: the handshake and its checks, pings in both
//! directions, fragments, limits and the closing handshake. When the generation drains, each client gets the close
//! code 1012 ("service restart") at a random time within `shutdown.close_spread`, so that not all clients reconnect
//! at the same time. A client that does not answer the close is disconnected at the end of the shutdown, and named in
//! its report.
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
//! Use [`Upgrade`] to inspect the request first, to negotiate a subprotocol or to change a limit.

mod activity;
mod conversation;
mod handshake;
mod socket;

pub use handshake::{endpoint, Upgrade};
pub use socket::{Closed, Message, Sender, WebSocket};
