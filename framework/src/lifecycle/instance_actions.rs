//! Carries out the actions on the running instance, and waits until nothing of it is left.

use std::os::fd::OwnedFd;
use std::time::Instant;

use super::driver::Driver;
use super::event::DriverEvent;
use super::instance::Instance;
use super::machine::{Input, InstanceAction, Phase};
use super::old_peer_reader::OldPeer;
use super::predecessor::Predecessor;
use super::successor::Successor;
use super::timeouts::SWAP_TIMEOUT;
use super::upgrade::confirm;
use crate::observe::metrics::Counter;

impl Driver {
    pub(super) async fn act_on_instance(&mut self, action: InstanceAction) {
        let Some(instance) = &mut self.instance else {
            return;
        };
        match action {
            InstanceAction::Accept => {
                instance.accept();
                self.systemd
                    .ready(&format!("serving, generation {}", self.generation_number()));
            }
            InstanceAction::TakePidFile => {
                self.take_pid_file();
                self.take_control_socket();
            }
            InstanceAction::Announce => self.announce(std::process::id()),
            InstanceAction::Reinstate => {
                self.context.metrics.count(Counter::UpgradesFailed);
                self.reinstate().await;
                let text = "upgrade rolled back: the new process returns its connections and exits";
                log::info!("{text}");
                self.upgrade_failed(text);
            }
            InstanceAction::StopAccepting => instance.stop_accepting().await,
            InstanceAction::CloseListeners => instance.close_listeners().await,
            InstanceAction::MarkLeaving => {
                self.leaving_since.get_or_insert_with(Instant::now);
                instance.mark_leaving(self.phase);
                self.systemd.stopping("draining");
                if matches!(self.phase, Phase::ShutdownDelay(_)) {
                    self.systemd
                        .extend_timeout(instance.config().shutdown.delay + SWAP_TIMEOUT);
                }
            }
            InstanceAction::MarkPaused => {
                instance.mark_paused();
                self.systemd
                    .status("paused: no connection is accepted until HUP");
            }
            InstanceAction::Resume => instance.resume(),
            InstanceAction::StartDraining => instance.start_draining(),
            InstanceAction::Retire => self.retire(),
            InstanceAction::CloseIdle => instance.close_idle(),
            InstanceAction::HandOver => self.hand_over(),
            InstanceAction::AnnounceSharing => self.announce_sharing(),
            InstanceAction::KeepConnections => instance.keep_connections(),
            InstanceAction::Release => self.release().await,
            InstanceAction::GiveBack => {
                self.leaving_since.get_or_insert_with(Instant::now);
                instance.give_back(&self.context.sockets.take_bound_by_old_process());
                self.systemd.status("rolled back: the old process serves");
            }
            InstanceAction::CloseUnused => {
                instance.close_unused(&self.context.sockets.take_bound_by_old_process());
                // an old process with another version of the protocol waits for the end of the channel
                self.predecessor
                    .take_if(|predecessor| predecessor.is_gone());
            }
            InstanceAction::TakeBack => self.take_back().await,
            InstanceAction::Recover => self.recover().await,
            InstanceAction::StopHandlers => instance.stop_handlers(),
            InstanceAction::Cut => {
                let mut report = self.handle_state.report.lock();
                (report.cut, report.tasks) = instance.cut();
            }
        }
    }

    fn hand_over(&mut self) {
        let events = self.event_sender.clone();
        let transfers = match (&mut self.successor, &mut self.predecessor) {
            (Some(successor), _) => successor.transfers(events),
            (None, Some(predecessor)) => Some(predecessor.transfers(events)),
            (None, None) => None,
        };
        if let (Some(instance), Some(transfers)) = (&self.instance, transfers) {
            instance.hand_over(transfers);
        }
        if let (Some((_, lineage)), Some(successor)) = (&self.context.program, &self.successor) {
            lineage.newest.leave_to(successor.pid());
        }
        self.keep_sending_counters();
    }

    fn announce_sharing(&mut self) {
        let old = std::process::id();
        let new = self.successor.as_ref().map_or(0, Successor::pid);
        let text = format!(
            "upgrade: both processes accept; QUIT to the old process (pid {old}) commits the upgrade, QUIT to the new \
             one (pid {new}) rolls it back"
        );
        log::info!("{text}");
        self.systemd
            .status(&format!("manual upgrade: QUIT to pid {old} commits"));
        self.upgrade_succeeded(text);
    }

    /// Leaves the connections that were handed over to the new process.
    async fn release(&mut self) {
        self.leaving_since.get_or_insert_with(Instant::now);
        if let Some(instance) = &mut self.instance {
            instance.release();
        }
        if let Some(successor) = &self.successor {
            self.count(Counter::UpgradesDone);
            let text = confirm(successor);
            self.announce(successor.pid());
            // a foreign program becomes the main process of the service only now
            self.systemd.set_main_to(successor.pid()).await;
            self.upgrade_succeeded(text);
        }
        if let Some((_, lineage)) = &self.context.program {
            lineage.newest.confirm();
            lineage.newest.drains(std::process::id());
        }
    }

    /// Retires the current generation, and sends an event when nothing is left.
    fn retire(&mut self) {
        let grace_defaults = self.grace_defaults();
        let Some(instance) = &mut self.instance else {
            return;
        };
        let shutdown = &instance.config().shutdown;
        self.systemd.extend_timeout(
            shutdown.grace(grace_defaults) + shutdown.force_after(grace_defaults) + SWAP_TIMEOUT,
        );
        instance.retire();
        self.watch_for_drain();
    }

    fn watch_for_drain(&self) {
        let Some(instance) = &self.instance else {
            return;
        };
        let (drained, events) = (instance.drained(), self.event_sender.clone());
        async_std::task::spawn(async move {
            drained.await;
            let _ = events.send(DriverEvent::Drained).await;
        });
    }

    /// Checks that nothing is left after the instance has drained.
    ///
    /// Older processes send their connections directly to the new process from now on. Connections that have arrived
    /// here in the meantime drain first.
    pub(super) async fn drained(&mut self) -> Option<Input> {
        if let Some(successor) = &self.successor {
            let predecessor = self.predecessor.take().and_then(Predecessor::into_peer);
            for peer in predecessor.into_iter().chain(self.older_peers.drain(..)) {
                if !peer.is_gone() {
                    successor.pass_on(peer).await;
                }
            }
        }
        let is_connected = self.instance.as_ref().is_some_and(Instance::is_connected);
        if self.events.is_empty() && !is_connected {
            return Some(Input::Drained);
        }
        self.watch_for_drain();
        None
    }

    /// Reads the messages of a process that was replaced before the old one and still drains.
    pub(super) fn read_older_peer(&mut self, channel: OwnedFd, count: u64) {
        match OldPeer::older(
            channel,
            count,
            self.context.metrics.clone(),
            self.event_sender.clone(),
        ) {
            Ok(peer) => {
                self.older_peers.retain(|known| !known.is_gone());
                self.older_peers.push(peer);
            }
            Err(error) => log::warn!(
                "the channel to an earlier process that still drains cannot be used; its connections end there: {error}"
            ),
        }
    }
}
