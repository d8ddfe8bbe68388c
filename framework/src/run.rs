//! What `main` calls: an application with all that belongs to its process, and its command line.

mod commands;
mod serve;

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use figment::Figment;
use serde::de::DeserializeOwned;

use self::commands::print;
use crate::app::{Application, IntoApplication};
use crate::cli::Command;
#[cfg(feature = "cli")]
use crate::cli::{self, Invocation};
use crate::config::{Loaded, Sources};
#[cfg(feature = "control")]
use crate::control::{self, protocol::ControlCommand};
#[cfg(feature = "dev")]
use crate::dev;
use crate::error::{Error, Result};
use crate::lifecycle;
use crate::socket::InheritedSockets;
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
    #[cfg_attr(
        not(feature = "cli"),
        expect(dead_code, reason = "said by --help alone")
    )]
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
    pub fn logger(
        mut self,
        install: impl FnOnce(log::LevelFilter) -> Result<()> + 'static,
    ) -> Self {
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
    pub fn command<T, F, Fut>(
        mut self,
        name: impl Into<String>,
        about: impl Into<String>,
        run: F,
    ) -> Self
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
        self.commands.push(Custom {
            name: name.into(),
            about: about.into(),
            run: Box::new(run),
        });
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
            custom: self
                .commands
                .iter()
                .map(|c| (c.name.clone(), c.about.clone()))
                .collect(),
        };
        match cli::parse(&meta, std::env::args_os()) {
            Ok(Invocation {
                command,
                config_file,
                profile,
                sets,
            }) => {
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
        let inherited = InheritedSockets::take();
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
            Command::Status { json, watch } => self
                .client(&program)
                .and_then(|client| control::status(&client, json, watch))
                .and_then(print),
            #[cfg(feature = "control")]
            Command::Reload => self.ask(&program, ControlCommand::Reload),
            #[cfg(feature = "control")]
            Command::Upgrade => self.ask(&program, ControlCommand::Upgrade),
            #[cfg(feature = "control")]
            Command::Rollback => self.ask(&program, ControlCommand::Rollback),
            #[cfg(feature = "control")]
            Command::Pause => self.ask(&program, ControlCommand::Pause),
            #[cfg(feature = "control")]
            Command::Resume => self.ask(&program, ControlCommand::Resume),
            #[cfg(feature = "control")]
            Command::Drain => self.ask(&program, ControlCommand::Drain),
            #[cfg(feature = "control")]
            Command::Stop => self.ask(&program, ControlCommand::Stop),
            #[cfg(feature = "control")]
            Command::Reopen => self.ask(&program, ControlCommand::Reopen),
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

    fn shown_version(&self) -> &str {
        if self.version.is_empty() {
            "(no version)"
        } else {
            &self.version
        }
    }
}

/// Says what went wrong, the program's name before each line. A closed standard error is no reason to panic.
fn complain(name: &str, error: &Error) {
    let lines: String = error
        .chain()
        .lines()
        .map(|line| format!("{name}: {line}\n"))
        .collect();
    let _ = std::io::stderr().write_all(lines.as_bytes());
}
