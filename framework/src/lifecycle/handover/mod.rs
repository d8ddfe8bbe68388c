//! The mechanism of a handover between the old process and the new one.
//!
//! * [`wire`]: the messages and their encoding, without I/O.
//! * [`batch`]: packs connections into as few messages as possible.
//! * [`received`]: a connection from another process.
//! * [`channel`]: the socket pair that carries messages and descriptors.
//! * [`claims`](crate::sys::claims): shared memory in which the receiving process marks the connections that it reads.
//!
//! The state machine decides when each message is sent. Connections use the same messages in both directions: they go
//! to the new process during an upgrade, and return to the old one after a rollback.
//!
//! ```text
//! old                                         new
//!  │── Hello ─────────────────────────────────▶│
//!  │◀───────────────────────────────── Hello ──│
//!  │◀───────────────────────── Ready, Failed ──│  the generation was built, or the build failed
//!  │── Live or Share + claims, Cancel ────────▶│
//!  │◀───────────────────────────── Accepting ──│
//!  │── Connections + their sockets ───────────▶│  any number of times
//!  │◀─────────────────────────────────── Ack ──│  the number of connections received so far
//!  │◀────────────────────────────── Stopping ──│  only if it was stopped; after Share, Connections return
//!  │── Probe ─────────────────────────────────▶│  upgrade.rollback_window is over
//!  │◀───────────────────────────────── Alive ──│
//!  │── Recall ────────────────────────────────▶│  instead of Confirmed, for a rollback: Connections return
//!  │── Confirmed ─────────────────────────────▶│
//!  │── OlderPeer + a channel ─────────────────▶│  when the old process exits, and an earlier one still drains
//! ```

mod batch;
mod channel;
mod received;
mod wire;

pub(crate) use batch::{Batch, FullBatch};
pub(crate) use channel::Channel;
pub(crate) use received::ReceivedConnection;
pub(crate) use wire::{ConnectionRecord, PeerMessage, COUNTS, VERSION};

#[cfg(test)]
mod tests;
