//! Builds generations, makes them live, and reports the outcome to the callers of a reload.

use std::time::Duration;

use async_std::future::timeout;

use super::driver::{reopen_logs, Driver};
use super::event::{DriverEvent, ReloadCallback};
use super::instance::Instance;
use super::machine::{Input, Phase, Queued};
use super::reload::{prepare, NextGeneration};
use super::watch;
use crate::config::SettingChange;
use crate::error::{Error, Kind};
use crate::observe::metrics::Counter;
use crate::setup::Reason;

/// The time that a build has to stop when it is cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) fn begin_build(&mut self) {
        let current = self.instance.as_ref().map(Instance::current);
        let reason = match (&current, &self.predecessor) {
            (Some(_), _) => Reason::Reload,
            (None, Some(_)) => Reason::Upgrade,
            (None, None) => Reason::Start,
        };
        if current.is_some() {
            self.systemd.reloading("reloading");
        }
        let context = self.context.clone();
        let settings = self.first_settings.take();
        let events = self.event_sender.clone();
        self.build = Some(async_std::task::spawn(async move {
            let outcome = prepare(&context, settings, current, reason).await;
            let _ = events
                .send(DriverEvent::BuildEnded(Box::new(outcome)))
                .await;
        }));
    }

    pub(super) async fn abandon_build(&mut self) {
        if let Some(build) = self.build.take() {
            log::info!("the build of the next generation is cancelled");
            // a build that blocks its thread cannot be cancelled, so the wait is bounded
            let _ = timeout(CANCEL_TIMEOUT, build.cancel()).await;
        }
    }

    pub(super) async fn build_ended(&mut self, outcome: Result<NextGeneration, Error>) -> Input {
        self.build = None;
        match outcome {
            Ok(next) => {
                self.next_generation = Some(next);
                Input::Built
            }
            Err(error) => {
                if self.instance.is_some() {
                    self.count(Counter::ReloadsRefused);
                    let refused = format!(
                        "reload refused: {}; generation {} stays live",
                        error.chain(),
                        self.generation_number()
                    );
                    log::error!("{refused}");
                    self.systemd.ready(&refused);
                } else if let Some(predecessor) = &self.predecessor {
                    predecessor.fail(error.chain()).await;
                }
                self.finish_reload(Err(error));
                Input::BuildFailed
            }
        }
    }

    /// Reports the outcome to the callers of the reload that has just ended. An error is kept, because
    /// [`run`](Driver::run) returns it if no generation ever goes live.
    fn finish_reload(&mut self, outcome: Result<String, Error>) {
        let queued = std::mem::take(&mut self.queued_reload_callbacks);
        for callback in std::mem::replace(&mut self.reload_callbacks, queued) {
            let copy = outcome.as_ref().map(String::clone);
            callback.call(copy.map_err(|error| Error::new(error.kind(), error.chain())));
        }
        self.build_error = outcome.err();
    }

    pub(super) async fn go_live(&mut self) {
        let Some(mut next) = self.next_generation.take() else {
            return;
        };
        for note in next.listeners.notes().iter().chain(&next.loaded.warnings) {
            log::warn!("{note}");
        }
        if let Some(log) = next.log.take() {
            for note in log.commit() {
                log::warn!("{note}");
            }
        }
        let permits = next
            .loaded
            .config
            .http
            .max_connections
            .unwrap_or(self.auto_connections);
        let outcome;
        match &mut self.instance {
            Some(instance) => {
                let changes = instance.swap(next, permits).await;
                self.context.metrics.count(Counter::ReloadsDone);
                let number = instance.generation().number;
                outcome = format!(
                    "reloaded: generation {number} is live; {}",
                    describe_changes(&changes)
                );
                log::info!("{outcome}");
                self.systemd.ready(&format!("serving, generation {number}"));
            }
            None => {
                // a log rotation during the build has notified only the old process
                if self.predecessor.is_some() {
                    drop(reopen_logs());
                }
                self.instance = self
                    .idle
                    .take()
                    .map(|idle| Instance::new(next, idle, permits, self.context.metrics.clone()));
                outcome = "started".to_owned();
            }
        }
        self.watch_config().await;
        self.finish_reload(Ok(outcome));
    }

    /// Watches the configuration files of the current generation if `reload.watch` is set.
    async fn watch_config(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.cancel().await;
        }
        if let Some(files) = self.instance.as_ref().and_then(Instance::watched_files) {
            let events = self.event_sender.clone();
            self.watch = Some(async_std::task::spawn(watch::watch(files, events)));
        }
    }

    /// Fails the reloads that can no longer take place.
    pub(super) fn fail_impossible_reloads(&mut self) {
        use Queued::Reload;
        let mut failed = match self.phase {
            Phase::Starting(Reload)
            | Phase::Succeeding(Reload)
            | Phase::Ready(Reload)
            | Phase::Proving(Reload)
            | Phase::AwaitingCommit(Reload)
            | Phase::Upgrading(Reload)
            | Phase::Reloading(Reload) => return,
            Phase::Reloading(_) => vec![],
            _ => std::mem::take(&mut self.reload_callbacks),
        };
        failed.append(&mut self.queued_reload_callbacks);
        for callback in failed {
            callback.call(Err(Error::new(
                Kind::NotRunning,
                "this process does not reload: it is paused or shutting down, or a new process takes over with the \
                 current settings",
            )));
        }
    }

    pub(super) fn reload_for(&mut self, callback: ReloadCallback) -> Input {
        match self.phase {
            // the reload follows the current build
            Phase::Starting(_) | Phase::Succeeding(_) | Phase::Ready(_) | Phase::Reloading(_) => {
                self.queued_reload_callbacks.push(callback);
            }
            Phase::Proving(_) | Phase::AwaitingCommit(_) | Phase::Serving | Phase::Upgrading(_) => {
                self.reload_callbacks.push(callback);
            }
            // no reload takes place, and the caller receives an error when the callback is dropped
            Phase::Paused
            | Phase::Swapping(_)
            | Phase::HandingOver(_)
            | Phase::Confirming(_)
            | Phase::Sharing
            | Phase::Standby
            | Phase::ShutdownDelay(_)
            | Phase::KeepaliveGrace(_)
            | Phase::Draining(_)
            | Phase::GivingBack(_)
            | Phase::Stopping(_)
            | Phase::Gone => drop(callback),
        }
        Input::Hup
    }
}

fn describe_changes(changes: &[SettingChange]) -> String {
    if changes.is_empty() {
        return "no setting changed".to_owned();
    }
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    format!("changed: {}", changes.join(", "))
}
