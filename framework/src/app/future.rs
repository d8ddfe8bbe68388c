//! Type aliases for boxed futures.

use std::future::Future;
use std::pin::Pin;

/// A boxed future that can be sent to another thread.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
