//! What an application wants to have looked at before `/readyz` says yes.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::build::BoxFuture;
use super::App;
use crate::error::Result;

/// One check of an application's readiness.
pub(crate) struct Check {
    pub(crate) name: String,
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

impl<S: Clone + Send + Sync + 'static> App<S> {
    /// A check that runs whenever `/readyz` is asked for: where it fails, panics or takes longer than `within`, the
    /// answer is 503, and names it. All checks run at once. Requests are served all the same: whoever asks decides.
    ///
    /// A check of what all instances share, such as a database, takes all of them away at once when that is down: have
    /// one only for what another instance may do better.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let mut app = slackwater::App::new();
    /// app.check("disk", Duration::from_secs(1), || async {
    ///     std::fs::metadata("uploads").map_err(|error| format!("uploads: {error}"))?;
    ///     Ok(())
    /// });
    /// ```
    pub fn check<F, Fut>(
        &mut self,
        name: impl Into<String>,
        within: Duration,
        check: F,
    ) -> &mut Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let run = Arc::new(move || Box::pin(check()) as BoxFuture<Result<()>>);
        self.checks.push(Check {
            name: name.into(),
            within,
            run,
        });
        self
    }
}
