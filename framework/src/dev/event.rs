//! The events of the development loop.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use signal_hook::low_level::siginfo::Origin;

/// An event that the development loop handles. Other threads send them.
#[derive(Debug)]
pub(super) enum LoopEvent {
    Signal(Origin),
    /// These files or directories have changed.
    FilesChanged(Vec<PathBuf>),
    /// The build with this number has ended.
    BuildEnded(u64, BuildOutcome),
    /// A page opened its event stream. `build_id` names the build that sent the page.
    PageOpened {
        build_id: String,
        page: UnixStream,
    },
    /// A new process or generation of the program cannot go live.
    StartFailed {
        title: String,
        text: String,
    },
    /// A new process or generation has built its application at this time, and is about to go live.
    ApplicationBuilt(Instant),
}

/// The outcome of a build.
#[derive(Debug)]
pub(super) enum BuildOutcome {
    Succeeded(BuildOutput),
    /// The errors of the compiler or of cargo, with the terminal's colours.
    Failed(String),
}

/// The result of a successful build.
#[derive(Debug)]
pub(super) struct BuildOutput {
    pub(super) executable: PathBuf,
    /// The directories of the workspace's packages and path dependencies.
    pub(super) packages: Vec<PathBuf>,
    /// All files that the compiler has read, except those of packages from a registry.
    pub(super) inputs: Vec<PathBuf>,
}
