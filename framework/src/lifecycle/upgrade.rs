//! The driver's part in an upgrade: starts the new process, exchanges messages with the process at the other end, and
//! takes connections back.

use super::driver::Driver;
use super::event::DriverEvent;
use super::machine::{Input, MessageKind, Phase};
use super::stand_in::look_anew;
use super::successor::{Successor, SuccessorOptions};
use crate::config::UpgradeMode;
use crate::observe::metrics::Counter;
use crate::sys::pid_file;

/// The suffix of the old process' pid file while both processes accept, as in nginx.
const OLD_PID_FILE: &str = ".oldbin";

impl Driver {
    pub(super) fn is_successor(&self, pid: u32) -> bool {
        self.successor
            .as_ref()
            .is_some_and(|successor| successor.pid() == pid)
    }

    /// Starts the new process. If that fails, the state machine receives `SuccessorGone`.
    pub(super) async fn spawn(&mut self) {
        let (Some(instance), Some((program, lineage))) = (&self.instance, &self.context.program)
        else {
            return;
        };
        let options = SuccessorOptions {
            program,
            lineage,
            settings: &instance.config().upgrade,
            sockets: self.context.sockets.for_new_process(instance.listeners()),
            limits: &self.context.open_files,
            events: self.event_sender.clone(),
        };
        match Successor::start(options).await {
            Ok(successor) => {
                log::info!("upgrade: started the new process, pid {}", successor.pid());
                self.pending.failure_reason = None;
                self.successor = Some(successor);
            }
            Err(error) => {
                log::error!("upgrade refused: {}; nothing changed", error.chain());
                self.pending.failure_reason = Some(error.chain());
                self.successor = None;
                let _ = self
                    .event_sender
                    .send(DriverEvent::Input(Input::SuccessorGone))
                    .await;
            }
        }
    }

    pub(super) async fn kill_successor(&mut self) {
        let Some(successor) = &self.successor else {
            return self.upgrade_failed("upgrade refused");
        };
        let pid = successor.pid();
        successor.kill().await;
        self.tidy_control_socket();
        self.reinstate().await;
        self.count(Counter::UpgradesFailed);
        let outcome = match self.phase {
            Phase::Serving | Phase::Reloading(_) => {
                let outcome = format!(
                    "upgrade failed: the new process (pid {pid}) is gone; this process serves on"
                );
                log::error!("{outcome}");
                outcome
            }
            _ => {
                let outcome = format!("upgrade cancelled: the new process (pid {pid}) was killed");
                log::warn!("{outcome}");
                outcome
            }
        };
        self.upgrade_failed(&outcome);
    }

    /// Returns true if a rolled-back process still returns its connections. No other process may be started before it
    /// has exited.
    pub(super) fn is_returning(&self) -> bool {
        let serves = matches!(self.phase, Phase::Serving | Phase::Reloading(_));
        serves && self.successor.as_ref().is_some_and(Successor::is_alive)
    }

    /// Forwards a signal that stops the process to the new one, if its sender means the active process. In a manual
    /// upgrade each process is stopped by signals of its own.
    pub(super) fn forward_stop(&self, input: Input) {
        let is_for_active = self
            .context
            .program
            .as_ref()
            .is_some_and(|(_, lineage)| lineage.speaks_for_the_newest());
        if let Some(successor) = &self.successor {
            if is_for_active && successor.mode() == UpgradeMode::Auto {
                successor.stop(input);
            }
        }
    }

    /// Returns the input that a message of the new process becomes. In a manual upgrade the old process has never
    /// stopped accepting, so a new process that stops before it accepts has simply failed.
    pub(super) fn input_of_successor(&self, input: Input) -> Input {
        let is_manual = self
            .successor
            .as_ref()
            .is_some_and(|successor| successor.mode() == UpgradeMode::Manual);
        match (input, self.phase) {
            (Input::SuccessorStops, Phase::Swapping(_)) if is_manual => Input::SuccessorGone,
            _ => input,
        }
    }

    /// Records this process as the active one again.
    pub(super) async fn reinstate(&mut self) {
        self.count_here_again();
        self.announce(std::process::id());
        if let Some((_, lineage)) = &self.context.program {
            lineage.newest.expect_nobody();
            lineage.newest.confirm();
        }
        self.systemd.set_main_to_self().await;
    }

