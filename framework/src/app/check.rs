//! Readiness checks of an application, run for `/readyz`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::future::BoxFuture;
use crate::error::Result;

/// A readiness check.
pub(crate) struct Check {
    pub(crate) name: String,
    /// The check fails if it takes longer than this.
    pub(crate) within: Duration,
    pub(crate) run: Arc<dyn Fn() -> BoxFuture<Result<()>> + Send + Sync>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.name)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}
