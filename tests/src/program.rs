//! Where the programs under test are: built by the same cargo, beside the tests.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

/// `examples/playground.rs`.
#[must_use]
pub fn playground() -> PathBuf {
    example("playground")
}

/// `examples/hello.rs`.
#[must_use]
pub fn hello() -> PathBuf {
    example("hello")
}

/// One of the examples.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    build_once();
    profile_dir().join("examples").join(name)
}

/// The fixture of this package: what the playground has no route or hook for.
#[must_use]
pub fn fixture() -> PathBuf {
    build_once();
    profile_dir().join("fixture")
}

/// A program of other make that takes `LISTEN_FDS`: axum on listenfd. Given `ready`, it says READY=1.
#[must_use]
pub fn stranger() -> PathBuf {
    build_once();
    profile_dir().join("stranger")
}

/// Makes a program of `text` at `path`, in place of what was there: as a deploy does, by a rename. A child writes it: what
/// is open for writing here when another test forks is busy (`ETXTBSY`) until that one's exec.
///
/// # Panics
///
/// When it cannot be written.
pub fn script(path: &Path, text: impl AsRef<[u8]>) {
    let fresh = path.with_extension("fresh");
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(&fresh)
        .stdin(Stdio::piped());
    let status = shell.spawn().and_then(|mut child| {
        // dropped when all is in it: that is its end
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

/// The directory that cargo builds into.
#[must_use]
pub fn target_dir() -> PathBuf {
    profile_dir()
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

/// `target/debug` or `target/release`: the tests' own executable is in its `deps`, a bench in itself.
///
/// # Panics
///
/// When this executable is nowhere.
fn profile_dir() -> PathBuf {
    let exe = env::current_exe().expect("a running program has a path");
    let dir = exe
        .parent()
        .unwrap_or_else(|| panic!("{} is in no directory", exe.display()));
    let is_below = dir.ends_with("deps") || dir.ends_with("examples");
    dir.parent().filter(|_| is_below).unwrap_or(dir).to_owned()
}

/// `cargo test --workspace` has built everything already; `cargo test -p slackwater-tests` has not, and what
/// an earlier build left behind may be stale. Asking cargo again costs nothing where all is fresh.
fn build_once() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        // set by cargo for what it runs; by hand, the binaries are taken as they are
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
