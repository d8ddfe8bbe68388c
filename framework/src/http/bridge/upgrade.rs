//! The tide side of a 101: a handler that takes over its connection.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use crate::http::{Tunnel, Upgrade};

/// Returns the upgrade that passes the connection to the waiting handler after the 101 was written.
///
/// Call it only on a response whose `has_upgrade` is true: then its sender has not been taken.
pub(super) fn of(response: &mut tide::http::Response) -> Upgrade {
    let sender = response.send_upgrade();
    Upgrade::new(move |tunnel: Box<dyn Tunnel>| {
        let connection = tide::http::upgrade::Connection::new(tunnel);
        // the channel is empty and holds one value, so the future is ready at once
        let _ = pin!(sender.send(connection)).poll(&mut Context::from_waker(Waker::noop()));
    })
}
