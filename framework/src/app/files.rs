//! Directories of files: paths that name no file are not found.

use std::io::{self, ErrorKind};

use rustix::io::Errno;
use tide::utils::async_trait;
use tide::{Middleware, Next, Request, Response, Result, StatusCode};

/// Stands before tide's endpoint for a directory, which takes any path that is not missing altogether for the server's
/// fault: a directory, something below a file, a name that no file can have.
pub(super) struct NoFile {
    /// What the paths of its requests begin with.
    pub(super) below: String,
}

#[async_trait]
impl<S: Clone + Send + Sync + 'static> Middleware<S> for NoFile {
    async fn handle(&self, request: Request<S>, next: Next<'_, S>) -> Result {
        // the router passes over slashes that are doubled, and the endpoint does not
        if !request.url().path().starts_with(&self.below) {
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
    // a name that is too long for the file system has an `ErrorKind` only since Rust 1.87
    Errno::from_io_error(error) == Some(Errno::NAMETOOLONG)
        || matches!(
            error.kind(),
            ErrorKind::IsADirectory | ErrorKind::NotADirectory
        )
}
