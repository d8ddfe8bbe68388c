//! What `APP dev` runs: it owns the sockets and the terminal, has the program as its child, and brings in each version
//! of it that builds.
//!
//! One loop hears what happened and decides; all that takes time happens beside it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::SignalsInfo;
use signal_hook::low_level::siginfo::{Cause, Origin};

use super::build::{Build, Outcome, Passed, Show};
use super::child::Start;
use super::package::Package;
use super::pages::{Pages, State};
use super::times::Times;
use super::watch::{Change, Watch};
use crate::config::{Loaded, Sources};
use crate::error::{Error, Kind};
use crate::lifecycle::{be_subreaper, pass_on, Family, Newest, PASSED_ON};
use crate::observe;
use crate::socket::Inherited;
use crate::sys::child::Ending;
use crate::sys::spawn::Program;

/// An editor may write a file in several steps, and a checkout writes many: the last one is waited for.
const SETTLED: Duration = Duration::from_millis(30);

/// How often the record of the generations is looked at while it is about to change.
const LOOK: Duration = Duration::from_millis(5);

/// How long a program may take to begin an upgrade that it was told of; it refuses while it does something else.
const ANSWER: Duration = Duration::from_secs(2);

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

/// How the program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It does not run: connections wait in the sockets for the next one that does.
    Down,
    /// It was started, and is not live yet.
    Starting,
    /// It serves.
    Up,
    /// It was told to upgrade, and its successor is on the way.
    Swapping(Swap),
    /// This one has taken over, and its predecessor may still come back.
    Proving(u32),
}

