//! A handler that takes over its connection: tide's half of a 101.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use crate::http::{Tunnel, Upgrade};

/// What gives the connection to the handler that waits for it, once the 101 is written.
///
/// Call it only on a response whose `has_upgrade` is true: then its sender has not been taken.
pub(super) fn of(response: &mut tide::http::Response) -> Upgrade {
    let sender = response.send_upgrade();
    Upgrade::new(move |tunnel: Box<dyn Tunnel>| {
        let connection = tide::http::upgrade::Connection::new(tunnel);
        // the channel is empty and takes one: this is ready at once
        let _ = pin!(sender.send(connection)).poll(&mut Context::from_waker(Waker::noop()));
    })
}
