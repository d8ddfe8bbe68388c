//! What the driver hears of, and from whom.

use std::sync::Arc;

use async_channel::Sender;
use async_std::future::timeout;

use super::giving::ANSWER;
use super::handover::{Arrival, Channel, Message};
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
    /// The old process has ended, or is not understood.
    PredecessorGone,
    /// Connections of the process at the other end of a handover.
    Arrived(Vec<Arrival>, Receipt),
}

/// Where the outcome of a reload is awaited.
pub(crate) struct Reply(pub(crate) Sender<Result<(), Error>>);

/// What tells the other process that what it gave has been taken over, and all before it.
pub(crate) struct Receipt {
    pub(super) channel: Arc<Channel>,
    pub(super) answer: Message,
}

impl Receipt {
    pub(super) async fn send(self) {
        // a giver that is gone does not hear it, and its end is heard of
        let _ = timeout(ANSWER, self.channel.send(&self.answer, &[])).await;
    }
}

/// Which new process an event is about, by its pid: one that is given up may still be heard of.
pub(crate) type Id = u32;
