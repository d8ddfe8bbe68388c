//! Reads the messages of the new process of an upgrade, and later those of the process that has replaced it.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;
use async_std::future::timeout;
use futures_lite::future;

use super::event::{Ack, DriverEvent};
use super::handover::{Channel, PeerMessage, ReceivedConnection, VERSION};
use super::machine::Input;
use super::sender::AckCounter;
use super::successor::FOREIGN_START_TIME;
use crate::config::UpgradeMode;
use crate::error::chain;
use crate::sys::spawn::Child;

/// The time between the end of the channel and the exit of the process that has closed it.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The task that reads the messages of the new process.
pub(super) struct NewPeerReader {
    child: Arc<Child>,
    channel: Arc<Channel>,
    acks: Arc<AckCounter>,
    /// The number of connections that have been returned.
    returned: u64,
    mode: UpgradeMode,
    capabilities: Arc<AtomicU32>,
    peer: ChannelPeer,
    events: Sender<DriverEvent>,
}

/// The process at the other end of the channel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ChannelPeer {
    Child,
    /// A process that has replaced the child.
    Descendant,
}

impl NewPeerReader {
    /// Creates a reader. It stores the capabilities from the greeting in `capabilities`.
    pub(super) fn new(
        child: Arc<Child>,
        channel: Arc<Channel>,
        acks: Arc<AckCounter>,
        mode: UpgradeMode,
        capabilities: Arc<AtomicU32>,
        events: Sender<DriverEvent>,
    ) -> Self {
        NewPeerReader {
            child,
            channel,
            acks,
            returned: 0,
            mode,
            capabilities,
            peer: ChannelPeer::Child,
            events,
        }
    }

    /// Turns each message into an event, until the channel ends or the process exits.
    pub(super) async fn run(mut self) {
        let pid = self.child.pid();
        while let Some((message, fds)) = self.receive().await {
            log::debug!("the new process (pid {pid}) sent {}", message.kind());
            let event = match message {
                PeerMessage::Ready => DriverEvent::Successor(pid, Input::SuccessorReady),
                PeerMessage::Accepting => DriverEvent::Successor(pid, self.accepting()),
                // an answer from a process that has died since confirms nothing
                PeerMessage::Alive if self.child.try_exited().is_some() => break,
                PeerMessage::Alive => DriverEvent::Successor(pid, Input::SuccessorAlive),
                PeerMessage::Stopping => DriverEvent::Successor(pid, Input::SuccessorStops),
                PeerMessage::Connections(records) => {
                    self.returned += records.len() as u64;
                    let ack = Ack {
                        channel: self.channel.clone(),
                        answer: PeerMessage::Ack {
                            count: self.returned,
                        },
                    };
                    let connections = ReceivedConnection::all(records, fds, None);
                    DriverEvent::ConnectionsReceived(connections, ack)
                }
                PeerMessage::Ack { count } => {
                    self.acks.advance_to(count);
                    continue;
                }
                PeerMessage::Moved => {
                    self.peer = ChannelPeer::Descendant;
                    // the exit of the child no longer matters, but the child still has to be reaped
                    let child = self.child.clone();
                    async_std::task::spawn(async move { child.exited().await });
                    continue;
                }
                PeerMessage::Failed { reason } => {
                    log::error!("upgrade refused by the new process (pid {pid}): {reason}");
                    DriverEvent::SuccessorFailure(pid, reason)
                }
                PeerMessage::Hello {
                    version,
                    capabilities,
                    ..
                } if version == VERSION => {
                    self.capabilities.store(capabilities, Ordering::Release);
                    continue;
                }
                PeerMessage::Hello { version, .. } => {
                    return self.wait_for_other_version(version).await;
                }
                other => {
                    log::error!(
                        "the new process (pid {pid}) sent a message out of order: {other:?}"
                    );
                    break;
                }
            };
            let _ = self.events.send(event).await;
        }
        // if the process has exited, its status explains the end of the channel
        match timeout(EXIT_TIMEOUT, self.child.exited()).await {
            Ok(ending) => {
                log::info!("the new process (pid {pid}) {ending}");
                let reason = format!("it {ending}; see its output in the log or on standard error");
                let _ = self
                    .events
                    .send(DriverEvent::SuccessorFailure(pid, reason))
                    .await;
            }
            Err(_) => log::info!("the new process (pid {pid}) has closed the handover channel"),
        }
        let _ = self
            .events
            .send(DriverEvent::Successor(pid, Input::SuccessorGone))
            .await;
    }

    /// Waits until a process with another version of the protocol accepts. Such a process goes live without a message,
    /// and closes the channel when it accepts.
    async fn wait_for_other_version(self, version: u16) {
        let pid = self.child.pid();
        log::warn!(
            "the new process (pid {pid}) uses version {version} of the handover protocol, this process version \
             {VERSION}: it inherits the sockets, and connections drain here"
        );
        while self
            .channel
            .receive()
            .await
            .is_ok_and(|message| message.is_some())
        {}
        // the channel of a process that dies is closed shortly before the process has exited
        let input = match timeout(FOREIGN_START_TIME, self.child.exited()).await {
            Ok(ending) => {
                log::error!(
                    "upgrade refused: the new process (pid {pid}) {ending} before it accepted"
                );
                Input::SuccessorGone
            }
            Err(_) => Input::ForeignAccepts,
        };
        let _ = self.events.send(DriverEvent::Successor(pid, input)).await;
        self.child.exited().await;
    }

    /// Receives the next message. Returns `None` after the last one if the process has exited, even if a child of its
    /// own still holds the channel open.
    async fn receive(&self) -> Option<(PeerMessage, Vec<OwnedFd>)> {
        let exited = async {
            if self.peer == ChannelPeer::Descendant {
                return future::pending().await;
            }
            self.child.exited().await;
            Ok(None)
        };
        future::or(self.channel.receive(), exited)
            .await
            .unwrap_or_else(|error| {
                let pid = self.child.pid();
                log::error!(
                    "the messages of the new process (pid {pid}) cannot be read: {}",
                    chain(&error)
                );
                None
            })
    }

    fn accepting(&self) -> Input {
        match self.mode {
            UpgradeMode::Auto => Input::SuccessorAccepts,
            UpgradeMode::Manual => Input::SuccessorShares,
        }
    }
}
