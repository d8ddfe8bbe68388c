//! Reads the messages of older processes: the old process of an upgrade, and earlier processes that still drain.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use async_channel::Sender;
use async_std::future::timeout;
use async_std::task::JoinHandle;

use super::event::{Ack, DriverEvent};
use super::handover::{Channel, PeerMessage, ReceivedConnection, VERSION};
use super::machine::Input;
use super::sender::{AckCounter, ACK_TIMEOUT};
use crate::error::chain;
use crate::observe::metrics::Metrics;
use crate::sync::token::{token, Token};
use crate::sys::claims::Claims;

/// An older process, and the task that reads its messages.
pub(crate) struct OldPeer {
    channel: Arc<Channel>,
    /// The number of connections received so far.
    received: Arc<AtomicU64>,
    reader: JoinHandle<()>,
    gone: Token,
}

impl OldPeer {
    /// Reads the messages of the old process.
    pub(super) fn predecessor(
        channel: Arc<Channel>,
        acks: Arc<AckCounter>,
        metrics: Arc<Metrics>,
        events: Sender<DriverEvent>,
    ) -> Self {
        let reader = OldPeerReader {
            channel,
            acks,
            intake: ConnectionIntake::Closed,
            received: Arc::default(),
            metrics,
            events,
        };
        OldPeer::start(reader, Some(DriverEvent::PredecessorGone))
    }

    /// Reads the messages of a process that was replaced earlier, from which `count` connections have been received.
    ///
    /// # Errors
    /// The descriptor is not a handover channel.
    pub(super) fn older(
        channel: OwnedFd,
        count: u64,
        metrics: Arc<Metrics>,
        events: Sender<DriverEvent>,
    ) -> io::Result<Self> {
        let reader = OldPeerReader {
            channel: Arc::new(Channel::inherit(channel)?),
            acks: Arc::default(),
            intake: ConnectionIntake::Unclaimed,
            received: Arc::new(AtomicU64::new(count)),
            metrics,
            events,
        };
        Ok(OldPeer::start(reader, None))
    }

    fn start(reader: OldPeerReader, last_event: Option<DriverEvent>) -> Self {
        let (channel, received) = (reader.channel.clone(), reader.received.clone());
        let (end, gone) = token();
        let reader = async_std::task::spawn(async move {
            let events = reader.events.clone();
            reader.run().await;
            drop(end);
            if let Some(event) = last_event {
                let _ = events.send(event).await;
            }
        });
        OldPeer {
            channel,
            received,
            reader,
            gone,
        }
    }

    /// Returns true if the older process will send nothing more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.is_triggered()
    }

    /// Stops reading, and sends `Moved`, because another process reads the channel from now on. Connections that were
    /// received before belong to this process.
    pub(super) async fn release(self) -> ReleasedChannel {
        self.reader.cancel().await;
        let _ = timeout(ACK_TIMEOUT, self.channel.send(&PeerMessage::Moved, &[])).await;
        ReleasedChannel {
            channel: self.channel,
            count: self.received.load(Ordering::Acquire),
        }
    }
}

/// A channel to an older process that no task reads any more.
pub(super) struct ReleasedChannel {
    channel: Arc<Channel>,
    /// The number of connections that were received on the channel.
    pub(super) count: u64,
}

impl ReleasedChannel {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.channel.fd()
    }
}

/// The task that reads the messages of an older process.
struct OldPeerReader {
    channel: Arc<Channel>,
    acks: Arc<AckCounter>,
    intake: ConnectionIntake,
    received: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    events: Sender<DriverEvent>,
}

/// The rule for connections from an older process.
enum ConnectionIntake {
    /// The older process has sent neither `Live` nor `Share`, and must not send connections.
    Closed,
    /// The older process may take each connection back until this process claims it.
    Claimed(Claims),
    /// The older process has given up its connections, so no claim is needed.
    Unclaimed,
}

impl OldPeerReader {
    /// Turns each message into an event, until the channel ends.
    async fn run(mut self) {
        while let Some((message, fds)) = self.receive().await {
            log::debug!("the old process sent {}", message.kind());
            let event = match message {
                PeerMessage::Live => {
                    self.metrics.freeze_received();
                    self.go_live(fds, Input::LiveReceived)
                }
                PeerMessage::Share => self.go_live(fds, Input::ShareReceived),
                PeerMessage::Cancel => DriverEvent::Input(Input::CancelReceived),
                PeerMessage::Recall => DriverEvent::Input(Input::RecallReceived),
                PeerMessage::Confirmed => {
                    self.metrics.unfreeze();
                    DriverEvent::Input(Input::Confirmed)
                }
                PeerMessage::Connections(records) if !self.is_closed() => {
                    let new = records.len() as u64;
                    let count = self.received.fetch_add(new, Ordering::AcqRel) + new;
                    let claims = match &self.intake {
                        ConnectionIntake::Claimed(claims) => Some(claims),
                        ConnectionIntake::Closed | ConnectionIntake::Unclaimed => None,
                    };
                    let connections = ReceivedConnection::all(records, fds, claims);
                    DriverEvent::ConnectionsReceived(
                        connections,
                        self.answer(PeerMessage::Ack { count }),
                    )
                }
                PeerMessage::OlderPeer { count } => match fds.into_iter().next() {
                    Some(channel) => DriverEvent::OlderPeer(channel, count),
                    None => break,
                },
                PeerMessage::Probe => {
                    DriverEvent::ConnectionsReceived(vec![], self.answer(PeerMessage::Alive))
                }
                PeerMessage::Counted { piece } => {
                    self.metrics.merge(&piece);
                    if !self.is_closed() {
                        // the old process has handed over, so this process shows its own counts
                        self.metrics.unfreeze();
                    }
                    continue;
                }
                PeerMessage::Ack { count } => {
                    self.acks.advance_to(count);
                    continue;
                }
                PeerMessage::Hello { version, .. } if version == VERSION => continue,
                PeerMessage::Hello { version, .. } => {
                    log::warn!(
                        "the old process uses version {version} of the handover protocol, this process version \
                         {VERSION}: connections of the old process drain there"
                    );
                    break;
                }
                other => {
                    log::error!("the old process sent a message out of order: {other:?}");
                    break;
                }
            };
            let _ = self.events.send(event).await;
        }
    }

    async fn receive(&self) -> Option<(PeerMessage, Vec<OwnedFd>)> {
        match self.channel.receive().await {
            Ok(Some(message)) => return Some(message),
            Ok(None) => log::debug!("the old process has exited"),
            Err(error) => log::error!(
                "the messages of the old process cannot be read: {}",
                chain(&error)
            ),
        }
        None
    }

    fn is_closed(&self) -> bool {
        matches!(self.intake, ConnectionIntake::Closed)
    }

    fn answer(&self, answer: PeerMessage) -> Ack {
        Ack {
            channel: self.channel.clone(),
            answer,
        }
    }

    fn go_live(&mut self, mut fds: Vec<OwnedFd>, input: Input) -> DriverEvent {
        if let Some(claims) = fds.pop() {
            self.intake = ConnectionIntake::Claimed(Claims::from(claims));
        }
        DriverEvent::Input(input)
    }
}
