//! The sockets that a process listens on, and the connections that it accepts.
//!
//! [`plan`] decides which sockets a configuration needs. [`acquire`] carries the plan out: it takes
//! sockets from [`inherit`] or has [`bind`] bind them. Both produce a [`listener`]. An accepted
//! connection is a [`stream`], whose readiness [`watch`] reports.

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

pub(crate) use acquire::{ListenerSet, Sockets};
pub(crate) use address::Address;
pub(crate) use inherit::{InheritedSockets, HANDOVER, NEWEST};
pub(crate) use listener::{Listener, ListenerOrigin};
pub(crate) use send_queue::unacknowledged;
pub(crate) use stream::Stream;
pub(crate) use watch::PeerState;
