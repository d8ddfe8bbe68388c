//! The one loop of a process: waits for what happens, asks the machine what that means, and carries it out.

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_io::Timer;
use async_std::task::JoinHandle;
use futures_lite::future;

use super::desk::{Asker, Desk};
use super::handle::{Handle, Report, Shared};
use super::happening::{Happening, Reply};
use super::heard::Heard;
use super::live::Live;
use super::machine::{self, step, Action, Command, Event, Phase, Refusal};
use super::named::remove_pid_file;
use super::predecessor::Predecessor;
use super::reload::{Next, Plan};
use super::stand_in::Parent;
use super::successor::Successor;
use crate::config::LoadedConfig;
use crate::error::{Error, Kind};
use crate::http::idle::IdleSet;
use crate::observe;
use crate::observe::metrics::Counter;
use crate::observe::systemd::Systemd;
use crate::sync::token::{token, Trigger};
use crate::sys::pid_file::PidFile;

/// Drives one server from its start to its end.
pub(crate) struct Driver {
    pub(super) plan: Arc<Plan>,
    pub(super) phase: Phase,
    pub(super) happenings: Receiver<Happening>,
    pub(super) sender: Sender<Happening>,
    pub(super) shared: Arc<Shared>,
    /// The settings that the first generation is built with.
    pub(super) first: Option<LoadedConfig>,
    /// Where connections will be parked; until something is live.
    pub(super) idle: Option<IdleSet>,
    pub(super) live: Option<Live>,
    /// The build under way.
    pub(super) build: Option<JoinHandle<()>>,
    /// The generation that was built, until it goes live.
    pub(super) next: Option<Next>,
    /// Why the last build failed, until it is told.
    pub(super) failure: Option<Error>,
    /// Who waits for the outcome of the reload that is under way, and of the one after it.
    pub(super) waiting: Vec<Reply>,
    pub(super) waiting_for_next: Vec<Reply>,
    /// What `http.max_connections = "auto"` stands for.
    pub(super) auto_connections: usize,
    pub(super) systemd: Arc<Systemd>,
    /// The new process, while an upgrade is under way.
    pub(super) successor: Option<Successor>,
    /// The old process, in a new one.
    pub(super) predecessor: Option<Predecessor>,
    /// Whoever has started this process for an upgrade, until its end has been looked into.
    pub(super) parent: Option<Parent>,
    /// Those that were replaced before that one, and still drain.
    pub(super) elders: Vec<Heard>,
    pub(super) pid_file: Option<PidFile>,
    /// The file under another name that is this one's while two processes accept.
    pub(super) old_pid_file: Option<PidFile>,
    /// Who waits for what was asked.
    pub(super) desk: Desk,
    /// Connections that have come from the process at the other end of a handover.
    pub(super) adopted: u64,
    /// Watches the configuration's files, where the settings ask for it.
    pub(super) watch: Option<JoinHandle<()>>,
    pub(super) timer: Option<Instant>,
    pub(super) leaving_since: Option<Instant>,
    /// Dropped when the new process is told no more what is counted here.
    pub(super) telling: Option<Trigger>,
    /// Told when all is over.
    pub(super) over: Trigger,
}

impl Driver {
    /// # Errors
    /// When the operating system has no poller left to park connections in.
    pub(crate) fn new(
        plan: Plan,
        first: LoadedConfig,
        handover: Option<OwnedFd>,
    ) -> Result<(Self, Handle), Error> {
        let idle = IdleSet::new().map_err(|error| {
            Error::new(Kind::Io, "no poller for idle connections could be made").because(error)
        })?;
        let (sender, happenings) = async_channel::unbounded();
        let predecessor = handover.map(Predecessor::adopt).transpose()?;
        let (over, ended) = token();
        let shared = Arc::<Shared>::default();
        let handle = Handle {
            events: sender.clone(),
            shared: shared.clone(),
            over: ended,
        };
        let driver = Driver {
            phase: match predecessor {
                None => Phase::Starting(machine::Afterwards::Serve),
                Some(_) => Phase::Succeeding(machine::Afterwards::Serve),
            },
            happenings,
            sender,
            shared,
            first: Some(first),
            idle: Some(idle),
            live: None,
            build: None,
            next: None,
            failure: None,
            waiting: vec![],
            waiting_for_next: vec![],
            auto_connections: plan.open_files.connections(),
            systemd: Arc::new(
                plan.program
                    .as_ref()
                    .map_or_else(Systemd::none, |(program, _)| {
                        Systemd::from_environment(program)
                    }),
            ),
            plan: Arc::new(plan),
            successor: None,
            parent: predecessor.as_ref().map(|_| Parent::now()),
            predecessor,
            elders: vec![],
            pid_file: None,
            old_pid_file: None,
            desk: Desk::default(),
            adopted: 0,
            watch: None,
            timer: None,
            leaving_since: None,
            telling: None,
            over,
        };
        Ok((driver, handle))
    }

