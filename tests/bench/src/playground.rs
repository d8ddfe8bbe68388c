//! The release playground: built once, started as often as a bench needs it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use slackwater_tests::launch::Launch;

/// The release playground with its defaults, to be started.
pub fn launch() -> Launch {
    Launch::program(path())
}

/// Where it is.
pub fn path() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build)
}

fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let status = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--quiet",
            "--package",
            "slackwater-examples",
            "--example",
            "playground",
        ])
        .current_dir(&root)
        .status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "building the playground: {status:?}"
    );
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target
        .join("release/examples/playground")
        .canonicalize()
        .expect("what was built is there")
}
