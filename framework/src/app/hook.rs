//! Hooks and background tasks of an application.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_lite::FutureExt;

use super::future::BoxFuture;
use crate::error::{panic_text, Result};
use crate::sync::token::Token;

/// A function that runs once: before a generation goes live, or when it begins to drain.
pub(crate) type Hook = Box<dyn FnOnce() -> BoxFuture<Result<()>> + Send>;

/// A background task of a generation.
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) start: Box<dyn FnOnce(Token) -> BoxFuture<()> + Send>,
}

/// Boxes a hook and turns a panic in it into an error.
///
/// The caller waits for the hook's result. Without this, a panic would end the hook's task without a result and the
/// caller would wait for ever.
pub(super) fn hook<F, Fut>(run: F) -> Hook
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    Box::new(|| {
        Box::pin(async {
            let result = AssertUnwindSafe(async { run().await }).catch_unwind().await;
            result.unwrap_or_else(|payload| {
                Err(format!("the hook panicked: {}", panic_text(&*payload)).into())
            })
        })
    })
}
