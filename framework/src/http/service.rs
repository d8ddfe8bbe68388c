//! The interface between the connections and the application that answers their requests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Client, DrainSignal, Endpoints, RequestBody, ResponseBody};
use crate::sync::limiter::Permit;

/// Answers requests: hyper's request in, hyper's response out. The bridge to tide implements it ([`bridge`](super::bridge)), and so
/// does the dispatcher, which passes each request to the current generation.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request. It never fails: an error is a response.
    fn call(&self, request: hyper::Request<RequestBody>, context: Context) -> Reply;
}

/// The response to a request, as a future.
pub(crate) type ResponseFuture =
    Pin<Box<dyn Future<Output = hyper::Response<ResponseBody>> + Send>>;

/// The result of a call of a [`Service`].
pub(crate) struct Reply {
    pub(crate) response: ResponseFuture,
    /// The permit of the generation that answers. The caller keeps it until the response has been sent, so that the
    /// generation can wait for its last request.
    pub(crate) permit: Option<Permit>,
}

impl Reply {
    pub(crate) fn new(
        response: impl Future<Output = hyper::Response<ResponseBody>> + Send + 'static,
    ) -> Self {
        Reply {
            response: Box::pin(response),
            permit: None,
        }
    }

    /// A response that needs no further work.
    pub(crate) fn ready(response: hyper::Response<ResponseBody>) -> Self {
        Reply::new(std::future::ready(response))
    }
}

/// The values that a service receives with a request.
#[derive(Clone)]
pub(crate) struct Context {
    /// The two ends of the connection.
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) client: Client,
    /// The drain of the generation that answers. The dispatcher sets it; before, it never resolves.
    pub(crate) drain: DrainSignal,
}

/// The service behind all connections of a process, which also names the route of a path.
pub(crate) trait RoutedService: Service {
    /// Returns the template of the route that a path leads to, for the metrics.
    fn template(&self, path: &str, endpoints: &Endpoints) -> Arc<str>;
}
