//! What `APP dev` runs: it owns the sockets and the terminal, has the program as its child, and brings in each version
//! of it that builds.
//!
//! One loop hears what happened and decides; all that takes time happens beside it.

mod changes;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::SignalsInfo;
use signal_hook::low_level::siginfo::{Cause, Origin};

use super::build::{Build, Outcome, Show};
use super::child::Start;
use super::package::Package;
use super::pages::{Pages, State};
use super::running::{News, Phase, Running};
use super::times::Times;
use super::watch::{Change, Watch};
use crate::config::{ConfigSources, LoadedConfig};
use crate::error::{Error, Kind};
use crate::lifecycle::{be_subreaper, PASSED_ON};
use crate::observe;
use crate::socket::InheritedSockets;
use crate::sys::child::Ending;
use crate::sys::spawn::Program;

/// An editor may write a file in several steps, and a checkout writes many: the last one is waited for.
const SETTLED: Duration = Duration::from_millis(30);

/// What the loop hears.
#[derive(Debug)]
pub(super) enum Event {
    Signal(Origin),
    /// Files have changed.
    Touched(Vec<PathBuf>),
    /// The build of this number has ended.
    Built(u64, Outcome),
    /// A page of this build is open.
    Page(String, UnixStream),
    /// A generation says why it does not go live.
    Refused(State),
    /// A generation has its application, and goes live.
    Ready(Instant),
}

/// What the program is to be told once it serves and nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Nothing,
    Reload,
    Upgrade,
}

/// Whether the loop goes on, or ends with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    On,
    Leaving,
}

/// The loop and all that it owns.
struct Keeper {
    package: Package,
    program: Running,
    wanted: Wanted,
    course: Course,
    /// Changes that nothing was done about yet, and those that the build under way is for.
    changes: BTreeSet<Change>,
    building: BTreeSet<Change>,
    build: Option<Build>,
    builds: u64,
    times: Times,
    watch: Watch,
    pages: Pages,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

/// Runs the loop until it is told to stop, and ends as the program does.
///
/// # Errors
/// The program was not started by cargo, its settings are refused, or the system has no sockets or watches left.
pub(crate) fn keep(
    sources: ConfigSources,
    inherited: InheritedSockets,
    program: &Program,
    flags: Vec<OsString>,
) -> Result<ExitCode, Error> {
    let package = Package::running(flags)?;
    let loaded = sources.load()?;
    observe::log::init(&loaded.config.log)?;
    let io = |what: &str| {
        let what = what.to_owned();
        move |error| Error::new(Kind::Io, what).because(error)
    };
    be_subreaper().map_err(io(
        "later versions of the program would be nobody's children",
    ))?;
    let (sender, events) = channel();
    hear_signals(sender.clone())?;
    let pages = Pages::open(sender.clone())?;
    let executable = std::env::current_exe().map_err(io("the program's own path is not known"))?;
    let start = Start::new(sources, inherited, program, pages.socket());
    let program = Running::new(start, executable)
        .map_err(io("no record of the generations could be made"))?;
    let keeper = Keeper {
        package,
        program,
        wanted: Wanted::Nothing,
        course: Course::On,
        changes: BTreeSet::new(),
        building: BTreeSet::new(),
        build: None,
        builds: 0,
        times: Times::default(),
        watch: Watch::new(sender.clone())?,
        pages,
        sender,
        events,
    };
    Ok(keeper.run(&loaded))
}

/// From here on no signal kills the keeper; each comes as an event, children's ends among them.
fn hear_signals(events: Sender<Event>) -> Result<(), Error> {
    let signals = SignalsInfo::<WithOrigin>::new(PASSED_ON.into_iter().chain([SIGCHLD]));
    let mut signals = signals.map_err(|error| {
        Error::new(Kind::Io, "signal handlers could not be installed").because(error)
    })?;
    thread::spawn(move || {
        for origin in signals.forever() {
            if events.send(Event::Signal(origin)).is_err() {
                break;
            }
        }
    });
    Ok(())
}

impl Keeper {
    fn run(mut self, loaded: &LoadedConfig) -> ExitCode {
        self.watch.package(&self.package.root.clone());
        self.watch
            .settings(&self.program.start.settings_files(loaded));
        log::info!(
            "{} is built anew and swapped in whenever it changes; Ctrl-C ends both",
            self.package.root.display()
        );
        self.start();
        // nothing has changed: it tells what belongs to the program
        self.begin_build(Show::Errors);
        loop {
            if let Some(event) = self.next_event() {
                self.hear(event);
            }
            if let Some(status) = self.look_after() {
                return status;
            }
            if matches!(self.program.phase(), Phase::Up(_)) {
                self.carry_out();
            }
        }
    }

