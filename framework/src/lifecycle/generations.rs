//! The builds of generations, from their beginning to those who wait for them.

use std::time::Duration;

use async_std::future::timeout;

use super::driver::{reopen_logs, Driver};
use super::happening::{Happening, Reply};
use super::live::Live;
use super::machine::{Afterwards, Event, Phase};
use super::reload::{prepare, Next};
use super::watch;
use crate::config::SettingChange;
use crate::error::{Error, Kind};
use crate::observe::metrics::Counter;
use crate::setup::Reason;

/// How long a build that is given up may take to notice.
const GIVE_UP: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) fn begin_build(&mut self) {
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

    pub(super) async fn abandon_build(&mut self) {
        if let Some(build) = self.build.take() {
            log::info!("the build of the next generation is given up");
            // one that blocks its thread cannot be ended, and is not waited for
            let _ = timeout(GIVE_UP, build.cancel()).await;
        }
    }

    pub(super) async fn built(&mut self, outcome: Result<Next, Error>) -> Event {
        self.build = None;
        match outcome {
            Ok(next) => {
                self.next = Some(next);
                Event::Built
            }
            Err(error) => {
                if self.live.is_some() {
                    self.count(Counter::ReloadsRefused);
                    let refused = format!(
                        "reload refused: {}; generation {} serves on",
                        error.chain(),
                        self.number()
                    );
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
    pub(super) fn answer(&mut self, outcome: Result<String, Error>) {
        let asked = std::mem::replace(
            &mut self.waiting,
            std::mem::take(&mut self.waiting_for_next),
        );
        for reply in asked {
            let again = outcome.as_ref().map(String::clone);
            reply.tell(again.map_err(|error| Error::new(error.kind(), error.chain())));
        }
        self.failure = outcome.err();
    }

    pub(super) async fn go_live(&mut self) {
        let Some(mut next) = self.next.take() else {
            return;
        };
        next.sockets
            .notes()
            .iter()
            .chain(&next.loaded.warnings)
            .for_each(|note| log::warn!("{note}"));
        if let Some(log) = next.log.take() {
            log.commit().iter().for_each(|note| log::warn!("{note}"));
        }
        let permits = next
            .loaded
            .config
            .http
            .max_connections
            .unwrap_or(self.auto_connections);
        let outcome;
        match &mut self.live {
            Some(live) => {
                let changes = live.swap(next, permits).await;
                self.plan.metrics.count(Counter::ReloadsDone);
                let number = live.generation().number;
                outcome = format!("reloaded: generation {number} is live; {}", said(&changes));
                log::info!("{outcome}");
                self.systemd.ready(&format!("serving, generation {number}"));
            }
            None => {
                // a rotation while this one was built has reached the old process alone
                if self.predecessor.is_some() {
                    drop(reopen_logs());
                }
                self.live = self
                    .idle
                    .take()
                    .map(|idle| Live::new(next, idle, permits, self.plan.metrics.clone()));
                outcome = "started".to_owned();
            }
        }
        self.watch().await;
        self.answer(Ok(outcome));
    }

    /// Watches the files of the settings that are now in force, if they ask for it.
    pub(super) async fn watch(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.cancel().await;
        }
        let watched = self.live.as_ref().and_then(Live::watched);
        let watch = |files| async_std::task::spawn(watch::watch(files, self.sender.clone()));
        self.watch = watched.map(watch);
    }

    /// Tells those who wait for a reload that will not come.
    pub(super) fn answer_hopeless(&mut self) {
        use Afterwards::Reload;
        let hopeless = match self.phase {
            Phase::Starting(Reload) | Phase::Succeeding(Reload) | Phase::Ready(Reload) => return,
            Phase::Proving(Reload) | Phase::Beside(Reload) | Phase::Upgrading(Reload) => return,
            Phase::Reloading(Reload) => return,
            Phase::Reloading(_) => std::mem::take(&mut self.waiting_for_next),
            _ => {
                let waiting = std::mem::take(&mut self.waiting);
                waiting
                    .into_iter()
                    .chain(std::mem::take(&mut self.waiting_for_next))
                    .collect()
            }
        };
        for reply in hopeless {
            let why = "nothing is reloaded here: the process pauses or leaves, or another takes over, which reads the \
                       settings by itself";
            reply.tell(Err(Error::new(Kind::NotRunning, why)));
        }
    }

    pub(super) fn reload_for(&mut self, reply: Reply) -> Event {
        match self.phase {
            // after the build that is under way, or has been made
            Phase::Starting(_) | Phase::Succeeding(_) | Phase::Ready(_) | Phase::Reloading(_) => {
                self.waiting_for_next.push(reply);
            }
            Phase::Proving(_) | Phase::Beside(_) => self.waiting.push(reply),
            Phase::Serving | Phase::Upgrading(_) => self.waiting.push(reply),
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
}

fn said(changes: &[SettingChange]) -> String {
    if changes.is_empty() {
        return "no setting changed".to_owned();
    }
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    changes.join(", ")
}
