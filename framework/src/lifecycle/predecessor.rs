//! The old process of an upgrade, as the new one sees it: it says when to go live, gives its connections, and may be
//! given them back.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_channel::Sender;
use async_std::future::timeout;

use super::giving::{Giving, Until, ANSWER};
use super::handover::{Channel, Message, COUNTS, VERSION};
use super::happening::Happening;
use super::heard::Heard;
use super::machine::Word;
use crate::error::{Error, Kind};
use crate::http::detached::Detached;
use crate::http::transfer::Transfer;
use crate::observe::metrics::Metrics;
use crate::sync::limiter::Limiter;

/// The process that this one takes over from.
pub(crate) struct Predecessor {
    channel: Arc<Channel>,
    /// What goes back to it, where this one is sent away again.
    giving: Giving,
    heard: Option<Heard>,
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
        let channel = Arc::new(channel);
        // nobody watches over the old process: it has what it says it has
        let giving = Giving::new(channel.clone(), Until::Taken);
        Ok(Predecessor {
            channel,
            giving,
            heard: None,
        })
    }

    /// Says why this process will never be ready, before anything else was said.
    pub(crate) async fn refuse(channel: OwnedFd, why: String) {
        let Ok(predecessor) = Predecessor::adopt(channel) else {
            return;
        };
        predecessor.hello().await;
        predecessor.fail(why).await;
    }

    async fn hello(&self) {
        self.send(Message::Hello {
            version: VERSION,
            capabilities: COUNTS,
            pid: std::process::id(),
        })
        .await;
    }

    /// Greets the old process, before anything else is said, and listens from then on.
    pub(crate) async fn greet(&mut self, metrics: Arc<Metrics>, events: Sender<Happening>) {
        self.hello().await;
        self.heard = Some(Heard::predecessor(
            self.channel.clone(),
            self.giving.taken(),
            metrics,
            events,
        ));
    }

    /// Whether nothing comes from it any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.heard.as_ref().is_none_or(Heard::is_over)
    }

    /// What hears it, to be left to another process.
    pub(crate) fn heard(self) -> Option<Heard> {
        self.heard
    }

    pub(crate) async fn say(&self, word: Word) {
        match word {
            Word::Ready => self.send(Message::Ready).await,
            Word::Accepting => self.send(Message::Accepting).await,
            Word::Stopping => self.send(Message::Stopping).await,
            // what only a predecessor says
            Word::Live | Word::Cancel | Word::Probe | Word::Recall | Word::Confirmed => {}
        }
    }

    /// Says why this process cannot go live.
    pub(crate) async fn fail(&self, why: String) {
        self.send(Message::Failed { why }).await;
    }

    /// Opens the way by which connections go back to the old process.
    pub(crate) fn open_way(&mut self, events: Sender<Happening>) -> Sender<Transfer> {
        self.giving.open_way(move |error| async move {
            log::error!("connections cannot be handed back to the old process: {error}");
            let _ = events.send(Happening::PredecessorGone).await;
        })
    }

    /// After its death: the connections that it never got.
    pub(crate) async fn take_back(&mut self, permits: &Arc<Limiter>) -> Vec<Detached> {
        self.giving.take_back(None, permits).await.0
    }

    async fn send(&self, message: Message) {
        // an old process that is gone does not hear it, and its end is heard of
        let _ = timeout(ANSWER, self.channel.send(&message, &[])).await;
    }
}
