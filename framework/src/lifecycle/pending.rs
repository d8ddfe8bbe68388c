//! Commands of operators from the control socket: each becomes an input of the state machine, and is answered when its
//! outcome is known.

use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime};

use async_channel::Sender;

use super::driver::{reopen_logs, Driver};
use super::event::ReloadCallback;
use super::handle::Report;
use super::instance::Instance;
use super::machine::{
    describe_phase, input_of, phase_name, progress, upgrades, Input, OperatorCommand, Phase,
    Progress,
};
use super::successor::Successor;
use crate::control::protocol::{
    ConnectionCounts, ControlCommand, ControlResponse, OldestRequest, ProcessStatus,
};
use crate::error::Error;

/// The connection to the operator who waits for an answer. Sending does nothing if the operator has disconnected.
pub(crate) struct Responder(pub(crate) Sender<ControlResponse>);

/// The commands that were accepted and are not answered yet.
#[derive(Default)]
pub(super) struct PendingCommands {
    commands: Vec<(OperatorCommand, Responder)>,
    /// The reason why the current upgrade fails, if the new process has sent one or has exited.
    pub(super) failure_reason: Option<String>,
}

/// The program that this process runs, for `APP status`.
#[derive(Clone, Debug)]
pub(crate) struct ProgramInfo {
    version: String,
    /// The modification time of the executable, in seconds since 1970.
    built: Option<u64>,
    started: Instant,
}

impl ProgramInfo {
    /// Reads the facts about this process. `version` is that of the application.
    pub(crate) fn of_this_process(version: &str) -> Self {
        let written = std::fs::metadata("/proc/self/exe")
            .and_then(|metadata| metadata.modified())
            .ok();
        let since_1970 = written.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        ProgramInfo {
            version: version.to_owned(),
            built: since_1970.map(|time| time.as_secs()),
            started: Instant::now(),
        }
    }
}

impl Responder {
    fn succeed(&self, text: impl Into<String>) {
        let _ = self.0.try_send(ControlResponse::Done(text.into()));
    }

    pub(super) fn fail(&self, reason: impl Into<String>) {
        let _ = self.0.try_send(ControlResponse::Failed(reason.into()));
    }

    fn respond(&self, outcome: &Result<String, String>) {
        match outcome {
            Ok(text) => self.succeed(text),
            Err(reason) => self.fail(reason),
        }
    }
}

impl PendingCommands {
    pub(super) fn add(&mut self, command: OperatorCommand, responder: Responder) {
        self.commands.push((command, responder));
    }

    /// Answers every pending command of this kind.
    fn answer(&mut self, command: OperatorCommand, outcome: &Result<String, String>) {
        self.commands.retain(|(pending, responder)| {
            let is_answered = *pending == command;
            if is_answered {
                responder.respond(outcome);
            }
            !is_answered
        });
    }

    /// Answers the commands that are done, or can no longer take effect, in this phase. `summary` is appended to the
    /// answer of a shutdown.
    fn answer_by_phase(&mut self, phase: Phase, summary: &str) {
        self.commands
            .retain(|(command, responder)| match progress(*command, phase) {
                Progress::Pending => true,
                Progress::Done => {
                    responder.succeed(done_text(*command, summary));
                    false
                }
                Progress::Superseded => {
                    responder.fail(format!(
                        "the command did not take effect: the process is now {}",
                        describe_phase(phase)
                    ));
                    false
                }
            });
    }

    /// Answers all commands when the process exits.
    pub(super) fn answer_at_end(&mut self, report: &Report) {
        let mut summary = format!(
            "it took {:.1?}, connections closed before their end: {}",
            report.took,
            report.cut.len()
        );
        for connection in &report.cut {
            let _ = write!(summary, "\n  {connection}");
        }
        self.answer_by_phase(Phase::Gone, &summary);
        self.answer(
            OperatorCommand::Upgrade,
            &Err("upgrade failed: the process is shutting down".into()),
        );
    }
}

