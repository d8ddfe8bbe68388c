//! The parts that all peers share: their address and their answers.

pub mod service;

use std::net::SocketAddr;

use bytes::Bytes;

/// The answer to `GET /`.
pub const HELLO: &str = "Hello, world!";

/// Returns the address to listen on: the first argument, `127.0.0.1:PORT`.
///
/// # Panics
///
/// Panics if it is missing or invalid.
#[must_use]
pub fn addr() -> SocketAddr {
    let argument = std::env::args().nth(1).expect("an address to listen on");
    argument.parse().expect("an address, 127.0.0.1:PORT")
}

/// Returns the answer to `GET /bytes/:n`.
#[must_use]
pub fn bytes(count: usize) -> Bytes {
    Bytes::from(vec![b'x'; count])
}
