//! Finds the package, target and profile of the running program, so that cargo builds the same program
//! again.
//!
//! cargo's environment and the path of the program tell them at run time; none of them is compiled in.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Kind};

/// The prefixes of the variables that `cargo run` sets for the program. `cargo build` must not inherit
/// them: a build script that lets cargo watch one of them would run in each build.
const CARGO_RUN_VARIABLES: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// The package of this program, and the arguments with which cargo builds it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    cargo: OsString,
    /// The directory of `Cargo.toml`.
    pub(super) root: PathBuf,
    pub(super) target: CargoTarget,
    arguments: Vec<OsString>,
}

/// The target of the package that is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CargoTarget {
    Bin(String),
    Example(String),
}

impl Package {
    /// Returns the package of this program. `flags` are passed to cargo.
    ///
    /// # Errors
    /// This program was not started by cargo.
    pub(super) fn of_this_program(flags: Vec<OsString>) -> Result<Self, Error> {
        let Some(root) = env::var_os("CARGO_MANIFEST_DIR") else {
            let message = "`dev` builds the program, and finds its package in cargo's environment: start it with `cargo run -- dev`";
            return Err(Error::new(Kind::Usage, message));
        };
        let exe = env::current_exe().map_err(|error| {
            Error::new(
                Kind::Io,
                "`dev` cannot determine the path of its own program",
            )
            .because(error)
        })?;
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Ok(Package::from_path(
            cargo,
            root.into(),
            &exe,
            is_target_dir,
            flags,
        ))
    }

    /// Derives the arguments from the path of the program,
    /// `TARGET_DIR/[TRIPLE/]PROFILE/[examples/]NAME`. `flags` take precedence.
    fn from_path(
        cargo: OsString,
        root: PathBuf,
        exe: &Path,
        is_target_dir: impl Fn(&Path) -> bool,
        flags: Vec<OsString>,
    ) -> Self {
        let text = |part: &OsStr| part.to_string_lossy().into_owned();
        let name = exe.file_name().map(text).unwrap_or_default();
        let dir = exe.parent().unwrap_or(Path::new(""));
        let (target, profile_dir) = if dir.ends_with("examples") {
            (CargoTarget::Example(name), dir.parent().unwrap_or(dir))
        } else {
            (CargoTarget::Bin(name), dir)
        };
        let mut arguments: Vec<OsString> = Vec::new();
        let has_flag = |names: &[&str]| {
            flags
                .iter()
                .any(|flag| names.iter().any(|name| is_flag(flag, name)))
        };
        if !has_flag(&["--bin", "--example"]) {
            let (kind, name) = target.flag();
            arguments.extend([kind.into(), name.into()]);
        }
        if !has_flag(&["--profile", "--release", "-r"]) {
            match profile_dir.file_name().map(text).as_deref() {
                Some("debug") | None => {}
                Some(profile) => arguments.extend(["--profile".into(), profile.into()]),
            }
        }
        let above = profile_dir.ancestors().skip(1).take(2);
        for (directory, below) in above.zip([None, profile_dir.parent()]) {
            if !is_target_dir(directory) {
                continue;
            }
            if !has_flag(&["--target-dir"]) {
                arguments.extend(["--target-dir".into(), directory.into()]);
            }
            if let Some(triple) = below
                .and_then(Path::file_name)
                .filter(|_| !has_flag(&["--target"]))
            {
                arguments.extend(["--target".into(), triple.into()]);
            }
            break;
        }
        arguments.extend(flags);
        Package {
            cargo,
            root,
            target,
            arguments,
        }
    }

    /// Returns `cargo build` with the directory and the environment of `cargo run`.
    pub(super) fn build_command(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        command.args([
            "build",
            "--message-format=json-diagnostic-rendered-ansi",
            "--manifest-path",
        ]);
        command
            .arg(self.root.join("Cargo.toml"))
            .args(&self.arguments)
            .stdin(Stdio::null());
        for (name, _) in env::vars_os() {
            if CARGO_RUN_VARIABLES
                .iter()
                .any(|prefix| name.to_string_lossy().starts_with(prefix))
            {
                command.env_remove(name);
            }
        }
        command
    }
}

impl CargoTarget {
    fn flag(&self) -> (&'static str, &str) {
        match self {
            CargoTarget::Bin(name) => ("--bin", name),
            CargoTarget::Example(name) => ("--example", name),
        }
    }
}

/// Returns true if an argument is `NAME` or `NAME=VALUE`.
fn is_flag(argument: &OsStr, name: &str) -> bool {
    let argument = argument.to_string_lossy();
    argument
        .strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// Returns true if cargo has marked a directory as its target directory
/// (<https://bford.info/cachedir/>).
pub(super) fn is_target_dir(path: &Path) -> bool {
    path.join("CACHEDIR.TAG").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(exe: &str, flags: &[&str]) -> String {
        let flags = flags.iter().map(OsString::from).collect();
        let is_target_dir = |path: &Path| path.ends_with("target");
        let package = Package::from_path(
            "cargo".into(),
            "/shop".into(),
            exe.as_ref(),
            is_target_dir,
            flags,
        );
        let arguments: Vec<_> = package
            .arguments
            .iter()
            .map(|argument| argument.to_string_lossy())
            .collect();
        arguments.join(" ")
    }

    #[test]
    fn the_arguments_of_cargo_follow_from_the_path_of_the_program() {
        assert_eq!(
            arguments("/w/target/debug/shop", &[]),
            "--bin shop --target-dir /w/target"
        );
        assert_eq!(
            arguments("/w/target/release/examples/hello", &[]),
            "--example hello --profile release --target-dir /w/target"
        );
        assert_eq!(
            arguments("/w/target/x86_64-unknown-linux-musl/debug/shop", &[]),
            "--bin shop --target-dir /w/target --target x86_64-unknown-linux-musl"
        );
        assert_eq!(arguments("/usr/bin/shop", &[]), "--bin shop --profile bin");
        assert_eq!(arguments("", &[]), "--bin ");
    }

    #[test]
    fn an_argument_that_is_among_the_flags_is_not_passed_twice() {
        assert_eq!(
            arguments("/w/target/release/shop", &["--release", "--features", "x"]),
            "--bin shop --target-dir /w/target --release --features x"
        );
        assert_eq!(
            arguments(
                "/w/target/debug/shop",
                &["--bin=other", "--target-dir", "/t"]
            ),
            "--bin=other --target-dir /t"
        );
    }
}
