//! A process from start to exit: what `main` calls.

use std::ffi::OsString;
use std::future::Future;
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use async_global_executor::GlobalExecutorConfig;
use async_std::task::block_on;
use figment::Figment;
use serde::de::DeserializeOwned;

use crate::app::{Application, IntoApplication};
use crate::cli::Command;
#[cfg(feature = "cli")]
use crate::cli::{self, Invocation};
use crate::config::{self, Loaded, Sources};
use crate::control;
#[cfg(feature = "control")]
use crate::control::protocol::Ask;
#[cfg(feature = "dev")]
use crate::dev;
use crate::error::{Error, Kind, Result};
use crate::lifecycle::{self, Build, Driver, Handle, Lineage, Ownership, Plan, Predecessor, Signals};
use crate::observe;
use crate::observe::metrics::Metrics;
use crate::setup::Reason;
use crate::socket::{Inherited, Sockets, HANDOVER};
use crate::sys::limits::OpenFiles;
use crate::sys::spawn::Program;

/// Runs an application as a process: its command line, its settings, its signals, its end.
///
/// `#[slackwater::main]` makes one with the package's name; use it yourself for a `main` of your own.
///
/// ```no_run
/// use slackwater::{prelude::*, Runner};
///
/// async fn app() -> slackwater::Result<App> {
///     let mut app = App::new();
///     app.at("/").get(|_| async { Ok("Hello, world!") });
///     Ok(app)
/// }
///
/// fn main() -> std::process::ExitCode {
///     Runner::new(app).name("shop").config_file("shop.toml").env_prefix("SHOP_").run()
/// }
/// ```
pub struct Runner {
    application: Arc<dyn Application>,
    sources: Sources,
    version: String,
    logger: Option<Logger>,
    commands: Vec<Custom>,
}

type Logger = Box<dyn FnOnce(log::LevelFilter) -> Result<()>>;

/// A command of the application's own.
struct Custom {
    name: String,
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "said by --help alone"))]
    about: String,
    run: Box<dyn FnOnce(Loaded, Vec<OsString>) -> Work>,
}

type Work = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

impl Runner {
    /// A runner for `app`, which takes nothing, the settings in `[app]`, or those and the [`Setup`](crate::Setup).
    ///
    /// ```no_run
    /// # use slackwater::prelude::*;
    /// slackwater::Runner::new(|| async { Ok(App::new()) }).run();
    /// ```
    pub fn new<Args>(app: impl IntoApplication<Args>) -> Self {
        Runner {
            application: app.into_application().0,
            sources: Sources::new("slackwater"),
            version: String::new(),
            logger: None,
            commands: vec![],
        }
    }

