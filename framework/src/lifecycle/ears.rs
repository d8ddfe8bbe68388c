//! What the new process of an upgrade says, until its end or the end of whoever has replaced it.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;
use async_std::future::timeout;
use futures_lite::future;

use super::giving::Taken;
use super::handover::{Arrival, Channel, Message, VERSION};
use super::happening::{Happening, Receipt};
use super::machine::Event;
use super::successor::UNSAID;
use crate::config::UpgradeMode;
use crate::error::chain;
use crate::sys::spawn::Child;

/// What listens to it.
pub(super) struct Ears {
    child: Arc<Child>,
    channel: Arc<Channel>,
    taken: Arc<Taken>,
    /// How many connections it has given back.
    come: u64,
    mode: UpgradeMode,
    can: Arc<AtomicU32>,
    other_end: OtherEnd,
    events: Sender<Happening>,
}

/// Who is at the other end of the channel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OtherEnd {
    Child,
    /// A process that has replaced it since.
    Descendant,
}

impl Ears {
    /// `can` is told the capabilities of its greeting.
    pub(super) fn of(
        child: Arc<Child>,
        channel: Arc<Channel>,
        taken: Arc<Taken>,
        mode: UpgradeMode,
        can: Arc<AtomicU32>,
        events: Sender<Happening>,
    ) -> Self {
        Ears {
            child,
            channel,
            taken,
            come: 0,
            mode,
            can,
            other_end: OtherEnd::Child,
            events,
        }
    }

    /// Hears what it says, until its end.
    pub(super) async fn listen(mut self) {
        let pid = self.child.pid();
        while let Some((message, fds)) = self.hear().await {
            log::debug!("the new process (pid {pid}) says {}", message.kind());
            let happening = match message {
                Message::Ready => Happening::Successor(pid, Event::SuccessorReady),
                Message::Accepting => Happening::Successor(pid, self.accepts()),
                // it may have died since it said so, and then nothing is confirmed
                Message::Alive if self.child.try_exited().is_some() => break,
                Message::Alive => Happening::Successor(pid, Event::SuccessorAnswers),
                Message::Stopping => Happening::Successor(pid, Event::SuccessorStops),
                Message::Connections(entries) => {
                    self.come += entries.len() as u64;
                    let answer = Message::Taken { count: self.come };
                    let receipt = Receipt {
                        channel: self.channel.clone(),
                        answer,
                    };
                    Happening::Arrived(Arrival::all(entries, fds, None), receipt)
                }
                Message::Taken { count } => {
                    self.taken.set(count);
                    continue;
                }
                Message::Moved => {
                    self.other_end = OtherEnd::Descendant;
                    // still our child: its end means nothing any more, but is to be reaped
                    let child = self.child.clone();
                    async_std::task::spawn(async move { child.exited().await });
                    continue;
                }
                Message::Failed { why } => {
                    log::error!("upgrade refused by the new process (pid {pid}): {why}");
                    Happening::SuccessorSaid(pid, why)
                }
                Message::Hello {
                    version,
                    capabilities,
                    ..
                } if version == VERSION => {
                    self.can.store(capabilities, Ordering::Release);
                    continue;
                }
                Message::Hello { version, .. } => return self.goes_on_alone(version).await,
                other => {
                    log::error!(
                        "the new process (pid {pid}) says what makes no sense here: {other:?}"
                    );
                    break;
                }
            };
            let _ = self.events.send(happening).await;
        }
        // its end explains the end of the channel, if it has ended
        match timeout(Duration::from_secs(1), self.child.exited()).await {
            Ok(ending) => {
                log::info!("the new process (pid {pid}) {ending}");
                let why =
                    format!("it {ending}; what it said stands in the log, or on standard error");
                let _ = self.events.send(Happening::SuccessorSaid(pid, why)).await;
            }
            Err(_) => log::info!("the new process (pid {pid}) is not heard any more"),
        }
        let _ = self
            .events
            .send(Happening::Successor(pid, Event::SuccessorGone))
            .await;
    }

    /// A program of another version of this protocol goes live by itself, and closes the channel when it accepts.
    async fn goes_on_alone(self, version: u16) {
        let pid = self.child.pid();
        log::warn!(
            "the new process (pid {pid}) speaks version {version} of the handover, this one {VERSION}: it inherits the \
             sockets, and connections drain here"
        );
        while self
            .channel
            .receive()
            .await
            .is_ok_and(|message| message.is_some())
        {}
        // the channel of one that dies ends a little before it does
        let event = match timeout(UNSAID, self.child.exited()).await {
            Ok(ending) => {
                log::error!(
                    "upgrade refused: the new process (pid {pid}) {ending} before it accepted"
                );
                Event::SuccessorGone
            }
            Err(_) => Event::StrangerAccepts,
        };
        let _ = self.events.send(Happening::Successor(pid, event)).await;
        self.child.exited().await;
    }

    /// The next message. Its end is heard of even where a child of its own keeps the channel open; what it said before
    /// comes first.
    async fn hear(&self) -> Option<(Message, Vec<OwnedFd>)> {
        let ended = async {
            if self.other_end == OtherEnd::Descendant {
                return future::pending().await;
            }
            self.child.exited().await;
            Ok(None)
        };
        future::or(self.channel.receive(), ended)
            .await
            .unwrap_or_else(|error| {
                let pid = self.child.pid();
                log::error!(
                    "the new process (pid {pid}) cannot be understood: {}",
                    chain(&error)
                );
                None
            })
    }

    fn accepts(&self) -> Event {
        match self.mode {
            UpgradeMode::Auto => Event::SuccessorAccepts,
            UpgradeMode::Manual => Event::SuccessorShares,
        }
    }
}
