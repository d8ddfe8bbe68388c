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

/// What a process is asked to do.
///
/// The command line becomes one of these; `Runner::run_command` takes one directly.
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
    /// `APP` or `APP serve`: serve until told to stop.
    Serve,
    /// `APP check`: load and validate the configuration and build the app.
    Check,
    /// `APP config [KEY]`: print the settings in force, and where each came from.
    Config {
        /// A key (`http.body_limit`) or a table (`http`, `app`); `None` prints all.
        key: Option<String>,
    },
    /// `APP routes`: print the route table.
    Routes,
    /// `APP routes --openapi`: the routes, described in OpenAPI 3.1.
    #[cfg(feature = "openapi")]
    OpenApi,
    /// `APP status`: print how the running processes stand.
    #[cfg(feature = "control")]
    Status {
        /// One JSON object a line, for programs.
        json: bool,
        /// Again and again, until interrupted or nothing runs any more.
        watch: bool,
    },
    /// `APP reload`: have the running process read its settings anew, and wait for what comes of it.
    #[cfg(feature = "control")]
    Reload,
    /// `APP upgrade`: have it replaced by a new process of the program as it is now, and wait until that is confirmed.
    #[cfg(feature = "control")]
    Upgrade,
    /// `APP rollback`: end an upgrade that is not confirmed yet; the old process serves on.
    #[cfg(feature = "control")]
    Rollback,
    /// `APP pause`: stop accepting, and stay.
    #[cfg(feature = "control")]
    Pause,
    /// `APP resume`: accept again.
    #[cfg(feature = "control")]
    Resume,
    /// `APP drain`: stop accepting at once, let what has begun finish, and end.
    #[cfg(feature = "control")]
    Drain,
    /// `APP stop`: the same, after `shutdown.delay` in which balancers can look elsewhere.
    #[cfg(feature = "control")]
    Stop,
    /// `APP reopen`: open the log anew, after it was rotated.
    #[cfg(feature = "control")]
    Reopen,
    /// `APP dev [-- CARGO FLAGS]`: serve, and swap in each new version of the program that builds.
    #[cfg(feature = "dev")]
    Dev {
        /// What cargo is told besides which program to build.
        flags: Vec<OsString>,
    },
    /// A command of the application's own.
    Custom {
        /// The name it was added under.
        name: String,
        /// What followed it, except for the flags that every command has.
        args: Vec<OsString>,
    },
}