    /// The application's name, for messages and `--version`; `slackwater` by default.
    ///
    /// ```no_run
    /// # fn doc(runner: slackwater::Runner) -> slackwater::Runner {
    /// runner.name("shop")
    /// # }
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.sources.name = name.into();
        self
    }

    /// The application's version, for `--version` and the first line of the log.
    ///
    /// ```no_run
    /// # fn doc(runner: slackwater::Runner) -> slackwater::Runner {
    /// runner.version(env!("CARGO_PKG_VERSION"))
    /// # }
    /// ```
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// The configuration file that is read if it is there and no other is named; `slackwater.toml` by default.
    ///
    /// ```no_run
    /// # fn doc(runner: slackwater::Runner) -> slackwater::Runner {
    /// runner.config_file("shop.toml")
    /// # }
    /// ```
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.default_file = path.into();
        self
    }

    /// What the names of environment variables begin with; `SLACKWATER_` by default.
    ///
    /// ```no_run
    /// # fn doc(runner: slackwater::Runner) -> slackwater::Runner {
    /// runner.env_prefix("SHOP_")
    /// # }
    /// ```
    #[must_use]
    pub fn env_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.sources.env_prefix = prefix.into();
        self
    }

    /// A layer of settings of the application's own: above the defaults, below the file.
    ///
    /// ```no_run
    /// # fn doc(runner: slackwater::Runner, layer: figment::Figment) -> slackwater::Runner {
    /// runner.figment(layer)
    /// # }
    /// ```
    #[must_use]
    pub fn figment(mut self, figment: Figment) -> Self {
        self.sources.figment = Some(figment);
        self
    }

    /// A logger of the application's own: `install` is called once, with `log.level`, instead of installing ours.
    ///
    /// ```no_run
    /// # fn doc(runner: slackwater::Runner) -> slackwater::Runner {
    /// runner.logger(|level| {
    ///     log::set_max_level(level); // and log::set_boxed_logger(…)
    ///     Ok(())
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn logger(mut self, install: impl FnOnce(log::LevelFilter) -> Result<()> + 'static) -> Self {
        self.logger = Some(Box::new(install));
        self
    }

    /// A command beside the built-in ones. It is given the settings in `[app]` and the arguments after its name.
    ///
    /// ```no_run
    /// # fn doc(runner: slackwater::Runner) -> slackwater::Runner {
    /// #[derive(serde::Deserialize)]
    /// struct Settings { database: String }
    ///
    /// runner.command("migrate", "apply migrations", |settings: Settings, _args| async move {
    ///     println!("migrating {}", settings.database);
    ///     Ok(())
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn command<T, F, Fut>(mut self, name: impl Into<String>, about: impl Into<String>, run: F) -> Self
    where
        T: DeserializeOwned,
        F: FnOnce(T, Vec<OsString>) -> Fut + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let run = move |mut loaded: Loaded, args| -> Work {
            match loaded.app::<T>() {
                Ok(settings) => Box::pin(run(settings, args)),
                Err(error) => Box::pin(async { Err(error.into()) }),
            }
        };
        self.commands.push(Custom { name: name.into(), about: about.into(), run: Box::new(run) });
        self
    }

    /// Does what the command line says; blocks until that is done. Call it first thing in `main`, before any thread
    /// is started. The exit status is 0 done, 1 failed, 2 usage, 3 nothing is running, 78 configuration refused.
    ///
    /// ```no_run
    /// # use slackwater::prelude::*;
    /// fn main() -> std::process::ExitCode {
    ///     slackwater::Runner::new(|| async { Ok(App::new()) }).run()
    /// }
    /// ```
    #[cfg(feature = "cli")]
    pub fn run(mut self) -> ExitCode {
        if let Some(status) = lifecycle::run_if_asked() {
            return status;
        }
        let meta = cli::Meta {
            name: self.sources.name.clone(),
            version: self.shown_version().to_owned(),
            custom: self.commands.iter().map(|c| (c.name.clone(), c.about.clone())).collect(),
        };
        match cli::parse(&meta, std::env::args_os()) {
            Ok(Invocation { command, config_file, profile, sets }) => {
                self.sources.file = config_file;
                self.sources.profile = profile;
                self.sources.sets = sets;
                self.run_command(command)
            }
            Err(exit) => exit.print(),
        }
    }

    /// Serves; without the feature `cli` the command line is not looked at.
    ///
    /// ```no_run
    /// # use slackwater::prelude::*;
    /// fn main() -> std::process::ExitCode {
    ///     slackwater::Runner::new(|| async { Ok(App::new()) }).run()
    /// }
    /// ```
    #[cfg(not(feature = "cli"))]
    pub fn run(self) -> ExitCode {
        self.run_command(Command::Serve)
    }

    /// Does what `command` says, without looking at the command line.
    ///
    /// ```no_run
    /// # use slackwater::prelude::*;
    /// fn main() -> std::process::ExitCode {
    ///     slackwater::Runner::new(|| async { Ok(App::new()) }).run_command(slackwater::Command::Serve)
    /// }
    /// ```
    pub fn run_command(mut self, command: Command) -> ExitCode {
        if let Some(status) = lifecycle::run_if_asked() {
            return status;
        }
        let name = self.sources.name.clone();
        // before the first thread: what was inherited is taken out of the environment
        let inherited = Inherited::take();
        let program = Program::record();
        #[cfg(feature = "dev")]
        self.follow_the_keeper();
        self.sources.env = std::env::vars_os().collect();
        let done = match command {
            Command::Serve => inherited.and_then(|inherited| self.serve(inherited, program)),
            Command::Check => self.check().and_then(print),
            Command::Config { key } => self.config(key.as_deref()).and_then(print),
            Command::Routes => self.routes().and_then(print),
            #[cfg(feature = "openapi")]
            Command::OpenApi => self.openapi().and_then(print),
            #[cfg(feature = "control")]
            Command::Status { json, watch } => {
                self.client(&program).and_then(|client| control::status(&client, json, watch)).and_then(print)
            }
            #[cfg(feature = "control")]
            Command::Reload => self.ask(&program, Ask::Reload),
            #[cfg(feature = "control")]
            Command::Upgrade => self.ask(&program, Ask::Upgrade),
            #[cfg(feature = "control")]
            Command::Rollback => self.ask(&program, Ask::Rollback),
            #[cfg(feature = "control")]
            Command::Pause => self.ask(&program, Ask::Pause),
            #[cfg(feature = "control")]
            Command::Resume => self.ask(&program, Ask::Resume),
            #[cfg(feature = "control")]
            Command::Drain => self.ask(&program, Ask::Drain),
            #[cfg(feature = "control")]
            Command::Stop => self.ask(&program, Ask::Stop),
            #[cfg(feature = "control")]
            Command::Reopen => self.ask(&program, Ask::Reopen),
            #[cfg(feature = "dev")]
            Command::Dev { flags } => {
                inherited.and_then(|inherited| dev::keep(self.sources, inherited, &program, flags))
            }
            Command::Custom { name, args } => self.custom(&name, args),
        };
        match done {
            Ok(status) => status,
            Err(error) => {
                complain(&name, &error);
                ExitCode::from(error.exit_code())
            }
        }
    }

    /// Where `dev` has started this process: its pages follow the code, and it goes when `dev` does.
    #[cfg(feature = "dev")]
    fn follow_the_keeper(&mut self) {
        if let Some(link) = dev::Link::take() {
            link.end_with_the_keeper();
            self.sources.figment = Some(link.settings(self.sources.figment.take()));
            self.application = Arc::new(dev::Overlaid::new(self.application.clone(), link));
        }
    }

    fn serve(self, mut inherited: Inherited, program: Program) -> Result<ExitCode, Error> {
        let handover = inherited.take_parcel(HANDOVER);
        let Ready { plan, loaded, signals, lineage } = match self.get_ready(inherited, program.clone()) {
            Ok(ready) => ready,
            Err(error) => {
                // whoever upgrades to this process says so to whoever asked for it
                if let Some(channel) = handover {
                    block_on(Predecessor::refuse(channel, error.chain()));
                }
                return Err(error);
            }
        };
        block_on(live(plan, loaded, signals, handover))?;
        Ok(lineage.stay(&program).unwrap_or(ExitCode::SUCCESS))
    }

    /// All that comes before the application is called.
    fn get_ready(mut self, mut inherited: Inherited, program: Program) -> Result<Ready, Error> {
        let mut signals = Signals::install()?;
        let loaded = self.sources.load()?;
        self.install_logger(&loaded)?;
        let open_files = OpenFiles::raise().born_with(program.born_open_files());
        start_threads(loaded.config.threads);
        let lineage = Lineage::of(&program, &mut inherited, loaded.config.first_process)?;
        signals.route(lineage.clone());
        log::info!("{} {} starts, pid {}", self.sources.name, self.shown_version(), std::process::id());
        let plan = Plan {
            build: Build::of_this_process(self.shown_version()),
            metrics: Metrics::new(self.shown_version()),
            control: self.control_socket(&loaded, &program),
            sources: self.sources,
            application: self.application,
            sockets: Sockets::new(inherited),
            ownership: Ownership::Process,
            open_files,
            program: Some((program, lineage.clone())),
        };
        Ok(Ready { plan, loaded, signals, lineage })
    }

    /// A process without a control socket still serves.
    fn control_socket(&self, loaded: &Loaded, program: &Program) -> Option<Arc<control::Socket>> {
        if !cfg!(feature = "control") {
            return None;
        }
        match control::Socket::open(&self.places(loaded, program)) {
            Ok(socket) => Some(Arc::new(socket)),
            Err(error) => {
                log::warn!("{}; serving without it", error.chain());
                None
            }
        }
    }

    fn places(&self, loaded: &Loaded, program: &Program) -> control::Places {
        control::Places::of(
            loaded,
            control::Around {
                name: &self.sources.name,
                default_file: &self.sources.default_file,
                directory: program.directory(),
                runtime: program.variable("XDG_RUNTIME_DIR"),
            },
        )
    }

    #[cfg(feature = "control")]
    fn client(&self, program: &Program) -> Result<control::Client, Error> {
        let loaded = self.sources.load_despite_faults()?;
        Ok(control::Client::new(self.places(&loaded, program)))
    }

    #[cfg(feature = "control")]
    fn ask(&self, program: &Program, ask: Ask) -> Result<ExitCode, Error> {
        print(control::command(&self.client(program)?, ask)?)
    }

    fn shown_version(&self) -> &str {
        if self.version.is_empty() {
            "(no version)"
        } else {
            &self.version
        }
    }

    fn install_logger(&mut self, loaded: &Loaded) -> Result<(), Error> {
        let log = &loaded.config.log;
        match self.logger.take() {
            None => observe::log::init(log),
            Some(install) => install(log.level)
                .map_err(|error| Error::new(Kind::App, "the logger could not be installed").because(error)),
        }
    }

    fn check(self) -> Result<String, Error> {
        let mut loaded = self.sources.load()?;
        block_on(lifecycle::build(&*self.application, &mut loaded, None, Reason::Check))?;
        Ok(config::check_text(&self.sources.name, &loaded))
    }

    fn config(self, key: Option<&str>) -> Result<String, Error> {
        let mut loaded = self.sources.load()?;
        // what is secret by its type is only known once it was read as that
        self.application.read(&mut loaded)?;
        config::config_text(&loaded, key)
    }

    fn routes(self) -> Result<String, Error> {
        let mut loaded = self.sources.load()?;
        let prepared = block_on(lifecycle::build(&*self.application, &mut loaded, None, Reason::Check))?;
        Ok(prepared.routes())
    }

    #[cfg(feature = "openapi")]
    fn openapi(self) -> Result<String, Error> {
        let head = || crate::openapi::OpenApi::new(&self.sources.name, self.shown_version());
        let mut loaded = self.sources.load()?;
        let prepared = block_on(lifecycle::build(&*self.application, &mut loaded, None, Reason::Check))?;
        Ok(prepared.openapi(head) + "\n")
    }

    fn custom(mut self, name: &str, args: Vec<OsString>) -> Result<ExitCode, Error> {
        let loaded = self.sources.load()?;
        self.install_logger(&loaded)?;
        let Some(at) = self.commands.iter().position(|command| command.name == name) else {
            return Err(Error::new(Kind::Usage, format!("there is no command {name:?}")));
        };
        let work = (self.commands.swap_remove(at).run)(loaded, args);
        block_on(work).map_err(|error| Error::new(Kind::App, format!("{name} failed")).because(error))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a process needs to go on from here.
struct Ready {
    plan: Plan,
    loaded: Loaded,
    signals: Signals,
    lineage: Lineage,
}

/// From the first generation to the last connection.
async fn live(
    plan: Plan,
    first: Loaded,
    mut signals: Signals,
    handover: Option<OwnedFd>,
) -> Result<(), Error> {
    let control = plan.control.clone();
    let (driver, handle) = Driver::new(plan, first, handover)?;
    let commands = control.and_then(|socket| listen_for_commands(socket, handle.clone()));
    let signalled = async_std::task::spawn(async move {
        while let Some(event) = signals.next().await {
            handle.signal(event).await;
        }
    });
    // nobody waits for the start
    let (starts, _) = async_channel::bounded(1);
    let outcome = driver.run(starts).await;
    signalled.cancel().await;
    if let Some(commands) = commands {
        commands.close().await;
    }
    observe::log::flush();
    outcome.map(drop)
}

fn listen_for_commands(socket: Arc<control::Socket>, handle: Handle) -> Option<control::Server> {
    let started = control::Server::start(socket, Arc::new(move |ask| handle.ask(ask)));
    started.map_err(|error| log::warn!("the control socket cannot be watched: {error}")).ok()
}

/// One executor thread per core, or as many as `threads` says. It must come before the executor's first use.
fn start_threads(threads: usize) {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    let config = GlobalExecutorConfig::default().with_min_threads(threads).with_max_threads(threads);
    async_global_executor::init_with_config(config.with_thread_name_fn(|| "slackwater".to_owned()));
}

/// Says what went wrong, the program's name before each line. A closed standard error is no reason to panic.
fn complain(name: &str, error: &Error) {
    let lines: String = error.chain().lines().map(|line| format!("{name}: {line}\n")).collect();
    let _ = std::io::stderr().write_all(lines.as_bytes());
}

/// # Errors
/// Standard output takes no more: the disk is full.
fn print(text: String) -> Result<ExitCode, Error> {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // whoever closed it does not want to read the rest
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Io, "cannot write to standard output").because(error))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
