//! Parses a command line into a command, or into the output and status to exit with.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use clap_complete::{generate, Shell};
use clap_mangen::Man;

use super::grammar::{grammar, Meta};
use super::names::{check_names, missing_feature};
use super::Command;

/// A valid command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) command: Command,
    pub(crate) config_file: Option<PathBuf>,
    pub(crate) profile: Option<String>,
    /// `KEY=VALUE` of each `--set`, in the order of the command line.
    pub(crate) sets: Vec<String>,
}

/// The output and the exit code of a command line that runs no command: `--help`, `--version`, or an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: u8,
    /// The output, with its newline.
    pub(crate) text: String,
    pub(crate) to: OutputStream,
}

impl Exit {
    /// Prints the output and returns the exit code. Ignores errors, such as a closed standard output.
    pub(crate) fn print(&self) -> ExitCode {
        let text = self.text.as_bytes();
        let _ = match self.to {
            OutputStream::Stdout => std::io::stdout().write_all(text),
            OutputStream::Stderr => std::io::stderr().write_all(text),
        };
        ExitCode::from(self.code)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputStream {
    Stdout,
    Stderr,
}

/// Parses a command line. `args` begins with the program's name, as [`std::env::args_os`] does.
pub(crate) fn parse(meta: &Meta, args: impl Iterator<Item = OsString>) -> Result<Invocation, Exit> {
    check_names(&meta.custom).map_err(|error| Exit {
        code: error.exit_code(),
        text: format!("{error}\n"),
        to: OutputStream::Stderr,
    })?;
    let matches = grammar(meta)
        .try_get_matches_from(args)
        .map_err(|error| Exit {
            code: if error.use_stderr() { 2 } else { 0 },
            text: missing_feature(&error).unwrap_or_else(|| error.render().to_string()),
            to: if error.use_stderr() {
                OutputStream::Stderr
            } else {
                OutputStream::Stdout
            },
        })?;
    match matches.subcommand() {
        Some(("completions", below)) => Err(generated(&completions(meta, below))),
        Some(("man", _)) => Err(generated(&manual(meta))),
        _ => Ok(invocation(&matches)),
    }
}

/// Returns an exit with code 0 that prints a text that was generated from the grammar.
fn generated(text: &[u8]) -> Exit {
    Exit {
        code: 0,
        text: String::from_utf8_lossy(text).into_owned(),
        to: OutputStream::Stdout,
    }
}

fn completions(meta: &Meta, matches: &ArgMatches) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(shell) = matches.get_one::<Shell>("shell") {
        generate(*shell, &mut grammar(meta), meta.name.clone(), &mut text);
    }
    text
}

/// Returns the man page of the program followed by the pages of its commands, as a single roff document.
fn manual(meta: &Meta) -> Vec<u8> {
    let mut grammar = grammar(meta);
    grammar.build();
    let mut text = Vec::new();
    let own = Man::new(grammar.clone()).render(&mut text);
    let below = grammar
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    // Writing to a vector cannot fail.
    let _ = own.and_then(|()| {
        below.cloned().try_for_each(|command| {
            let name = format!("{}-{}", meta.name, command.get_name());
            Man::new(command.name(name)).render(&mut text)
        })
    });
    text
}

fn invocation(matches: &ArgMatches) -> Invocation {
    let (command, below) = match matches.subcommand() {
        None => (Command::Serve, None),
        Some((name, below)) => (command(name, below), Some(below)),
    };
    let levels = || [Some(matches), below].into_iter().flatten();
    let last = |name| {
        levels()
            .filter_map(|level| level.get_one::<String>(name))
            .next_back()
    };
    let file = levels()
        .filter_map(|level| level.get_one::<PathBuf>("config-file"))
        .next_back();
    let sets = levels()
        .filter_map(|level| level.get_many::<String>("set"))
        .flatten();
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
        "config" => Command::Config {
            key: matches.get_one::<String>("key").cloned(),
        },
        #[cfg(feature = "openapi")]
        "routes" if matches.get_flag("openapi") => Command::OpenApi,
        "routes" => Command::Routes,
        #[cfg(feature = "control")]
        "status" => Command::Status {
            json: matches.get_flag("json"),
            watch: matches.get_flag("watch"),
        },
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
            Command::Dev {
                flags: flags.cloned().collect(),
            }
        }
        custom => Command::Custom {
            name: custom.to_owned(),
            args: matches
                .get_many::<OsString>("args")
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Invocation, Exit> {
        let custom = vec![("migrate".to_owned(), "apply migrations".to_owned())];
        let meta = Meta {
            name: "shop".into(),
            version: "1.2.3".into(),
            custom,
        };
        parse(&meta, line.split_whitespace().map(OsString::from))
    }

    fn invocation(command: Command) -> Invocation {
        Invocation {
            command,
            config_file: None,
            profile: None,
            sets: Vec::new(),
        }
    }

    #[test]
    fn serve_is_the_default_command() {
        assert_eq!(run("shop"), Ok(invocation(Command::Serve)));
        assert_eq!(run("shop serve"), Ok(invocation(Command::Serve)));
        assert_eq!(run("shop routes"), Ok(invocation(Command::Routes)));
    }

    #[test]
    fn flags_are_accepted_before_and_after_the_command() {
        let expected = Invocation {
            command: Command::Config {
                key: Some("http".into()),
            },
            config_file: Some("b.toml".into()),
            profile: Some("dev".into()),
            sets: vec!["x=1".into(), "y=a=b".into()],
        };
        let line = "shop -c a.toml -p dev --set x=1 config http --config=b.toml --set y=a=b";
        assert_eq!(run(line), Ok(expected));
    }

    #[test]
    fn a_command_of_the_application_receives_the_arguments_after_its_name() {
        let args = ["--dry-run", "-n", "3", "--set"]
            .map(OsString::from)
            .to_vec();
        let command = Command::Custom {
            name: "migrate".into(),
            args,
        };
        let expected = Invocation {
            profile: Some("dev".into()),
            ..invocation(command)
        };
        assert_eq!(
            run("shop migrate -p dev --dry-run -n 3 --set"),
            Ok(expected)
        );
    }

    #[cfg(feature = "dev")]
    #[test]
    fn flags_for_cargo_follow_two_dashes() {
        let flags = ["--features", "x"].map(OsString::from).to_vec();
        let expected = Invocation {
            sets: vec!["a=1".into()],
            ..invocation(Command::Dev { flags })
        };
        assert_eq!(run("shop dev --set a=1 -- --features x"), Ok(expected));
        assert_eq!(
            run("shop dev"),
            Ok(invocation(Command::Dev { flags: vec![] }))
        );
        assert_eq!(run("shop dev --features x").unwrap_err().code, 2);
    }

    #[test]
    fn the_version_goes_to_standard_output() {
        assert_eq!(
            run("shop --version"),
            Err(Exit {
                code: 0,
                text: "shop 1.2.3\n".into(),
                to: OutputStream::Stdout
            })
        );
        let help = run("shop --help").unwrap_err();
        assert_eq!((help.code, help.to), (0, OutputStream::Stdout));
        assert!(help.text.contains("migrate"), "{}", help.text);
    }

    #[test]
    fn completions_and_the_man_page_contain_every_command() {
        for shell in ["bash", "zsh", "fish"] {
            let text = run(&format!("shop completions {shell}")).unwrap_err();
            assert_eq!((text.code, text.to), (0, OutputStream::Stdout));
            assert!(
                ["routes", "migrate", "completions"]
                    .iter()
                    .all(|name| text.text.contains(name)),
                "{shell}"
            );
        }
        let page = run("shop man").unwrap_err();
        assert_eq!((page.code, page.to), (0, OutputStream::Stdout));
        assert!(
            page.text.contains(".TH shop 1") && page.text.contains("apply migrations"),
            "{}",
            page.text
        );
        assert_eq!(run("shop completions").unwrap_err().code, 2);
    }

    #[test]
    fn usage_errors_exit_with_2() {
        for line in [
            "shop nonsense",
            "shop --wrong",
            "shop --set x",
            "shop check more",
            "shop -c",
        ] {
            let exit = run(line).unwrap_err();
            assert_eq!((exit.code, exit.to), (2, OutputStream::Stderr), "{line}");
        }
    }
}
