//! The error behind a response: its status, and its line in the log.

use std::error::Error as StdError;

use tide::http::headers::CONNECTION;
use tide::http::Response;
use tide::{Middleware, Next, Request, StatusCode};

use super::reader::SharedBodyError;
use super::RequestSummary;
use crate::error::chain;
use crate::http::BodyError;

/// The text of an error and of its sources, stored in the extensions of the error's response.
pub(super) struct ErrorCause(pub(super) String);

/// Stores the error of a response in the response's extensions.
///
/// It must be the outermost middleware, because `Server::respond` returns a response without its error.
pub(crate) struct CauseMiddleware;

#[tide::utils::async_trait]
impl<S: Clone + Send + Sync + 'static> Middleware<S> for CauseMiddleware {
    async fn handle(&self, request: Request<S>, next: Next<'_, S>) -> tide::Result {
        let mut response = next.run(request).await;
        match response.error() {
            Some(error) => {
                let cause = cause(error);
                response.insert_ext(cause);
            }
            // a nested application may have stored a cause, and a middleware outside it may have handled the error
            None => {
                AsMut::<Response>::as_mut(&mut response)
                    .ext_mut()
                    .remove::<ErrorCause>();
            }
        }
        Ok(response)
    }
}

fn cause(error: &tide::Error) -> ErrorCause {
    let error: &(dyn StdError + 'static) = error.as_ref();
    ErrorCause(chain(error))
}

/// Returns the response with its final status, and logs the error behind a 5xx once.
pub(super) fn settle(
    result: tide::http::Result<Response>,
    body_error: Option<SharedBodyError>,
    summary: &RequestSummary,
) -> Response {
    let mut response = result.unwrap_or_else(|error| {
        let mut response = Response::new(error.status());
        response.ext_mut().insert(cause(&error));
        response
    });
    if let Some(error) = body_error.and_then(|error| error.get().copied()) {
        use_status_of(&mut response, error);
    }
    if response.status().is_server_error() {
        if let Some(ErrorCause(cause)) = response.ext().get() {
            let status = response.status();
            log::error!(
                "{summary}: {} {}: {cause}",
                status,
                status.canonical_reason()
            );
        }
    }
    response
}

/// Gives an error response the status of the error that ended the request's body.
///
/// The handler could not read the body and therefore answered with an error. tide's status for it would be 422 or 500.
fn use_status_of(response: &mut Response, error: BodyError) {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return;
    }
    if let Ok(status) = StatusCode::try_from(error.status().as_u16()) {
        response.set_status(status);
    }
    if error == BodyError::TimedOut {
        // RFC 9110, section 15.5.9
        response.insert_header(CONNECTION, "close");
    }
}
