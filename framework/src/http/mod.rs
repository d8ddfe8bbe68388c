//! HTTP/1.1 on sockets that can change hands: connections, their bodies, their time, and the bridge to tide.

mod body;
pub(crate) mod bridge;
mod client;
pub(crate) mod connection;
pub(crate) mod deadlines;
pub(crate) mod detached;
mod exchange;
#[cfg(feature = "http2")]
mod flood;
mod framing;
#[cfg(fuzzing)]
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
pub(crate) use problem::{refusal, Form};
pub(crate) use upgrade::{Tunnel, Upgrade};

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::token::Token;

/// What answers requests: from hyper's request to hyper's response. tide is one adapter of it ([`bridge`]).
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request. It never fails: an error is a response.
    fn call(&self, request: hyper::Request<RequestBody>, context: Context) -> Reply;
}

/// An answer in the making.
pub(crate) type Reply = Pin<Box<dyn Future<Output = hyper::Response<ResponseBody>> + Send>>;

/// What a service is told of a request beside the request itself.
#[derive(Clone)]
pub(crate) struct Context {
    /// The two ends of the connection.
    pub(crate) endpoints: Arc<Endpoints>,
    /// Who asks.
    pub(crate) client: Client,
    /// Told when the generation that answers is to finish.
    pub(crate) draining: Token,
    /// Over how long what then has to end is spread.
    pub(crate) spread: Duration,
}

/// The two ends of a connection, as text: made once for each connection.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// `127.0.0.1:53211`; for a Unix socket `unix:` and the client's path, most often empty.
    pub(crate) peer: String,
    /// `127.0.0.1:8080`, or `unix:/run/app.sock`.
    pub(crate) local: Arc<str>,
}
