//! The two ways in which the test client runs an application.

use std::fmt;

use super::in_process::InProcess;
use super::request::TestRequest;
use super::response::TestResponse;
use super::spawned::Spawned;
use crate::error::Result;

/// A running application under test.
#[expect(clippy::large_enum_variant, reason = "a test has only a few of them")]
pub(super) enum Backend {
    InProcess(InProcess),
    Spawned(Spawned),
}

impl Backend {
    pub(super) async fn send(&self, request: TestRequest) -> Result<TestResponse> {
        match self {
            Backend::InProcess(application) => application.send(request).await,
            Backend::Spawned(process) => process.send(request).await,
        }
    }

    pub(super) async fn reload(&self) -> Result<()> {
        match self {
            Backend::InProcess(application) => application.reload().await,
            Backend::Spawned(process) => process.reload().await,
        }
    }

    pub(super) fn set(&self, key_and_value: String) -> Result<()> {
        match self {
            Backend::InProcess(application) => {
                application.set(key_and_value);
                Ok(())
            }
            Backend::Spawned(_) => Err(
                "the flags of a running process cannot be changed; change its configuration file"
                    .into(),
            ),
        }
    }

    pub(super) async fn drain(&self) -> Result<()> {
        match self {
            Backend::InProcess(application) => application.drain().await,
            Backend::Spawned(process) => process.drain().await,
        }
    }

    /// Returns the process id of a spawned process.
    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Backend::InProcess(_) => None,
            Backend::Spawned(process) => Some(process.pid()),
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}