    /// Runs from start to end. `started` hears when the first generation accepts.
    ///
    /// # Errors
    /// Why the first generation could not be built.
    pub(crate) async fn run(mut self, started: Sender<()>) -> Result<Report, Error> {
        if let Some(predecessor) = &mut self.predecessor {
            predecessor
                .greet(self.plan.metrics.clone(), self.sender.clone())
                .await;
        }
        self.begin_build();
        if let Some(every) = self.systemd.watchdog_interval() {
            async_std::task::spawn(ping(self.systemd.clone(), every));
        }
        while self.phase != Phase::Gone {
            let event = match self.next_happening().await {
                Some(Happening::Signal(event)) => event,
                Some(Happening::Reload(reply)) => self.reload_for(reply),
                Some(Happening::Changed) => match machine::meaning(Command::Reload, self.phase) {
                    Ok(Some(event)) => event,
                    _ => {
                        log::warn!(
                            "the configuration has changed; not read now, a reload (HUP) will"
                        );
                        continue;
                    }
                },
                Some(Happening::Asked(ask, asker)) => {
                    if let Some((event, asker)) = self.asked(ask, asker) {
                        self.take(event, asker).await;
                    }
                    continue;
                }
                Some(Happening::Built(outcome)) => self.built(*outcome).await,
                Some(Happening::Drained) => match self.drained().await {
                    Some(event) => event,
                    None => continue,
                },
                Some(Happening::Successor(pid, event)) if self.is_successor(pid) => {
                    self.of_successor(event)
                }
                Some(Happening::SuccessorSaid(pid, why)) if self.is_successor(pid) => {
                    self.desk.why.get_or_insert(why);
                    continue;
                }
                Some(Happening::Successor(..) | Happening::SuccessorSaid(..)) => continue,
                Some(Happening::PredecessorGone) => self.predecessor_gone(),
                Some(Happening::Elder(channel, count)) => {
                    self.hear_elder(channel, count);
                    continue;
                }
                Some(Happening::Arrived(arrivals, receipt)) => {
                    self.adopted += arrivals.len() as u64;
                    self.plan
                        .metrics
                        .count_by(Counter::Taken, arrivals.len() as u64);
                    if let Some(live) = &self.live {
                        live.adopt(arrivals);
                    }
                    receipt.send().await;
                    continue;
                }
                None => self.time_over(),
            };
            self.take(event, None).await;
            if self.live.is_some() {
                // the first time tells, and there is room for no second
                let _ = started.try_send(());
            }
        }
        self.tell_last_counts().await;
        self.end()
    }

    /// One step of the policy. `asker` waits for what becomes of its command.
    async fn take(&mut self, event: Event, asker: Option<(Command, Asker)>) {
        let (phase, actions) = match event {
            Event::Usr2 | Event::Winch if self.is_returning() => {
                (self.phase, vec![Action::Refuse(Refusal::Returning)])
            }
            _ => step(self.phase, event),
        };
        self.phase = phase;
        match (asker, actions.iter().find_map(Action::refusal)) {
            (Some((_, asker)), Some(refusal)) => Driver::refused(&asker, refusal),
            (Some((command, asker)), None) => self.desk.wait(command, asker),
            (None, _) => {}
        }
        for action in actions {
            self.act(action).await;
        }
        self.answer_hopeless();
        self.publish_addresses();
        self.settle_asked();
    }

    /// Waits for what happens next; `None` is the timer.
    async fn next_happening(&mut self) -> Option<Happening> {
        let (happenings, timer) = (self.happenings.clone(), self.timer);
        let heard = async { happenings.recv().await.ok() };
        match timer {
            None => heard.await,
            Some(at) => {
                let heard = pin!(heard);
                future::or(heard, async {
                    Timer::at(at).await;
                    None
                })
                .await
            }
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Build => self.begin_build(),
            Action::AbandonBuild => self.abandon_build().await,
            Action::GoLive => self.go_live().await,
            Action::Live(step) => self.change(step).await,
            Action::Spawn => self.spawn().await,
            Action::KillSuccessor => self.kill_successor().await,
            Action::Say(word) => self.say(word).await,
            Action::PassHup => self.successor.iter().for_each(Successor::hup),
            Action::PassStop(event) => self.pass_stop(event),
            Action::Arm(timer) => self.timer = Some(Instant::now() + self.wait(timer)),
            Action::Disarm => self.timer = None,
            Action::ReopenLogs => drop(reopen_logs()),
            Action::Refuse(refusal) => log::warn!("{}{}", refusal.signal(), refusal.text()),
        }
    }

    fn publish_addresses(&self) {
        let addresses = self.live.as_ref().map(Live::addresses).unwrap_or_default();
        *self.shared.addresses.lock() = addresses;
    }

    pub(super) fn number(&self) -> u64 {
        self.live
            .as_ref()
            .map_or(0, |live| live.generation().number)
    }

    fn end(mut self) -> Result<Report, Error> {
        // whoever still waits for a reload hears that there will be none
        self.happenings.close();
        while self.happenings.try_recv().is_ok() {}
        if let Some(error) = self.failure.filter(|_| self.live.is_none()) {
            return Err(error);
        }
        remove_pid_file(self.pid_file.take());
        remove_pid_file(self.old_pid_file.take());
        self.plan
            .program
            .iter()
            .for_each(|(_, lineage)| lineage.newest.drained(std::process::id()));
        let mut report = self.shared.report.lock();
        report.took = self
            .leaving_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        let report = report.clone();
        self.desk.settle_last(&report);
        match self.live {
            None => log::info!("told to stop while starting; stopped"),
            Some(_) => log::info!(
                "stopped after {:.1?}; connections cut: {}",
                report.took,
                report.cut.len()
            ),
        }
        self.over.fire();
        Ok(report)
    }
}

/// Tells systemd that the executor still turns; never ends.
async fn ping(systemd: Arc<Systemd>, every: Duration) {
    loop {
        systemd.watchdog();
        Timer::after(every).await;
    }
}

/// Opens the log anew; tells what came of it.
pub(super) fn reopen_logs() -> Result<String, String> {
    let outcome = match observe::log::reopen() {
        Ok(()) => Ok("the log was reopened".to_owned()),
        Err(error) => Err(format!("{}; the log goes on where it was", error.chain())),
    };
    match &outcome {
        Ok(said) => log::info!("{said}"),
        Err(why) => log::error!("{why}"),
    }
    outcome
}
