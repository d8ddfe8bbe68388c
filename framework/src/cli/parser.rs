//! The command line as clap reads it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{value_parser, Arg, ArgAction, ArgMatches, Command as Clap};
use clap_complete::{generate, Shell};
use clap_mangen::Man;

use super::Command;
use crate::error::{Error, Kind};

/// Names that are commands, here or in a build with other features.
const RESERVED: [&str; 17] = [
    "serve",
    "check",
    "config",
    "routes",
    "status",
    "reload",
    "upgrade",
    "rollback",
    "pause",
    "resume",
    "drain",
    "stop",
    "reopen",
    "dev",
    "completions",
    "man",
    "help",
];

/// What the application is called, and the commands it adds.
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Name and one line of description of each.
    pub(crate) custom: Vec<(String, String)>,
}

/// A command line that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) command: Command,
    pub(crate) config_file: Option<PathBuf>,
    pub(crate) profile: Option<String>,
    /// `KEY=VALUE` of each `--set`, in their order.
    pub(crate) sets: Vec<String>,
}

/// A command line that ends here: `--help`, `--version`, or an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: u8,
    /// What to print, with its newline.
    pub(crate) text: String,
    pub(crate) to: Stream,
}

impl Exit {
    /// Prints it, and gives the status to end with. Nobody has to read it.
    pub(crate) fn print(&self) -> ExitCode {
        let text = self.text.as_bytes();
        let _ = match self.to {
            Stream::Stdout => std::io::stdout().write_all(text),
            Stream::Stderr => std::io::stderr().write_all(text),
        };
        ExitCode::from(self.code)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Reads a command line; `args` begins with the program's name, as [`std::env::args_os`] does.
pub(crate) fn parse(meta: &Meta, args: impl Iterator<Item = OsString>) -> Result<Invocation, Exit> {
    refuse_collisions(&meta.custom).map_err(|error| Exit {
        code: error.exit_code(),
        text: format!("{error}\n"),
        to: Stream::Stderr,
    })?;
    let matches = grammar(meta).try_get_matches_from(args).map_err(|error| Exit {
        code: if error.use_stderr() { 2 } else { 0 },
        text: lacking(&error).unwrap_or_else(|| error.render().to_string()),
        to: if error.use_stderr() { Stream::Stderr } else { Stream::Stdout },
    })?;
    match matches.subcommand() {
        Some(("completions", below)) => Err(written(completions(meta, below))),
        Some(("man", _)) => Err(written(manual(meta))),
        _ => Ok(invocation(&matches)),
    }
}

/// What to say of a command that there is, but not in this build.
fn lacking(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) => feature_of(name).map(|feature| {
            format!(
                "error: the command `{name}` comes with slackwater's feature `{feature}`, and this program was built without it\n\n\
                 In Cargo.toml: slackwater = {{ …, features = [\"{feature}\"] }}\n"
            )
        }),
        _ => None,
    }
}

/// The feature that brings a command which not every build has.
fn feature_of(command: &str) -> Option<&'static str> {
    match command {
        "dev" => Some("dev"),
        "status" | "reload" | "upgrade" | "rollback" | "pause" | "resume" | "drain" | "stop" | "reopen" => {
            Some("control")
        }
        _ => None,
    }
}

/// What is made of the grammar itself goes to standard output, and that is all.
fn written(text: Vec<u8>) -> Exit {
    Exit { code: 0, text: String::from_utf8_lossy(&text).into_owned(), to: Stream::Stdout }
}

fn completions(meta: &Meta, matches: &ArgMatches) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(shell) = matches.get_one::<Shell>("shell") {
        generate(*shell, &mut grammar(meta), meta.name.clone(), &mut text);
    }
    text
}

/// The page of the program and, below it, those of its commands: one file, as roff(7) allows.
fn manual(meta: &Meta) -> Vec<u8> {
    let mut grammar = grammar(meta);
    grammar.build();
    let mut text = Vec::new();
    let own = Man::new(grammar.clone()).render(&mut text);
    let below = grammar.get_subcommands().filter(|command| !command.is_hide_set());
    // memory takes all that is written to it
    let _ = own.and_then(|()| {
        below.cloned().try_for_each(|command| {
            let name = format!("{}-{}", meta.name, command.get_name());
            Man::new(command.name(name)).render(&mut text)
        })
    });
    text
}

/// Refuses commands of the application whose names are taken.
///
/// # Errors
///
/// [`Kind::Usage`] naming the command.
fn refuse_collisions(custom: &[(String, String)]) -> Result<(), Error> {
    let usage = |what: String| Err(Error::new(Kind::Usage, what));
    let mut seen = BTreeSet::new();
    for (name, _) in custom {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if name.is_empty() || name.starts_with('-') || !plain {
            return usage(format!(
                "the application's command {name:?} cannot be typed: use letters, digits, - and _"
            ));
        }
        if RESERVED.contains(&name.as_str()) {
            return usage(format!("the application's command {name:?} has the name of a built-in one"));
        }
        if !seen.insert(name) {
            return usage(format!("the application's command {name:?} is added twice"));
        }
    }
    Ok(())
}

