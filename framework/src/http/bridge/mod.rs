//! The bridge between hyper and tide.
//!
//! A request passes through these modules in order: [`target`] checks its target and `Host`, [`request`] converts its
//! head and [`reader`] its body, tide answers, [`outcome`] sets the status of an error and logs it, and [`response`]
//! with [`chunks`], [`problem`] and [`upgrade`] converts the answer. No other module of `http` names tide.

mod allow;
mod chunks;
#[cfg(fuzzing)]
#[path = "../../../../tests/fuzz/support/bridge.rs"]
pub(super) mod fuzz;
mod outcome;
mod problem;
mod reader;
mod request;
mod response;
mod target;
mod upgrade;

#[cfg(test)]
mod tests;

pub(crate) use allow::Allow;
pub(crate) use outcome::CauseMiddleware;
pub(crate) use request::RequestContext;

use std::fmt;
use std::future::ready;
use std::sync::Arc;

use hyper::header::{HeaderValue, ACCEPT, ALLOW};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode, Uri, Version};

use super::body::BodyLimit;
use super::{Context, ErrorFormat, Reply, RequestBody, ResponseBody, ResponseFuture, Service};
use reader::{IncomingBody, SharedBodyError};
use request::TideRequest;

/// A tide server as a [`Service`].
pub(crate) struct Tide<S>(Arc<Bridge<S>>);

/// The values that all requests of a generation share.
struct Bridge<S> {
    server: tide::Server<S>,
    allow: Allow,
}

impl<S: Clone + Send + Sync + 'static> Tide<S> {
    pub(crate) fn new(server: tide::Server<S>, allow: Allow) -> Self {
        Tide(Arc::new(Bridge { server, allow }))
    }
}

impl<S: Clone + Send + Sync + 'static> Service for Tide<S> {
    fn call(&self, request: hyper::Request<RequestBody>, context: Context) -> Reply {
        let (head, body) = request.into_parts();
        let limit = body.limit();
        Reply {
            response: self.0.clone().answer(head, body, limit, context),
            permit: None,
        }
    }
}

impl<S: Clone + Send + Sync + 'static> Bridge<S> {
    /// Answers one request.
    ///
    /// The request is converted before the future is created, because every value that a future holds is moved with it.
    fn answer(
        self: Arc<Self>,
        head: Parts,
        body: impl IncomingBody,
        limit: BodyLimit,
        context: Context,
    ) -> ResponseFuture {
        let summary = RequestSummary::of(&head);
        match request::convert(head, body, limit, context) {
            Ok(TideRequest::Route {
                request,
                body_error,
            }) => Box::pin(async move {
                let result = self.server.respond(request).await;
                self.finish(result, body_error, &summary)
            }),
            Ok(TideRequest::ServerOptions) => Box::pin(ready(problem::no_content())),
            Err(error) => Box::pin(ready(problem::reject(&error, &summary))),
        }
    }

    fn finish(
        &self,
        result: tide::http::Result<tide::http::Response>,
        body_error: Option<SharedBodyError>,
        summary: &RequestSummary,
    ) -> hyper::Response<ResponseBody> {
        let response = outcome::settle(result, body_error, summary);
        let mut response = response::convert(response, summary);
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            self.set_allow(response.headers_mut(), summary);
        }
        response
    }

    fn set_allow(&self, headers: &mut HeaderMap, summary: &RequestSummary) {
        if headers.contains_key(ALLOW) {
            return;
        }
        let methods = target::path(&summary.uri).and_then(|path| self.allow.methods(&path));
        if let Some(methods) = methods {
            headers.insert(ALLOW, methods);
        }
    }
}

/// The parts of a request that its answer depends on after tide has taken the request: for log lines, for HEAD, and for
/// the format of an error.
#[derive(Clone)]
pub(super) struct RequestSummary {
    method: Method,
    uri: Uri,
    version: Version,
    accept: Option<HeaderValue>,
}

impl RequestSummary {
    fn of(head: &Parts) -> Self {
        // cheap: a standard method is a number, and the other values share the buffer that they were parsed from
        let accept = head.headers.get(ACCEPT).cloned();
        RequestSummary {
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            accept,
        }
    }

    fn error_format(&self) -> ErrorFormat {
        ErrorFormat::of(self.accept.as_ref())
    }

    fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

impl fmt::Display for RequestSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.uri.path())
    }
}
