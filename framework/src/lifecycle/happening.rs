//! What the driver hears of, and from whom.

use async_channel::Sender;

use super::handover::Arrival;
use super::machine::Event;
use super::reload::Next;
use crate::error::Error;

/// What the driver hears of.
pub(crate) enum Happening {
    /// A signal, or what a handle asks for in its stead.
    Signal(Event),
    /// A handle wants a reload and its outcome.
    Reload(Reply),
    /// The build that was begun last has ended.
    Built(Box<Result<Next, Error>>),
    /// Nothing is left to wait for.
    Drained,
    /// Of the new process with this pid.
    Successor(Id, Event),
    /// Connections of the old process.
    Arrived(Vec<Arrival>),
}

/// Where the outcome of a reload is awaited.
pub(crate) struct Reply(pub(crate) Sender<Result<(), Error>>);

/// Which new process an event is about, by its pid: one that is given up may still be heard of.
pub(crate) type Id = u32;
