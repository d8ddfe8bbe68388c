//! The events that the driver waits for.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_std::future::timeout;

use super::handover::{Channel, PeerMessage, ReceivedConnection};
use super::machine::Input;
use super::pending::Responder;
use super::reload::NextGeneration;
use super::sender::ACK_TIMEOUT;
use crate::control::protocol::ControlCommand;
use crate::error::Error;

/// An event in the queue of the driver.
pub(crate) enum DriverEvent {
    /// An input for the state machine: a signal, a call on a handle, or a message of the old process.
    Input(Input),
    /// A handle requests a reload and waits for its outcome.
    Reload(ReloadCallback),
    /// A configuration file has changed (`reload.watch`).
    ConfigChanged,
    /// A command arrived on the control socket.
    Command(ControlCommand, Responder),
    /// The current build has ended.
    BuildEnded(Box<Result<NextGeneration, Error>>),
    /// No connection, handler or background task is left.
    Drained,
    /// An input from the new process with this pid. It may be about a process that was replaced since.
    Successor(u32, Input),
    /// The reason why the new process with this pid fails, from its own message or from its exit status.
    SuccessorFailure(u32, String),
    /// The channel of a process that was replaced earlier and still drains, and the number of connections that have
    /// been received from it so far.
    OlderPeer(OwnedFd, u64),
    /// The old process has exited, or its messages cannot be read.
    PredecessorGone,
    /// Connections from the process at the other end of a handover, and the acknowledgement to send once they are
    /// registered.
    ConnectionsReceived(Vec<ReceivedConnection>, Ack),
}

/// The callback for the outcome of a reload: a summary of the changes, or the error. If it is dropped without a call,
/// there was no reload.
pub(crate) struct ReloadCallback(Box<dyn FnOnce(Result<String, Error>) + Send>);

impl ReloadCallback {
    pub(super) fn new(callback: impl FnOnce(Result<String, Error>) + Send + 'static) -> Self {
        ReloadCallback(Box::new(callback))
    }

    pub(super) fn call(self, outcome: Result<String, Error>) {
        (self.0)(outcome);
    }
}

/// An answer to the process at the other end of a handover, to be sent once the messages before it were processed.
pub(crate) struct Ack {
    pub(super) channel: Arc<Channel>,
    pub(super) answer: PeerMessage,
}

impl Ack {
    pub(super) async fn send(self) {
        // a failure needs no handling here: the task that reads the channel reports its end
        let _ = timeout(ACK_TIMEOUT, self.channel.send(&self.answer, &[])).await;
    }
}
