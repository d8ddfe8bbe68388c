//! One run of cargo: what it says goes to the terminal as it comes, and what came of it is told at the end.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::process::{kill_process_group, Pid, Signal};
use serde::Deserialize;

use super::keeper::Event;
use super::package::{Package, Target};
use crate::error::{Error, Kind};

/// A build under way.
#[derive(Debug)]
pub(super) struct Build {
    /// Tells its outcome from that of one that was given up.
    pub(super) number: u64,
    pub(super) began: Instant,
    group: Option<Pid>,
}

/// What came of a build.
#[derive(Debug)]
pub(super) enum Outcome {
    Passed(Passed),
    /// What cargo said against it, with the colours of a terminal.
    Failed(String),
}

/// What a build that passed tells.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) executable: PathBuf,
    /// The directories of the packages that come from here and not from a registry.
    pub(super) packages: Vec<PathBuf>,
    /// Every file that went into the program and is not a registry's.
    pub(super) inputs: Vec<PathBuf>,
}

/// Whether warnings and progress are shown; errors always are, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    All,
    Errors,
}

impl Build {
    /// Starts cargo; its outcome comes as [`Event::Built`].
    ///
    /// # Errors
    /// cargo cannot be started.
    pub(super) fn start(
        package: &Package,
        number: u64,
        show: Show,
        events: Sender<Event>,
    ) -> Result<Self, Error> {
        let began = Instant::now();
        let mut command = package.build();
        let colours = Colours::of_the_terminal();
        if colours == Colours::Shown {
            command.arg("--color=always");
        }
        // a group of its own, so that compilers end with it when it is given up
        command
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| {
            Error::new(
                Kind::Io,
                format!("cannot start {}", command.get_program().to_string_lossy()),
            )
            .because(error)
        })?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let target = package.target.clone();
        thread::spawn(move || {
            let outcome = follow(child, &target, show, colours);
            let _ = events.send(Event::Built(number, outcome));
        });
        Ok(Build {
            number,
            began,
            group,
        })
    }

    /// Ends it before its time.
    pub(super) fn abandon(self) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads what cargo says to its end.
fn follow(mut child: Child, target: &Target, show: Show, colours: Colours) -> Outcome {
    let progress = child.stderr.take().map(|stderr| copy_lines(stderr, show));
    let mut told = Told::default();
    let lines = child
        .stdout
        .take()
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines);
    for line in lines.map_while(Result::ok) {
        // what is no message of cargo's is a build script's or a macro's own word
        match serde_json::from_str(&line) {
            Ok(message) => told.hear(message, target, show, colours),
            Err(_) => print(&format!("{line}\n")),
        }
    }
    let said = progress
        .and_then(|thread| thread.join().ok())
        .unwrap_or_default();
    // whether it succeeded is known from what it said; the keeper reaps all its children itself
    let _ = child.wait();
    match told.executable {
        Some(executable) if told.success => {
            let inputs = inputs(&executable);
            told.packages.sort();
            told.packages.dedup();
            Outcome::Passed(Passed {
                executable,
                packages: told.packages,
                inputs,
            })
        }
        _ => {
            if show == Show::Errors {
                print(&said);
            }
            Outcome::Failed(if told.errors.is_empty() {
                said
            } else {
                told.errors
            })
        }
    }
}

/// What cargo has told so far.
#[derive(Debug, Default)]
struct Told {
    success: bool,
    errors: String,
    executable: Option<PathBuf>,
    packages: Vec<PathBuf>,
}

/// A message of cargo's (`cargo build --message-format=json`).
#[derive(Deserialize)]
#[serde(tag = "reason")]
enum Message {
    #[serde(rename = "compiler-message")]
    Diagnostic { message: Diagnostic },
    #[serde(rename = "compiler-artifact")]
    Artifact {
        package_id: String,
        manifest_path: PathBuf,
        target: Artifact,
        executable: Option<PathBuf>,
    },
    #[serde(rename = "build-finished")]
    Finished { success: bool },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    rendered: Option<String>,
}

#[derive(Deserialize)]
struct Artifact {
    kind: Vec<String>,
    name: String,
}

impl Told {
    fn hear(&mut self, message: Message, wanted: &Target, show: Show, colours: Colours) {
        match message {
            Message::Diagnostic {
                message:
                    Diagnostic {
                        level,
                        rendered: Some(rendered),
                    },
            } => {
                let is_error = level.starts_with("error");
                if is_error || show == Show::All {
                    print(&colours.of(&rendered));
                }
                if is_error {
                    self.errors.push_str(&rendered);
                }
            }
            Message::Artifact {
                package_id,
                manifest_path,
                target,
                executable,
            } => {
                if package_id.contains("path+file:") {
                    self.packages
                        .extend(manifest_path.parent().map(Path::to_owned));
                }
                if target.is(wanted) {
                    self.executable = executable.or(self.executable.take());
                }
            }
            Message::Finished { success } => self.success = success,
            Message::Diagnostic { .. } | Message::Other => {}
        }
    }
}

