//! Serving: who is connected, what answers them, and how far a drain has come. What starts and ends it is lifecycle's.

mod accept;
mod connections;
mod dispatcher;
mod generation;
mod health;
mod registry;
mod templates;
mod tunnel;

pub(crate) use accept::{empty_queue, Acceptor};
pub(crate) use connections::{Connections, Count};
pub(crate) use dispatcher::{Dispatcher, Readiness, Reserved};
pub(crate) use generation::{Generation, Prepared};
pub use registry::Cut;