/// An upgrade under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Swap {
    from: u32,
    asked: Instant,
    successor: Successor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Successor {
    Awaited,
    Started,
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
    start: Start,
    /// The program in its newest version that builds.
    executable: PathBuf,
    newest: Newest,
    family: Family,
    phase: Phase,
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
    sources: Sources,
    inherited: Inherited,
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
    be_subreaper().map_err(io("later versions of the program would be nobody's children"))?;
    let (sender, events) = channel();
    hear_signals(sender.clone())?;
    let pages = Pages::open(sender.clone())?;
    let executable = std::env::current_exe().map_err(io("the program's own path is not known"))?;
    let keeper = Keeper {
        package,
        start: Start::new(sources, inherited, program, pages.socket()),
        executable,
        newest: Newest::create().map_err(io("no record of the generations could be made"))?,
        family: Family::default(),
        phase: Phase::Down,
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
    let mut signals = signals
        .map_err(|error| Error::new(Kind::Io, "signal handlers could not be installed").because(error))?;
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
    fn run(mut self, loaded: &Loaded) -> ExitCode {
        self.watch.package(&self.package.root.clone());
        self.watch.settings(&self.start.settings_files(loaded));
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
            if self.phase == Phase::Up {
                self.carry_out();
            }
        }
    }

    /// Waits for the next event, for changes to settle, or for the record of the generations to change.
    fn next_event(&mut self) -> Option<Event> {
        let is_settling = !self.changes.is_empty();
        let patience = match self.phase {
            Phase::Starting | Phase::Swapping(_) | Phase::Proving(_) => Some(LOOK),
            Phase::Down | Phase::Up => is_settling.then_some(SETTLED),
        };
        match patience {
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
            Event::Built(number, outcome) if self.build.as_ref().is_some_and(|it| it.number == number) => {
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

    /// What comes from the terminal has reached the program as well; what a process sent to this one is passed on.
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
            pass_on(origin, &self.newest);
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

    fn act_on_changes(&mut self) {
        let mut changes = std::mem::take(&mut self.changes);
        if changes.remove(&Change::Settings) {
            self.settings_changed();
        }
        if changes.is_empty() {
            return;
        }
        // a build that was for an older state of the files is of no use any more
        self.give_up_build();
        self.building.extend(changes);
        self.pages.building();
        self.begin_build(Show::All);
    }

    fn settings_changed(&mut self) {
        if let Ok(loaded) = self.start.load() {
            self.watch.settings(&self.start.settings_files(&loaded));
        }
        // code that did not start may do so with these
        let is_newest = self.newest.live().is_some_and(|live| runs(live, &self.executable));
        self.want(if is_newest { Wanted::Reload } else { Wanted::Upgrade });
    }

    fn begin_build(&mut self, show: Show) {
        self.builds += 1;
        match Build::start(&self.package, self.builds, show, self.sender.clone()) {
            Ok(build) => self.build = Some(build),
            Err(error) => log::error!("nothing can be built: {}", error.chain()),
        }
    }

    fn give_up_build(&mut self) {
        if let Some(build) = self.build.take() {
            build.abandon();
        }
    }

    fn built(&mut self, outcome: Outcome) {
        let Some(build) = self.build.take() else { return };
        let took = build.began.elapsed();
        let changes = std::mem::take(&mut self.building);
        match outcome {
            Outcome::Passed(passed) => self.passed(passed, &changes),
            Outcome::Failed(text) => {
                let serves = match self.phase {
                    Phase::Down => "nothing serves until it is mended",
                    _ => "the version before serves on",
                };
                log::error!("the build failed after {took:.1?}; {serves}");
                self.pages.show(State::Failed { title: "The build failed".to_owned(), text });
            }
        }
    }

    fn passed(&mut self, passed: Passed, changes: &BTreeSet<Change>) {
        let Passed { executable, packages, inputs } = passed;
        packages.iter().for_each(|package| self.watch.package(package));
        self.watch.inputs(inputs);
        log::debug!("{} directories are watched", self.watch.len());
        self.executable = executable;
        self.times.built();
        match self.newest.live() {
            Some(live) if runs(live, &self.executable) => {
                let is_read_again = |change: &Change| *change != Change::Sources;
                match changes.iter().any(is_read_again) {
                    true => self.want(Wanted::Reload),
                    false => self.pages.show(State::Fine),
                }
                if changes.contains(&Change::Sources) {
                    log::info!("built, and the program is the same as before");
                }
            }
            _ if changes.is_empty() && self.phase != Phase::Down => {
                // the first build, beside a start: whatever runs was built a moment ago
                self.want(Wanted::Nothing);
            }
            _ => self.want(Wanted::Upgrade),
        }
    }

    /// Has it done as soon as the program is ready for it. One that does not run is started.
    fn want(&mut self, wanted: Wanted) {
        if self.phase == Phase::Down && wanted != Wanted::Nothing {
            return self.start();
        }
        self.wanted = self.wanted.max(wanted);
    }

    fn start(&mut self) {
        self.wanted = Wanted::Nothing;
        let started = Newest::create()
            .map_err(|error| Error::new(Kind::Io, "no record of the generations").because(error))
            .and_then(|newest| self.start.start(&self.executable, &newest).map(|()| newest));
        match started {
            Ok(newest) => {
                (self.newest, self.family) = (newest, Family::default());
                self.phase = Phase::Starting;
            }
            Err(error) => {
                log::error!("the program cannot be started: {}; the next change tries again", error.chain());
            }
        }
    }

    /// Looks how the program stands. Gives the status to end with, once the loop is to end and the program has.
    fn look_after(&mut self) -> Option<ExitCode> {
        if self.phase != Phase::Down {
            if let Some(ending) = self.family.reap(&self.newest) {
                self.phase = Phase::Down;
                if self.course == Course::Leaving {
                    // a predecessor may have reaped it
                    let told = ending != Ending::Unknown;
                    return Some(if told { ExitCode::from(ending.code()) } else { ExitCode::SUCCESS });
                }
                log::error!("the program {ending}; connections wait, the next change starts it again");
                return None;
            }
        }
        match self.phase {
            Phase::Down if self.course == Course::Leaving => return Some(ExitCode::SUCCESS),
            Phase::Starting if self.newest.live().is_some() => {
                self.phase = Phase::Up;
                self.went_live();
            }
            Phase::Swapping(swap) => self.look_at_swap(swap),
            Phase::Proving(new) => self.look_at_proof(new),
            Phase::Down | Phase::Starting | Phase::Up => {}
        }
        None
    }

    fn look_at_swap(&mut self, swap: Swap) {
        let named = self.newest.read();
        match swap.successor {
            _ if named.live != swap.from => {
                self.phase = Phase::Proving(named.live);
                log::info!("swapped, pid {} serves; {}", named.live, self.times.swapped());
                self.went_live();
            }
            Successor::Awaited if named.next != 0 => {
                self.phase = Phase::Swapping(Swap { successor: Successor::Started, ..swap });
            }
            Successor::Awaited if swap.asked.elapsed() > ANSWER => {
                self.swap_failed("The program could not start its successor");
            }
            Successor::Started if named.next == 0 => self.swap_failed("The new code does not start"),
            Successor::Awaited | Successor::Started => {}
        }
    }

    fn look_at_proof(&mut self, new: u32) {
        let named = self.newest.read();
        if named.live != new {
            self.swap_failed("The new code ended at once, and the code before serves again");
        } else if named.previous == 0 {
            self.phase = Phase::Up;
        }
    }

    fn swap_failed(&mut self, title: &str) {
        self.phase = Phase::Up;
        log::error!("{title}; pid {} serves on", self.newest.live().unwrap_or_default());
        let text = "The terminal says why.".to_owned();
        self.pages.show_unless_failed(State::Failed { title: title.to_owned(), text });
    }

    /// The pages look again, and find the newest code.
    fn went_live(&mut self) {
        self.pages.show(State::Fine);
        self.pages.look_again();
    }

    /// What the framework's part of the settings lacks is told here; what the application does not like, by itself.
    fn reload(&mut self, live: u32) {
        match self.start.load() {
            Ok(_) => {
                self.pages.show(State::Fine);
                self.times.told();
                send(live, Signal::HUP);
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
        let Some(live) = self.newest.live().filter(|_| self.course == Course::On) else { return };
        match std::mem::replace(&mut self.wanted, Wanted::Nothing) {
            Wanted::Nothing => {}
            Wanted::Reload => self.reload(live),
            Wanted::Upgrade => {
                self.pages.forget();
                self.times.told();
                send(live, Signal::USR2);
                let asked = Instant::now();
                self.phase = Phase::Swapping(Swap { from: live, asked, successor: Successor::Awaited });
            }
        }
    }
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process runs this very file, and not one that had its name before.
fn runs(pid: u32, executable: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
    let running = identity(Path::new(&format!("/proc/{pid}/exe")));
    running.is_some() && running == identity(executable)
}
