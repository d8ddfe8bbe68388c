//! A package of somebody's own, outside of this workspace, built against this checkout as its author would.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::addr::Addr;
use crate::conn::Conn;
use crate::launch::Launch;
use crate::process::Process;
use crate::program;
use crate::wait;

/// How long a build of it may take: the first one compiles the framework, on a machine that is busy with other tests.
pub const BUILD: Duration = Duration::from_secs(600);

/// A package in a directory of its own; gone when the test is.
#[derive(Debug)]
pub struct Project {
    launch: Launch,
    root: PathBuf,
}

/// Where the workspace is.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
}

impl Project {
    /// A program of one file. Its name must be no other test's: all build into one directory, which spares compiling
    /// every dependency again.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    pub fn new(name: &str, main: &str) -> Self {
        let project = Project::at(name);
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\n\
             slackwater = {{ path = \"{}\", features = [\"dev\"] }}\n\
             tide = {{ version = \"0.16\", default-features = false }}\n\n\
             [profile.dev]\ndebug = \"line-tables-only\"\n\n[workspace]\n",
            workspace().join("framework").display()
        );
        project.write("Cargo.toml", &manifest);
        project.write("src/main.rs", main);
        project.use_our_lock();
        project
    }

    /// An empty directory of this name, for a package that something else makes.
    #[must_use]
    pub fn at(name: &str) -> Self {
        let launch = Launch::program("cargo".as_ref()).works_in(name);
        let root = launch.dir().path().join(name);
        Project { launch, root }
    }

    /// Has it take the versions of dependencies that this workspace is built with.
    ///
    /// # Panics
    ///
    /// When they cannot be written.
    pub fn use_our_lock(&self) {
        let lock =
            fs::read_to_string(workspace().join("Cargo.lock")).expect("the workspace's Cargo.lock");
        self.write("Cargo.lock", &lock);
    }

    /// Its directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes one of its files, and the directories above it.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        let written = fs::create_dir_all(path.parent().unwrap_or(&self.root))
            .and_then(|()| fs::write(&path, text));
        written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    /// What one of its files holds.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        let path = self.root.join(path);
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    }

    /// Edits one of its files: `from` becomes `to`, once.
    ///
    /// # Panics
    ///
    /// When `from` is not there.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(
            text.contains(from),
            "{path} does not hold {from:?}:\n{text}"
        );
        self.write(path, &text.replacen(from, to, 1));
    }

    /// A program that is run in it; cargo, if it is called "cargo".
    #[must_use]
    pub fn launch(&self, program: &Path, args: &[&str]) -> Launch {
        let mut launch = self.launch.clone().called(program).args(args);
        for (name, value) in environment() {
            launch = launch.env(name, value);
        }
        launch
    }

    /// cargo in it, run to its end.
    ///
    /// # Panics
    ///
    /// When cargo fails.
    pub fn cargo(&self, args: &[&str]) -> String {
        let mut command = Command::new("cargo");
        command
            .args(args)
            .current_dir(&self.root)
            .envs(environment());
        let output = command.output().expect("cargo starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let trouble = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "cargo {args:?}: {}\n{said}\n{trouble}",
            output.status
        );
        said
    }
}

/// Where it builds, and where cargo and rustup have their things.
fn environment() -> Vec<(&'static str, std::ffi::OsString)> {
    let mut environment = vec![
        ("CARGO_TARGET_DIR", program::target_dir().into()),
        ("CARGO_TERM_COLOR", "never".into()),
    ];
    let kept = ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
    environment.extend(
        kept.into_iter()
            .filter_map(|name| Some((name, env::var_os(name)?))),
    );
    environment
}

/// Waits until a program that may have to be compiled first answers; gives where.
///
/// # Panics
///
/// When it ends, or takes longer than a build may take.
pub fn answers(process: &mut Process) -> Addr {
    let answers = wait::maybe(BUILD, || {
        if process.has_ended() {
            return Some(None);
        }
        let addr = process.addresses().into_iter().next()?;
        let answer = Conn::open(&addr)
            .and_then(|mut conn| conn.ask("/livez"))
            .ok()?;
        (answer.status == 200).then_some(Some(addr))
    });
    answers
        .flatten()
        .unwrap_or_else(|| panic!("no answer; its output:\n{}", process.log()))
}
