//! The old process of an upgrade, as the new process sees it.
//!
//! The old process sends the message to go live, and its connections. If the upgrade is rolled back, the connections
//! return to it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_channel::Sender;
use async_std::future::timeout;

use super::event::DriverEvent;
use super::handover::{Channel, PeerMessage, COUNTS, VERSION};
use super::machine::MessageKind;
use super::old_peer_reader::OldPeer;
use super::sender::{ConnectionSender, CopyRetention, ACK_TIMEOUT};
use crate::error::{Error, Kind};
use crate::http::connection::{Detached, Transfer};
use crate::observe::metrics::Metrics;
use crate::sync::limiter::Limiter;

/// The old process.
pub(crate) struct Predecessor {
    channel: Arc<Channel>,
    /// Returns connections to the old process after a rollback.
    sender: ConnectionSender,
    peer: Option<OldPeer>,
}

impl Predecessor {
    /// Takes over an inherited end of a handover channel.
    ///
    /// # Errors
    /// The descriptor is not a handover channel.
    pub(crate) fn adopt(channel: OwnedFd) -> Result<Self, Error> {
        let channel = Channel::adopt(channel).map_err(|error| {
            Error::new(Kind::Io, "the channel to the old process cannot be used").because(error)
        })?;
        let channel = Arc::new(channel);
        // the new process does not supervise the old one, so an acknowledged connection is gone for good
        let sender = ConnectionSender::new(channel.clone(), CopyRetention::UntilAcked);
        Ok(Predecessor {
            channel,
            sender,
            peer: None,
        })
    }

    /// Sends the reason why this process cannot start. This is the first and only message on the channel.
    pub(crate) async fn refuse(channel: OwnedFd, reason: String) {
        let Ok(predecessor) = Predecessor::adopt(channel) else {
            return;
        };
        predecessor.hello().await;
        predecessor.fail(reason).await;
    }

    async fn hello(&self) {
        self.send_message(PeerMessage::Hello {
            version: VERSION,
            capabilities: COUNTS,
            pid: std::process::id(),
        })
        .await;
    }

    /// Sends `Hello`, which precedes every other message, and starts to read the messages of the old process.
    pub(crate) async fn greet(&mut self, metrics: Arc<Metrics>, events: Sender<DriverEvent>) {
        self.hello().await;
        self.peer = Some(OldPeer::predecessor(
            self.channel.clone(),
            self.sender.acks(),
            metrics,
            events,
        ));
    }

    /// Returns true if the old process will send nothing more.
    pub(crate) fn is_gone(&self) -> bool {
        self.peer.as_ref().is_none_or(OldPeer::is_gone)
    }

    /// Returns the reader of the channel, so that the next process can take it over.
    pub(crate) fn into_peer(self) -> Option<OldPeer> {
        self.peer
    }

    /// Sends a message. Kinds that only an old process sends are ignored.
    pub(crate) async fn send(&self, kind: MessageKind) {
        match kind {
            MessageKind::Ready => self.send_message(PeerMessage::Ready).await,
            MessageKind::Accepting => self.send_message(PeerMessage::Accepting).await,
            MessageKind::Stopping => self.send_message(PeerMessage::Stopping).await,
            MessageKind::Live
            | MessageKind::Cancel
            | MessageKind::Probe
            | MessageKind::Recall
            | MessageKind::Confirmed => {}
        }
    }

    /// Sends the reason why this process cannot go live.
    pub(crate) async fn fail(&self, reason: String) {
        self.send_message(PeerMessage::Failed { reason }).await;
    }

    /// Returns the queue of connections that return to the old process.
    pub(crate) fn transfers(&mut self, events: Sender<DriverEvent>) -> Sender<Transfer> {
        self.sender.transfers(move |error| async move {
            log::error!("connections cannot be returned to the old process: {error}");
            let _ = events.send(DriverEvent::PredecessorGone).await;
        })
    }

    /// Takes over every connection that the old process has not acknowledged. Call this only after its death.
    pub(crate) async fn take_back(&mut self, permits: &Arc<Limiter>) -> Vec<Detached> {
        self.sender.take_back(None, permits).await.0
    }

    async fn send_message(&self, message: PeerMessage) {
        // a failure needs no handling here: the task that reads the channel reports its end
        let _ = timeout(ACK_TIMEOUT, self.channel.send(&message, &[])).await;
    }
}
