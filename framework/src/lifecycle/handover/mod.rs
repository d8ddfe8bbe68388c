//! The handover between two generations of a process, as a mechanism: what is said, over what, and who has read what.
//!
//! * [`wire`]: the messages and their bytes, without any I/O.
//! * [`batch`]: packs the connections that travel into as few messages as can carry them.
//! * [`arrival`]: a connection that has come.
//! * [`channel`]: the socket pair between the two, which carries messages and descriptors.
//! * [`claims`](crate::sys::claims): the shared memory in which the one who accepts marks what it has begun to read.
//!
//! When to say what is the policy's business. The channel is symmetric: who leaves gives to who accepts, in either
//! direction, with the same messages.
//!
//! ```text
//! old                                         new
//!  │── Hello ─────────────────────────────────▶│
//!  │◀───────────────────────────────── Hello ──│
//!  │◀───────────────────────── Ready, Failed ──│  built and checked, or not
//!  │── Live or Share + claims, Cancel ────────▶│
//!  │◀───────────────────────────── Accepting ──│
//!  │── Connections + their sockets ───────────▶│  as often as there are any
//!  │◀───────────────────────────────── Taken ──│  how many so far
//!  │◀────────────────────────────── Stopping ──│  only when it was told to stop; after Share, Connections come back
//!  │── Probe ─────────────────────────────────▶│  the window is over
//!  │◀───────────────────────────────── Alive ──│
//!  │── Recall ────────────────────────────────▶│  or Confirmed: then Connections come back
//!  │── Confirmed ─────────────────────────────▶│
//!  │── Elder + a channel ─────────────────────▶│  when this one ends, and one before it still drains
//! ```

mod arrival;
mod batch;
mod channel;
mod wire;

pub(crate) use arrival::Arrival;
pub(crate) use batch::{Batch, Full};
pub(crate) use channel::Channel;
pub(crate) use wire::{Message, Travelling, COUNTS, VERSION};
