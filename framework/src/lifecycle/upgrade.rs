//! What an upgrade asks of the driver: to start the new process, to speak with the one at the other end, to give and to
//! take connections.

use super::driver::Driver;
use super::happening::{Happening, Id};
use super::machine::{Event, Phase, Word};
use super::stand_in::look_anew;
use super::successor::{Start, Successor};
use crate::config::UpgradeMode;
use crate::observe::metrics::Counter;
use crate::sys::pid_file;

impl Driver {
    pub(super) fn is_successor(&self, pid: Id) -> bool {
        self.successor
            .as_ref()
            .is_some_and(|successor| successor.pid() == pid)
    }

    /// Starts the new process; one that cannot be started is one that is gone.
    pub(super) async fn spawn(&mut self) {
        let (Some(live), Some((program, lineage))) = (&self.live, &self.plan.program) else {
            return;
        };
        let start = Start {
            program,
            lineage,
            settings: &live.config().upgrade,
            sockets: self.plan.sockets.for_new_process(live.listeners()),
            limits: &self.plan.open_files,
            events: self.sender.clone(),
        };
        match Successor::start(start).await {
            Ok(successor) => {
                log::info!("upgrade: started the new process, pid {}", successor.pid());
                self.desk.why = None;
                self.successor = Some(successor);
            }
            Err(error) => {
                log::error!("upgrade refused: {}; nothing changed", error.chain());
                self.desk.why = Some(error.chain());
                self.successor = None;
                let _ = self
                    .sender
                    .send(Happening::Signal(Event::SuccessorGone))
                    .await;
            }
        }
    }

    pub(super) async fn kill_successor(&mut self) {
        let Some(successor) = &self.successor else {
            return self.tell_upgrade_failed("upgrade refused");
        };
        let pid = successor.pid();
        successor.kill().await;
        self.plan.control.iter().for_each(|control| control.tidy());
        self.reinstate().await;
        self.count(Counter::UpgradesFailed);
        let outcome = match self.phase {
            Phase::Serving | Phase::Reloading(_) => {
                let outcome = format!(
                    "upgrade failed: the new process (pid {pid}) is gone; this one serves on"
                );
                log::error!("{outcome}");
                outcome
            }
            _ => {
                let outcome = format!("the new process (pid {pid}) was ended");
                log::warn!("{outcome}");
                outcome
            }
        };
        self.tell_upgrade_failed(&outcome);
    }

    /// Whether one that was sent away still gives back what it has: nobody is to take its place before.
    pub(super) fn is_returning(&self) -> bool {
        let serves = matches!(self.phase, Phase::Serving | Phase::Reloading(_));
        serves && self.successor.as_ref().is_some_and(Successor::is_alive)
    }

    /// Passes on what is meant for the newest process, where somebody watches the pid that it came to, or came from. By
    /// hand each of the two is told by itself.
    pub(super) fn pass_stop(&self, event: Event) {
        let watched = self
            .plan
            .program
            .as_ref()
            .is_some_and(|(_, lineage)| lineage.speaks_for_the_newest());
        let by_itself = |successor: &&Successor| successor.mode() == UpgradeMode::Auto;
        self.successor
            .iter()
            .filter(by_itself)
            .filter(|_| watched)
            .for_each(|successor| successor.stop(event));
    }

    /// By hand the old process has never stopped accepting: a new one that stops before it accepts is no more than gone.
    pub(super) fn of_successor(&self, event: Event) -> Event {
        let by_hand = self
            .successor
            .as_ref()
            .is_some_and(|successor| successor.mode() == UpgradeMode::Manual);
        match (event, self.phase) {
            (Event::SuccessorStops, Phase::Swapping(_)) if by_hand => Event::SuccessorGone,
            _ => event,
        }
    }

    /// This process is the newest again, whoever was it for a moment.
    pub(super) async fn reinstate(&mut self) {
        self.count_here();
        self.announce(std::process::id());
        if let Some((_, lineage)) = &self.plan.program {
            lineage.newest.expect_nobody();
            lineage.newest.confirm();
        }
        self.systemd.set_main_to_self().await;
    }

