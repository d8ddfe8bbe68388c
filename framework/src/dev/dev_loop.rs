//! The main loop of the `dev` process.
//!
//! One thread handles all events and makes all decisions. Builds, signals, file events and
//! connections of pages have threads of their own, which send it [`LoopEvent`]s.

mod builds;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::SignalsInfo;
use signal_hook::low_level::siginfo::{Cause, Origin};

use super::build::{CargoBuild, Verbosity};
use super::event::LoopEvent;
use super::launcher::Launcher;
use super::package::Package;
use super::pages::{OverlayState, Pages};
use super::program::{DevProgram, ProgramEvent, ProgramPhase};
use super::timings::Timings;
use super::watch::{ChangeKind, FileWatcher};
use crate::config::{ConfigSources, LoadedConfig};
use crate::error::{Error, Kind};
use crate::lifecycle::{be_subreaper, PASSED_ON};
use crate::observe;
use crate::socket::InheritedSockets;
use crate::sys::child::Ending;
use crate::sys::spawn::Program;

/// The time without a further change after which changes are handled. An editor may write a file in
/// several steps, and a checkout writes many files.
const SETTLE_TIME: Duration = Duration::from_millis(30);

/// The action to take when the program serves and no other operation is in progress. The later one of
/// two actions includes the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PendingAction {
    None,
    Reload,
    Upgrade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoopMode {
    Running,
    /// The loop ends when the program has ended.
    Stopping,
}

struct DevLoop {
    package: Package,
    program: DevProgram,
    pending: PendingAction,
    mode: LoopMode,
    /// Changes that have not been handled yet.
    changes: BTreeSet<ChangeKind>,
    /// Changes that the current build handles.
    building: BTreeSet<ChangeKind>,
    build: Option<CargoBuild>,
    last_build_number: u64,
    timings: Timings,
    watcher: FileWatcher,
    pages: Pages,
    sender: Sender<LoopEvent>,
    events: Receiver<LoopEvent>,
}

/// Runs the development loop until a signal stops it, and returns the exit status of the program.
///
/// # Errors
/// This process was not started by cargo, the settings are invalid, or the kernel refuses a socket or
/// an inotify watch.
pub(crate) fn run(
    sources: ConfigSources,
    inherited: InheritedSockets,
    program: &Program,
    flags: Vec<OsString>,
) -> Result<ExitCode, Error> {
    let package = Package::of_this_program(flags)?;
    let loaded = sources.load()?;
    observe::log::init(&loaded.config.log)?;
    let failed = |what: &'static str| move |error| Error::new(Kind::Io, what).because(error);
    be_subreaper().map_err(failed(
        "`dev` cannot become the subreaper of the program's processes",
    ))?;
    let (sender, events) = channel();
    handle_signals(sender.clone())?;
    let pages = Pages::open(sender.clone())?;
    let executable = std::env::current_exe()
        .map_err(failed("`dev` cannot determine the path of its own program"))?;
    let launcher = Launcher::new(sources, inherited, program, pages.socket());
    let program = DevProgram::new(launcher, executable).map_err(failed(
        "cannot create the shared record of the program's processes",
    ))?;
    let dev_loop = DevLoop {
        package,
        program,
        pending: PendingAction::None,
        mode: LoopMode::Running,
        changes: BTreeSet::new(),
        building: BTreeSet::new(),
        build: None,
        last_build_number: 0,
        timings: Timings::default(),
        watcher: FileWatcher::new(sender.clone())?,
        pages,
        sender,
        events,
    };
    Ok(dev_loop.run(&loaded))
}

/// Turns signals into events. From here on the signals in [`PASSED_ON`] do not end this process.
fn handle_signals(events: Sender<LoopEvent>) -> Result<(), Error> {
    let signals = SignalsInfo::<WithOrigin>::new(PASSED_ON.into_iter().chain([SIGCHLD]));
    let mut signals = signals.map_err(|error| {
        Error::new(Kind::Io, "signal handlers could not be installed").because(error)
    })?;
    thread::spawn(move || {
        for origin in signals.forever() {
            if events.send(LoopEvent::Signal(origin)).is_err() {
                break;
            }
        }
    });
    Ok(())
}

impl DevLoop {
    fn run(mut self, loaded: &LoadedConfig) -> ExitCode {
        self.watcher.watch_package(&self.package.root);
        self.watcher
            .set_settings(&self.program.launcher.settings_files(loaded));
        log::info!(
            "watching {}: a change is built and the new build replaces the running one; Ctrl-C stops \
             both",
            self.package.root.display()
        );
        self.start();
        // cargo finds nothing to build, and reports the files that belong to the program
        self.begin_build(Verbosity::ErrorsOnly);
        loop {
            if let Some(event) = self.next_event() {
                self.handle(event);
            }
            if let Some(status) = self.poll_program() {
                return status;
            }
            if matches!(self.program.phase(), ProgramPhase::Serving(_)) {
                self.carry_out_pending();
            }
        }
    }

