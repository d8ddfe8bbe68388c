//! A program that knows nothing of slackwater: axum on a socket that listenfd gives it. With `ready` as its argument it
//! says READY=1 first, as a unit of `Type=notify` does. With `later` it is one on a later slackwater, of whose handover
//! only the greeting is known to earlier ones.

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
    // closed when it accepts
    let channel = asked_to("later")
        .then(|| greet(&mut inherited))
        .transpose()?;
    let routes = Router::new()
        .route("/", get(|| async { "I am a stranger" }))
        .route("/pid", get(|| async { std::process::id().to_string() }));
    if asked_to("ready") {
        sd_notify::notify(&[sd_notify::NotifyState::Ready]).map_err(std::io::Error::other)?;
    }
    drop(channel);
    axum::serve(listener, routes).await
}

fn asked_to(what: &str) -> bool {
    std::env::args().any(|argument| argument == what)
}

/// Says the greeting of version 999.
fn greet(inherited: &mut listenfd::ListenFd) -> std::io::Result<OwnedFd> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let place = names
        .split(':')
        .position(|name| name == "slackwater-handover");
    let channel = place
        .map(|place| inherited.take_custom::<OwnedFd>(place, 1, 5, "a SEQPACKET socket"))
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
