//! What is asked over the control socket, until it is answered: commands become events, outcomes become answers.

use std::time::{Duration, Instant, SystemTime};

use async_channel::Sender;

use super::driver::Driver;
use super::handle::Report;
use super::happening::Reply;
use super::live::Live;
use super::machine::{meaning, standing, upgrades, word, Command, Event, Phase, Refusal, Standing};
use super::successor::Successor;
use crate::control::protocol::{
    ConnectionCounts, ControlCommand, ControlResponse, OldestRequest, ProcessStatus,
};
use crate::error::Error;

/// Where an answer is awaited. Whoever asked may have gone.
pub(crate) struct Asker(pub(crate) Sender<ControlResponse>);

/// Those who wait.
#[derive(Default)]
pub(super) struct Desk {
    waiting: Vec<(Command, Asker)>,
    /// Why the upgrade under way comes to nothing, as far as is known: in the new process' own words.
    pub(super) why: Option<String>,
}

/// The program that runs, for whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    version: String,
    /// When its file was written.
    built: Option<u64>,
    started: Instant,
}

impl Build {
    /// Of this process, by the version that the application has.
    pub(crate) fn of_this_process(version: &str) -> Self {
        let written = std::fs::metadata("/proc/self/exe")
            .and_then(|found| found.modified())
            .ok();
        let since_1970 = written.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        Build {
            version: version.to_owned(),
            built: since_1970.map(|time| time.as_secs()),
            started: Instant::now(),
        }
    }
}

impl Asker {
    fn done(&self, said: impl Into<String>) {
        let _ = self.0.try_send(ControlResponse::Done(said.into()));
    }

    fn failed(&self, why: impl Into<String>) {
        let _ = self.0.try_send(ControlResponse::Failed(why.into()));
    }

    fn tell(&self, outcome: &Result<String, String>) {
        match outcome {
            Ok(said) => self.done(said),
            Err(why) => self.failed(why),
        }
    }
}

impl Desk {
    /// Somebody waits for the outcome of a command that was taken up.
    pub(super) fn wait(&mut self, command: Command, asker: Asker) {
        self.waiting.push((command, asker));
    }

    /// Tells all who wait for a command what came of it.
    pub(super) fn tell(&mut self, command: Command, outcome: &Result<String, String>) {
        self.waiting.retain(|(waits_for, asker)| {
            let is_meant = *waits_for == command;
            if is_meant {
                asker.tell(outcome);
            }
            !is_meant
        });
    }

    /// Tells those whose command has come to its end, or cannot any more, in this phase.
    fn settle(&mut self, phase: Phase, left: &str) {
        self.waiting
            .retain(|(command, asker)| match standing(*command, phase) {
                Standing::Waits => true,
                Standing::Reached => {
                    asker.done(reached(*command, left));
                    false
                }
                Standing::Missed => {
                    asker.failed(format!(
                        "it has come differently: the process is {}",
                        word(phase).replace('_', " ")
                    ));
                    false
                }
            });
    }
}

impl Desk {
    /// The process ends.
    pub(super) fn settle_last(&mut self, Report { took, cut, .. }: &Report) {
        let mut left = format!("it took {took:.1?}, connections cut: {}", cut.len());
        cut.iter()
            .for_each(|cut| left.push_str(&format!("\n  {cut}")));
        self.settle(Phase::Gone, &left);
        self.tell(
            Command::Upgrade,
            &Err("the process was told to stop: nothing is upgraded".into()),
        );
    }
}

fn reached(command: Command, left: &str) -> String {
    let pid = std::process::id();
    match command {
        Command::Pause => format!("paused: pid {pid} accepts nothing until it is resumed"),
        Command::Resume => format!("resumed: pid {pid} accepts again"),
        Command::Rollback => format!("rolled back: pid {pid} serves again"),
        Command::Drain | Command::Stop => format!("stopped: pid {pid} has ended; {left}"),
        Command::Reload | Command::Upgrade => String::new(),
    }
}

