//! Runs `cargo build`. Its messages go to the terminal as they come, and its outcome is an event of the
//! loop.

mod cargo_output;
mod terminal;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::process::{kill_process_group, Pid, Signal};

use super::event::{BuildOutcome, BuildOutput, LoopEvent};
use super::package::{CargoTarget, Package};
use crate::error::{Error, Kind};
use cargo_output::CargoOutput;
use terminal::{print, Colours};

pub(super) use terminal::Verbosity;

/// A build in progress.
#[derive(Debug)]
pub(super) struct CargoBuild {
    /// Distinguishes the outcome of this build from the outcome of a cancelled build.
    pub(super) number: u64,
    pub(super) began: Instant,
    group: Option<Pid>,
}

impl CargoBuild {
    /// Starts cargo. The outcome is sent as [`LoopEvent::BuildEnded`].
    ///
    /// # Errors
    /// cargo cannot be started.
    pub(super) fn start(
        package: &Package,
        number: u64,
        verbosity: Verbosity,
        events: Sender<LoopEvent>,
    ) -> Result<Self, Error> {
        let began = Instant::now();
        let mut command = package.build_command();
        let colours = Colours::of_terminal();
        if colours == Colours::Ansi {
            command.arg("--color=always");
        }
        // a process group of its own, so that a signal reaches the compilers as well
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
            let outcome = read_to_end(child, &target, verbosity, colours);
            let _ = events.send(LoopEvent::BuildEnded(number, outcome));
        });
        Ok(CargoBuild {
            number,
            began,
            group,
        })
    }

    /// Kills cargo and the compilers.
    pub(super) fn kill(self) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads the output of cargo until it exits.
fn read_to_end(
    mut child: Child,
    target: &CargoTarget,
    verbosity: Verbosity,
    colours: Colours,
) -> BuildOutcome {
    let progress = child
        .stderr
        .take()
        .map(|stderr| copy_lines(stderr, verbosity));
    let mut output = CargoOutput::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(message) => output.add(message, target, verbosity, colours),
                // build scripts and procedural macros may print to cargo's standard output
                Err(_) => print(&format!("{line}\n")),
            }
        }
    }
    let progress = progress
        .and_then(|thread| thread.join().ok())
        .unwrap_or_default();
    // the loop may have reaped cargo already, so its messages decide about success and not its status
    let _ = child.wait();
    match output.executable {
        Some(executable) if output.success => {
            let inputs = inputs(&executable);
            output.packages.sort();
            output.packages.dedup();
            BuildOutcome::Succeeded(BuildOutput {
                executable,
                packages: output.packages,
                inputs,
            })
        }
        _ => {
            if verbosity == Verbosity::ErrorsOnly {
                print(&progress);
            }
            BuildOutcome::Failed(if output.errors.is_empty() {
                progress
            } else {
                output.errors
            })
        }
    }
}

/// Copies cargo's standard error to the terminal and returns it. An error in a manifest is printed
/// only there, and not as a JSON message.
fn copy_lines(from: impl Read + Send + 'static, verbosity: Verbosity) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if verbosity == Verbosity::All {
                print(&format!("{line}\n"));
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    })
}

/// Returns the files that the compiler has read, which cargo lists in a file beside the executable.
fn inputs(executable: &Path) -> Vec<PathBuf> {
    let rule = std::fs::read_to_string(executable.with_extension("d")).unwrap_or_default();
    prerequisites(&rule)
}

/// Parses the prerequisites of a Makefile rule. Spaces in file names are escaped by a backslash.
fn prerequisites(rule: &str) -> Vec<PathBuf> {
    let Some((_, files)) = rule.split_once(": ") else {
        return Vec::new();
    };
    let mut names = Vec::new();
    let mut name = String::new();
    let mut characters = files.lines().next().unwrap_or_default().chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => name.extend(characters.next()),
            ' ' => names.push(std::mem::take(&mut name)),
            other => name.push(other),
        }
    }
    names.push(name);
    names
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prerequisites_of_a_rule_may_contain_spaces() {
        let files = prerequisites("/t/shop: /w/src/main.rs /w/my\\ page.html\n\n/w/src/main.rs:\n");
        assert_eq!(
            files,
            [
                PathBuf::from("/w/src/main.rs"),
                PathBuf::from("/w/my page.html")
            ]
        );
        assert!(prerequisites("").is_empty());
    }
}
