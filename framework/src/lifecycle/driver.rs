//! The main loop of a process: waits for an event, asks the state machine for the actions, and carries them out.

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_io::Timer;
use async_std::task::JoinHandle;
use futures_lite::future;

use super::event::{DriverEvent, ReloadCallback};
use super::handle::{Handle, HandleState, Report};
use super::handover::ReceivedConnection;
use super::instance::Instance;
use super::machine::{self, step, Action, CommandRefusal, Input, OperatorCommand, Phase, Queued};
use super::old_peer_reader::OldPeer;
use super::pending::{PendingCommands, Responder};
use super::predecessor::Predecessor;
use super::presence::remove_pid_file;
use super::reload::{NextGeneration, ServerContext};
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

/// Runs one server from start to end.
pub(crate) struct Driver {
    pub(super) context: Arc<ServerContext>,
    pub(super) phase: Phase,
    pub(super) events: Receiver<DriverEvent>,
    pub(super) event_sender: Sender<DriverEvent>,
    pub(super) handle_state: Arc<HandleState>,
    /// The settings of the first generation, until it is built.
    pub(super) first_settings: Option<LoadedConfig>,
    /// The set for idle connections, until the first generation goes live.
    pub(super) idle: Option<IdleSet>,
    pub(super) instance: Option<Instance>,
    /// The task of the current build.
    pub(super) build: Option<JoinHandle<()>>,
    /// The generation that was built and is about to go live.
    pub(super) next_generation: Option<NextGeneration>,
    /// The error of the last build. If no generation ever goes live, [`run`](Driver::run) returns it.
    pub(super) build_error: Option<Error>,
    /// The callbacks for the current reload, and for the reload that is queued behind it.
    pub(super) reload_callbacks: Vec<ReloadCallback>,
    pub(super) queued_reload_callbacks: Vec<ReloadCallback>,
    /// The value of `http.max_connections = "auto"`.
    pub(super) auto_connections: usize,
    pub(super) systemd: Arc<Systemd>,
    /// The new process, from the start of an upgrade on.
    pub(super) successor: Option<Successor>,
    /// The old process, if an upgrade has started this process.
    pub(super) predecessor: Option<Predecessor>,
    /// The parent process, if an upgrade has started this process. Taken when the old process has exited.
    pub(super) parent: Option<Parent>,
    /// Processes that were replaced before the old one, and still drain.
    pub(super) older_peers: Vec<OldPeer>,
    pub(super) pid_file: Option<PidFile>,
    /// The pid file with the suffix `.oldbin`, while the old process and the new one both accept.
    pub(super) old_pid_file: Option<PidFile>,
    pub(super) pending: PendingCommands,
    /// The number of connections received from the process at the other end of a handover.
    pub(super) received_connections: u64,
    /// The task that watches the configuration files (`reload.watch`).
    pub(super) watch: Option<JoinHandle<()>>,
    pub(super) timer: Option<Instant>,
    pub(super) leaving_since: Option<Instant>,
    /// Stops the task that sends counters to the new process when it is dropped.
    pub(super) counter_task: Option<Trigger>,
    /// Fired when the server has ended.
    pub(super) ended: Trigger,
}

