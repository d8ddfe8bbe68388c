//! The command line that every application has.

#[cfg(feature = "cli")]
mod grammar;
#[cfg(feature = "cli")]
mod names;
#[cfg(feature = "cli")]
mod parser;

use std::ffi::OsString;

#[cfg(feature = "cli")]
pub(crate) use grammar::Meta;
#[cfg(feature = "cli")]
pub(crate) use parser::{parse, Invocation};

/// A command for a process: parsed from the command line, or passed to `Runner::run_command`.
///
/// ```
/// use slackwater::Command;
///
/// let command = Command::Config { key: Some("http.body_limit".into()) };
/// assert_ne!(command, Command::Serve);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// `APP` or `APP serve`: serves until the process is stopped.
    Serve,
    /// `APP check`: loads and validates the configuration and builds the application.
    Check,
    /// `APP config [KEY]`: prints the settings in effect and the source of each.
    Config {
        /// A key (`http.body_limit`) or a table (`http`, `app`); `None` prints all.
        key: Option<String>,
    },
    /// `APP routes`: prints the route table.
    Routes,
    /// `APP routes --openapi`: prints the routes as an OpenAPI 3.1 document.
    #[cfg(feature = "openapi")]
    OpenApi,
    /// `APP status`: prints the state of the running processes.
    #[cfg(feature = "control")]
    Status {
        /// Prints one JSON object per line.
        json: bool,
        /// Repeats until it is interrupted or no process runs any more.
        watch: bool,
    },
    /// `APP reload`: makes the running process read its settings again, and waits for the result.
    #[cfg(feature = "control")]
    Reload,
    /// `APP upgrade`: replaces the running process by a new process of the current program file, and waits until the
    /// upgrade is confirmed.
    #[cfg(feature = "control")]
    Upgrade,
    /// `APP rollback`: cancels an upgrade that is not confirmed yet; the old process keeps serving.
    #[cfg(feature = "control")]
    Rollback,
    /// `APP pause`: stops accepting connections; the process keeps running.
    #[cfg(feature = "control")]
    Pause,
    /// `APP resume`: accepts connections again after a pause.
    #[cfg(feature = "control")]
    Resume,
    /// `APP drain`: stops accepting immediately, finishes the requests in progress and exits.
    #[cfg(feature = "control")]
    Drain,
    /// `APP stop`: waits for `shutdown.delay`, in which balancers can switch to other servers, then drains and exits.
    #[cfg(feature = "control")]
    Stop,
    /// `APP reopen`: opens the log file again, after it was rotated.
    #[cfg(feature = "control")]
    Reopen,
    /// `APP dev [-- CARGO FLAGS]`: serves, rebuilds the program when its sources change, and upgrades to each new build.
    #[cfg(feature = "dev")]
    Dev {
        /// Additional flags for cargo.
        flags: Vec<OsString>,
    },
    /// A command that the application has added.
    Custom {
        /// The name of the command.
        name: String,
        /// The arguments after the name, without the flags that every command accepts.
        args: Vec<OsString>,
    },
}
