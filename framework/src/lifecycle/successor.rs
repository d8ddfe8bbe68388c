//! The new process of an upgrade, as the old process sees it.
//!
//! The old process starts it, reads its messages, sends it connections, and kills it if the upgrade fails.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;
use async_std::future::timeout;
use async_std::task::JoinHandle;
use futures_lite::future;

use super::event::DriverEvent;
use super::handover::{Channel, PeerMessage, COUNTS, VERSION};
use super::lineage::Lineage;
use super::machine::{Input, MessageKind};
use super::new_peer_reader::NewPeerReader;
use super::old_peer_reader::OldPeer;
use super::sender::{ConnectionSender, CopyRetention, ACK_TIMEOUT};
use super::waiter::MAX_DRAINING;
use crate::config::{self, Handshake, UpgradeMode};
use crate::error::{Error, Kind};
use crate::http::connection::{Detached, Transfer};
use crate::observe::{self, notified::NotifySocket};
use crate::socket::{HANDOVER, NEWEST};
use crate::sync::limiter::Limiter;
use crate::sys::claims::Claims;
use crate::sys::limits::OpenFiles;
use crate::sys::spawn::{Child, ChildEnvironment, PassedFd, Program};

/// The time after which a foreign program that sends no notification counts as accepting, if it has not exited.
pub(super) const FOREIGN_START_TIME: Duration = Duration::from_secs(1);

/// The new process. Dropping this leaves it running.
pub(crate) struct Successor {
    child: Arc<Child>,
    reader: JoinHandle<()>,
    kind: SuccessorKind,
}

enum SuccessorKind {
    /// A slackwater program, connected by a handover channel.
    Slackwater(Handover),
    /// A foreign program, which inherits only the listening sockets.
    Foreign,
}

struct Handover {
    channel: Arc<Channel>,
    claims: Claims,
    sender: ConnectionSender,
    mode: UpgradeMode,
    /// The capabilities from the greeting of the new process.
    capabilities: Arc<AtomicU32>,
}

/// The parameters of a new process.
pub(crate) struct SuccessorOptions<'a> {
    pub(crate) program: &'a Program,
    pub(crate) lineage: &'a Lineage,
    pub(crate) settings: &'a config::Upgrade,
    /// The listening sockets and their names.
    pub(crate) sockets: Vec<(Arc<OwnedFd>, String)>,
    pub(crate) limits: &'a OpenFiles,
    pub(crate) events: Sender<DriverEvent>,
}

impl Successor {
    /// Starts the program again, with the listening sockets. If `upgrade.handshake` is "slackwater", the process also
    /// inherits one end of a handover channel.
    ///
    /// # Errors
    /// The process could not be started. Nothing has changed.
    pub(crate) async fn start(options: SuccessorOptions<'_>) -> Result<Self, Error> {
        if options.settings.mode == UpgradeMode::Manual
            && options.settings.handshake != Handshake::Slackwater
        {
            return Err(Error::new(
                Kind::Config,
                "upgrade.mode = \"manual\" needs upgrade.handshake = \"slackwater\": a foreign program returns no \
                 connections",
            ));
        }
        let draining = options.lineage.newest.draining();
        if draining.len() >= MAX_DRAINING {
            return Err(Error::new(
                Kind::Io,
                format!(
                    "{MAX_DRAINING} earlier processes still drain, which is the limit (pids {draining:?})"
                ),
            ));
        }
        match options.settings.handshake {
            Handshake::Slackwater => Self::start_slackwater(options).await,
            Handshake::Notify => {
                let notified = NotifySocket::listen()?;
                let environment = ChildEnvironment::for_foreign_program()
                    .with("NOTIFY_SOCKET", notified.address());
                Self::start_foreign(options, environment, Some(notified))
            }
            Handshake::None => {
                Self::start_foreign(options, ChildEnvironment::for_foreign_program(), None)
            }
        }
    }