    /// What the old process would have removed, had it not been killed, is removed here.
    pub(super) fn predecessor_gone(&mut self) -> Event {
        if let Some(parent) = self.parent.take() {
            async_std::task::spawn(look_anew(self.systemd.clone(), parent));
        }
        self.plan.metrics.unfreeze();
        self.plan.control.iter().for_each(|control| control.tidy());
        self.pid_file_path(OLD_PID_FILE)
            .iter()
            .for_each(|path| pid_file::remove_stale(path));
        Event::PredecessorGone
    }

    pub(super) fn announce(&self, pid: u32) {
        self.plan
            .program
            .iter()
            .for_each(|(_, lineage)| lineage.newest.announce(pid));
    }

    pub(super) async fn say(&mut self, word: Word) {
        if self.successor.is_some() {
            return self.say_to_successor(word).await;
        }
        let Some(predecessor) = &self.predecessor else {
            return;
        };
        match word {
            Word::Ready => log::info!("ready; going live at the word of the old process"),
            Word::Accepting => log::info!("live; the old process hands over"),
            Word::Stopping | Word::Live | Word::Cancel => {}
            Word::Probe | Word::Recall | Word::Confirmed => {}
        }
        predecessor.say(word).await;
    }

    async fn say_to_successor(&mut self, word: Word) {
        match word {
            Word::Live => self.before_live().await,
            // where two accepted, each has counted for itself
            Word::Confirmed if self.telling.is_none() => self.go_on_telling(),
            _ => {}
        }
        if let Some(successor) = &self.successor {
            successor.say(word).await;
        }
    }

    async fn before_live(&mut self) {
        let Some(successor) = &self.successor else {
            return;
        };
        let (pid, age) = (successor.pid(), successor.age());
        log::info!(
            "upgrade: the new process (pid {pid}) is ready, {age:.1?} after its start; it is to go live"
        );
        // before it accepts: systemd would take the end of this process for the end of the service
        self.systemd.set_main_to(pid).await;
        match successor.mode() {
            UpgradeMode::Manual => self.old_pid_file = self.write_pid_file(OLD_PID_FILE),
            UpgradeMode::Auto => self.hand_over_counts().await,
        }
    }

    pub(super) async fn take_back(&mut self) {
        let Some(live) = &self.live else { return };
        let (back, cut) = match (self.successor.take(), &mut self.predecessor) {
            (Some(successor), _) => successor.take_back(live.permits()).await,
            (None, Some(predecessor)) => (predecessor.take_back(live.permits()).await, 0),
            (None, None) => return,
        };
        let here = format!(
            "{} connections are here again, {cut} that it had read from are cut",
            back.len()
        );
        match self.phase {
            Phase::LastCall(_) | Phase::Draining(_) => {
                log::info!("the new process is gone: {here}");
            }
            _ => log::warn!("rolled back: {here}"),
        }
        live.take_back(back);
    }

    pub(super) async fn recover(&mut self) {
        let (Some(live), Some(successor)) = (&self.live, self.successor.take()) else {
            return;
        };
        let (back, _) = successor.take_back(live.permits()).await;
        if !back.is_empty() {
            log::warn!(
                "{} connections are here again that the new process has not given back",
                back.len()
            );
            live.take_back(back);
        }
    }
}

/// What the pid file of the old process is called while both accept, after its own name (nginx' `.oldbin`).
const OLD_PID_FILE: &str = ".oldbin";

/// The last that the old process says of the new one.
pub(super) fn upgraded(successor: &Successor) -> String {
    let (pid, given, age) = (successor.pid(), successor.let_go(), successor.age());
    let said = format!(
        "upgraded: the new process takes over (pid {pid}, {age:.1?} after its start), with {given} connections; this one leaves"
    );
    log::info!("{said}");
    said
}
