//! The one loop of a process: waits for what happens, asks the machine what that means, and carries it out.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_io::Timer;
use async_std::task::JoinHandle;
use futures_lite::future;

use super::desk::{Asker, Desk};
use super::giving::ANSWER;
use super::handle::{Handle, Report, Shared};
use super::happening::{Happening, Reply};
use super::heard::Heard;
use super::live::Live;
use super::machine::{self, step, Action, Command, Event, Phase, Step, Told};
use super::predecessor::Predecessor;
use super::reload::{prepare, Next, Ownership, Plan};
use super::successor::Successor;
use super::upgrade::upgraded;
use super::watch;
use crate::config::{Change, Hurry, Loaded};
use crate::error::{Error, Kind};
use crate::http::parked::Lot;
use crate::observe;
use crate::observe::metrics::Plain;
use crate::observe::systemd::Systemd;
use crate::setup::Reason;
use crate::sys::pid_file::PidFile;
use crate::token::{token, Trigger};

/// How long a new process may take from the word to go live until it accepts: it has nothing left to do but that.
const SWAP: Duration = Duration::from_secs(5);

/// Drives one server from its start to its end.
pub(crate) struct Driver {
    pub(super) plan: Arc<Plan>,
    pub(super) phase: Phase,
    happenings: Receiver<Happening>,
    pub(super) sender: Sender<Happening>,
    shared: Arc<Shared>,
    /// The settings that the first generation is built with.
    first: Option<Loaded>,
    /// Where connections will be parked; until something is live.
    lot: Option<Lot>,
    pub(super) live: Option<Live>,
    /// The build under way.
    build: Option<JoinHandle<()>>,
    /// The generation that was built, until it goes live.
    next: Option<Next>,
    /// Why the last build failed, until it is told.
    failure: Option<Error>,
    /// Who waits for the outcome of the reload that is under way, and of the one after it.
    waiting: Vec<Reply>,
    waiting_for_next: Vec<Reply>,
    /// What `http.max_connections = "auto"` stands for.
    auto_connections: usize,
    pub(super) systemd: Arc<Systemd>,
    /// The new process, while an upgrade is under way.
    pub(super) successor: Option<Successor>,
    /// The old process, in a new one.
    pub(super) predecessor: Option<Predecessor>,
    /// Those that were replaced before that one, and still drain.
    elders: Vec<Heard>,
    pid_file: Option<PidFile>,
    /// The file under another name that is this one's while two processes accept.
    pub(super) old_pid_file: Option<PidFile>,
    /// Who waits for what was asked.
    pub(super) desk: Desk,
    /// Connections that have come from the process at the other end of a handover.
    pub(super) adopted: u64,
    /// Watches the configuration's files, where the settings ask for it.
    watch: Option<JoinHandle<()>>,
    timer: Option<Instant>,
    pub(super) leaving_since: Option<Instant>,
    /// Dropped when the new process is told no more what is counted here.
    pub(super) telling: Option<Trigger>,
    /// Told when all is over.
    over: Trigger,
}

