//! What older processes say and give: the one that this one takes over from, and those before it that still drain.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use async_channel::Sender;
use async_std::future::timeout;
use async_std::task::JoinHandle;

use super::giving::{Taken, ANSWER};
use super::handover::{Arrival, Channel, Message, VERSION};
use super::happening::{Happening, Receipt};
use super::machine::Event;
use crate::error::chain;
use crate::observe::metrics::Metrics;
use crate::sync::token::{token, Token};
use crate::sys::claims::Claims;

/// An older process that is listened to.
pub(crate) struct Heard {
    channel: Arc<Channel>,
    /// How many connections it has given.
    come: Arc<AtomicU64>,
    ears: JoinHandle<()>,
    over: Token,
}

impl Heard {
    /// Listens to the process that this one takes over from.
    pub(super) fn predecessor(
        channel: Arc<Channel>,
        taken: Arc<Taken>,
        metrics: Arc<Metrics>,
        events: Sender<Happening>,
    ) -> Self {
        let ears = Ears {
            channel,
            taken,
            gives: Gives::Nothing,
            come: Arc::default(),
            metrics,
            events,
        };
        Heard::listen(ears, Some(Happening::PredecessorGone))
    }

    /// Listens to one that was replaced earlier, in place of the process that has done so.
    ///
    /// # Errors
    /// What was passed is no such channel.
    pub(super) fn elder(
        channel: OwnedFd,
        count: u64,
        metrics: Arc<Metrics>,
        events: Sender<Happening>,
    ) -> io::Result<Self> {
        let channel = Arc::new(Channel::inherit(channel)?);
        let come = Arc::new(AtomicU64::new(count));
        let (taken, gives) = (Arc::default(), Gives::ForGood);
        Ok(Heard::listen(
            Ears {
                channel,
                taken,
                gives,
                come,
                metrics,
                events,
            },
            None,
        ))
    }

    fn listen(ears: Ears, end: Option<Happening>) -> Self {
        let (channel, come) = (ears.channel.clone(), ears.come.clone());
        let (ends, over) = token();
        let ears = async_std::task::spawn(async move {
            let events = ears.events.clone();
            ears.listen().await;
            drop(ends);
            if let Some(end) = end {
                let _ = events.send(end).await;
            }
        });
        Heard {
            channel,
            come,
            ears,
            over,
        }
    }

    /// Whether nothing comes from it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_triggered()
    }

    /// Stops listening, and tells it that another process will. What has come until now is still this one's.
    pub(super) async fn leave(self) -> Left {
        self.ears.cancel().await;
        let _ = timeout(ANSWER, self.channel.send(&Message::Moved, &[])).await;
        Left {
            channel: self.channel,
            count: self.come.load(Ordering::Acquire),
        }
    }
}

/// The channel to an older process to which nobody listens.
pub(super) struct Left {
    channel: Arc<Channel>,
    /// How many connections have come by it.
    pub(super) count: u64,
}

impl Left {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.channel.fd()
    }
}

/// What listens to it.
struct Ears {
    channel: Arc<Channel>,
    taken: Arc<Taken>,
    gives: Gives,
    come: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    events: Sender<Happening>,
}

/// What may be done with the connections that it gives.
enum Gives {
    /// It has not said yet that this process is to go live.
    Nothing,
    /// It may take them back until they are claimed.
    ToBeClaimed(Claims),
    /// It has let go of them.
    ForGood,
}

impl Ears {
    /// Hears what it says, until its end.
    async fn listen(mut self) {
        while let Some((message, fds)) = self.hear().await {
            log::debug!("the old process says {}", message.kind());
            let happening = match message {
                Message::Live => {
                    self.metrics.freeze_received();
                    self.told(fds, Event::ToldLive)
                }
                Message::Share => self.told(fds, Event::ToldShare),
                Message::Cancel => Happening::Signal(Event::ToldCancel),
                Message::Recall => Happening::Signal(Event::ToldRecall),
                Message::Confirmed => {
                    self.metrics.unfreeze();
                    Happening::Signal(Event::Confirmed)
                }
                Message::Connections(entries) if !matches!(self.gives, Gives::Nothing) => {
                    let new = entries.len() as u64;
                    let count = self.come.fetch_add(new, Ordering::AcqRel) + new;
                    let claims = match &self.gives {
                        Gives::ToBeClaimed(claims) => Some(claims),
                        Gives::Nothing | Gives::ForGood => None,
                    };
                    let arrivals = Arrival::all(entries, fds, claims);
                    Happening::Arrived(arrivals, self.receipt(Message::Taken { count }))
                }
                Message::Elder { count } => match fds.into_iter().next() {
                    Some(channel) => Happening::Elder(channel, count),
                    None => break,
                },
                Message::Probe => Happening::Arrived(vec![], self.receipt(Message::Alive)),
                Message::Counted { piece } => {
                    self.metrics.merge(&piece);
                    if !matches!(self.gives, Gives::Nothing) {
                        // it has handed over since
                        self.metrics.unfreeze();
                    }
                    continue;
                }
                Message::Taken { count } => {
                    self.taken.set(count);
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
        Receipt {
            channel: self.channel.clone(),
            answer,
        }
    }

    fn told(&mut self, mut fds: Vec<OwnedFd>, event: Event) -> Happening {
        if let Some(claims) = fds.pop() {
            self.gives = Gives::ToBeClaimed(Claims::from(claims));
        }
        Happening::Signal(event)
    }
}
