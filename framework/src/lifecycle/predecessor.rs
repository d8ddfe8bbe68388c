//! The old process of an upgrade, as the new one sees it: it says when to go live, and gives its connections.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;
use async_std::future::timeout;

use super::handover::{Arrival, Channel, Message, VERSION};
use super::happening::Happening;
use super::machine::{Event, Word};
use crate::error::{chain, Error, Kind};
use crate::sys::claims::Claims;
use crate::token::{token, Token, Trigger};

/// The process that this one takes over from.
pub(crate) struct Predecessor {
    channel: Arc<Channel>,
    /// Dropped at the end of the channel, which tells `gone`.
    leaves: Option<Trigger>,
    gone: Token,
}

impl Predecessor {
    /// Takes our end of the channel.
    ///
    /// # Errors
    /// What was passed is no such channel.
    pub(crate) fn adopt(channel: OwnedFd) -> Result<Self, Error> {
        let channel = Channel::adopt(channel).map_err(|error| {
            Error::new(Kind::Io, "the channel to the old process cannot be used").because(error)
        })?;
        let (leaves, gone) = token();
        Ok(Predecessor { channel: Arc::new(channel), leaves: Some(leaves), gone })
    }

    /// Greets the old process, before anything else is said, and listens from then on.
    pub(crate) async fn greet(&mut self, events: Sender<Happening>) {
        self.send(Message::Hello { version: VERSION, capabilities: 0, pid: std::process::id() }).await;
        let (channel, leaves) = (self.channel.clone(), self.leaves.take());
        async_std::task::spawn(async move {
            listen(channel, events).await;
            drop(leaves);
        });
    }

    /// Told when the old process is gone: until then it may give connections.
    pub(crate) fn gone(&self) -> Token {
        self.gone.clone()
    }

    pub(crate) async fn say(&self, word: Word) {
        match word {
            Word::Ready => self.send(Message::Ready).await,
            Word::Accepting => self.send(Message::Accepting).await,
            Word::Stopping => self.send(Message::Stopping).await,
            // what only a predecessor says
            Word::Live | Word::Cancel | Word::Confirmed => {}
        }
    }

    /// Says why this process cannot go live.
    pub(crate) async fn fail(&self, why: String) {
        self.send(Message::Failed { why }).await;
    }

    /// Says how many connections have come so far.
    pub(crate) async fn taken(&self, count: u64) {
        self.send(Message::Taken { count }).await;
    }

    async fn send(&self, message: Message) {
        // an old process that is gone does not hear it, and its end is heard of
        let _ = timeout(Duration::from_secs(5), self.channel.send(&message, &[])).await;
    }
}

/// Hears what the old process says, until its end.
async fn listen(channel: Arc<Channel>, events: Sender<Happening>) {
    let mut claims = None;
    loop {
        let happening = match channel.receive().await {
            Ok(Some((Message::Live, mut fds))) => {
                claims = fds.pop().map(Claims::from);
                Happening::Signal(Event::ToldLive)
            }
            Ok(Some((Message::Cancel, _))) => Happening::Signal(Event::ToldCancel),
            Ok(Some((Message::Confirmed, _))) => Happening::Signal(Event::Confirmed),
            Ok(Some((Message::Connections(entries), fds))) => match &claims {
                Some(claims) => Happening::Arrived(Arrival::all(entries, fds, claims)),
                None => {
                    log::error!("the old process gives connections before its word to go live");
                    break;
                }
            },
            Ok(Some((Message::Hello { version, .. }, _))) if version == VERSION => continue,
            Ok(Some((other, _))) => {
                log::error!("the old process says what makes no sense here: {other:?}");
                break;
            }
            Ok(None) => break,
            Err(error) => {
                log::error!("the old process cannot be understood: {}", chain(&error));
                break;
            }
        };
        let _ = events.send(happening).await;
    }
    let _ = events.send(Happening::Signal(Event::PredecessorGone)).await;
}