    /// Waits for the next event. Returns `None` after a timeout: changes have settled, or the phase of
    /// the program has to be polled.
    fn next_event(&mut self) -> Option<LoopEvent> {
        let is_settling = !self.changes.is_empty();
        let timeout = is_settling.then_some(SETTLE_TIME);
        match self.program.poll_interval().or(timeout) {
            None => self.events.recv().ok(),
            Some(timeout) => match self.events.recv_timeout(timeout) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    if is_settling && self.timings.since_last_change() >= SETTLE_TIME {
                        self.handle_changes();
                    }
                    None
                }
            },
        }
    }

    fn handle(&mut self, event: LoopEvent) {
        match event {
            LoopEvent::Signal(origin) => self.handle_signal(&origin),
            LoopEvent::FilesChanged(paths) => {
                for path in &paths {
                    self.note_change(path);
                }
            }
            LoopEvent::BuildEnded(number, outcome) => {
                // a cancelled build reports its end as well
                if self.build.as_ref().is_some_and(|it| it.number == number) {
                    self.build_ended(outcome);
                }
            }
            LoopEvent::PageOpened { build_id, page } => {
                self.pages.add(page);
                if let Some(summary) = self.timings.record_page(build_id) {
                    log::info!("{summary}");
                }
            }
            LoopEvent::StartFailed { title, text } => {
                self.pages.show(OverlayState::Error { title, text });
            }
            LoopEvent::ApplicationBuilt(at) => self.timings.record_application(at),
        }
    }

    fn handle_signal(&mut self, origin: &Origin) {
        let stops = match origin.signal {
            SIGINT | SIGQUIT | SIGTERM => true,
            // the terminal was closed; a HUP that a process sends is a reload
            SIGHUP => matches!(origin.cause, Cause::Kernel),
            _ => false,
        };
        if stops {
            self.mode = LoopMode::Stopping;
            self.cancel_build();
        }
        if origin.signal != SIGCHLD {
            self.program.forward_signal(origin);
        }
    }

    fn note_change(&mut self, path: &Path) {
        if let Some(kind) = self.watcher.classify(path) {
            if self.mode == LoopMode::Running {
                log::debug!("{} has changed", path.display());
                self.timings.record_change();
                self.changes.insert(kind);
            }
        }
    }

    /// Takes the action as soon as the program is ready for it. If the program is stopped, any action
    /// starts it.
    fn request(&mut self, action: PendingAction) {
        if self.program.phase() == ProgramPhase::Stopped && action != PendingAction::None {
            return self.start();
        }
        self.pending = self.pending.max(action);
    }

    fn start(&mut self) {
        self.pending = PendingAction::None;
        if let Err(error) = self.program.start() {
            log::error!(
                "the program cannot be started: {}; the next change starts it again",
                error.chain()
            );
        }
    }

    /// Handles a change of the program's phase. Returns the exit status if the loop is stopping and
    /// the program has ended.
    fn poll_program(&mut self) -> Option<ExitCode> {
        match self.program.poll() {
            Some(ProgramEvent::Live) => self.went_live(),
            Some(ProgramEvent::Upgraded(live)) => {
                log::info!(
                    "the new build is live as pid {live}, {}",
                    self.timings.record_upgrade()
                );
                self.went_live();
            }
            Some(ProgramEvent::UpgradeFailed(reason)) => self.upgrade_failed(reason),
            Some(ProgramEvent::Ended(ending)) => return self.program_ended(ending),
            None => {}
        }
        let is_over =
            self.mode == LoopMode::Stopping && self.program.phase() == ProgramPhase::Stopped;
        is_over.then_some(ExitCode::SUCCESS)
    }

    fn program_ended(&self, ending: Ending) -> Option<ExitCode> {
        match self.mode {
            // another process of the program may have reaped it
            LoopMode::Stopping if ending == Ending::Unknown => Some(ExitCode::SUCCESS),
            LoopMode::Stopping => Some(ExitCode::from(ending.code())),
            LoopMode::Running => {
                log::error!(
                    "the program {ending}; connections wait until the next change starts it again"
                );
                None
            }
        }
    }

    fn upgrade_failed(&mut self, title: &str) {
        log::error!(
            "{title}; pid {} keeps serving",
            self.program.live_pid().unwrap_or_default()
        );
        // the program may have reported the error itself, with more detail
        self.pages.show_unless_error(OverlayState::Error {
            title: title.to_owned(),
            text: "The terminal shows the reason.".to_owned(),
        });
    }

    /// Makes open pages reload if a new process or generation serves.
    fn went_live(&mut self) {
        self.pages.show(OverlayState::Hidden);
        self.pages.disconnect();
    }

    /// Reloads the program, unless the settings are invalid. The program itself reports errors in
    /// `[app]`, which only it can read.
    fn reload(&mut self, live: u32) {
        match self.program.launcher.load() {
            Ok(_) => {
                self.pages.show(OverlayState::Hidden);
                self.timings.record_request();
                self.program.reload(live);
            }
            Err(error) => {
                let text = error.chain();
                log::error!(
                    "the settings are refused: {text}; the previous settings stay in force"
                );
                let title = "The settings are refused, the previous settings stay in force";
                self.pages.show(OverlayState::Error {
                    title: title.to_owned(),
                    text,
                });
            }
        }
    }

    fn carry_out_pending(&mut self) {
        if self.mode == LoopMode::Stopping {
            return;
        }
        let Some(live) = self.program.live_pid() else {
            return;
        };
        match std::mem::replace(&mut self.pending, PendingAction::None) {
            PendingAction::None => {}
            PendingAction::Reload => self.reload(live),
            PendingAction::Upgrade => {
                self.pages.forget_error();
                self.timings.record_request();
                self.program.upgrade(live);
            }
        }
    }
}
