//! The tools of others that the promises are tried with: holders of sockets, inits, terminals, cargo's helpers, a browser.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::{flock, FlockOperation};

use crate::program;

/// systemfd 0.4.6, installed below cargo's target directory by the first test that asks for it.
///
/// # Errors
///
/// Why it could not be installed.
pub fn systemfd() -> Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND
        .get_or_init(|| install("systemfd", "0.4.6", &[]))
        .clone()
}

/// cargo-watch 8.5.3, installed likewise. `cargo watch` finds it where its directory is in `PATH`.
///
/// # Errors
///
/// Why it could not be installed.
pub fn cargo_watch() -> Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND
        .get_or_init(|| install("cargo-watch", "8.5.3", &[]))
        .clone()
}

/// cargo-generate 0.23.4, installed likewise; without the libgit2 that it would compile, for no template is cloned here.
///
/// # Errors
///
/// Why it could not be installed.
pub fn cargo_generate() -> Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND
        .get_or_init(|| install("cargo-generate", "0.23.4", &["--no-default-features"]))
        .clone()
}

/// Installs a tool, once for all that run tests in this target directory; a debug build, which is there sooner.
fn install(name: &str, version: &str, flags: &[&str]) -> Result<PathBuf, String> {
    let root = program::target_dir().join("tools");
    let binary = root.join("bin").join(name);
    let said = |error: io::Error| format!("installing {name}: {error}");
    fs::create_dir_all(&root).map_err(said)?;
    // another test binary may be at it: the lock ends with the file's descriptor
    let lock = File::create(root.join("lock")).map_err(said)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| said(error.into()))?;
    if !binary.exists() {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args([
            "install",
            "--quiet",
            "--locked",
            "--debug",
            "--version",
            &format!("={version}"),
            name,
        ]);
        // what they have in common is compiled once
        command
            .arg("--root")
            .arg(&root)
            .arg("--target-dir")
            .arg(root.join("build"))
            .args(flags);
        let output = command.output().map_err(said)?;
        if !output.status.success() {
            return Err(format!(
                "installing {name}: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    Ok(binary)
}

/// Chromium, and the program that drives it.
///
/// # Errors
///
/// When Debian's packages chromium and chromium-driver are not installed.
pub fn chromium() -> Result<(PathBuf, PathBuf), String> {
    Ok((
        installed("/usr/bin/chromium", "chromium")?,
        installed("/usr/bin/chromedriver", "chromium-driver")?,
    ))
}

/// systemd's own tool that passes a socket on to one program.
///
/// # Errors
///
/// When Debian's package systemd is not installed.
pub fn socket_activate() -> Result<PathBuf, String> {
    installed("/usr/bin/systemd-socket-activate", "systemd")
}

/// systemd's own check of units.
///
/// # Errors
///
/// When Debian's package systemd is not installed.
pub fn systemd_analyze() -> Result<PathBuf, String> {
    installed("/usr/bin/systemd-analyze", "systemd")
}

/// The script that boots a systemd of its own beside a command, apart from the machine's.
///
/// # Errors
///
/// When Debian's packages systemd or iproute2 are not installed, or namespaces may not be made here.
pub fn sandboxed_systemd() -> Result<PathBuf, String> {
    installed("/usr/lib/systemd/systemd", "systemd")?;
    installed("/bin/ip", "iproute2")?;
    let apart = [
        "--pid", "--fork", "--mount", "--net", "--ipc", "--uts", "--cgroup", "true",
    ];
    let tried = Command::new("unshare")
        .args(apart)
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if !tried.status.success() {
        return Err(format!(
            "no namespaces here: {}",
            String::from_utf8_lossy(&tried.stderr).trim()
        ));
    }
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("support/with-units"))
}

/// `unshare`, where namespaces may be made.
///
/// # Errors
///
/// When it is not installed, or they may not be made here.
pub fn namespaces() -> Result<PathBuf, String> {
    let apart = ["--pid", "--fork", "--kill-child", "--mount-proc", "true"];
    let tried = Command::new("unshare")
        .args(apart)
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    match tried.status.success() {
        true => Ok("unshare".into()),
        false => Err(format!(
            "no namespaces here: {}",
            String::from_utf8_lossy(&tried.stderr).trim()
        )),
    }
}

/// The init of containers.
///
/// # Errors
///
/// When Debian's package tini is not installed.
pub fn tini() -> Result<PathBuf, String> {
    installed("/usr/bin/tini", "tini")
}

/// What runs a program on a terminal of its own.
///
/// # Errors
///
/// When Debian's package bsdutils is not installed.
pub fn script() -> Result<PathBuf, String> {
    installed("/usr/bin/script", "bsdutils")
}

fn installed(path: &str, package: &str) -> Result<PathBuf, String> {
    let path = Path::new(path);
    let missing = || format!("{} is missing: apt-get install {package}", path.display());
    path.exists().then(|| path.to_owned()).ok_or_else(missing)
}

/// The tool, or a word to whoever reads the output why the test was skipped.
pub fn or_skip<T>(tool: Result<T, String>) -> Option<T> {
    // past the capturing of test output: a test that did not run must not look like one that passed
    tool.map_err(|reason| writeln!(io::stderr(), "skipped: {reason}"))
        .ok()
}
