//! Server-sent events: event streams that end when their generation drains.
//!
//! A browser's `EventSource` reconnects whenever a stream ends. When the generation drains, the server ends each stream
//! properly and sends a `retry:` hint last. The hint is random, so that the clients reconnect spread over
//! `shutdown.close_spread`.
//!
//! ```
//! use slackwater::prelude::*;
//! use slackwater::sse::{self, Event};
//!
//! let mut app = App::new();
//! app.at("/clock").get(sse::endpoint(|_: slackwater::Request<()>, events| async move {
//!     for n in 0_u64.. {
//!         events.send(Event::data(n.to_string()).name("tick")).await?;
//!         async_std::task::sleep(std::time::Duration::from_secs(1)).await;
//!     }
//!     Ok(())
//! }));
//! ```
//!
//! `tide::sse` works as well, but there the handler must wait for [`draining`](crate::RequestExt::draining) itself.

mod event;
mod stream;

pub use event::Event;
pub use stream::{endpoint, stream, Closed, Events};