impl Driver {
    /// # Errors
    /// When the operating system has no poller left to park connections in.
    pub(crate) fn new(plan: Plan, first: Loaded, handover: Option<OwnedFd>) -> Result<(Self, Handle), Error> {
        let lot = Lot::new().map_err(|error| {
            Error::new(Kind::Io, "no poller for idle connections could be made").because(error)
        })?;
        let (sender, happenings) = async_channel::unbounded();
        let predecessor = handover.map(Predecessor::adopt).transpose()?;
        let (over, ended) = token();
        let shared = Arc::<Shared>::default();
        let handle = Handle { events: sender.clone(), shared: shared.clone(), over: ended };
        let driver = Driver {
            phase: match predecessor {
                None => Phase::Starting(machine::Afterwards::Serve),
                Some(_) => Phase::Succeeding(machine::Afterwards::Serve),
            },
            happenings,
            sender,
            shared,
            first: Some(first),
            lot: Some(lot),
            live: None,
            build: None,
            next: None,
            failure: None,
            waiting: vec![],
            waiting_for_next: vec![],
            auto_connections: plan.open_files.connections(),
            systemd: Arc::new(
                plan.program.as_ref().map_or_else(Systemd::nobody, |(program, _)| Systemd::of(program)),
            ),
            plan: Arc::new(plan),
            successor: None,
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
            predecessor.greet(self.plan.metrics.clone(), self.sender.clone()).await;
        }
        self.begin_build();
        if let Some(every) = self.systemd.watchdog_interval() {
            async_std::task::spawn(ping(self.systemd.clone(), every));
        }
        while self.phase != Phase::Gone {
            let event = match self.next_happening().await {
                Some(Happening::Signal(event)) => event,
                Some(Happening::Reload(reply)) => self.reload_for(reply),
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
                Some(Happening::Successor(pid, event)) if self.is_successor(pid) => event,
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
                    self.plan.metrics.count_by(Plain::Taken, arrivals.len() as u64);
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
        let (phase, actions) = step(self.phase, event);
        self.phase = phase;
        match (asker, actions.iter().find_map(Action::refusal)) {
            (Some((_, asker)), Some(refusal)) => Driver::refused(&asker, refusal),
            (Some((command, asker)), None) => self.desk.wait(command, asker),
            (None, _) => {}
        }
        for action in actions {
            self.act(action).await;
        }
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

    fn time_over(&mut self) -> Event {
        self.timer = None;
        let wait = |timer| self.wait(timer);
        match self.phase {
            Phase::Upgrading(_) => log::error!(
                "the new process was not ready within {:?} (upgrade.ready_timeout){}",
                wait(machine::Timer::Ready),
                self.successor.as_ref().map_or("", Successor::hint)
            ),
            Phase::Swapping(_) => log::error!("the new process did not accept within {SWAP:?}"),
            Phase::Confirming(_) => log::error!("the new process did not answer within {ANSWER:?}"),
            _ => {}
        }
        Event::TimeOver
    }

    pub(super) fn reload_for(&mut self, reply: Reply) -> Event {
        match self.phase {
            Phase::Starting(_) | Phase::Succeeding(_) | Phase::Ready(_) => self.waiting.push(reply),
            Phase::Proving(_) | Phase::Beside(_) => self.waiting.push(reply),
            Phase::Reloading(_) | Phase::Upgrading(_) => self.waiting_for_next.push(reply),
            Phase::Serving => self.waiting.push(reply),
            // dropped: whoever waits hears that nothing is reloaded any more
            Phase::Paused
            | Phase::Swapping(_)
            | Phase::HandingOver(_)
            | Phase::Confirming(_)
            | Phase::Sharing
            | Phase::Standby
            | Phase::LameDuck(_)
            | Phase::LastCall(_)
            | Phase::Draining(_)
            | Phase::GivingBack(_)
            | Phase::Stopping(_)
            | Phase::Gone => {}
        }
        Event::Hup
    }

    async fn built(&mut self, outcome: Result<Next, Error>) -> Event {
        self.build = None;
        match outcome {
            Ok(next) => {
                self.next = Some(next);
                Event::Built
            }
            Err(error) => {
                if self.live.is_some() {
                    self.count(Plain::ReloadsRefused);
                    let refused =
                        format!("reload refused: {}; generation {} serves on", error.chain(), self.number());
                    log::error!("{refused}");
                    self.systemd.ready(&refused);
                }
                if let (None, Some(predecessor)) = (&self.live, &self.predecessor) {
                    predecessor.fail(error.chain()).await;
                }
                self.answer(Err(error));
                Event::BuildFailed
            }
        }
    }

    /// Tells those who asked for the reload that has just ended; keeps the error for the end of a failed start.
    fn answer(&mut self, outcome: Result<String, Error>) {
        let asked = std::mem::replace(&mut self.waiting, std::mem::take(&mut self.waiting_for_next));
        for reply in asked {
            let again = outcome.as_ref().map(String::clone);
            reply.tell(again.map_err(|error| Error::new(error.kind(), error.chain())));
        }
        self.failure = outcome.err();
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
            Action::Arm(timer) => self.timer = Some(Instant::now() + self.wait(timer)),
            Action::Disarm => self.timer = None,
            Action::ReopenLogs => drop(reopen_logs()),
            Action::Refuse(refusal) => log::warn!("{}{}", refusal.signal(), refusal.text()),
        }
    }

    async fn change(&mut self, step: Step) {
        let Some(live) = &mut self.live else { return };
        match step {
            Step::Accept => {
                live.accept();
                self.systemd.ready(&format!("serving, generation {}", self.number()));
            }
            Step::TakePidFile => {
                self.take_pid_file();
                self.take_control_socket();
            }
            Step::Announce => self.announce(std::process::id()),
            Step::Reinstate => {
                self.plan.metrics.count(Plain::UpgradesFailed);
                self.reinstate();
                let said = "taken back: the new process stops, and gives its connections back";
                log::info!("{said}");
                self.tell_upgrade_failed(said);
            }
            Step::StopAccepting => live.stop_accepting().await,
            Step::CloseListeners => live.close_listeners().await,
            Step::Leave => {
                self.leaving_since.get_or_insert_with(Instant::now);
                live.leave(self.phase);
                self.systemd.stopping("draining");
            }
            Step::Rest => {
                live.rest();
                self.systemd.status("paused: nothing is accepted until HUP");
            }
            Step::Reopen => live.reopen(),
            Step::TellDraining => live.tell_draining(),
            Step::Retire => self.watch_for_the_end(),
            Step::CloseIdle => live.close_idle(),
            Step::HandOver => {
                let events = self.sender.clone();
                let way = match (&mut self.successor, &mut self.predecessor) {
                    (Some(successor), _) => successor.open_way(events),
                    (None, Some(predecessor)) => Some(predecessor.open_way(events)),
                    (None, None) => None,
                };
                way.into_iter().for_each(|way| live.hand_over(way));
                self.go_on_telling();
            }
            Step::Share => {
                let (here, there) = (std::process::id(), self.successor.as_ref().map_or(0, Successor::pid));
                let said = format!(
                    "both processes accept: QUIT to this one (pid {here}) commits the upgrade, QUIT to the new \
                     one (pid {there}) takes it back"
                );
                log::info!("{said}");
                self.systemd.status(&format!("upgrading by hand: QUIT to pid {here} commits"));
                self.tell_upgraded(said);
            }
            Step::Keep => live.keep(),
            Step::LetGo => {
                self.leaving_since.get_or_insert_with(Instant::now);
                live.let_go();
                if let Some(successor) = &self.successor {
                    self.count(Plain::UpgradesDone);
                    let said = upgraded(successor);
                    self.announce(successor.pid());
                    self.tell_upgraded(said);
                }
                if let Some((_, lineage)) = &self.plan.program {
                    lineage.newest.confirm();
                    lineage.newest.drains(std::process::id());
                }
            }
            Step::GiveBack => {
                self.leaving_since.get_or_insert_with(Instant::now);
                live.give_back(&self.plan.sockets.take_succeeded());
                self.systemd.status("taken back: the old process serves on");
            }
            Step::Settle => {
                live.settle(self.plan.sockets.take_succeeded());
                // one of another version learns by the end of the channel that this one accepts
                self.predecessor.take_if(|predecessor| predecessor.is_gone());
            }
            Step::TakeBack => self.take_back().await,
            Step::Recover => self.recover().await,
            Step::TellStop => live.tell_stop(),
            Step::Cut => {
                let mut report = self.shared.report.lock().unwrap_or_else(PoisonError::into_inner);
                (report.cut, report.tasks) = live.cut();
            }
        }
    }

    /// Has the generation retire, and hears when nothing is left.
    fn watch_for_the_end(&mut self) {
        let hurry = self.hurry();
        let Some(live) = &mut self.live else { return };
        let shutdown = &live.config().shutdown;
        self.systemd.extend_timeout(shutdown.grace(hurry) + shutdown.force_after(hurry) + SWAP);
        live.retire();
        self.watch_what_is_left();
    }

    fn watch_what_is_left(&self) {
        let Some(live) = &self.live else { return };
        let (drained, sender) = (live.drained(), self.sender.clone());
        async_std::task::spawn(async move {
            drained.await;
            let _ = sender.send(Happening::Drained).await;
        });
    }

    /// Nothing was left a moment ago. What older processes may still give goes to the new one from now on; what has come
    /// until now leaves first.
    async fn drained(&mut self) -> Option<Event> {
        if let Some(successor) = &self.successor {
            let predecessor = self.predecessor.take().and_then(Predecessor::heard);
            for heard in predecessor.into_iter().chain(self.elders.drain(..)).filter(|heard| !heard.is_over())
            {
                successor.inherit(heard).await;
            }
        }
        let is_left = self.live.as_ref().is_some_and(Live::is_connected);
        if self.happenings.is_empty() && !is_left {
            return Some(Event::Drained);
        }
        self.watch_what_is_left();
        None
    }

    fn hear_elder(&mut self, channel: OwnedFd, count: u64) {
        match Heard::elder(channel, count, self.plan.metrics.clone(), self.sender.clone()) {
            Ok(heard) => {
                self.elders.retain(|elder| !elder.is_over());
                self.elders.push(heard);
            }
            Err(error) => log::warn!("an older process that still drains cannot be heard: {error}"),
        }
    }

    /// Commands are for this process from now on. Without a control socket it still serves.
    fn take_control_socket(&self) {
        let Some(control) = &self.plan.control else { return };
        let before = self.plan.program.as_ref().and_then(|(_, lineage)| lineage.newest.live());
        let family: Vec<u32> =
            before.into_iter().chain(self.successor.as_ref().map(Successor::pid)).collect();
        if let Err(error) = control.put_in_place(&family) {
            log::warn!("{}; taken once it is free, serving all the same", error.chain());
        }
    }

    fn take_pid_file(&mut self) {
        self.pid_file = self.write_pid_file("");
        remove_pid_file(self.old_pid_file.take());
    }

    /// Writes the pid file under its name and `suffix`. A process without one still serves.
    pub(super) fn write_pid_file(&self, suffix: &str) -> Option<PidFile> {
        let written = PidFile::write(&self.pid_file_path(suffix)?);
        written.map_err(|error| log::warn!("{}; serving all the same", error.chain())).ok()
    }

    pub(super) fn pid_file_path(&self, suffix: &str) -> Option<PathBuf> {
        let path = self.live.as_ref().and_then(|live| live.config().pid_file.clone());
        let mut path = path.filter(|_| self.plan.ownership == Ownership::Process)?.into_os_string();
        path.push(suffix);
        Some(path.into())
    }

    fn begin_build(&mut self) {
        let beside = self.live.as_ref().map(Live::beside);
        let reason = match (&beside, &self.predecessor) {
            (Some(_), _) => Reason::Reload,
            (None, Some(_)) => Reason::Upgrade,
            (None, None) => Reason::Start,
        };
        if beside.is_some() {
            self.systemd.reloading("reloading");
        }
        let (plan, first, sender) = (self.plan.clone(), self.first.take(), self.sender.clone());
        self.build = Some(async_std::task::spawn(async move {
            let outcome = prepare(&plan, first, beside, reason).await;
            let _ = sender.send(Happening::Built(Box::new(outcome))).await;
        }));
    }

    async fn abandon_build(&mut self) {
        if let Some(build) = self.build.take() {
            log::info!("the build of the next generation is given up");
            build.cancel().await;
        }
    }

    async fn go_live(&mut self) {
        let Some(mut next) = self.next.take() else { return };
        next.sockets.notes().iter().chain(&next.loaded.warnings).for_each(|note| log::warn!("{note}"));
        if let Some(log) = next.log.take() {
            log.commit().iter().for_each(|note| log::warn!("{note}"));
        }
        let seats = next.loaded.config.http.max_connections.unwrap_or(self.auto_connections);
        let outcome;
        match &mut self.live {
            Some(live) => {
                let changes = live.swap(next, seats).await;
                self.plan.metrics.count(Plain::ReloadsDone);
                let number = live.generation().number;
                outcome = format!("reloaded: generation {number} is live; {}", said(&changes));
                log::info!("{outcome}");
                self.systemd.ready(&format!("serving, generation {number}"));
            }
            None => {
                self.live = self.lot.take().map(|lot| Live::new(next, lot, seats, self.plan.metrics.clone()));
                outcome = "started".to_owned();
            }
        }
        self.watch().await;
        self.answer(Ok(outcome));
    }

    /// Watches the files of the settings that are now in force, if they ask for it.
    async fn watch(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.cancel().await;
        }
        let watched = self.live.as_ref().and_then(Live::watched);
        let watch = |files| async_std::task::spawn(watch::watch(files, self.sender.clone()));
        self.watch = watched.map(watch);
    }

    fn publish_addresses(&self) {
        let addresses = self.live.as_ref().map(Live::addresses).unwrap_or_default();
        *self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    pub(super) fn number(&self) -> u64 {
        self.live.as_ref().map_or(0, |live| live.generation().number)
    }

    /// A debug build that is stopped by TERM or INT is about to be started again, with streams open that never end.
    fn hurry(&self) -> Hurry {
        match self.phase {
            Phase::LastCall(Told::Firmly) | Phase::Draining(Told::Firmly) | Phase::Stopping(Told::Firmly)
                if cfg!(debug_assertions) =>
            {
                Hurry::Development
            }
            _ => Hurry::No,
        }
    }

    /// How long a wait is, by the settings in force.
    fn wait(&self, timer: machine::Timer) -> Duration {
        let Some(config) = self.live.as_ref().map(Live::config) else { return Duration::ZERO };
        let (shutdown, upgrade, hurry) = (&config.shutdown, &config.upgrade, self.hurry());
        match timer {
            machine::Timer::LameDuck => shutdown.delay,
            machine::Timer::LastCall => shutdown.keepalive_grace.min(shutdown.grace(hurry)),
            machine::Timer::Grace => shutdown.grace(hurry).saturating_sub(shutdown.keepalive_grace),
            machine::Timer::Force => shutdown.force_after(hurry),
            machine::Timer::Ready => upgrade.ready_timeout,
            machine::Timer::Swap => SWAP,
            machine::Timer::Rollback => upgrade.rollback_window,
            machine::Timer::Answer => ANSWER,
            machine::Timer::Return => shutdown.grace(hurry) + shutdown.force_after(hurry) + ANSWER,
        }
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
        self.plan.program.iter().for_each(|(_, lineage)| lineage.newest.drained(std::process::id()));
        let mut report = self.shared.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.took = self.leaving_since.map_or(Duration::ZERO, |since| since.elapsed());
        let report = report.clone();
        self.desk.settle_last(&report);
        match self.live {
            None => log::info!("told to stop while starting; stopped"),
            Some(_) => log::info!("stopped after {:.1?}; connections cut: {}", report.took, report.cut.len()),
        }
        self.over.tell();
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

fn remove_pid_file(file: Option<PidFile>) {
    if let Some(Err(error)) = file.map(PidFile::remove) {
        log::warn!("{}", error.chain());
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

fn said(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no setting changed".to_owned();
    }
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    changes.join(", ")
}