fn grammar(meta: &Meta) -> Clap {
    let mut built_in = vec![
        Clap::new("serve").about("Serve until told to stop (the default)"),
        Clap::new("check").about("Load and validate the configuration and build the app"),
        Clap::new("config").about("Print the settings in force, and where each came from").arg(
            Arg::new("key").value_name("KEY").help("A key such as http.body_limit, or a table such as http"),
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
        .subcommands(built_in.into_iter().chain(custom).map(|command| command.args(flags())))
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
    let flag = |name, help| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let status = Clap::new("status")
        .about("Show the running processes: phase, connections, requests")
        .arg(flag("json", "One JSON object a line, for programs"))
        .arg(flag("watch", "Again and again, until interrupted or nothing runs any more"));
    let asking = [
        ("reload", "Have the running process read its settings anew"),
        ("upgrade", "Have the running process replaced by the program as it is now"),
        ("rollback", "End an upgrade that is not confirmed yet: the old process serves on"),
        ("pause", "Stop accepting, and stay"),
        ("resume", "Accept again after a pause"),
        ("drain", "Stop accepting at once, let what has begun finish, and end"),
        ("stop", "The same, after shutdown.delay in which balancers can look elsewhere"),
        ("reopen", "Open the log anew, after it was rotated"),
    ];
    [status].into_iter().chain(asking.map(|(name, about)| Clap::new(name).about(about)))
}

/// The development loop.
#[cfg(feature = "dev")]
fn developing() -> Clap {
    let flags = Arg::new("flags").value_name("CARGO FLAGS").num_args(0..).last(true);
    let flags = flags.help("What cargo is told besides which program to build");
    Clap::new("dev")
        .about("Serve, and swap in each new version of the program that builds")
        .arg(flags.value_parser(value_parser!(OsString)))
}

/// Texts that are made of this grammar.
fn about_itself() -> [Clap; 2] {
    let shell = Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell));
    [
        Clap::new("completions").about("Print a script that completes this command line").arg(shell),
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
            .help("Override one setting; not for secrets, which others see in the list of processes"),
    ]
}

fn key_and_value(text: &str) -> Result<String, &'static str> {
    if text.contains('=') {
        Ok(text.to_owned())
    } else {
        Err("expected KEY=VALUE")
    }
}

fn invocation(matches: &ArgMatches) -> Invocation {
    let (command, below) = match matches.subcommand() {
        None => (Command::Serve, None),
        Some((name, below)) => (command(name, below), Some(below)),
    };
    let levels = || [Some(matches), below].into_iter().flatten();
    let last = |name| levels().filter_map(|level| level.get_one::<String>(name)).next_back();
    let file = levels().filter_map(|level| level.get_one::<PathBuf>("config-file")).next_back();
    let sets = levels().filter_map(|level| level.get_many::<String>("set")).flatten();
    Invocation {
        command,
        config_file: file.cloned(),
        profile: last("profile").cloned(),
        sets: sets.cloned().collect(),
    }
}

