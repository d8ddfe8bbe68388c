//! The old process of an upgrade, as the new one sees it: it says when to go live, gives its connections, and may be
//! given them back.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_channel::Sender;
use async_std::future::timeout;

use super::giving::{Giving, Taken, Until, ANSWER};
use super::handover::{Arrival, Channel, Message, COUNTS, VERSION};
use super::happening::{Happening, Receipt};
use super::machine::{Event, Word};
use crate::error::{chain, Error, Kind};
use crate::http::connection::Connection;
use crate::http::limits::Seats;
use crate::observe::metrics::Metrics;
use crate::sys::claims::Claims;
use crate::token::{token, Token, Trigger};

/// The process that this one takes over from.
pub(crate) struct Predecessor {
    channel: Arc<Channel>,
    /// What goes back to it, where this one is sent away again.
    giving: Giving,
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
        let channel = Arc::new(channel);
        // nobody watches over the old process: it has what it says it has
        let giving = Giving::new(channel.clone(), Until::Taken);
        Ok(Predecessor { channel, giving, leaves: Some(leaves), gone })
    }

    /// Says why this process will never be ready, before anything else was said.
    pub(crate) async fn refuse(channel: OwnedFd, why: String) {
        let Ok(predecessor) = Predecessor::adopt(channel) else { return };
        predecessor.hello().await;
        predecessor.fail(why).await;
    }

    async fn hello(&self) {
        self.send(Message::Hello { version: VERSION, capabilities: COUNTS, pid: std::process::id() }).await;
    }

    /// Greets the old process, before anything else is said, and listens from then on.
    pub(crate) async fn greet(&mut self, metrics: Arc<Metrics>, events: Sender<Happening>) {
        self.hello().await;
        let (channel, taken) = (self.channel.clone(), self.giving.taken());
        let ears = Ears { channel, taken, claims: None, come: 0, metrics, events };
        let leaves = self.leaves.take();
        async_std::task::spawn(async move {
            let events = ears.events.clone();
            ears.listen().await;
            drop(leaves);
            let _ = events.send(Happening::PredecessorGone).await;
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
            Word::Live | Word::Cancel | Word::Probe | Word::Recall | Word::Confirmed => {}
        }
    }

    /// Says why this process cannot go live.
    pub(crate) async fn fail(&self, why: String) {
        self.send(Message::Failed { why }).await;
    }

    /// Opens the way by which connections go back to the old process.
    pub(crate) fn open_way(&mut self, events: Sender<Happening>) -> Sender<Connection> {
        self.giving.open_way(move |error| async move {
            log::error!("connections cannot be handed back to the old process: {error}");
            let _ = events.send(Happening::PredecessorGone).await;
        })
    }

    /// After its death: the connections that it never got.
    pub(crate) async fn take_back(&mut self, seats: &Arc<Seats>) -> Vec<Connection> {
        self.giving.take_back(None, seats).await.0
    }

    async fn send(&self, message: Message) {
        // an old process that is gone does not hear it, and its end is heard of
        let _ = timeout(ANSWER, self.channel.send(&message, &[])).await;
    }
}

/// What hears the old process.
struct Ears {
    channel: Arc<Channel>,
    taken: Arc<Taken>,
    /// Come with the word to go live.
    claims: Option<Claims>,
    /// How many connections it has given.
    come: u64,
    metrics: Arc<Metrics>,
    events: Sender<Happening>,
}

impl Ears {
    /// Hears what it says, until its end.
    async fn listen(mut self) {
        while let Some((message, fds)) = self.hear().await {
            log::debug!("the old process says {}", message.kind());
            let happening = match message {
                Message::Live => {
                    self.metrics.freeze_what_was_heard();
                    self.told(fds, Event::ToldLive)
                }
                Message::Share => self.told(fds, Event::ToldShare),
                Message::Cancel => Happening::Signal(Event::ToldCancel),
                Message::Recall => Happening::Signal(Event::ToldRecall),
                Message::Confirmed => {
                    self.metrics.thaw();
                    Happening::Signal(Event::Confirmed)
                }
                Message::Connections(entries) if self.claims.is_some() => {
                    self.come += entries.len() as u64;
                    let arrivals = Arrival::all(entries, fds, self.claims.as_ref());
                    Happening::Arrived(arrivals, self.receipt(Message::Taken { count: self.come }))
                }
                Message::Probe => Happening::Arrived(vec![], self.receipt(Message::Alive)),
                Message::Taken { count } => {
                    self.taken.set(count);
                    continue;
                }
                Message::Counted { piece } => {
                    self.metrics.hear(&piece);
                    if self.claims.is_some() {
                        // it has handed over since
                        self.metrics.thaw();
                    }
                    continue;
                }
                Message::Hello { version, .. } if version == VERSION => continue,
                Message::Hello { version, .. } => {
                    log::warn!(
                        "the old process speaks version {version} of the handover, this one {VERSION}: its \
                         connections drain there"
                    );
                    break;
                }
                other => {
                    log::error!("the old process says what makes no sense here: {other:?}");
                    break;
                }
            };
            let _ = self.events.send(happening).await;
        }
    }

    async fn hear(&self) -> Option<(Message, Vec<OwnedFd>)> {
        match self.channel.receive().await {
            Ok(Some(message)) => return Some(message),
            Ok(None) => log::info!("the old process is gone"),
            Err(error) => log::error!("the old process cannot be understood: {}", chain(&error)),
        }
        None
    }

    fn receipt(&self, answer: Message) -> Receipt {
        Receipt { channel: self.channel.clone(), answer }
    }

    fn told(&mut self, mut fds: Vec<OwnedFd>, event: Event) -> Happening {
        self.claims = fds.pop().map(Claims::from);
        Happening::Signal(event)
    }
}