    /// Waits for the next event, for changes to settle, or for the record of the generations to change.
    fn next_event(&mut self) -> Option<Event> {
        let is_settling = !self.changes.is_empty();
        match self.program.patience().or(is_settling.then_some(SETTLED)) {
            None => self.events.recv().ok(),
            Some(patience) => match self.events.recv_timeout(patience) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    if is_settling && self.times.since_change() >= SETTLED {
                        self.act_on_changes();
                    }
                    None
                }
            },
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Signal(origin) => self.signalled(&origin),
            Event::Touched(paths) => paths.iter().for_each(|path| self.touched(path)),
            Event::Built(number, outcome)
                if self.build.as_ref().is_some_and(|it| it.number == number) =>
            {
                self.built(outcome);
            }
            Event::Built(..) => {}
            Event::Page(build, page) => {
                self.pages.welcome(page);
                if let Some(said) = self.times.page(build) {
                    log::info!("{said}");
                }
            }
            Event::Refused(state) => self.pages.show(state),
            Event::Ready(at) => self.times.ready(at),
        }
    }

    fn signalled(&mut self, origin: &Origin) {
        let leaves = match origin.signal {
            SIGINT | SIGQUIT | SIGTERM => true,
            SIGHUP => matches!(origin.cause, Cause::Kernel),
            _ => false,
        };
        if leaves {
            self.course = Course::Leaving;
            self.give_up_build();
        }
        if origin.signal != SIGCHLD {
            self.program.pass_on(origin);
        }
    }

    fn touched(&mut self, path: &Path) {
        if let Some(change) = self.watch.changed(path) {
            if self.course == Course::On {
                log::debug!("{} has changed", path.display());
                self.times.changed();
                self.changes.insert(change);
            }
        }
    }

    /// Has it done as soon as the program is ready for it. One that does not run is started.
    fn want(&mut self, wanted: Wanted) {
        if self.program.phase() == Phase::Down && wanted != Wanted::Nothing {
            return self.start();
        }
        self.wanted = self.wanted.max(wanted);
    }

    fn start(&mut self) {
        self.wanted = Wanted::Nothing;
        if let Err(error) = self.program.start() {
            log::error!(
                "the program cannot be started: {}; the next change tries again",
                error.chain()
            );
        }
    }

    /// Looks how the program stands. Gives the status to end with, once the loop is to end and the program has.
    fn look_after(&mut self) -> Option<ExitCode> {
        match self.program.look() {
            Some(News::Live) => self.went_live(),
            Some(News::Swapped(live)) => {
                log::info!("swapped, pid {live} serves; {}", self.times.swapped());
                self.went_live();
            }
            Some(News::SwapFailed(why)) => self.swap_failed(why),
            Some(News::Ended(ending)) => return self.ended(ending),
            None => {}
        }
        let is_over = self.course == Course::Leaving && self.program.phase() == Phase::Down;
        is_over.then_some(ExitCode::SUCCESS)
    }

    fn ended(&self, ending: Ending) -> Option<ExitCode> {
        match self.course {
            // a predecessor may have reaped it
            Course::Leaving if ending == Ending::Unknown => Some(ExitCode::SUCCESS),
            Course::Leaving => Some(ExitCode::from(ending.code())),
            Course::On => {
                log::error!(
                    "the program {ending}; connections wait, the next change starts it again"
                );
                None
            }
        }
    }

    fn swap_failed(&mut self, title: &str) {
        log::error!(
            "{title}; pid {} serves on",
            self.program.live().unwrap_or_default()
        );
        let text = "The terminal says why.".to_owned();
        self.pages.show_unless_failed(State::Failed {
            title: title.to_owned(),
            text,
        });
    }

    /// The pages look again, and find the newest code.
    fn went_live(&mut self) {
        self.pages.show(State::Fine);
        self.pages.look_again();
    }

    /// What the framework's part of the settings lacks is told here; what the application does not like, by itself.
    fn reload(&mut self, live: u32) {
        match self.program.start.load() {
            Ok(_) => {
                self.pages.show(State::Fine);
                self.times.told();
                self.program.reload(live);
            }
            Err(error) => {
                let text = error.chain();
                log::error!("the settings are refused: {text}; those before are still in force");
                let title = "The settings are refused, those before are still in force".to_owned();
                self.pages.show(State::Failed { title, text });
            }
        }
    }

    /// Tells the program what is wanted of it.
    fn carry_out(&mut self) {
        let Some(live) = self.program.live().filter(|_| self.course == Course::On) else {
            return;
        };
        match std::mem::replace(&mut self.wanted, Wanted::Nothing) {
            Wanted::Nothing => {}
            Wanted::Reload => self.reload(live),
            Wanted::Upgrade => {
                self.pages.forget();
                self.times.told();
                self.program.upgrade(live);
            }
        }
    }
}
