//! A package outside this workspace, built against this checkout, as a user of slackwater builds it.

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

/// The longest time of a build. The first build compiles the framework, on a machine that is busy with other tests.
pub const BUILD: Duration = Duration::from_secs(600);

/// A package in its own directory, which is removed at the end of the test.
#[derive(Debug)]
pub struct Project {
    launch: Launch,
    root: PathBuf,
}

/// Returns the root of the workspace.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
}

impl Project {
    /// Creates a program of one file. No other test may use the same name, because all projects share one target
    /// directory, which saves compiling the dependencies again.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be written.
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

    /// Creates an empty directory with this name, for a package that another tool generates.
    #[must_use]
    pub fn at(name: &str) -> Self {
        let launch = Launch::program("cargo".as_ref()).in_subdirectory(name);
        let root = launch.dir().path().join(name);
        Project { launch, root }
    }

    /// Copies this workspace's `Cargo.lock` into it, so that it uses the same versions of dependencies.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be copied.
    pub fn use_our_lock(&self) {
        let lock =
            fs::read_to_string(workspace().join("Cargo.lock")).expect("the workspace's Cargo.lock");
        self.write("Cargo.lock", &lock);
    }

    /// Returns its directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes one of its files and creates the directories above it.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        let written = fs::create_dir_all(path.parent().unwrap_or(&self.root))
            .and_then(|()| fs::write(&path, text));
        written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    /// Returns the content of one of its files.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be read.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        let path = self.root.join(path);
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    }

    /// Replaces the first `from` in one of its files by `to`.
    ///
    /// # Panics
    ///
    /// Panics if the file does not contain `from`.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(
            text.contains(from),
            "{path} does not contain {from:?}:\n{text}"
        );
        self.write(path, &text.replacen(from, to, 1));
    }

    /// Returns the launch of a program in it. The name "cargo" stands for cargo.
    #[must_use]
    pub fn launch(&self, program: &Path, args: &[&str]) -> Launch {
        let mut launch = self.launch.clone().with_program(program).args(args);
        for (name, value) in environment() {
            launch = launch.env(name, value);
        }
        launch
    }

    /// Runs cargo in it until cargo exits; returns its standard output.
    ///
    /// # Panics
    ///
    /// Panics if cargo fails.
    pub fn cargo(&self, args: &[&str]) -> String {
        let mut command = Command::new("cargo");
        command
            .args(args)
            .current_dir(&self.root)
            .envs(environment());
        let output = command.output().expect("cargo starts");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "cargo {args:?}: {}\n{stdout}\n{stderr}",
            output.status
        );
        stdout
    }
}

/// Returns the environment of its builds: the target directory, and the directories of cargo and rustup.
fn environment() -> Vec<(&'static str, std::ffi::OsString)> {
    let mut environment = vec![
        ("CARGO_TARGET_DIR", program::target_dir().into()),
        ("CARGO_TERM_COLOR", "never".into()),
    ];
    let inherited = ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
    environment.extend(
        inherited
            .into_iter()
            .filter_map(|name| Some((name, env::var_os(name)?))),
    );
    environment
}

/// Waits until a program, which may have to be compiled first, answers; returns its address.
///
/// # Panics
///
/// Panics if it exits, or takes longer than [`BUILD`].
pub fn answers(process: &mut Process) -> Addr {
    let answers = wait::maybe(BUILD, || {
        if process.has_ended() {
            return Some(None);
        }
        let addr = process.addresses().into_iter().next()?;
        let answer = Conn::open(&addr)
            .and_then(|mut conn| conn.fetch("/livez"))
            .ok()?;
        (answer.status == 200).then_some(Some(addr))
    });
    answers
        .flatten()
        .unwrap_or_else(|| panic!("no answer; its output:\n{}", process.log()))
}
