//! The new process of an upgrade, as the old one sees it: started, listened to, given connections, killed if need be.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_std::future::timeout;
use async_std::task::JoinHandle;
use futures_lite::future;

use super::handover::{Channel, Message, VERSION};
use super::happening::Happening;
use super::lineage::Lineage;
use super::machine::{Event, Word};
use super::porter::{Kept, Porter, Taken, ANSWER};
use crate::config;
use crate::error::{chain, Error, Kind};
use crate::http::connection::Connection;
use crate::http::limits::Seats;
use crate::observe::{self, notified::Notified};
use crate::socket::{HANDOVER, NEWEST};
use crate::sys::claims::Claims;
use crate::sys::limits::OpenFiles;
use crate::sys::spawn::{Child, Environment, Passed, Program};

/// How long a program that says nothing has to fail in before it counts as one that accepts.
const UNSAID: Duration = Duration::from_secs(1);

/// A process that was started to take over. Dropping it lets go of it; it lives on.
pub(crate) struct Successor {
    child: Arc<Child>,
    ears: JoinHandle<()>,
    link: Link,
}

/// What there is between the two processes.
enum Link {
    /// A channel by which connections travel.
    Handover(Handover),
    /// The sockets alone: a program of other make.
    Sockets,
}

struct Handover {
    channel: Arc<Channel>,
    claims: Claims,
    given: Arc<Mutex<Kept>>,
    taken: Arc<Taken>,
    porter: Option<JoinHandle<()>>,
    /// Connections that were to leave and have not been picked up by the porter.
    waiting: Option<Receiver<Connection>>,
}

/// What is needed to start a successor.
pub(crate) struct Start<'a> {
    pub(crate) program: &'a Program,
    pub(crate) lineage: &'a Lineage,
    pub(crate) settings: &'a config::Upgrade,
    /// The listening sockets and their names.
    pub(crate) sockets: Vec<(Arc<OwnedFd>, String)>,
    pub(crate) limits: &'a OpenFiles,
    pub(crate) events: Sender<Happening>,
}

impl Successor {
    /// Starts the program again, with the listening sockets and, if `upgrade.handshake` says so, one end of a channel.
    ///
    /// # Errors
    /// What could not be started, and why; nothing has changed.
    pub(crate) async fn start(start: Start<'_>) -> Result<Self, Error> {
        match start.settings.handshake {
            config::Handshake::Slackwater => Self::start_ours(start).await,
            config::Handshake::Notify => {
                let notified = Notified::listen()?;
                let environment = Environment::stranger().with("NOTIFY_SOCKET", notified.address());
                Self::start_stranger(start, environment, Some(notified))
            }
            config::Handshake::None => Self::start_stranger(start, Environment::stranger(), None),
        }
    }

    async fn start_ours(mut start: Start<'_>) -> Result<Self, Error> {
        let no_channel =
            |error| Error::new(Kind::Io, "no channel to a new process could be made").because(error);
        let (channel, theirs) = Channel::pair().map_err(no_channel)?;
        let claims = Claims::create().map_err(no_channel)?;
        start.sockets.push((Arc::new(theirs), HANDOVER.to_owned()));
        start.sockets.push((Arc::new(start.lineage.newest.parcel().map_err(no_channel)?), NEWEST.to_owned()));
        let child = start.spawn(Environment::ours())?;
        let (channel, taken) = (Arc::new(channel), Arc::<Taken>::default());
        // before anything else is said, by whichever task
        let hello = Message::Hello { version: VERSION, capabilities: 0, pid: std::process::id() };
        let _ = timeout(ANSWER, channel.send(&hello, &[])).await;
        let ears =
            async_std::task::spawn(listen(child.clone(), channel.clone(), taken.clone(), start.events));
        let handover =
            Handover { channel, claims, given: Arc::default(), taken, porter: None, waiting: None };
        Ok(Successor { child, ears, link: Link::Handover(handover) })
    }

