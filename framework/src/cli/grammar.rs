//! The definition of the command line for clap.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{value_parser, Arg, ArgAction, Command as Clap};
use clap_complete::Shell;

/// The application's name, version and commands.
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The application's commands: the name and a description of one line.
    pub(crate) custom: Vec<(String, String)>,
}

pub(super) fn grammar(meta: &Meta) -> Clap {
    let mut built_in = vec![
        Clap::new("serve").about("Serve until the process is stopped (the default)"),
        Clap::new("check").about("Load and validate the configuration and build the application"),
        Clap::new("config")
            .about("Print the settings in effect and the source of each")
            .arg(
                Arg::new("key")
                    .value_name("KEY")
                    .help("A key such as http.body_limit, or a table such as http"),
            ),
        routes(),
    ];
    #[cfg(feature = "control")]
    built_in.extend(control_commands());
    #[cfg(feature = "dev")]
    built_in.push(dev_command());
    built_in.extend(generated_texts());
    let custom = meta.custom.iter().map(|(name, about)| {
        let args = Arg::new("args")
            .value_name("ARGS")
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true)
            .value_parser(value_parser!(OsString));
        Clap::new(name.clone()).about(about.clone()).arg(args)
    });
    Clap::new(meta.name.clone())
        .version(meta.version.clone())
        .disable_help_subcommand(true)
        .args(flags())
        .subcommands(
            built_in
                .into_iter()
                .chain(custom)
                .map(|command| command.args(flags())),
        )
}

fn routes() -> Clap {
    let routes = Clap::new("routes").about("Print the route table");
    #[cfg(feature = "openapi")]
    let routes = routes.arg(
        Arg::new("openapi")
            .long("openapi")
            .action(ArgAction::SetTrue)
            .help("Print the routes as an OpenAPI 3.1 document"),
    );
    routes
}

/// Returns the commands that control a running process.
#[cfg(feature = "control")]
fn control_commands() -> impl Iterator<Item = Clap> {
    let flag = |name, help| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    let status = Clap::new("status")
        .about("Show the running processes: phase, connections, requests")
        .arg(flag("json", "Print one JSON object per line"))
        .arg(flag(
            "watch",
            "Repeat until interrupted or until no process runs any more",
        ));
    let other = [
        ("reload", "Make the running process read its settings again"),
        (
            "upgrade",
            "Replace the running process by a new process of the current program file",
        ),
        (
            "rollback",
            "Cancel an upgrade that is not confirmed yet; the old process keeps serving",
        ),
        ("pause", "Stop accepting connections; the process keeps running"),
        ("resume", "Accept connections again after a pause"),
        (
            "drain",
            "Stop accepting immediately, finish the requests in progress and exit",
        ),
        (
            "stop",
            "Wait for shutdown.delay, in which balancers can switch to other servers, then drain and exit",
        ),
        ("reopen", "Open the log file again, after it was rotated"),
    ];
    [status]
        .into_iter()
        .chain(other.map(|(name, about)| Clap::new(name).about(about)))
}

/// Returns the command of the development loop.
#[cfg(feature = "dev")]
fn dev_command() -> Clap {
    let flags = Arg::new("flags")
        .value_name("CARGO FLAGS")
        .num_args(0..)
        .last(true);
    let flags = flags.help("Additional flags for cargo");
    Clap::new("dev")
        .about("Serve, rebuild the program when its sources change, and upgrade to each new build")
        .arg(flags.value_parser(value_parser!(OsString)))
}

/// Returns the commands that print texts generated from this grammar.
fn generated_texts() -> [Clap; 2] {
    let shell = Arg::new("shell")
        .value_name("SHELL")
        .required(true)
        .value_parser(value_parser!(Shell));
    [
        Clap::new("completions")
            .about("Print a script that completes this command line")
            .arg(shell),
        Clap::new("man").about("Print a man page, in roff"),
    ]
}

/// Returns the flags that are accepted before and after a command.
///
/// They are not global flags of clap, because of a global `--set` on both sides clap keeps only one.
fn flags() -> [Arg; 3] {
    [
        Arg::new("config-file")
            .short('c')
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Read the settings from this file"),
        Arg::new("profile")
            .short('p')
            .long("profile")
            .value_name("NAME")
            .help("Use [profile.NAME] of the configuration file"),
        Arg::new("set")
            .long("set")
            .value_name("KEY=VALUE")
            .action(ArgAction::Append)
            .value_parser(key_and_value)
            .help(
                "Override a setting; not for secrets, because other users can read the command line",
            ),
    ]
}

fn key_and_value(text: &str) -> Result<String, &'static str> {
    if text.contains('=') {
        Ok(text.to_owned())
    } else {
        Err("expected KEY=VALUE")
    }
}
