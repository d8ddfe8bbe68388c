//! HTTP/1.1 on sockets that can change hands: connections, their bodies, their time, and the bridge to tide.

mod body;
pub(crate) mod bridge;
mod client;
pub(crate) mod connection;
pub(crate) mod deadlines;
pub(crate) mod detached;
mod drain;
mod exchange;
#[cfg(feature = "http2")]
mod flood;
mod framing;
#[cfg(fuzzing)]
#[path = "../../../tests/fuzz/support/http.rs"]
pub mod fuzz;
#[cfg(feature = "http2")]
pub(crate) mod h2;
pub(crate) mod idle;
mod io;
pub(crate) mod linger;
pub(crate) mod memory;
mod problem;
mod sending;
pub(crate) mod shared;
pub(crate) mod state;
pub(crate) mod states;
pub(crate) mod transfer;
mod upgrade;

pub(crate) use body::{BodyError, Pieces, RequestBody, ResponseBody};
pub(crate) use client::Client;
pub(crate) use drain::DrainSignal;
pub(crate) use problem::{error_response, ErrorFormat};
pub(crate) use upgrade::{Tunnel, Upgrade};

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::sync::limiter::Permit;

/// Answers requests: hyper's request in, hyper's response out. The bridge to tide implements it ([`bridge`]), and so
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

/// The two ends of a connection, as text: made once for each connection.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// `127.0.0.1:53211`; for a Unix socket `unix:` and the client's path, most often empty.
    pub(crate) peer: String,
    /// `127.0.0.1:8080`, or `unix:/run/app.sock`.
    pub(crate) local: Arc<str>,
}
