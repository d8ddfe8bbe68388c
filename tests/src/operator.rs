//! Runs an application's own commands (`status`, `reload`, `upgrade` …), as an operator at a terminal does.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::launch::Launch;
use crate::process::ProgramOutput;

/// The longest time a command takes on a busy machine, upgrades and drains included.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Runs commands in the directory and environment of an application.
#[derive(Clone, Debug)]
pub struct Operator {
    launch: Launch,
}

impl Operator {
    /// Creates an operator of the application that `launch` starts, with the same directory and environment.
    #[must_use]
    pub fn of(launch: &Launch) -> Self {
        // the settings file exists already, and a test may have changed it
        Operator {
            launch: launch.clone().no_settings(),
        }
    }

    /// Runs a command until it exits.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> ProgramOutput {
        self.launch.clone().args(args).run(COMMAND_LIMIT)
    }

    /// Runs a command that has to succeed; returns its standard output.
    ///
    /// # Panics
    ///
    /// Panics unless it exits with 0.
    pub fn ok(&self, args: &[&str]) -> String {
        let result = self.run(args);
        assert_eq!(result.code(), Some(0), "{args:?}: {result:?}");
        result.stdout
    }

    /// Runs a command that has to exit with 1; returns its standard error.
    ///
    /// # Panics
    ///
    /// Panics if it exits with another code or prints to standard output.
    pub fn fails(&self, args: &[&str]) -> String {
        let result = self.run(args);
        assert_eq!(
            (result.code(), result.stdout.as_str()),
            (Some(1), ""),
            "{args:?}: {result:?}"
        );
        result.stderr
    }

    /// Runs `status --json` and parses its output.
    ///
    /// # Panics
    ///
    /// Panics if it fails or does not print JSON.
    #[must_use]
    pub fn status(&self) -> Value {
        let text = self.ok(&["status", "--json"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Returns the first process of `status --json`: the process that receives the commands.
    #[must_use]
    pub fn first(&self) -> Value {
        self.status()["processes"][0].clone()
    }

    /// Starts a command without waiting for it. Both of its outputs go to a file named `output`.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be started.
    #[must_use]
    pub fn begin(&self, args: &[&str], output: &str) -> RunningCommand {
        let path = self.launch.dir().path().join(output);
        let file = std::fs::File::create(&path).expect("a file for its output");
        let mut command: Command = self.launch.clone().args(args).command();
        command
            .stdin(Stdio::null())
            .stderr(file.try_clone().expect("a descriptor"))
            .stdout(file);
        RunningCommand {
            child: command.spawn().expect("the command starts"),
            output: path,
        }
    }
}

/// A running command. `Drop` kills it.
#[derive(Debug)]
pub struct RunningCommand {
    child: Child,
    output: PathBuf,
}

impl RunningCommand {
    /// Returns its output so far, standard output and error together.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Waits until it exits; returns its exit code and its output.
    ///
    /// # Panics
    ///
    /// Panics if it does not exit in time.
    #[must_use]
    pub fn end(mut self) -> (Option<i32>, String) {
        let ended = || self.child.try_wait().expect("it can be waited for");
        let status = crate::wait::maybe(COMMAND_LIMIT, ended)
            .unwrap_or_else(|| panic!("the command does not exit; its output:\n{}", self.output()));
        (status.code(), self.output())
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