impl Driver {
    /// Takes up what was asked. Gives the event that it becomes, and what is to wait for its outcome.
    pub(super) fn asked(
        &mut self,
        ask: ControlCommand,
        asker: Asker,
    ) -> Option<(Event, Option<(Command, Asker)>)> {
        let command = match ask {
            ControlCommand::Status => {
                let _ = asker
                    .0
                    .try_send(ControlResponse::Status(Box::new(self.stands())));
                return None;
            }
            ControlCommand::Reopen => {
                asker.tell(&super::driver::reopen_logs());
                return None;
            }
            ControlCommand::Reload => Command::Reload,
            ControlCommand::Upgrade => Command::Upgrade,
            ControlCommand::Rollback => Command::Rollback,
            ControlCommand::Pause => Command::Pause,
            ControlCommand::Resume => Command::Resume,
            ControlCommand::Drain => Command::Drain,
            ControlCommand::Stop => Command::Stop,
        };
        match meaning(command, self.phase) {
            Err(refusal) => {
                asker.failed(refusal.text());
                None
            }
            Ok(Some(event)) if command == Command::Reload => {
                let told = move |outcome: Result<String, Error>| {
                    asker.tell(
                        &outcome.map_err(|error| format!("reload refused: {}", error.chain())),
                    );
                };
                self.reload_for(Reply::new(told));
                Some((event, None))
            }
            Ok(Some(event)) => Some((event, Some((command, asker)))),
            Ok(None) => {
                self.desk.wait(command, asker);
                self.settle_asked();
                None
            }
        }
    }

    /// The policy refused it.
    pub(super) fn refused(asker: &Asker, refusal: Refusal) {
        asker.failed(refusal.text());
    }

    /// Tells those whose wait has come to its end with the last step.
    pub(super) fn settle_asked(&mut self) {
        if self.phase != Phase::Gone {
            self.desk.settle(self.phase, "");
        }
    }

    /// The new process has taken over.
    pub(super) fn tell_upgraded(&mut self, said: String) {
        self.desk.tell(Command::Upgrade, &Ok(said));
    }

    /// The upgrade has come to nothing: `outcome` says so, and the new process' own words why, where it had any.
    pub(super) fn tell_upgrade_failed(&mut self, outcome: &str) {
        let said = match self.desk.why.take() {
            Some(why) => format!("upgrade failed: {why}\n{outcome}"),
            None => outcome.to_owned(),
        };
        self.desk.tell(Command::Upgrade, &Err(said));
    }

    fn stands(&self) -> ProcessStatus {
        let build = &self.plan.build;
        let lineage = self.plan.program.as_ref().map(|(_, lineage)| lineage);
        let (mut connections, mut oldest_request, mut requests) =
            (ConnectionCounts::default(), None, 0);
        if let Some(live) = &self.live {
            let count = live.count();
            connections = ConnectionCounts {
                active: count.active,
                idle: count.idle,
                parked: count.parked,
                tunnels: count.tunnels,
                taken: self.adopted,
                given: self.successor.as_ref().map_or(0, Successor::given),
            };
            oldest_request = live.oldest_request().map(|oldest| OldestRequest {
                request: oldest.request.unwrap_or_default(),
                peer: oldest.peer,
                age_ms: millis(oldest.age),
            });
            requests = live.requests();
        }
        ProcessStatus {
            pid: std::process::id(),
            build: build.version.clone(),
            built: build.built,
            generation: self.number(),
            phase: word(self.phase).to_owned(),
            uptime_ms: millis(build.started.elapsed()),
            listening: self.live.as_ref().map(Live::addresses).unwrap_or_default(),
            connections,
            requests,
            oldest_request,
            successor: self
                .successor
                .as_ref()
                .filter(|_| upgrades(self.phase))
                .map(Successor::pid),
            waiter: lineage.and_then(|lineage| lineage.newest.waiter()),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