impl Driver {
    /// # Errors
    /// The kernel has no epoll instance left for idle connections, or `handover` is not a handover channel.
    pub(crate) fn new(
        context: ServerContext,
        first_settings: LoadedConfig,
        handover: Option<OwnedFd>,
    ) -> Result<(Self, Handle), Error> {
        let idle = IdleSet::new().map_err(|error| {
            Error::new(Kind::Io, "cannot create a poller for idle connections").because(error)
        })?;
        let (event_sender, events) = async_channel::unbounded();
        let predecessor = handover.map(Predecessor::adopt).transpose()?;
        let (ended, end) = token();
        let handle_state = Arc::<HandleState>::default();
        let handle = Handle {
            events: event_sender.clone(),
            state: handle_state.clone(),
            ended: end,
        };
        let driver = Driver {
            phase: match predecessor {
                None => Phase::Starting(Queued::Nothing),
                Some(_) => Phase::Succeeding(Queued::Nothing),
            },
            events,
            event_sender,
            handle_state,
            first_settings: Some(first_settings),
            idle: Some(idle),
            instance: None,
            build: None,
            next_generation: None,
            build_error: None,
            reload_callbacks: vec![],
            queued_reload_callbacks: vec![],
            auto_connections: context.open_files.connections(),
            systemd: Arc::new(
                context
                    .program
                    .as_ref()
                    .map_or_else(Systemd::none, |(program, _)| {
                        Systemd::from_environment(program)
                    }),
            ),
            context: Arc::new(context),
            successor: None,
            parent: predecessor.as_ref().map(|_| Parent::now()),
            predecessor,
            older_peers: vec![],
            pid_file: None,
            old_pid_file: None,
            pending: PendingCommands::default(),
            received_connections: 0,
            watch: None,
            timer: None,
            leaving_since: None,
            counter_task: None,
            ended,
        };
        Ok((driver, handle))
    }

    /// Runs the server from start to end. Sends on `started` when the first generation accepts.
    ///
    /// # Errors
    /// The first generation could not be built.
    pub(crate) async fn run(mut self, started: Sender<()>) -> Result<Report, Error> {
        if let Some(predecessor) = &mut self.predecessor {
            predecessor
                .greet(self.context.metrics.clone(), self.event_sender.clone())
                .await;
        }
        self.begin_build();
        if let Some(interval) = self.systemd.watchdog_interval() {
            async_std::task::spawn(ping_watchdog(self.systemd.clone(), interval));
        }
        while self.phase != Phase::Gone {
            match self.next_event().await {
                Some(DriverEvent::Command(ask, responder)) => {
                    if let Some((input, command)) = self.accept_command(ask, responder) {
                        self.advance(input, command).await;
                    }
                }
                event => {
                    let Some(input) = self.handle(event).await else {
                        continue;
                    };
                    self.advance(input, None).await;
                    if self.instance.is_some() {
                        // only the first value is received, and the channel has room for no other
                        let _ = started.try_send(());
                    }
                }
            }
        }
        self.send_last_counters().await;
        self.end()
    }

    /// Handles an event. Returns the input of the state machine that follows from it, or `None` if there is none.
    ///
    /// The event `None` is the end of the timer.
    async fn handle(&mut self, event: Option<DriverEvent>) -> Option<Input> {
        let Some(event) = event else {
            return Some(self.timer_expired());
        };
        match event {
            DriverEvent::Input(input) => Some(input),
            DriverEvent::Reload(callback) => Some(self.reload_for(callback)),
            DriverEvent::ConfigChanged => self.config_changed(),
            DriverEvent::BuildEnded(outcome) => Some(self.build_ended(*outcome).await),
            DriverEvent::Drained => self.drained().await,
            DriverEvent::Successor(pid, input) => self
                .is_successor(pid)
                .then(|| self.input_of_successor(input)),
            DriverEvent::SuccessorFailure(pid, reason) => {
                if self.is_successor(pid) {
                    self.pending.failure_reason.get_or_insert(reason);
                }
                None
            }
            DriverEvent::PredecessorGone => Some(self.predecessor_gone()),
            DriverEvent::OlderPeer(channel, count) => {
                self.read_older_peer(channel, count);
                None
            }
            DriverEvent::ConnectionsReceived(connections, ack) => {
                self.receive(connections);
                ack.send().await;
                None
            }
            // handled in `run`, because it needs its responder
            DriverEvent::Command(..) => None,
        }
    }

    fn config_changed(&self) -> Option<Input> {
        let input = machine::input_of(OperatorCommand::Reload, self.phase);
        if let Ok(Some(input)) = input {
            log::info!("configuration file changed; reloading");
            return Some(input);
        }
        log::warn!(
            "configuration file changed, but a reload is not possible now ({}); send SIGHUP later",
            machine::describe_phase(self.phase)
        );
        None
    }

    fn receive(&mut self, connections: Vec<ReceivedConnection>) {
        let count = connections.len() as u64;
        self.received_connections += count;
        self.context.metrics.count_by(Counter::Taken, count);
        if let Some(instance) = &self.instance {
            instance.adopt(connections);
        }
    }