    async fn start_slackwater(mut options: SuccessorOptions<'_>) -> Result<Self, Error> {
        let no_channel = |error| {
            Error::new(Kind::Io, "cannot create a channel to the new process").because(error)
        };
        let (channel, theirs) = Channel::pair().map_err(no_channel)?;
        let claims = Claims::create().map_err(no_channel)?;
        options
            .sockets
            .push((Arc::new(theirs), HANDOVER.to_owned()));
        options.sockets.push((
            Arc::new(options.lineage.newest.parcel().map_err(no_channel)?),
            NEWEST.to_owned(),
        ));
        let child = options.spawn(ChildEnvironment::for_slackwater())?;
        let (channel, mode) = (Arc::new(channel), options.settings.mode);
        let sender = ConnectionSender::new(channel.clone(), CopyRetention::UntilConfirmed);
        // sent before any task can send another message, because `Hello` has to be the first
        let hello = PeerMessage::Hello {
            version: VERSION,
            capabilities: COUNTS,
            pid: std::process::id(),
        };
        let _ = timeout(ACK_TIMEOUT, channel.send(&hello, &[])).await;
        let capabilities = Arc::<AtomicU32>::default();
        let reader = NewPeerReader::new(
            child.clone(),
            channel.clone(),
            sender.acks(),
            mode,
            capabilities.clone(),
            options.events,
        );
        Ok(Successor {
            child,
            reader: async_std::task::spawn(reader.run()),
            kind: SuccessorKind::Slackwater(Handover {
                channel,
                claims,
                sender,
                mode,
                capabilities,
            }),
        })
    }