    /// Removes the files that the old process would have removed if it had not been killed.
    pub(super) fn predecessor_gone(&mut self) -> Input {
        if matches!(
            self.phase,
            Phase::Succeeding(_) | Phase::Ready(_) | Phase::Proving(_) | Phase::AwaitingCommit(_)
        ) {
            log::warn!(
                "the old process is gone before it confirmed the upgrade; this process continues without it"
            );
        }
        if let Some(parent) = self.parent.take() {
            async_std::task::spawn(look_anew(self.systemd.clone(), parent));
        }
        self.context.metrics.unfreeze();
        self.tidy_control_socket();
        if let Some(path) = self.pid_file_path(OLD_PID_FILE) {
            pid_file::remove_stale(&path);
        }
        Input::PredecessorGone
    }

    fn tidy_control_socket(&self) {
        if let Some(control) = &self.context.control {
            control.tidy();
        }
    }

    pub(super) fn announce(&self, pid: u32) {
        if let Some((_, lineage)) = &self.context.program {
            lineage.newest.announce(pid);
        }
    }

    pub(super) async fn send(&mut self, kind: MessageKind) {
        if self.successor.is_some() {
            return self.send_to_successor(kind).await;
        }
        let Some(predecessor) = &self.predecessor else {
            return;
        };
        match kind {
            MessageKind::Ready => log::debug!("ready; waiting for the old process to hand over"),
            MessageKind::Accepting => log::info!("live; the old process hands over"),
            MessageKind::Stopping
            | MessageKind::Live
            | MessageKind::Cancel
            | MessageKind::Probe
            | MessageKind::Recall
            | MessageKind::Confirmed => {}
        }
        predecessor.send(kind).await;
    }

    async fn send_to_successor(&mut self, kind: MessageKind) {
        match kind {
            MessageKind::Live => self.prepare_go_live().await,
            // in a manual upgrade each process has counted for itself until now
            MessageKind::Confirmed if self.counter_task.is_none() => self.keep_sending_counters(),
            _ => {}
        }
        if let Some(successor) = &self.successor {
            successor.send(kind).await;
        }
    }

    async fn prepare_go_live(&mut self) {
        let Some(successor) = &self.successor else {
            return;
        };
        let (pid, age) = (successor.pid(), successor.age());
        log::debug!("upgrade: the new process (pid {pid}) is ready after {age:.1?} and goes live");
        // sent before the new process accepts: systemd takes the exit of its main process for the end of the service
        self.systemd.set_main_to(pid).await;
        match successor.mode() {
            UpgradeMode::Manual => self.old_pid_file = self.write_pid_file(OLD_PID_FILE),
            UpgradeMode::Auto => self.hand_over_counters().await,
        }
    }

    pub(super) async fn take_back(&mut self) {
        let Some(instance) = &self.instance else {
            return;
        };
        let (back, lost) = match (self.successor.take(), &mut self.predecessor) {
            (Some(successor), _) => successor.take_back(instance.permits()).await,
            (None, Some(predecessor)) => (predecessor.take_back(instance.permits()).await, 0),
            (None, None) => return,
        };
        let counts = format!(
            "{} connections are served by this process again; connections closed because the other process had read \
             from them: {lost}",
            back.len()
        );
        match self.phase {
            Phase::KeepaliveGrace(_) | Phase::Draining(_) => {
                log::info!("the other process is gone: {counts}");
            }
            _ => log::warn!("rolled back: {counts}"),
        }
        instance.take_back(back);
    }

    pub(super) async fn recover(&mut self) {
        let (Some(instance), Some(successor)) = (&self.instance, self.successor.take()) else {
            return;
        };
        let (back, _) = successor.take_back(instance.permits()).await;
        if !back.is_empty() {
            log::warn!(
                "the rolled-back process has exited without returning all connections; this process serves them \
                 again: {}",
                back.len()
            );
            instance.take_back(back);
        }
    }
}

/// Confirms the upgrade, and returns the text that reports it.
pub(super) fn confirm(successor: &Successor) -> String {
    let (pid, moved, age) = (successor.pid(), successor.confirm(), successor.age());
    let text = format!(
        "upgrade: confirmed; {moved} connections moved to the new process (pid {pid}) within {age:.1?} of its start; \
         this process exits when its last request ends"
    );
    log::info!("{text}");
    text
}
