//! The commands that do not serve: they print settings or routes, or control a running process.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use async_std::task::block_on;

use super::Runner;
use crate::config::{self, LoadedConfig};
use crate::control;
#[cfg(feature = "control")]
use crate::control::protocol::ControlCommand;
use crate::error::{Error, Kind};
use crate::lifecycle;
use crate::serve::PreparedGeneration;
use crate::setup::Reason;
use crate::sys::spawn::Program;

impl Runner {
    pub(super) fn check(self) -> Result<String, Error> {
        let (loaded, _) = self.build()?;
        Ok(config::check_text(&self.sources.name, &loaded))
    }

    pub(super) fn config(self, key: Option<&str>) -> Result<String, Error> {
        let mut loaded = self.sources.load()?;
        // Reading the application's settings records the keys of type `Secret`, which are hidden below.
        self.application.read(&mut loaded)?;
        config::config_text(&loaded, key)
    }

    pub(super) fn routes(self) -> Result<String, Error> {
        Ok(self.build()?.1.routes())
    }

    #[cfg(feature = "openapi")]
    pub(super) fn openapi(self) -> Result<String, Error> {
        let head = || crate::openapi::OpenApi::new(&self.sources.name, self.shown_version());
        Ok(self.build()?.1.openapi(head) + "\n")
    }

    /// Builds the application from the settings, without serving.
    fn build(&self) -> Result<(LoadedConfig, PreparedGeneration), Error> {
        let mut loaded = self.sources.load()?;
        let prepared = block_on(lifecycle::build(
            &*self.application,
            &mut loaded,
            None,
            Reason::Check,
        ))?;
        Ok((loaded, prepared))
    }

    pub(super) fn custom(mut self, name: &str, args: Vec<OsString>) -> Result<ExitCode, Error> {
        let loaded = self.sources.load()?;
        self.install_logger(&loaded)?;
        let Some(index) = self
            .commands
            .iter()
            .position(|command| command.name == name)
        else {
            return Err(Error::new(
                Kind::Usage,
                format!("the command {name:?} does not exist"),
            ));
        };
        let future = (self.commands.swap_remove(index).run)(loaded, args);
        block_on(future).map_err(|error| {
            Error::new(Kind::App, format!("the command {name} failed")).because(error)
        })?;
        Ok(ExitCode::SUCCESS)
    }

    #[cfg(feature = "control")]
    pub(super) fn client(&self, program: &Program) -> Result<control::Client, Error> {
        let loaded = self.sources.load_despite_errors()?;
        Ok(control::Client::new(self.places(&loaded, program)))
    }

    #[cfg(feature = "control")]
    pub(super) fn send_command(
        &self,
        program: &Program,
        ask: ControlCommand,
    ) -> Result<ExitCode, Error> {
        print(control::command(&self.client(program)?, ask)?)
    }

    pub(super) fn places(&self, loaded: &LoadedConfig, program: &Program) -> control::SocketPaths {
        control::SocketPaths::from_config(
            loaded,
            control::PathContext {
                name: &self.sources.name,
                default_file: &self.sources.default_file,
                directory: program.directory(),
                runtime: program.variable("XDG_RUNTIME_DIR"),
            },
        )
    }
}

/// Prints a text to standard output.
///
/// # Errors
/// [`Kind::Io`] if writing fails, for example because the disk is full. A closed pipe is not an error.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it ends a chain of `and_then` that produces a String"
)]
pub(super) fn print(text: String) -> Result<ExitCode, Error> {
    let mut stdout = std::io::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Io, "cannot write to standard output").because(error))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
