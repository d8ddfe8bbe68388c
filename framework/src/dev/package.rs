//! What is built: the package, target and profile that this program came from, asked of cargo's environment and the
//! program's own path when it runs. Nothing of it is compiled in.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Kind};

/// What `cargo run` sets for the program, and a build of its own must not see: build scripts that ask cargo to watch
/// one of these would run each time.
const OF_THE_PROGRAM: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// How cargo is asked to build this program again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    cargo: OsString,
    /// Where its `Cargo.toml` is.
    pub(super) root: PathBuf,
    pub(super) target: Target,
    arguments: Vec<OsString>,
}

/// What of the package is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Bin(String),
    Example(String),
}

impl Package {
    /// The package of the running program; `flags` are what else cargo is to be told.
    ///
    /// # Errors
    /// It was not started by cargo.
    pub(super) fn running(flags: Vec<OsString>) -> Result<Self, Error> {
        let Some(root) = env::var_os("CARGO_MANIFEST_DIR") else {
            let message = "`dev` builds the program anew, and has cargo say where it is: start it with `cargo run -- dev`";
            return Err(Error::new(Kind::Usage, message));
        };
        let exe = env::current_exe().map_err(|error| {
            Error::new(Kind::Io, "`dev` cannot find out which program it is").because(error)
        })?;
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Ok(Package::of(cargo, root.into(), &exe, is_target_dir, flags))
    }

    /// From the path of the program, `TARGET_DIR/[TRIPLE/]PROFILE/[examples/]NAME`, what cargo has to be told so that
    /// it builds the same one. What `flags` say goes first.
    fn of(
        cargo: OsString,
        root: PathBuf,
        exe: &Path,
        is_target_dir: impl Fn(&Path) -> bool,
        flags: Vec<OsString>,
    ) -> Self {
        let text = |part: &OsStr| part.to_string_lossy().into_owned();
        let name = exe.file_name().map(text).unwrap_or_default();
        let dir = exe.parent().unwrap_or(Path::new(""));
        let (target, profile_dir) = match dir.ends_with("examples") {
            true => (Target::Example(name), dir.parent().unwrap_or(dir)),
            false => (Target::Bin(name), dir),
        };
        let mut arguments: Vec<OsString> = Vec::new();
        let said = |names: &[&str]| {
            flags
                .iter()
                .any(|flag| names.iter().any(|name| is_flag(flag, name)))
        };
        if !said(&["--bin", "--example"]) {
            let (kind, name) = target.flag();
            arguments.extend([kind.into(), name.into()]);
        }
        if !said(&["--profile", "--release", "-r"]) {
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
            if !said(&["--target-dir"]) {
                arguments.extend(["--target-dir".into(), directory.into()]);
            }
            if let Some(triple) = below
                .and_then(Path::file_name)
                .filter(|_| !said(&["--target"]))
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

    /// `cargo build`, in the directory and the environment that `cargo run` had.
    pub(super) fn build(&self) -> Command {
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
            if OF_THE_PROGRAM
                .iter()
                .any(|prefix| name.to_string_lossy().starts_with(prefix))
            {
                command.env_remove(name);
            }
        }
        command
    }
}

impl Target {
    fn flag(&self) -> (&'static str, &str) {
        match self {
            Target::Bin(name) => ("--bin", name),
            Target::Example(name) => ("--example", name),
        }
    }
}

fn is_flag(given: &OsStr, name: &str) -> bool {
    let given = given.to_string_lossy();
    given
        .strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// cargo marks the directories that it builds into, as <https://bford.info/cachedir/> says.
pub(super) fn is_target_dir(path: &Path) -> bool {
    path.join("CACHEDIR.TAG").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(exe: &str, flags: &[&str]) -> String {
        let flags = flags.iter().map(OsString::from).collect();
        let is_target_dir = |path: &Path| path.ends_with("target");
        let package = Package::of(
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
    fn the_path_of_the_program_says_what_to_build() {
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
    fn what_the_flags_say_is_not_said_twice() {
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
