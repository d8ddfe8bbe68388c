//! Serves HTTP/1.1 and HTTP/2 connections: hyper around the socket, limits, deadlines, and the bridge to tide.
//!
//! An HTTP/1.1 connection can be taken apart between two requests. It then waits in the [`idle::IdleSet`], or another
//! process continues it.

pub(crate) mod active;
mod body;
pub(crate) mod bridge;
mod client;
pub(crate) mod clock;
pub(crate) mod connection;
pub(crate) mod deadlines;
mod drain;
mod endpoints;
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
mod outgoing;
mod pieces;
mod problem;
mod send_buffer;
mod service;
pub(crate) mod shared;
pub(crate) mod state;
pub(crate) mod states;
pub(crate) mod transfer;
mod upgrade;

pub(crate) use body::{BodyError, BoundedBody, RequestBody, ResponseBody};
pub(crate) use client::Client;
pub(crate) use drain::DrainSignal;
pub(crate) use endpoints::Endpoints;
pub(crate) use problem::{error_response, ErrorFormat};
pub(crate) use service::{Context, Reply, ResponseFuture, RoutedService, Service};
pub(crate) use upgrade::{Tunnel, Upgrade};
