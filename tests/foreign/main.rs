//! A program that does not use slackwater: axum on a socket from listenfd.
//!
//! With the argument `ready` it sends `READY=1` first, as a systemd service of `Type=notify` does. With `later` it sends
//! the greeting of a later slackwater version, whose handover protocol is unknown otherwise.

use std::os::fd::OwnedFd;

use axum::routing::get;
use axum::Router;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut inherited = listenfd::ListenFd::from_env();
    let Some(listener) = inherited.take_tcp_listener(0)? else {
        return Err(std::io::Error::other("no socket was passed"));
    };
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    // kept open until the program accepts connections
    let channel = has_argument("later")
        .then(|| greet(&mut inherited))
        .transpose()?;
    let routes = Router::new()
        .route("/", get(|| async { "I am a foreign program" }))
        .route("/pid", get(|| async { std::process::id().to_string() }));
    if has_argument("ready") {
        sd_notify::notify(&[sd_notify::NotifyState::Ready]).map_err(std::io::Error::other)?;
    }
    drop(channel);
    axum::serve(listener, routes).await
}

fn has_argument(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

/// Sends the greeting of protocol version 999.
fn greet(inherited: &mut listenfd::ListenFd) -> std::io::Result<OwnedFd> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let index = names
        .split(':')
        .position(|name| name == "slackwater-handover");
    let channel = index
        .map(|index| inherited.take_custom::<OwnedFd>(index, 1, 5, "a SEQPACKET socket"))
        .transpose()?
        .flatten();
    let channel = channel.ok_or_else(|| std::io::Error::other("no channel was passed"))?;
    let greeting = [
        &b"slackwtr"[..],
        &999_u16.to_le_bytes(),
        &[0; 4],
        &std::process::id().to_le_bytes(),
    ];
    rustix::net::send(
        &channel,
        &greeting.concat(),
        rustix::net::SendFlags::NOSIGNAL,
    )?;
    Ok(channel)
}
