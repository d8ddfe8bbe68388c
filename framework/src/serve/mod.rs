//! Serves the application: acceptors, connections, the dispatcher and its built-in answers, generations.
//!
//! `lifecycle` decides when each of them starts and ends.

mod accept;
mod builtin;
mod connections;
mod dispatcher;
mod generation;
mod health;
mod registry;
mod templates;
mod tunnel;

pub(crate) use accept::{empty_queue, Acceptor};
pub(crate) use connections::{Connections, OpenConnections};
pub(crate) use dispatcher::{Dispatcher, DispatcherSettings};
pub(crate) use generation::{Generation, PreparedGeneration};
pub(crate) use health::Readiness;
pub use registry::Cut;
