//! The new process of an upgrade, as the old one sees it: started, listened to, given connections, killed if need be.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;
use async_std::future::timeout;
use async_std::task::JoinHandle;
use futures_lite::future;

use super::ears::Ears;
use super::giving::{Giving, Until, ANSWER};
use super::handover::{Channel, Message, COUNTS, VERSION};
use super::happening::Happening;
use super::heard::Heard;
use super::lineage::Lineage;
use super::machine::{Event, Word};
use super::waiter::MAX_DRAINING;
use crate::config::{self, Handshake, UpgradeMode};
use crate::error::{Error, Kind};
use crate::http::detached::Detached;
use crate::http::transfer::Transfer;
use crate::observe::{self, notified::NotifySocket};
use crate::socket::{HANDOVER, NEWEST};
use crate::sync::limiter::Limiter;
use crate::sys::claims::Claims;
use crate::sys::limits::OpenFiles;
use crate::sys::spawn::{Child, ChildEnvironment, PassedFd, Program};

/// How long a program that cannot say that it accepts has to fail in before it counts as one that does.
pub(super) const UNSAID: Duration = Duration::from_secs(1);

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
    giving: Giving,
    mode: UpgradeMode,
    /// The capabilities of its greeting.
    can: Arc<AtomicU32>,
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
        if start.settings.mode == UpgradeMode::Manual
            && start.settings.handshake != Handshake::Slackwater
        {
            let why = "upgrade.mode = \"manual\" needs upgrade.handshake = \"slackwater\": a program of other make \
                       gives no connection back";
            return Err(Error::new(Kind::Config, why));
        }
        let draining = start.lineage.newest.draining();
        if draining.len() >= MAX_DRAINING {
            let why = format!(
                "{MAX_DRAINING} earlier processes still drain (pids {draining:?}), and that is enough"
            );
            return Err(Error::new(Kind::Io, why));
        }
        match start.settings.handshake {
            Handshake::Slackwater => Self::start_ours(start).await,
            Handshake::Notify => {
                let notified = NotifySocket::listen()?;
                let environment = ChildEnvironment::for_foreign_program()
                    .with("NOTIFY_SOCKET", notified.address());
                Self::start_stranger(start, environment, Some(notified))
            }
            Handshake::None => {
                Self::start_stranger(start, ChildEnvironment::for_foreign_program(), None)
            }
        }
    }

    async fn start_ours(mut start: Start<'_>) -> Result<Self, Error> {
        let no_channel = |error| {
            Error::new(Kind::Io, "no channel to a new process could be made").because(error)
        };
        let (channel, theirs) = Channel::pair().map_err(no_channel)?;
        let claims = Claims::create().map_err(no_channel)?;
        start.sockets.push((Arc::new(theirs), HANDOVER.to_owned()));
        start.sockets.push((
            Arc::new(start.lineage.newest.parcel().map_err(no_channel)?),
            NEWEST.to_owned(),
        ));
        let child = start.spawn(ChildEnvironment::for_slackwater())?;
        let (channel, mode) = (Arc::new(channel), start.settings.mode);
        let giving = Giving::new(channel.clone(), Until::Confirmed);
        // before anything else is said, by whichever task
        let hello = Message::Hello {
            version: VERSION,
            capabilities: COUNTS,
            pid: std::process::id(),
        };
        let _ = timeout(ANSWER, channel.send(&hello, &[])).await;
        let can = Arc::<AtomicU32>::default();
        let ears = Ears::of(
            child.clone(),
            channel.clone(),
            giving.taken(),
            mode,
            can.clone(),
            start.events,
        );
        let ears = async_std::task::spawn(ears.listen());
        Ok(Successor {
            child,
            ears,
            link: Link::Handover(Handover {
                channel,
                claims,
                giving,
                mode,
                can,
            }),
        })
    }

    fn start_stranger(
        start: Start<'_>,
        environment: ChildEnvironment,
        notified: Option<NotifySocket>,
    ) -> Result<Self, Error> {
        let child = start.spawn(environment)?;
        let ears = async_std::task::spawn(wait_for_stranger(child.clone(), notified, start.events));
        Ok(Successor {
            child,
            ears,
            link: Link::Sockets,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether it is to go on by itself from here, or a person decides.
    pub(crate) fn mode(&self) -> UpgradeMode {
        match &self.link {
            Link::Handover(handover) => handover.mode,
            Link::Sockets => UpgradeMode::Auto,
        }
    }

    /// What tells it what has been counted here.
    pub(crate) fn teller(&self) -> Option<Teller> {
        match &self.link {
            Link::Handover(Handover { channel, can, .. }) => Some(Teller {
                channel: channel.clone(),
                can: can.clone(),
            }),
            Link::Sockets => None,
        }
    }

    /// How many connections it says it has been given.
    pub(crate) fn given(&self) -> u64 {
        match &self.link {
            Link::Handover(handover) => handover.giving.taken().get(),
            Link::Sockets => 0,
        }
    }

    /// Why one that is never ready may not be: it has not said a word.
    pub(crate) fn hint(&self) -> &'static str {
        match &self.link {
            Link::Handover(handover) if !handover.channel.is_greeted() => {
                "; it has not greeted: a program of other make needs upgrade.handshake = \"notify\" or \"none\""
            }
            Link::Handover(_) => "",
            Link::Sockets => "; it has not said READY=1 (upgrade.handshake)",
        }
    }

    /// How long ago it was started.
    pub(crate) fn age(&self) -> Duration {
        self.child.started().elapsed()
    }

    /// Says a word. If it cannot be heard any more, the end of the channel says so to our ears.
    pub(crate) async fn say(&self, word: Word) {
        let Link::Handover(Handover {
            channel,
            claims,
            mode,
            ..
        }) = &self.link
        else {
            return;
        };
        let (message, fds) = match (word, mode) {
            (Word::Live, UpgradeMode::Auto) => (Message::Live, vec![claims.fd()]),
            (Word::Live, UpgradeMode::Manual) => (Message::Share, vec![claims.fd()]),
            (Word::Cancel, _) => (Message::Cancel, vec![]),
            (Word::Probe, _) => (Message::Probe, vec![]),
            (Word::Recall, _) => (Message::Recall, vec![]),
            (Word::Confirmed, _) => (Message::Confirmed, vec![]),
            // what only a successor says
            (Word::Ready | Word::Accepting | Word::Stopping, _) => return,
        };
        if !matches!(
            timeout(ANSWER, channel.send(&message, &fds)).await,
            Ok(Ok(()))
        ) {
            log::debug!("{word:?} could not be said to the new process");
        }
    }

    /// Opens the way by which connections leave for the new process, if there is one.
    pub(crate) fn open_way(&mut self, events: Sender<Happening>) -> Option<Sender<Transfer>> {
        let pid = self.pid();
        let Link::Handover(Handover { giving, .. }) = &mut self.link else {
            return None;
        };
        Some(giving.open_way(move |error| async move {
            log::error!("connections cannot be handed to the new process (pid {pid}): {error}");
            let _ = events
                .send(Happening::Successor(pid, Event::SuccessorGone))
                .await;
        }))
    }

    /// Kills it and reaps it: from then on it reads nothing any more.
    pub(crate) async fn kill(&self) {
        self.child.kill_and_reap().await;
    }

    /// Passes a HUP on.
    pub(crate) fn hup(&self) {
        self.child.signal(rustix::process::Signal::HUP);
    }

    /// Passes on what tells it to stop.
    pub(super) fn stop(&self, event: Event) {
        self.child.signal(match event {
            Event::Int => rustix::process::Signal::INT,
            Event::Term => rustix::process::Signal::TERM,
            _ => rustix::process::Signal::QUIT,
        });
    }

    pub(super) fn is_alive(&self) -> bool {
        self.child.try_exited().is_none()
    }

    /// Has the new process listen to an older one, whose connections go to it directly from now on. If it cannot, the
    /// channel ends, and they drain where they are.
    pub(super) async fn inherit(&self, heard: Heard) {
        let Link::Handover(Handover { channel, .. }) = &self.link else {
            return;
        };
        let left = heard.leave().await;
        let _ = timeout(
            ANSWER,
            channel.send(&Message::Elder { count: left.count }, &[left.fd()]),
        )
        .await;
    }

    /// What the new process keeps: our copies of it are forgotten. Returns how many connections that were.
    pub(crate) fn let_go(&self) -> usize {
        match &self.link {
            Link::Handover(handover) => handover.giving.confirm(),
            Link::Sockets => 0,
        }
    }

    /// After its death: what is left to us of the connections that it was given, and how many are not.
    pub(crate) async fn take_back(self, permits: &Arc<Limiter>) -> (Vec<Detached>, usize) {
        self.ears.cancel().await;
        match self.link {
            Link::Handover(Handover {
                mut giving, claims, ..
            }) => giving.take_back(Some(&claims), permits).await,
            Link::Sockets => (vec![], 0),
        }
    }
}

/// Tells a new process what the old one has counted, if it understands that.
#[derive(Clone)]
pub(crate) struct Teller {
    channel: Arc<Channel>,
    can: Arc<AtomicU32>,
}

impl Teller {
    pub(crate) async fn tell(&self, pieces: Vec<String>) {
        if self.can.load(Ordering::Acquire) & COUNTS == 0 {
            return;
        }
        for piece in pieces {
            // one that is gone does not hear it, and its end is heard of
            let _ = timeout(ANSWER, self.channel.send(&Message::Counted { piece }, &[])).await;
        }
    }
}

impl Start<'_> {
    fn spawn(&self, environment: ChildEnvironment) -> Result<Arc<Child>, Error> {
        let mut passed = vec![];
        for (fd, name) in &self.sockets {
            passed.push(PassedFd {
                fd: fd.as_fd(),
                name: name.clone(),
            });
        }
        let no_output =
            |error| Error::new(Kind::Io, "no standard output for a new process").because(error);
        let stdout = observe::log::original_stdout().map_err(no_output)?;
        self.lineage.before_upgrade();
        let child = self.program.start(
            &self.settings.exec,
            &passed,
            environment,
            stdout,
            self.limits,
        )?;
        self.lineage.newest.expect(child.pid());
        Ok(Arc::new(child))
    }
}

/// Waits until a program of other make accepts, as far as that can be known, and then for its end.
async fn wait_for_stranger(
    child: Arc<Child>,
    notified: Option<NotifySocket>,
    events: Sender<Happening>,
) {
    let pid = child.pid();
    let ready = async {
        match notified {
            Some(notified) => notified.ready().await,
            // it says nothing: one that has not ended by now has its sockets
            None => {
                async_io::Timer::after(UNSAID).await;
                Ok(())
            }
        }
    };
    let ended = async {
        let ending = child.exited().await;
        Err(Error::new(
            Kind::Io,
            format!("{ending} before it was ready"),
        ))
    };
    let event = match future::or(ended, ready).await {
        Ok(()) => Event::StrangerAccepts,
        Err(error) => {
            log::error!("the new process (pid {pid}) {}", error.chain());
            let _ = events
                .send(Happening::SuccessorSaid(pid, error.chain()))
                .await;
            Event::SuccessorGone
        }
    };
    let _ = events.send(Happening::Successor(pid, event)).await;
    // nothing comes of its end any more, but that it is reaped
    child.exited().await;
}