fn command(name: &str, matches: &ArgMatches) -> Command {
    match name {
        "serve" => Command::Serve,
        "check" => Command::Check,
        "config" => Command::Config { key: matches.get_one::<String>("key").cloned() },
        #[cfg(feature = "openapi")]
        "routes" if matches.get_flag("openapi") => Command::OpenApi,
        "routes" => Command::Routes,
        #[cfg(feature = "control")]
        "status" => Command::Status { json: matches.get_flag("json"), watch: matches.get_flag("watch") },
        #[cfg(feature = "control")]
        "reload" => Command::Reload,
        #[cfg(feature = "control")]
        "upgrade" => Command::Upgrade,
        #[cfg(feature = "control")]
        "rollback" => Command::Rollback,
        #[cfg(feature = "control")]
        "pause" => Command::Pause,
        #[cfg(feature = "control")]
        "resume" => Command::Resume,
        #[cfg(feature = "control")]
        "drain" => Command::Drain,
        #[cfg(feature = "control")]
        "stop" => Command::Stop,
        #[cfg(feature = "control")]
        "reopen" => Command::Reopen,
        #[cfg(feature = "dev")]
        "dev" => {
            let flags = matches.get_many::<OsString>("flags").into_iter().flatten();
            Command::Dev { flags: flags.cloned().collect() }
        }
        custom => Command::Custom {
            name: custom.to_owned(),
            args: matches.get_many::<OsString>("args").into_iter().flatten().cloned().collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Invocation, Exit> {
        let custom = vec![("migrate".to_owned(), "apply migrations".to_owned())];
        let meta = Meta { name: "shop".into(), version: "1.2.3".into(), custom };
        parse(&meta, line.split_whitespace().map(OsString::from))
    }

    fn invocation(command: Command) -> Invocation {
        Invocation { command, config_file: None, profile: None, sets: Vec::new() }
    }

    #[test]
    fn nothing_means_serve() {
        assert_eq!(run("shop"), Ok(invocation(Command::Serve)));
        assert_eq!(run("shop serve"), Ok(invocation(Command::Serve)));
        assert_eq!(run("shop routes"), Ok(invocation(Command::Routes)));
    }

    #[test]
    fn flags_stand_before_and_after_the_command() {
        let expected = Invocation {
            command: Command::Config { key: Some("http".into()) },
            config_file: Some("b.toml".into()),
            profile: Some("dev".into()),
            sets: vec!["x=1".into(), "y=a=b".into()],
        };
        let line = "shop -c a.toml -p dev --set x=1 config http --config=b.toml --set y=a=b";
        assert_eq!(run(line), Ok(expected));
    }

    #[test]
    fn commands_of_the_application_get_what_follows_them() {
        let args = ["--dry-run", "-n", "3", "--set"].map(OsString::from).to_vec();
        let command = Command::Custom { name: "migrate".into(), args };
        let expected = Invocation { profile: Some("dev".into()), ..invocation(command) };
        assert_eq!(run("shop migrate -p dev --dry-run -n 3 --set"), Ok(expected));
    }

    #[cfg(feature = "dev")]
    #[test]
    fn flags_for_cargo_stand_behind_two_dashes() {
        let flags = ["--features", "x"].map(OsString::from).to_vec();
        let expected = Invocation { sets: vec!["a=1".into()], ..invocation(Command::Dev { flags }) };
        assert_eq!(run("shop dev --set a=1 -- --features x"), Ok(expected));
        assert_eq!(run("shop dev"), Ok(invocation(Command::Dev { flags: vec![] })));
        assert_eq!(run("shop dev --features x").unwrap_err().code, 2);
    }

    #[test]
    fn the_version_goes_to_standard_output() {
        assert_eq!(
            run("shop --version"),
            Err(Exit { code: 0, text: "shop 1.2.3\n".into(), to: Stream::Stdout })
        );
        let help = run("shop --help").unwrap_err();
        assert_eq!((help.code, help.to), (0, Stream::Stdout));
        assert!(help.text.contains("migrate"), "{}", help.text);
    }

    #[test]
    fn completions_and_the_manual_know_every_command() {
        for shell in ["bash", "zsh", "fish"] {
            let text = run(&format!("shop completions {shell}")).unwrap_err();
            assert_eq!((text.code, text.to), (0, Stream::Stdout));
            assert!(
                ["routes", "migrate", "completions"].iter().all(|name| text.text.contains(name)),
                "{shell}"
            );
        }
        let page = run("shop man").unwrap_err();
        assert_eq!((page.code, page.to), (0, Stream::Stdout));
        assert!(page.text.contains(".TH shop 1") && page.text.contains("apply migrations"), "{}", page.text);
        assert_eq!(run("shop completions").unwrap_err().code, 2);
    }

    #[test]
    fn usage_errors_exit_with_2() {
        for line in ["shop nonsense", "shop --wrong", "shop --set x", "shop check more", "shop -c"] {
            let exit = run(line).unwrap_err();
            assert_eq!((exit.code, exit.to), (2, Stream::Stderr), "{line}");
        }
    }

    #[test]
    fn a_command_that_a_build_lacks_names_the_feature_that_brings_it() {
        let without = Clap::new("shop").subcommand_required(true).subcommand(Clap::new("serve"));
        let said = |line: &str| {
            let error = without.clone().try_get_matches_from(line.split_whitespace()).unwrap_err();
            lacking(&error)
        };
        assert!(said("shop dev").unwrap().contains("slackwater's feature `dev`"));
        assert!(said("shop reload").unwrap().contains("slackwater's feature `control`"));
        assert_eq!((said("shop nonsense"), said("shop help --x")), (None, None));
    }

    #[test]
    fn names_that_are_taken_are_refused() {
        let collision = |name: &str| {
            refuse_collisions(&[(name.into(), String::new())]).map_err(|error| error.to_string())
        };
        for name in ["serve", "upgrade", "dev", "help", "", "-x", "two words"] {
            assert!(collision(name).is_err(), "{name}");
        }
        assert_eq!(collision("migrate"), Ok(()));
        let error = collision("reload").unwrap_err();
        assert_eq!(error, r#"the application's command "reload" has the name of a built-in one"#);
    }
}