fn done_text(command: OperatorCommand, summary: &str) -> String {
    let pid = std::process::id();
    match command {
        OperatorCommand::Pause => {
            format!("paused: pid {pid} accepts no connection until it is resumed")
        }
        OperatorCommand::Resume => format!("resumed: pid {pid} accepts connections again"),
        OperatorCommand::Rollback => format!("rolled back: pid {pid} serves again"),
        OperatorCommand::Drain | OperatorCommand::Stop => {
            format!("stopped: pid {pid} has ended; {summary}")
        }
        OperatorCommand::Reload | OperatorCommand::Upgrade => String::new(),
    }
}

impl Driver {
    /// Accepts or refuses a command. Returns the input that carries it out, with the responder if the outcome is
    /// answered later.
    pub(super) fn accept_command(
        &mut self,
        ask: ControlCommand,
        responder: Responder,
    ) -> Option<(Input, Option<(OperatorCommand, Responder)>)> {
        let command = match ask {
            ControlCommand::Status => {
                let _ = responder
                    .0
                    .try_send(ControlResponse::Status(Box::new(self.status())));
                return None;
            }
            ControlCommand::Reopen => {
                responder.respond(&reopen_logs());
                return None;
            }
            ControlCommand::Reload => OperatorCommand::Reload,
            ControlCommand::Upgrade => OperatorCommand::Upgrade,
            ControlCommand::Rollback => OperatorCommand::Rollback,
            ControlCommand::Pause => OperatorCommand::Pause,
            ControlCommand::Resume => OperatorCommand::Resume,
            ControlCommand::Drain => OperatorCommand::Drain,
            ControlCommand::Stop => OperatorCommand::Stop,
        };
        match input_of(command, self.phase) {
            Err(refusal) => {
                responder.fail(refusal.text());
                None
            }
            Ok(Some(input)) if command == OperatorCommand::Reload => {
                let callback = move |outcome: Result<String, Error>| {
                    responder.respond(
                        &outcome.map_err(|error| format!("reload refused: {}", error.chain())),
                    );
                };
                self.reload_for(ReloadCallback::new(callback));
                Some((input, None))
            }
            Ok(Some(input)) => Some((input, Some((command, responder)))),
            Ok(None) => {
                self.pending.add(command, responder);
                self.answer_commands();
                None
            }
        }
    }

    /// Answers the commands whose outcome is known after the last step. The end of the process is answered by
    /// [`PendingCommands::answer_at_end`].
    pub(super) fn answer_commands(&mut self) {
        if self.phase != Phase::Gone {
            self.pending.answer_by_phase(self.phase, "");
        }
    }

    pub(super) fn upgrade_succeeded(&mut self, text: String) {
        self.pending.answer(OperatorCommand::Upgrade, &Ok(text));
    }

    /// Answers a pending upgrade with the reason of its failure, if there is one, and with `outcome`.
    pub(super) fn upgrade_failed(&mut self, outcome: &str) {
        let text = match self.pending.failure_reason.take() {
            Some(reason) => format!("upgrade failed: {reason}\n{outcome}"),
            None => outcome.to_owned(),
        };
        self.pending.answer(OperatorCommand::Upgrade, &Err(text));
    }

    fn status(&self) -> ProcessStatus {
        let program = &self.context.program_info;
        let lineage = self.context.program.as_ref().map(|(_, lineage)| lineage);
        let (mut connections, mut oldest_request, mut requests) =
            (ConnectionCounts::default(), None, 0);
        if let Some(instance) = &self.instance {
            let count = instance.count();
            connections = ConnectionCounts {
                active: count.active,
                idle: count.idle,
                parked: count.parked,
                tunnels: count.tunnels,
                taken: self.received_connections,
                given: self
                    .successor
                    .as_ref()
                    .map_or(0, Successor::acked_connections),
            };
            oldest_request = instance.oldest_request().map(|oldest| OldestRequest {
                request: oldest.request.unwrap_or_default(),
                peer: oldest.peer,
                age_ms: millis(oldest.age),
            });
            requests = instance.requests();
        }
        ProcessStatus {
            pid: std::process::id(),
            build: program.version.clone(),
            built: program.built,
            generation: self.generation_number(),
            phase: phase_name(self.phase).to_owned(),
            uptime_ms: millis(program.started.elapsed()),
            listening: self
                .instance
                .as_ref()
                .map(Instance::addresses)
                .unwrap_or_default(),
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