impl Artifact {
    fn is(&self, wanted: &Target) -> bool {
        let (kind, name) = match wanted {
            Target::Bin(name) => ("bin", name),
            Target::Example(name) => ("example", name),
        };
        self.name == *name && self.kind.iter().any(|own| own == kind)
    }
}

/// Passes cargo's progress on as it comes, and keeps it: what is wrong with a manifest is said there alone.
fn copy_lines(from: impl Read + Send + 'static, show: Show) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut said = String::new();
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if show == Show::All {
                print(&format!("{line}\n"));
            }
            said.push_str(&line);
            said.push('\n');
        }
        said
    })
}

/// What rustc wrote down of the files that the program came from, beside the program.
fn inputs(executable: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(executable.with_extension("d")).unwrap_or_default();
    listed(&text)
}

/// The right side of a rule of make: a space in a name is escaped.
fn listed(rule: &str) -> Vec<PathBuf> {
    let Some((_, files)) = rule.split_once(": ") else {
        return Vec::new();
    };
    let mut names = vec![String::new()];
    let mut characters = files.lines().next().unwrap_or_default().chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => names
                .last_mut()
                .expect("never empty")
                .extend(characters.next()),
            ' ' => names.push(String::new()),
            other => names.last_mut().expect("never empty").push(other),
        }
    }
    names
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// Whether what is printed may have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colours {
    Shown,
    Plain,
}

impl Colours {
    /// As cargo decides it.
    fn of_the_terminal() -> Self {
        match std::env::var("CARGO_TERM_COLOR").as_deref() {
            Ok("always") => Colours::Shown,
            Ok("never") => Colours::Plain,
            _ if std::io::stderr().is_terminal() => Colours::Shown,
            _ => Colours::Plain,
        }
    }

    fn of(self, text: &str) -> String {
        match self {
            Colours::Shown => text.to_owned(),
            Colours::Plain => plain(text),
        }
    }
}

/// The text without its colours: `ESC [ … m`.
pub(super) fn plain(text: &str) -> String {
    let mut pieces = text.split("\x1b[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

/// To standard error, where cargo would have said it.
fn print(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_cargo_are_heard_and_others_are_nobodys() {
        let wanted = Target::Bin("shop".into());
        let mut told = Told::default();
        let lines = [
            r#"{"reason":"compiler-artifact","package_id":"registry+https://github.com/rust-lang/crates.io-index#serde@1.0.0","manifest_path":"/r/serde/Cargo.toml","target":{"kind":["lib"],"name":"serde"},"executable":null,"fresh":true}"#,
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w/shop#0.1.0","manifest_path":"/w/shop/Cargo.toml","target":{"kind":["bin"],"name":"shop"},"executable":"/w/target/debug/shop","fresh":true}"#,
            r#"{"reason":"compiler-message","message":{"level":"warning","rendered":"warning: unused"}}"#,
            r#"{"reason":"compiler-message","message":{"level":"error","rendered":"\u001b[31merror\u001b[0m: no"}}"#,
            r#"{"reason":"something-new","x":1}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ];
        for line in lines {
            told.hear(
                serde_json::from_str(line).unwrap(),
                &wanted,
                Show::Errors,
                Colours::Plain,
            );
        }
        assert_eq!(
            told.executable.as_deref(),
            Some(Path::new("/w/target/debug/shop"))
        );
        assert_eq!(told.packages, [PathBuf::from("/w/shop")]);
        assert_eq!(
            (told.success, plain(&told.errors).as_str()),
            (true, "error: no")
        );
        assert!(serde_json::from_str::<Message>("hello from a macro").is_err());
    }

    #[test]
    fn files_of_a_rule_are_listed() {
        let listed = listed("/t/shop: /w/src/main.rs /w/my\\ page.html\n\n/w/src/main.rs:\n");
        assert_eq!(
            listed,
            [
                PathBuf::from("/w/src/main.rs"),
                PathBuf::from("/w/my page.html")
            ]
        );
        assert!(super::listed("").is_empty());
    }

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(plain("\x1b[1m\x1b[38;5;9merror\x1b[0m: x"), "error: x");
        assert_eq!(plain("plain \x1b[1"), "plain ");
    }
}
