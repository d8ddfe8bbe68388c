//! What all peers share: where to listen, and what they answer.

pub mod service;

use std::net::SocketAddr;

use bytes::Bytes;

/// What `GET /` answers.
pub const HELLO: &str = "Hello, world!";

/// Where to listen: the first argument, `127.0.0.1:PORT`.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn addr() -> SocketAddr {
    let given = std::env::args().nth(1).expect("an address to listen on");
    given.parse().expect("an address, 127.0.0.1:PORT")
}

/// What `GET /bytes/:n` answers.
#[must_use]
pub fn bytes(count: usize) -> Bytes {
    Bytes::from(vec![b'x'; count])
}
