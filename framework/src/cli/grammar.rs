//! The command line as clap is told of it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{value_parser, Arg, ArgAction, Command as Clap};
use clap_complete::Shell;

/// What the application is called, and the commands it adds.
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Name and one line of description of each.
    pub(crate) custom: Vec<(String, String)>,
}

pub(super) fn grammar(meta: &Meta) -> Clap {
    let mut built_in = vec![
        Clap::new("serve").about("Serve until told to stop (the default)"),
        Clap::new("check").about("Load and validate the configuration and build the app"),
        Clap::new("config")
            .about("Print the settings in force, and where each came from")
            .arg(
                Arg::new("key")
                    .value_name("KEY")
                    .help("A key such as http.body_limit, or a table such as http"),
            ),
        routes(),
    ];
    #[cfg(feature = "control")]
    built_in.extend(operating());
    #[cfg(feature = "dev")]
    built_in.push(developing());
    built_in.extend(about_itself());
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
            .help("Describe the routes in OpenAPI 3.1"),
    );
    routes
}

/// Commands for a process that runs already.
#[cfg(feature = "control")]
fn operating() -> impl Iterator<Item = Clap> {
    let flag = |name, help| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    let status = Clap::new("status")
        .about("Show the running processes: phase, connections, requests")
        .arg(flag("json", "One JSON object a line, for programs"))
        .arg(flag(
            "watch",
            "Again and again, until interrupted or nothing runs any more",
        ));
    let asking = [
        ("reload", "Have the running process read its settings anew"),
        (
            "upgrade",
            "Have the running process replaced by the program as it is now",
        ),
        (
            "rollback",
            "End an upgrade that is not confirmed yet: the old process serves on",
        ),
        ("pause", "Stop accepting, and stay"),
        ("resume", "Accept again after a pause"),
        (
            "drain",
            "Stop accepting at once, let what has begun finish, and end",
        ),
        (
            "stop",
            "The same, after shutdown.delay in which balancers can look elsewhere",
        ),
        ("reopen", "Open the log anew, after it was rotated"),
    ];
    [status]
        .into_iter()
        .chain(asking.map(|(name, about)| Clap::new(name).about(about)))
}

/// The development loop.
#[cfg(feature = "dev")]
fn developing() -> Clap {
    let flags = Arg::new("flags")
        .value_name("CARGO FLAGS")
        .num_args(0..)
        .last(true);
    let flags = flags.help("What cargo is told besides which program to build");
    Clap::new("dev")
        .about("Serve, and swap in each new version of the program that builds")
        .arg(flags.value_parser(value_parser!(OsString)))
}

/// Texts that are made of this grammar.
fn about_itself() -> [Clap; 2] {
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

/// The flags that stand before or after a command. Not clap's global ones: of a `--set` on both sides it keeps one.
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
            .help("Use [profile.NAME] of the file"),
        Arg::new("set")
            .long("set")
            .value_name("KEY=VALUE")
            .action(ArgAction::Append)
            .value_parser(key_and_value)
            .help(
                "Override one setting; not for secrets, which others see in the list of processes",
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
