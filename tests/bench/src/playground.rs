//! The release playground, built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use slackwater_tests::launch::Launch;

/// Returns a launch of the release playground with its default settings.
pub fn launch() -> Launch {
    Launch::program(path())
}

/// Builds the playground once; returns its path.
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
        .expect("the built playground exists")
}
