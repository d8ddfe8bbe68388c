//! What became of a request: the error behind the answer, and the line of the log that names it.

use std::error::Error as StdError;

use tide::http::headers::CONNECTION;
use tide::http::Response;
use tide::{Middleware, Next, Request, StatusCode};

use super::reader::Broken;
use super::Asked;
use crate::error::chain;
use crate::http::BodyError;

/// An error and its sources, in the extensions of the response that stands for it.
pub(super) struct Cause(pub(super) String);

/// The outermost middleware: `Server::respond` gives back a response without its error, so this keeps what it said.
pub(crate) struct KeepCause;

#[tide::utils::async_trait]
impl<S: Clone + Send + Sync + 'static> Middleware<S> for KeepCause {
    async fn handle(&self, request: Request<S>, next: Next<'_, S>) -> tide::Result {
        let mut response = next.run(request).await;
        match response.error() {
            Some(error) => {
                let cause = cause(error);
                response.insert_ext(cause);
            }
            // a middleware between a nested application and here may have dealt with it
            None => {
                AsMut::<Response>::as_mut(&mut response)
                    .ext_mut()
                    .remove::<Cause>();
            }
        }
        Ok(response)
    }
}

fn cause(error: &tide::Error) -> Cause {
    let error: &(dyn StdError + 'static) = error.as_ref();
    Cause(chain(error))
}

/// Settles the status of an answer, and logs the error behind a 5xx once.
pub(super) fn settle(
    answered: tide::http::Result<Response>,
    broken: Option<Broken>,
    asked: &Asked,
) -> Response {
    let mut response = answered.unwrap_or_else(|error| {
        let mut response = Response::new(error.status());
        response.ext_mut().insert(cause(&error));
        response
    });
    if let Some(error) = broken.and_then(|broken| broken.get().copied()) {
        blame_body(&mut response, error);
    }
    if response.status().is_server_error() {
        if let Some(Cause(cause)) = response.ext().get() {
            let status = response.status();
            log::error!("{asked}: {} {}: {cause}", status, status.canonical_reason());
        }
    }
    response
}

/// A handler that could not read the body and answers with an error means that error; tide would make it 422 or 500.
fn blame_body(response: &mut Response, error: BodyError) {
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
