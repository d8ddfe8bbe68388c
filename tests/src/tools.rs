//! External tools of the tests: socket holders, inits, a terminal, cargo subcommands, a browser.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::{flock, FlockOperation};

use crate::program;

/// Returns systemfd 0.4.6. The first test that needs it installs it below cargo's target directory.
///
/// # Errors
///
/// Returns the reason if it cannot be installed.
pub fn systemfd() -> Result<PathBuf, String> {
    static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    INSTALLED
        .get_or_init(|| install("systemfd", "0.4.6", &[]))
        .clone()
}

/// Returns cargo-watch 8.5.3, installed like [`systemfd`]. `cargo watch` finds it if its directory is in `PATH`.
///
/// # Errors
///
/// Returns the reason if it cannot be installed.
pub fn cargo_watch() -> Result<PathBuf, String> {
    static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    INSTALLED
        .get_or_init(|| install("cargo-watch", "8.5.3", &[]))
        .clone()
}

/// Returns cargo-generate 0.23.4, installed like [`systemfd`], without libgit2, because the tests clone no template.
///
/// # Errors
///
/// Returns the reason if it cannot be installed.
pub fn cargo_generate() -> Result<PathBuf, String> {
    static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    INSTALLED
        .get_or_init(|| install("cargo-generate", "0.23.4", &["--no-default-features"]))
        .clone()
}

/// Installs a tool once for each target directory. It is a debug build, which takes less time.
fn install(name: &str, version: &str, flags: &[&str]) -> Result<PathBuf, String> {
    let root = program::target_dir().join("tools");
    let binary = root.join("bin").join(name);
    let describe = |error: io::Error| format!("installing {name}: {error}");
    fs::create_dir_all(&root).map_err(describe)?;
    // another test binary may be installing it; closing the file releases the lock
    let lock = File::create(root.join("lock")).map_err(describe)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| describe(error.into()))?;
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
        // a shared target directory compiles common dependencies once
        command
            .arg("--root")
            .arg(&root)
            .arg("--target-dir")
            .arg(root.join("build"))
            .args(flags);
        let output = command.output().map_err(describe)?;
        if !output.status.success() {
            return Err(format!(
                "installing {name}: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    Ok(binary)
}

/// Returns Chromium and its driver.
///
/// # Errors
///
/// Returns the missing package if Debian's chromium or chromium-driver is not installed.
pub fn chromium() -> Result<(PathBuf, PathBuf), String> {
    Ok((
        installed("/usr/bin/chromium", "chromium")?,
        installed("/usr/bin/chromedriver", "chromium-driver")?,
    ))
}

/// Returns `systemd-socket-activate`, which passes a socket to one program.
///
/// # Errors
///
/// Returns the missing package if Debian's systemd is not installed.
pub fn socket_activate() -> Result<PathBuf, String> {
    installed("/usr/bin/systemd-socket-activate", "systemd")
}

/// Returns `systemd-analyze`, which checks units.
///
/// # Errors
///
/// Returns the missing package if Debian's systemd is not installed.
pub fn systemd_analyze() -> Result<PathBuf, String> {
    installed("/usr/bin/systemd-analyze", "systemd")
}

/// Returns the script that runs a command beside a separate systemd, in namespaces of its own.
///
/// # Errors
///
/// Returns the reason if Debian's systemd or iproute2 is not installed, or namespaces cannot be created.
pub fn sandboxed_systemd() -> Result<PathBuf, String> {
    installed("/usr/lib/systemd/systemd", "systemd")?;
    installed("/bin/ip", "iproute2")?;
    let flags = [
        "--pid", "--fork", "--mount", "--net", "--ipc", "--uts", "--cgroup", "true",
    ];
    let output = Command::new("unshare")
        .args(flags)
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "namespaces cannot be created: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("support/with-units"))
}

/// Returns `unshare`.
///
/// # Errors
///
/// Returns the reason if it is not installed, or namespaces cannot be created.
pub fn namespaces() -> Result<PathBuf, String> {
    let flags = ["--pid", "--fork", "--kill-child", "--mount-proc", "true"];
    let output = Command::new("unshare")
        .args(flags)
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    match output.status.success() {
        true => Ok("unshare".into()),
        false => Err(format!(
            "namespaces cannot be created: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// Returns tini, an init for containers.
///
/// # Errors
///
/// Returns the missing package if Debian's tini is not installed.
pub fn tini() -> Result<PathBuf, String> {
    installed("/usr/bin/tini", "tini")
}

/// Returns `script`, which runs a program on a terminal of its own.
///
/// # Errors
///
/// Returns the missing package if Debian's bsdutils is not installed.
pub fn script() -> Result<PathBuf, String> {
    installed("/usr/bin/script", "bsdutils")
}

fn installed(path: &str, package: &str) -> Result<PathBuf, String> {
    let path = Path::new(path);
    let missing = || format!("{} is missing: apt-get install {package}", path.display());
    path.exists().then(|| path.to_owned()).ok_or_else(missing)
}

/// Returns the tool, or prints why the test is skipped.
pub fn or_skip<T>(tool: Result<T, String>) -> Option<T> {
    // written past the capture of test output, so that a skipped test does not look like a passed one
    tool.map_err(|reason| writeln!(io::stderr(), "skipped: {reason}"))
        .ok()
}
