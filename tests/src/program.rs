//! The paths of the programs under test, which the same cargo builds.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

/// Returns the program of `examples/playground.rs`.
#[must_use]
pub fn playground() -> PathBuf {
    example("playground")
}

/// Returns the program of `examples/hello.rs`.
#[must_use]
pub fn hello() -> PathBuf {
    example("hello")
}

/// Returns the program of an example.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    build_once();
    profile_dir().join("examples").join(name)
}

/// Returns the fixture of this package, with routes and hooks that the playground does not have.
#[must_use]
pub fn fixture() -> PathBuf {
    build_once();
    profile_dir().join("fixture")
}

/// Returns a program that does not use slackwater: axum on a socket from `LISTEN_FDS`.
///
/// With the argument `ready` it sends `READY=1`.
#[must_use]
pub fn foreign() -> PathBuf {
    build_once();
    profile_dir().join("foreign")
}

/// Writes an executable script to `path` and replaces an existing file by a rename, as a deployment does.
///
/// A child process writes the file. If this process did, a test that forks meanwhile would inherit the descriptor, and
/// the script could not be executed (`ETXTBSY`) until that child's exec.
///
/// # Panics
///
/// Panics if it cannot be written.
pub fn script(path: &Path, text: impl AsRef<[u8]>) {
    let fresh = path.with_extension("fresh");
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(&fresh)
        .stdin(Stdio::piped());
    let status = shell.spawn().and_then(|mut child| {
        // dropped after the last byte, which is the end of the input for `cat`
        let sent = child
            .stdin
            .take()
            .map_or(Ok(()), |mut stdin| stdin.write_all(text.as_ref()));
        child.wait().and_then(|status| sent.map(|()| status))
    });
    assert!(
        status.as_ref().is_ok_and(ExitStatus::success),
        "cannot write {}: {status:?}",
        path.display()
    );
    fs::rename(&fresh, path)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// Returns cargo's target directory.
#[must_use]
pub fn target_dir() -> PathBuf {
    profile_dir()
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

/// Returns `target/debug` or `target/release`. The executable of the tests is in its `deps`, a bench directly in it.
///
/// # Panics
///
/// Panics if the path of this executable is unknown.
fn profile_dir() -> PathBuf {
    let exe = env::current_exe().expect("a running program has a path");
    let dir = exe
        .parent()
        .unwrap_or_else(|| panic!("{} is in no directory", exe.display()));
    let is_below = dir.ends_with("deps") || dir.ends_with("examples");
    dir.parent().filter(|_| is_below).unwrap_or(dir).to_owned()
}

/// Builds the programs under test.
///
/// `cargo test --workspace` builds them, `cargo test -p slackwater-tests` does not, and programs of an earlier build may
/// be stale. If everything is up to date, this costs little.
fn build_once() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        // cargo sets CARGO for the programs it runs; without it the existing binaries are used
        let Some(cargo) = env::var_os("CARGO") else {
            return;
        };
        let dir = profile_dir();
        let profile = if dir.ends_with("debug") {
            "dev"
        } else {
            "release"
        };
        let status = Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--workspace",
                "--bins",
                "--examples",
                "--profile",
                profile,
            ])
            .arg("--target-dir")
            .arg(target_dir())
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status();
        assert!(
            status.as_ref().is_ok_and(ExitStatus::success),
            "building the examples: {status:?}"
        );
    });
}
