//! The steps that the policy asks for, on what is running, and the end of all that is left.

use std::os::fd::OwnedFd;
use std::time::Instant;

use super::driver::Driver;
use super::happening::Happening;
use super::heard::Heard;
use super::live::Live;
use super::machine::{Event, Phase, Step};
use super::predecessor::Predecessor;
use super::successor::Successor;
use super::upgrade::upgraded;
use super::waits::SWAP;
use crate::observe::metrics::Counter;

impl Driver {
    pub(super) async fn change(&mut self, step: Step) {
        let Some(live) = &mut self.live else { return };
        match step {
            Step::Accept => {
                live.accept();
                self.systemd
                    .ready(&format!("serving, generation {}", self.number()));
            }
            Step::TakePidFile => {
                self.take_pid_file();
                self.take_control_socket();
            }
            Step::Announce => self.announce(std::process::id()),
            Step::Reinstate => {
                self.plan.metrics.count(Counter::UpgradesFailed);
                self.reinstate().await;
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
                if matches!(self.phase, Phase::LameDuck(_)) {
                    self.systemd
                        .extend_timeout(live.config().shutdown.delay + SWAP);
                }
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
                if let (Some((_, lineage)), Some(successor)) = (&self.plan.program, &self.successor)
                {
                    lineage.newest.leave_to(successor.pid());
                }
                self.go_on_telling();
            }
            Step::Share => {
                let (here, there) = (
                    std::process::id(),
                    self.successor.as_ref().map_or(0, Successor::pid),
                );
                let said = format!(
                    "both processes accept: QUIT to this one (pid {here}) commits the upgrade, QUIT to the new \
                     one (pid {there}) takes it back"
                );
                log::info!("{said}");
                self.systemd
                    .status(&format!("upgrading by hand: QUIT to pid {here} commits"));
                self.tell_upgraded(said);
            }
            Step::Keep => live.keep(),
            Step::LetGo => {
                self.leaving_since.get_or_insert_with(Instant::now);
                live.let_go();
                if let Some(successor) = &self.successor {
                    self.count(Counter::UpgradesDone);
                    let said = upgraded(successor);
                    self.announce(successor.pid());
                    // a program of other make was not said to be the service before
                    self.systemd.set_main_to(successor.pid()).await;
                    self.tell_upgraded(said);
                }
                if let Some((_, lineage)) = &self.plan.program {
                    lineage.newest.confirm();
                    lineage.newest.drains(std::process::id());
                }
            }
            Step::GiveBack => {
                self.leaving_since.get_or_insert_with(Instant::now);
                live.give_back(&self.plan.sockets.take_bound_by_old_process());
                self.systemd.status("taken back: the old process serves on");
            }
            Step::Settle => {
                live.settle(self.plan.sockets.take_bound_by_old_process());
                // one of another version learns by the end of the channel that this one accepts
                self.predecessor
                    .take_if(|predecessor| predecessor.is_gone());
            }
            Step::TakeBack => self.take_back().await,
            Step::Recover => self.recover().await,
            Step::TellStop => live.tell_stop(),
            Step::Cut => {
                let mut report = self.shared.report.lock();
                (report.cut, report.tasks) = live.cut();
            }
        }
    }

    /// Has the generation retire, and hears when nothing is left.
    pub(super) fn watch_for_the_end(&mut self) {
        let defaults = self.grace_defaults();
        let Some(live) = &mut self.live else { return };
        let shutdown = &live.config().shutdown;
        self.systemd
            .extend_timeout(shutdown.grace(defaults) + shutdown.force_after(defaults) + SWAP);
        live.retire();
        self.watch_what_is_left();
    }

    pub(super) fn watch_what_is_left(&self) {
        let Some(live) = &self.live else { return };
        let (drained, sender) = (live.drained(), self.sender.clone());
        async_std::task::spawn(async move {
            drained.await;
            let _ = sender.send(Happening::Drained).await;
        });
    }

    /// Nothing was left a moment ago. What older processes may still give goes to the new one from now on; what has come
    /// until now leaves first.
    pub(super) async fn drained(&mut self) -> Option<Event> {
        if let Some(successor) = &self.successor {
            let predecessor = self.predecessor.take().and_then(Predecessor::heard);
            for heard in predecessor
                .into_iter()
                .chain(self.elders.drain(..))
                .filter(|heard| !heard.is_over())
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

    pub(super) fn hear_elder(&mut self, channel: OwnedFd, count: u64) {
        match Heard::elder(
            channel,
            count,
            self.plan.metrics.clone(),
            self.sender.clone(),
        ) {
            Ok(heard) => {
                self.elders.retain(|elder| !elder.is_over());
                self.elders.push(heard);
            }
            Err(error) => log::warn!("an older process that still drains cannot be heard: {error}"),
        }
    }
}