    fn start_stranger(
        start: Start<'_>,
        environment: Environment,
        notified: Option<Notified>,
    ) -> Result<Self, Error> {
        let child = start.spawn(environment)?;
        let within = start.settings.ready_timeout;
        let ears = async_std::task::spawn(wait_for_stranger(child.clone(), notified, within, start.events));
        Ok(Successor { child, ears, link: Link::Sockets })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// How long ago it was started.
    pub(crate) fn age(&self) -> Duration {
        self.child.started().elapsed()
    }

    /// Says a word. If it cannot be heard any more, the end of the channel says so to our ears.
    pub(crate) async fn say(&self, word: Word) {
        let Link::Handover(Handover { channel, claims, .. }) = &self.link else { return };
        let (message, fds) = match word {
            Word::Live => (Message::Live, vec![claims.fd()]),
            Word::Cancel => (Message::Cancel, vec![]),
            Word::Confirmed => (Message::Confirmed, vec![]),
            // what only a successor says
            Word::Ready | Word::Accepting | Word::Stopping => return,
        };
        if !matches!(timeout(ANSWER, channel.send(&message, &fds)).await, Ok(Ok(()))) {
            log::debug!("{word:?} could not be said to the new process");
        }
    }

    /// Opens the way by which connections leave for the new process, if there is one.
    pub(crate) fn open_way(&mut self, events: Sender<Happening>) -> Option<Sender<Connection>> {
        let pid = self.pid();
        let Link::Handover(handover) = &mut self.link else { return None };
        let (way, waiting) = async_channel::unbounded();
        let porter = Porter {
            waiting: waiting.clone(),
            channel: handover.channel.clone(),
            given: handover.given.clone(),
            taken: handover.taken.clone(),
            sent: 0,
            next_claim: 0,
        };
        handover.porter = Some(async_std::task::spawn(async move {
            if let Err(error) = porter.carry().await {
                log::error!("connections cannot be handed to the new process (pid {pid}): {error}");
                let _ = events.send(Happening::Successor(pid, Event::SuccessorGone)).await;
            }
        }));
        handover.waiting = Some(waiting);
        Some(way)
    }

    /// Kills it and reaps it: from then on it reads nothing any more.
    pub(crate) async fn kill(&self) {
        self.child.kill_and_reap().await;
    }

    /// Passes a HUP on.
    pub(crate) fn hup(&self) {
        self.child.signal(rustix::process::Signal::HUP);
    }

    /// What the new process keeps: our copies of it are forgotten. Returns how many connections that were.
    pub(crate) fn let_go(&self) -> usize {
        let Link::Handover(handover) = &self.link else { return 0 };
        handover.given.lock().unwrap_or_else(PoisonError::into_inner).confirm()
    }

    /// After its death: the connections that it has not read, and those that it never got, come back; those that it
    /// has begun to read are shut down, for nobody knows what became of their requests.
    pub(crate) async fn take_back(self, seats: &Arc<Seats>) -> (Vec<Connection>, usize) {
        self.ears.cancel().await;
        match self.link {
            Link::Handover(handover) => handover.take_back(seats).await,
            Link::Sockets => (vec![], 0),
        }
    }
}

impl Handover {
    async fn take_back(self, seats: &Arc<Seats>) -> (Vec<Connection>, usize) {
        if let Some(porter) = self.porter {
            porter.cancel().await;
        }
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (claimed, unread): (Vec<_>, Vec<_>) =
            given.into_iter().partition(|given| self.claims.is_claimed(given.claim));
        for given in &claimed {
            let _ = rustix::net::shutdown(&given.socket, rustix::net::Shutdown::Both);
        }
        let mut back: Vec<Connection> =
            unread.into_iter().filter_map(|given| given.connection(seats).ok()).collect();
        if let Some(waiting) = self.waiting {
            back.extend(std::iter::from_fn(|| waiting.try_recv().ok()));
        }
        (back, claimed.len())
    }
}

impl Start<'_> {
    fn spawn(&self, environment: Environment) -> Result<Arc<Child>, Error> {
        let mut passed = vec![];
        for (fd, name) in &self.sockets {
            passed.push(Passed { fd: fd.as_fd(), name: name.clone() });
        }
        let no_output = |error| Error::new(Kind::Io, "no standard output for a new process").because(error);
        let stdout = observe::log::given_stdout().map_err(no_output)?;
        self.lineage.before_upgrade();
        let child = self.program.start(&self.settings.exec, &passed, environment, stdout, self.limits)?;
        self.lineage.newest.expect(child.pid());
        Ok(Arc::new(child))
    }
}

/// Waits until a program of other make accepts, as far as that can be known, and then for its end.
async fn wait_for_stranger(
    child: Arc<Child>,
    notified: Option<Notified>,
    within: Duration,
    events: Sender<Happening>,
) {
    let pid = child.pid();
    let ready = async {
        match notified {
            Some(notified) => notified.ready(within).await,
            // it says nothing: one that has not ended by now has its sockets
            None => {
                async_io::Timer::after(UNSAID).await;
                Ok(())
            }
        }
    };
    let ended = async {
        let ending = child.exited().await;
        Err(Error::new(Kind::Io, format!("it {ending} before it was ready")))
    };
    let event = match future::or(ended, ready).await {
        Ok(()) => Event::StrangerAccepts,
        Err(error) => {
            log::error!("upgrade refused: the new process (pid {pid}): {}", error.chain());
            Event::SuccessorGone
        }
    };
    let _ = events.send(Happening::Successor(pid, event)).await;
}

/// Hears what the new process says, until its end.
async fn listen(child: Arc<Child>, channel: Arc<Channel>, taken: Arc<Taken>, events: Sender<Happening>) {
    let pid = child.pid();
    loop {
        // its end is heard of even where a child of its own keeps the channel open; what it said before comes first
        let heard = future::or(async { Some(channel.receive().await) }, async {
            child.exited().await;
            None
        });
        let event = match heard.await.unwrap_or(Ok(None)) {
            Ok(Some((Message::Ready, _))) => Event::SuccessorReady,
            Ok(Some((Message::Accepting, _))) => Event::SuccessorAccepts,
            Ok(Some((Message::Stopping, _))) => Event::SuccessorStops,
            Ok(Some((Message::Taken { count }, _))) => {
                taken.set(count);
                continue;
            }
            Ok(Some((Message::Failed { why }, _))) => {
                log::error!("upgrade refused by the new process (pid {pid}): {why}");
                continue;
            }
            Ok(Some((Message::Hello { version, .. }, _))) if version == VERSION => continue,
            Ok(Some((other, _))) => {
                log::error!("the new process (pid {pid}) says what makes no sense here: {other:?}");
                break;
            }
            Ok(None) => break,
            Err(error) => {
                log::error!("the new process (pid {pid}) cannot be understood: {}", chain(&error));
                break;
            }
        };
        let _ = events.send(Happening::Successor(pid, event)).await;
    }
    // its end explains the end of the channel, if it has ended
    match timeout(Duration::from_secs(1), child.exited()).await {
        Ok(ending) => log::info!("the new process (pid {pid}) {ending}"),
        Err(_) => log::info!("the new process (pid {pid}) is not heard any more"),
    }
    let _ = events.send(Happening::Successor(pid, Event::SuccessorGone)).await;
}
