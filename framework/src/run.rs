//! The entry point that `main` calls: runs an application as a process.

mod commands;
mod serve;

use std::ffi::OsString;
use std::fmt;
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
use crate::config::{ConfigSources, LoadedConfig};
#[cfg(feature = "control")]
use crate::control::{self, protocol::ControlCommand};
#[cfg(feature = "dev")]
use crate::dev;
use crate::error::{Error, Result};
use crate::lifecycle;
use crate::socket::InheritedSockets;
use crate::sys::spawn::Program;

/// Runs an application as a process: parses the command line, reads the settings, handles signals and stops gracefully.
///
/// `#[slackwater::main]` creates a runner with the name and version of the package. Use `Runner` in a hand-written `main`.
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
    sources: ConfigSources,
    version: String,
    logger: Option<Logger>,
    commands: Vec<CustomCommand>,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("name", &self.sources.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

type Logger = Box<dyn FnOnce(log::LevelFilter) -> Result<()>>;

/// A command that the application has added.
struct CustomCommand {
    name: String,
    #[cfg_attr(
        not(feature = "cli"),
        expect(dead_code, reason = "only --help prints it")
    )]
    about: String,
    run: Box<dyn FnOnce(LoadedConfig, Vec<OsString>) -> CommandFuture>,
}

type CommandFuture = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

impl Runner {
    /// Creates a runner for `app`, an async function with no argument, with the settings in `[app]`, or with the settings
    /// and the [`Setup`](crate::Setup).
    pub fn new<Args>(app: impl IntoApplication<Args>) -> Self {
        Runner {
            application: app.into_application().0,
            sources: ConfigSources::new("slackwater"),
            version: String::new(),
            logger: None,
            commands: vec![],
        }
    }

    /// Sets the application's name for messages and `--version`; `slackwater` by default.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.sources.name = name.into();
        self
    }

    /// Sets the application's version for `--version` and the first line of the log.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Sets the configuration file that is read if it exists and the operator gives no other; `slackwater.toml` by
    /// default.
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.default_file = path.into();
        self
    }

    /// Sets the prefix of environment variables; `SLACKWATER_` by default.
    #[must_use]
    pub fn env_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.sources.env_prefix = prefix.into();
        self
    }

    /// Adds a layer of settings that overrides the defaults and is overridden by the file.
    #[must_use]
    pub fn figment(mut self, figment: Figment) -> Self {
        self.sources.figment = Some(figment);
        self
    }

    /// Replaces the framework's logger: `install` is called once, with the level in `log.level`.
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

    /// Adds a command. `run` receives the settings in `[app]` and the arguments after the command's name.
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
        let run = move |mut loaded: LoadedConfig, args| -> CommandFuture {
            match loaded.app::<T>() {
                Ok(settings) => Box::pin(run(settings, args)),
                Err(error) => Box::pin(async { Err(error.into()) }),
            }
        };
        self.commands.push(CustomCommand {
            name: name.into(),
            about: about.into(),
            run: Box::new(run),
        });
        self
    }

    /// Runs the command on the command line and blocks until it is done. Call this first in `main`, before any thread is
    /// started.
    ///
    /// The exit code is 0 for success, 1 for a failure, 2 for wrong usage, 3 if no process is running and 78 for an invalid
    /// configuration.
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

    /// Runs [`Command::Serve`]; without the feature `cli` the command line is ignored.
    #[cfg(not(feature = "cli"))]
    pub fn run(self) -> ExitCode {
        self.run_command(Command::Serve)
    }

    /// Runs `command` and ignores the command line. Returns the exit code; see [`Runner::run`].
    pub fn run_command(mut self, command: Command) -> ExitCode {
        if let Some(status) = lifecycle::run_if_asked() {
            return status;
        }
        let name = self.sources.name.clone();
        // This removes variables such as LISTEN_FDS from the environment, which is safe only before the first thread.
        let inherited = InheritedSockets::take();
        let program = Program::record();
        #[cfg(feature = "dev")]
        self.attach_to_dev();
        self.sources.env = std::env::vars_os().collect();
        let result = match command {
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
            Command::Reload => self.send_command(&program, ControlCommand::Reload),
            #[cfg(feature = "control")]
            Command::Upgrade => self.send_command(&program, ControlCommand::Upgrade),
            #[cfg(feature = "control")]
            Command::Rollback => self.send_command(&program, ControlCommand::Rollback),
            #[cfg(feature = "control")]
            Command::Pause => self.send_command(&program, ControlCommand::Pause),
            #[cfg(feature = "control")]
            Command::Resume => self.send_command(&program, ControlCommand::Resume),
            #[cfg(feature = "control")]
            Command::Drain => self.send_command(&program, ControlCommand::Drain),
            #[cfg(feature = "control")]
            Command::Stop => self.send_command(&program, ControlCommand::Stop),
            #[cfg(feature = "control")]
            Command::Reopen => self.send_command(&program, ControlCommand::Reopen),
            #[cfg(feature = "dev")]
            Command::Dev { flags } => {
                inherited.and_then(|inherited| dev::run(self.sources, inherited, &program, flags))
            }
            Command::Custom { name, args } => self.custom(&name, args),
        };
        match result {
            Ok(status) => status,
            Err(error) => {
                print_error(&name, &error);
                ExitCode::from(error.exit_code())
            }
        }
    }

    /// Connects a process that `APP dev` has started to it: pages reload when the code changes, and the process exits when
    /// `APP dev` exits.
    #[cfg(feature = "dev")]
    fn attach_to_dev(&mut self) {
        if let Some(client) = dev::DevClient::from_environment() {
            client.exit_with_dev();
            self.sources.figment = Some(client.settings(self.sources.figment.take()));
            self.application = Arc::new(dev::OverlayApplication::new(
                self.application.clone(),
                client,
            ));
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

/// Prints an error to standard error, with the program's name before each line. Ignores a closed standard error.
fn print_error(name: &str, error: &Error) {
    let lines: String = error
        .chain()
        .lines()
        .map(|line| format!("{name}: {line}\n"))
        .collect();
    let _ = std::io::stderr().write_all(lines.as_bytes());
}
