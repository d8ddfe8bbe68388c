//! Somebody at a terminal: runs the commands of an application beside it, and reads what they print.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::launch::Launch;
use crate::process::Finished;

/// How long a command may take on a busy machine, upgrades and drains included.
const PATIENT: Duration = Duration::from_secs(60);

/// Runs commands as the application's operator.
#[derive(Clone, Debug)]
pub struct Operator {
    launch: Launch,
}

impl Operator {
    /// For whatever `launch` starts, in the same directory and with the same environment.
    #[must_use]
    pub fn of(launch: &Launch) -> Self {
        // the settings lie there already, perhaps changed
        Operator {
            launch: launch.clone().no_settings(),
        }
    }

    /// Runs a command to its end.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Finished {
        self.launch.clone().args(args).run(PATIENT)
    }

    /// Runs a command that has to succeed; gives what it prints.
    ///
    /// # Panics
    ///
    /// When it does not end with 0.
    pub fn ok(&self, args: &[&str]) -> String {
        let finished = self.run(args);
        assert_eq!(finished.code(), Some(0), "{args:?}: {finished:?}");
        finished.stdout
    }

    /// Runs a command that has to fail with 1; gives what it says on standard error.
    ///
    /// # Panics
    ///
    /// When it ends otherwise.
    pub fn fails(&self, args: &[&str]) -> String {
        let finished = self.run(args);
        assert_eq!(
            (finished.code(), finished.stdout.as_str()),
            (Some(1), ""),
            "{args:?}: {finished:?}"
        );
        finished.stderr
    }

    /// `status --json`, once.
    ///
    /// # Panics
    ///
    /// When it fails, or prints no JSON.
    #[must_use]
    pub fn status(&self) -> Value {
        let text = self.ok(&["status", "--json"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The first process of `status --json`: the one that commands are for.
    #[must_use]
    pub fn first(&self) -> Value {
        self.status()["processes"][0].clone()
    }

    /// Starts a command whose outcome is to be waited for later, with its output in a file of this name.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn begin(&self, args: &[&str], output: &str) -> Begun {
        let path = self.launch.dir().path().join(output);
        let file = std::fs::File::create(&path).expect("a file for its output");
        let mut command: Command = self.launch.clone().args(args).command();
        command
            .stdin(Stdio::null())
            .stderr(file.try_clone().expect("a descriptor"))
            .stdout(file);
        Begun {
            child: command.spawn().expect("the command starts"),
            output: path,
        }
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Begun {
    child: Child,
    output: PathBuf,
}

impl Begun {
    /// What it has printed so far, on both outputs.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Waits for its end; gives its exit code and what it has printed.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[must_use]
    pub fn end(mut self) -> (Option<i32>, String) {
        let ended = || self.child.try_wait().expect("it can be waited for");
        let status = crate::wait::maybe(PATIENT, ended)
            .unwrap_or_else(|| panic!("it does not end; it said:\n{}", self.said()));
        (status.code(), self.said())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
