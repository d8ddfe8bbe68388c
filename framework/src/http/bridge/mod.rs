//! Between hyper and tide: the one place where a tide server answers hyper's requests.
//!
//! A request goes down the list and comes back up: [`target`] checks what it is meant for, [`request`] turns its head
//! into tide's form and [`reader`] its body, tide answers, [`outcome`] says what became of it, and [`response`] with
//! [`chunks`], [`problem`] and [`upgrade`] turns the answer into hyper's form. Nothing else in the framework needs to
//! know what tide looks like.

mod allow;
mod chunks;
#[cfg(fuzzing)]
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
pub(crate) use outcome::KeepCause;
pub(crate) use request::Given;

use std::fmt;
use std::future::ready;
use std::sync::Arc;

use hyper::header::{HeaderValue, ACCEPT, ALLOW};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode, Uri, Version};

use super::body::BodyLimit;
use super::{Context, Form, Reply, RequestBody, ResponseBody, Service};
use reader::{Body, Broken};
use request::Arrived;

/// A tide server as a [`Service`].
pub(crate) struct Tide<S>(Arc<Answering<S>>);

/// What all requests of a generation share.
struct Answering<S> {
    server: tide::Server<S>,
    allow: Allow,
}

impl<S: Clone + Send + Sync + 'static> Tide<S> {
    pub(crate) fn new(server: tide::Server<S>, allow: Allow) -> Self {
        Tide(Arc::new(Answering { server, allow }))
    }
}

impl<S: Clone + Send + Sync + 'static> Service for Tide<S> {
    fn call(&self, request: hyper::Request<RequestBody>, context: Context) -> Reply {
        let (head, body) = request.into_parts();
        let limit = body.limit();
        self.0.clone().answer(head, body, limit, context)
    }
}

impl<S: Clone + Send + Sync + 'static> Answering<S> {
    /// One request from its head to the head of its answer.
    ///
    /// What can be done at once is done before and after the future: whatever a future holds is moved with it.
    fn answer(
        self: Arc<Self>,
        head: Parts,
        body: impl Body,
        limit: BodyLimit,
        context: Context,
    ) -> Reply {
        let asked = Asked::of(&head);
        match request::convert(head, body, limit, context) {
            Ok(Arrived::Request { request, broken }) => Box::pin(async move {
                let answered = self.server.respond(request).await;
                self.finish(answered, broken, &asked)
            }),
            Ok(Arrived::ServerOptions) => Box::pin(ready(problem::no_content())),
            Err(refusal) => Box::pin(ready(problem::refuse(&refusal, &asked))),
        }
    }

    fn finish(
        &self,
        answered: tide::http::Result<tide::http::Response>,
        broken: Option<Broken>,
        asked: &Asked,
    ) -> hyper::Response<ResponseBody> {
        let mut response = response::convert(outcome::settle(answered, broken, asked), asked);
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            self.name_methods(response.headers_mut(), asked);
        }
        response
    }

    fn name_methods(&self, headers: &mut HeaderMap, asked: &Asked) {
        if headers.contains_key(ALLOW) {
            return;
        }
        let path = target::path(&asked.uri);
        headers.extend(
            path.and_then(|path| self.allow.methods(&path))
                .map(|methods| (ALLOW, methods)),
        );
    }
}

/// What was asked, for the lines of the log, the rules of HEAD and the form of an error.
#[derive(Clone)]
pub(super) struct Asked {
    method: Method,
    uri: Uri,
    version: Version,
    /// In which form an error is to be told.
    accept: Option<HeaderValue>,
}

impl Asked {
    fn of(head: &Parts) -> Self {
        // cheap: a standard method is a number, the others share the buffer that they were parsed from
        let accept = head.headers.get(ACCEPT).cloned();
        Asked {
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            accept,
        }
    }

    fn form(&self) -> Form {
        Form::of(self.accept.as_ref())
    }

    fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.uri.path())
    }
}