    fn start_foreign(
        options: SuccessorOptions<'_>,
        environment: ChildEnvironment,
        notified: Option<NotifySocket>,
    ) -> Result<Self, Error> {
        let child = options.spawn(environment)?;
        let reader =
            async_std::task::spawn(wait_for_foreign(child.clone(), notified, options.events));
        Ok(Successor {
            child,
            reader,
            kind: SuccessorKind::Foreign,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Returns the mode of the upgrade: `Manual` if an operator commits it.
    pub(crate) fn mode(&self) -> UpgradeMode {
        match &self.kind {
            SuccessorKind::Slackwater(handover) => handover.mode,
            SuccessorKind::Foreign => UpgradeMode::Auto,
        }
    }

    /// Returns the sender of counters, or `None` for a foreign program.
    pub(crate) fn counter_sender(&self) -> Option<CounterSender> {
        match &self.kind {
            SuccessorKind::Slackwater(handover) => Some(CounterSender {
                channel: handover.channel.clone(),
                capabilities: handover.capabilities.clone(),
            }),
            SuccessorKind::Foreign => None,
        }
    }

    /// Returns the number of connections that the new process has acknowledged.
    pub(crate) fn acked_connections(&self) -> u64 {
        match &self.kind {
            SuccessorKind::Slackwater(handover) => handover.sender.acks().get(),
            SuccessorKind::Foreign => 0,
        }
    }

    /// Returns a probable cause, for the log, if the new process was not ready in time and has sent nothing.
    pub(crate) fn hint(&self) -> &'static str {
        match &self.kind {
            SuccessorKind::Slackwater(handover) if !handover.channel.is_greeted() => {
                "; it has not sent a greeting: a foreign program needs upgrade.handshake = \"notify\" or \"none\""
            }
            SuccessorKind::Slackwater(_) => "",
            SuccessorKind::Foreign => "; it has not sent READY=1 (upgrade.handshake)",
        }
    }

    /// Returns the time since the process was started.
    pub(crate) fn age(&self) -> Duration {
        self.child.started().elapsed()
    }

    /// Sends a message. Kinds that only a new process sends are ignored. A failure is only logged, because the task that reads
    /// the channel reports its end.
    pub(crate) async fn send(&self, kind: MessageKind) {
        let SuccessorKind::Slackwater(Handover {
            channel,
            claims,
            mode,
            ..
        }) = &self.kind
        else {
            return;
        };
        let (message, fds) = match (kind, mode) {
            (MessageKind::Live, UpgradeMode::Auto) => (PeerMessage::Live, vec![claims.fd()]),
            (MessageKind::Live, UpgradeMode::Manual) => (PeerMessage::Share, vec![claims.fd()]),
            (MessageKind::Cancel, _) => (PeerMessage::Cancel, vec![]),
            (MessageKind::Probe, _) => (PeerMessage::Probe, vec![]),
            (MessageKind::Recall, _) => (PeerMessage::Recall, vec![]),
            (MessageKind::Confirmed, _) => (PeerMessage::Confirmed, vec![]),
            (MessageKind::Ready | MessageKind::Accepting | MessageKind::Stopping, _) => return,
        };
        if !matches!(
            timeout(ACK_TIMEOUT, channel.send(&message, &fds)).await,
            Ok(Ok(()))
        ) {
            log::debug!("{kind:?} could not be sent to the new process");
        }
    }

    /// Returns the queue of connections that are sent to the new process, or `None` for a foreign program.
    pub(crate) fn transfers(&mut self, events: Sender<DriverEvent>) -> Option<Sender<Transfer>> {
        let pid = self.pid();
        let SuccessorKind::Slackwater(handover) = &mut self.kind else {
            return None;
        };
        Some(handover.sender.transfers(move |error| async move {
            log::error!("connections cannot be sent to the new process (pid {pid}): {error}");
            let _ = events
                .send(DriverEvent::Successor(pid, Input::SuccessorGone))
                .await;
        }))
    }

    /// Kills and reaps the process. Afterwards it cannot read from any connection.
    pub(crate) async fn kill(&self) {
        self.child.kill_and_reap().await;
    }

    /// Forwards a HUP.
    pub(crate) fn hup(&self) {
        self.child.signal(rustix::process::Signal::HUP);
    }

    /// Forwards a signal that stops the process.
    pub(super) fn stop(&self, input: Input) {
        self.child.signal(match input {
            Input::Int => rustix::process::Signal::INT,
            Input::Term => rustix::process::Signal::TERM,
            _ => rustix::process::Signal::QUIT,
        });
    }

    pub(super) fn is_alive(&self) -> bool {
        self.child.try_exited().is_none()
    }

    /// Passes the channel of an older process on, so that its connections go directly to the new process. If that
    /// fails, the channel is closed and the connections drain in the older process.
    pub(super) async fn pass_on(&self, peer: OldPeer) {
        let SuccessorKind::Slackwater(handover) = &self.kind else {
            return;
        };
        let released = peer.release().await;
        let message = PeerMessage::OlderPeer {
            count: released.count,
        };
        let fds = [released.fd()];
        let _ = timeout(ACK_TIMEOUT, handover.channel.send(&message, &fds)).await;
    }

    /// Forgets the copies of connections that the new process has acknowledged, now and later. Returns the number of
    /// connections that have been sent.
    pub(crate) fn confirm(&self) -> usize {
        match &self.kind {
            SuccessorKind::Slackwater(handover) => handover.sender.confirm(),
            SuccessorKind::Foreign => 0,
        }
    }

    /// Takes over every connection that the new process has not claimed, and returns the number of the others.
    ///
    /// Call this only after the process was reaped: until then it may still read from them.
    pub(crate) async fn take_back(self, permits: &Arc<Limiter>) -> (Vec<Detached>, usize) {
        self.reader.cancel().await;
        match self.kind {
            SuccessorKind::Slackwater(Handover {
                mut sender, claims, ..
            }) => sender.take_back(Some(&claims), permits).await,
            SuccessorKind::Foreign => (vec![], 0),
        }
    }
}

/// Sends the counters of the old process to the new one, if its greeting has the capability [`COUNTS`].
#[derive(Clone)]
pub(crate) struct CounterSender {
    channel: Arc<Channel>,
    capabilities: Arc<AtomicU32>,
}

impl CounterSender {
    pub(crate) async fn send(&self, pieces: Vec<String>) {
        if self.capabilities.load(Ordering::Acquire) & COUNTS == 0 {
            return;
        }
        for piece in pieces {
            // a failure needs no handling here: the task that reads the channel reports its end
            let message = PeerMessage::Counted { piece };
            let _ = timeout(ACK_TIMEOUT, self.channel.send(&message, &[])).await;
        }
    }
}

impl SuccessorOptions<'_> {
    fn spawn(&self, environment: ChildEnvironment) -> Result<Arc<Child>, Error> {
        let mut passed = vec![];
        for (fd, name) in &self.sockets {
            passed.push(PassedFd {
                fd: fd.as_fd(),
                name: name.clone(),
            });
        }
        let no_output = |error| {
            Error::new(
                Kind::Io,
                "the standard output cannot be passed to the new process",
            )
            .because(error)
        };
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

/// Waits until a foreign program accepts, and then for its exit.
async fn wait_for_foreign(
    child: Arc<Child>,
    notified: Option<NotifySocket>,
    events: Sender<DriverEvent>,
) {
    let pid = child.pid();
    let ready = async {
        match notified {
            Some(notified) => notified.ready().await,
            None => {
                async_io::Timer::after(FOREIGN_START_TIME).await;
                Ok(())
            }
        }
    };
    let exited = async {
        let ending = child.exited().await;
        Err(Error::new(
            Kind::Io,
            format!("{ending} before it was ready"),
        ))
    };
    let input = match future::or(exited, ready).await {
        Ok(()) => Input::ForeignAccepts,
        Err(error) => {
            log::error!("the new process (pid {pid}) {}", error.chain());
            let _ = events
                .send(DriverEvent::SuccessorFailure(pid, error.chain()))
                .await;
            Input::SuccessorGone
        }
    };
    let _ = events.send(DriverEvent::Successor(pid, input)).await;
    // the exit no longer matters, but the child has to be reaped
    child.exited().await;
}
