//! What the driver hears of, and from whom.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_std::future::timeout;

use super::desk::Asker;
use super::giving::ANSWER;
use super::handover::{Arrival, Channel, Message};
use super::machine::Event;
use super::reload::Next;
use crate::control::protocol::ControlCommand;
use crate::error::Error;

/// What the driver hears of.
pub(crate) enum Happening {
    /// A signal, or what a handle asks for in its stead.
    Signal(Event),
    /// A handle wants a reload and its outcome.
    Reload(Reply),
    /// The files of the settings have changed.
    Changed,
    /// An operator asks for something.
    Asked(ControlCommand, Asker),
    /// The build that was begun last has ended.
    Built(Box<Result<Next, Error>>),
    /// Nothing is left to wait for.
    Drained,
    /// Of the new process with this pid.
    Successor(Id, Event),
    /// Why it does not take over: its own words, or how it has ended.
    SuccessorSaid(Id, String),
    /// The channel of a process that was replaced earlier and still drains; how many it has given so far.
    Elder(OwnedFd, u64),
    /// The old process has ended, or is not understood.
    PredecessorGone,
    /// Connections of the process at the other end of a handover.
    Arrived(Vec<Arrival>, Receipt),
}

/// Where the outcome of a reload is awaited: what has changed, or why nothing has. Dropped, it says that there is none.
pub(crate) struct Reply(Box<dyn FnOnce(Result<String, Error>) + Send>);

impl Reply {
    pub(super) fn new(told: impl FnOnce(Result<String, Error>) + Send + 'static) -> Self {
        Reply(Box::new(told))
    }

    pub(super) fn tell(self, outcome: Result<String, Error>) {
        (self.0)(outcome);
    }
}

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
