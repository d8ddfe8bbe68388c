//! The sockets a process listens on: where they come from, what they are, and how connections leave them.
//!
//! Arrows point one way: [`acquire`] carries out what [`plan`] decides, from the two sources [`inherit`] and [`bind`];
//! both give a [`listener`].

mod acquire;
mod address;
mod bind;
mod inherit;
mod listener;
mod plan;
mod send_queue;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

pub(crate) use acquire::{Acquired, Sockets};
pub(crate) use address::Address;
pub(crate) use inherit::{Inherited, HANDOVER, NEWEST};
pub(crate) use listener::{Listener, Origin};
pub(crate) use send_queue::unacknowledged;
pub(crate) use stream::Stream;
pub(crate) use watch::PeerState;
