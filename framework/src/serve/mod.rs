//! Serving: who is connected, what answers them, and how far a drain has come. What starts and ends it is lifecycle's.

mod accept;
mod generation;
mod health;
mod ledger;
mod slot;
mod templates;
mod traffic;
mod tunnel;

pub(crate) use accept::{empty_queue, Acceptor};
pub(crate) use generation::{Generation, Prepared};
pub use ledger::Cut;
pub(crate) use slot::{Readiness, Reserved, Slot};
pub(crate) use traffic::{Count, Traffic};