    /// Makes one step of the state machine. `command` is the command that caused it, with its responder.
    async fn advance(&mut self, input: Input, command: Option<(OperatorCommand, Responder)>) {
        let (phase, actions) = match input {
            Input::Usr2 | Input::Winch if self.is_returning() => {
                (self.phase, vec![Action::Refuse(CommandRefusal::Returning)])
            }
            _ => step(self.phase, input),
        };
        self.phase = phase;
        match (command, actions.iter().find_map(Action::refusal)) {
            (Some((_, responder)), Some(refusal)) => responder.fail(refusal.text()),
            (Some((command, responder)), None) => self.pending.add(command, responder),
            (None, _) => {}
        }
        for action in actions {
            self.act(action).await;
        }
        self.fail_impossible_reloads();
        self.publish_addresses();
        self.answer_commands();
    }

    /// Waits for the next event. Returns `None` when the timer expires first.
    async fn next_event(&mut self) -> Option<DriverEvent> {
        let (events, timer) = (self.events.clone(), self.timer);
        let event = async { events.recv().await.ok() };
        match timer {
            None => event.await,
            Some(at) => {
                let event = pin!(event);
                future::or(event, async {
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
            Action::Instance(action) => self.act_on_instance(action).await,
            Action::Spawn => self.spawn().await,
            Action::KillSuccessor => self.kill_successor().await,
            Action::Send(kind) => self.send(kind).await,
            Action::ForwardHup => {
                if let Some(successor) = &self.successor {
                    successor.hup();
                }
            }
            Action::ForwardStop(input) => self.forward_stop(input),
            Action::Arm(timeout) => self.timer = Some(Instant::now() + self.duration_of(timeout)),
            Action::Disarm => self.timer = None,
            Action::ReopenLogs => drop(reopen_logs()),
            Action::Refuse(refusal) => log::warn!("{}{}", refusal.signal(), refusal.text()),
        }
    }

    fn publish_addresses(&self) {
        let addresses = self
            .instance
            .as_ref()
            .map(Instance::addresses)
            .unwrap_or_default();
        *self.handle_state.addresses.lock() = addresses;
    }

    /// Returns the number of the current generation, or 0 before the first one.
    pub(super) fn generation_number(&self) -> u64 {
        self.instance
            .as_ref()
            .map_or(0, |instance| instance.generation().number)
    }

    fn end(mut self) -> Result<Report, Error> {
        // dropping the events drops the callbacks of reloads, so that their callers receive an error
        self.events.close();
        while self.events.try_recv().is_ok() {}
        if let Some(error) = self.build_error.filter(|_| self.instance.is_none()) {
            return Err(error);
        }
        remove_pid_file(self.pid_file.take());
        remove_pid_file(self.old_pid_file.take());
        if let Some((_, lineage)) = &self.context.program {
            lineage.newest.drained(std::process::id());
        }
        let mut report = self.handle_state.report.lock();
        report.took = self
            .leaving_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        let report = report.clone();
        self.pending.answer_at_end(&report);
        match self.instance {
            None => log::info!("stopped before the start was complete"),
            Some(_) => log::info!(
                "stopped after {:.1?}; connections cut: {}",
                report.took,
                report.cut.len()
            ),
        }
        self.ended.fire();
        Ok(report)
    }
}

/// Notifies the watchdog of systemd for as long as the executor runs tasks. Never returns.
async fn ping_watchdog(systemd: Arc<Systemd>, interval: Duration) {
    loop {
        systemd.watchdog();
        Timer::after(interval).await;
    }
}

/// Reopens the log files, and returns the outcome as a text.
pub(super) fn reopen_logs() -> Result<String, String> {
    match observe::log::reopen() {
        Ok(()) => {
            let done = "the log was reopened".to_owned();
            log::info!("{done}");
            Ok(done)
        }
        Err(error) => {
            let failed = format!("{}; the log stays open as it was", error.chain());
            log::error!("{failed}");
            Err(failed)
        }
    }
}
