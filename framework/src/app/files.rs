//! Middleware for directories of files: a path that names no file is answered 404.

use std::error::Error;
use std::io::{self, ErrorKind};

use rustix::io::Errno;
use tide::utils::async_trait;
use tide::{Middleware, Next, Request, Response, Result, StatusCode};

/// Turns file errors of tide's directory endpoint into 404.
///
/// The endpoint answers 404 only if no entry of that name exists. It answers 500 if the path names a directory, goes
/// through a file as if it were a directory, or contains an invalid file name.
pub(super) struct MapFileErrors {
    /// Path of the directory's route.
    pub(super) prefix: String,
}

#[async_trait]
impl<S: Clone + Send + Sync + 'static> Middleware<S> for MapFileErrors {
    async fn handle(&self, request: Request<S>, next: Next<'_, S>) -> Result {
        // the router ignores doubled slashes; the endpoint does not, and panics if the path lacks its prefix
        if !request.url().path().starts_with(&self.prefix) {
            return Ok(Response::new(StatusCode::NotFound));
        }
        let response = next.run(request).await;
        let error = response
            .error()
            .and_then(|error| error.downcast_ref::<io::Error>());
        if error.is_some_and(names_no_file) {
            return Ok(Response::new(StatusCode::NotFound));
        }
        Ok(response)
    }
}

fn names_no_file(error: &io::Error) -> bool {
    is_name_too_long(error)
        || matches!(
            error.kind(),
            ErrorKind::IsADirectory | ErrorKind::NotADirectory
        )
}

/// Returns true for ENAMETOOLONG, whose `ErrorKind` exists only since Rust 1.87.
fn is_name_too_long(error: &(dyn Error + 'static)) -> bool {
    let number = error
        .downcast_ref::<io::Error>()
        .and_then(Errno::from_io_error);
    // async-std wraps the error of the kernel
    number == Some(Errno::NAMETOOLONG) || error.source().is_some_and(is_name_too_long)
}
