//! Server-sent events: an answer that goes on, and that ends so that its clients come back, but not all at once.
//!
//! A browser's `EventSource` opens such a stream again whenever it ends. So when this server is to finish, each stream
//! ends in the orderly way, and the last thing on it is a `retry:` hint that is drawn anew for each: the clients come
//! back spread over `shutdown.close_spread`.
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
//! tide's own `tide::sse` works as well; there the handler has to watch [`draining`](crate::RequestExt::draining) itself.

mod event;
mod stream;

pub use event::Event;
pub use stream::{endpoint, stream, Events, Gone};
