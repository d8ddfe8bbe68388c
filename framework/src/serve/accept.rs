//! Accepting: one task for each listener, a seat for each connection, and patience when descriptors run out.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use async_std::task::JoinHandle;
use futures_lite::future;

use super::connections::Connections;
use crate::http::Endpoints;
use crate::socket::{Address, Listener};
use crate::sync::limiter::Permit;
use crate::sync::token::{token, Token, Trigger};

/// A listener that is accepted from.
pub(crate) struct Acceptor {
    listener: Arc<Listener>,
    stop: Trigger,
    task: JoinHandle<()>,
}

impl Acceptor {
    pub(crate) fn start(listener: Arc<Listener>, connections: Arc<Connections>) -> Self {
        let (stop, stopped) = token();
        let task = async_std::task::spawn(run(listener.clone(), connections, stopped));
        Acceptor {
            listener,
            stop,
            task,
        }
    }

    pub(crate) fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// Stops accepting; what waits in the queue stays there. Endpoints when no accept is under way any more.
    pub(crate) async fn stop(self) -> Arc<Listener> {
        self.stop.fire();
        self.task.await;
        self.listener
    }
}

/// As many as a queue can have held: whoever connects meanwhile is not waited for.
const LONGEST_QUEUE: usize = 1 << 16;

/// Accepts what is in the queue of a listener that is about to be closed: closing it would reset them.
pub(crate) fn empty_queue(listener: &Listener, connections: &Arc<Connections>) -> usize {
    let local = local(listener);
    let mut accepted = 0;
    while accepted < LONGEST_QUEUE {
        let Some(permit) = connections.permits.try_acquire() else {
            break;
        };
        let Ok(Some((socket, peer))) = listener.try_accept() else {
            break;
        };
        welcome(connections, socket, &peer, &local, permit);
        accepted += 1;
    }
    accepted
}

async fn run(listener: Arc<Listener>, connections: Arc<Connections>, stopped: Token) {
    let local = local(&listener);
    let mut trouble = Trouble::None;
    loop {
        let stop = async {
            stopped.wait().await;
            None
        };
        let next = async { Some(next(&listener, &connections).await) };
        match future::or(stop, next).await {
            None => return,
            Some(Ok((permit, socket, peer))) => {
                trouble = trouble.over(&local);
                welcome(&connections, socket, &peer, &local, permit);
            }
            Some(Err(error)) => {
                trouble = trouble.more(&local, &error);
                let pause = async {
                    Timer::after(trouble.pause()).await;
                };
                future::or(stopped.wait(), pause).await;
            }
        }
    }
}

/// The next connection, and its seat: nobody is accepted without one, and one that nobody has come for is others'.
async fn next(
    listener: &Listener,
    connections: &Connections,
) -> io::Result<(Permit, OwnedFd, Address)> {
    loop {
        let permit = connections.permits.acquire().await;
        if let Some((socket, peer)) = listener.try_accept()? {
            return Ok((permit, socket, peer));
        }
        drop(permit);
        listener.readable().await?;
    }
}

fn local(listener: &Listener) -> Arc<str> {
    listener.address().to_string().into()
}

fn welcome(
    connections: &Arc<Connections>,
    socket: OwnedFd,
    peer: &Address,
    local: &Arc<str>,
    permit: Permit,
) {
    if matches!(peer, Address::Tcp(_)) {
        // small answers go out at once; a socket that refuses is served all the same
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
    }
    let endpoints = Arc::new(Endpoints {
        peer: peer.to_string(),
        local: local.clone(),
    });
    if let Err(error) = connections.welcome(socket, endpoints, permit) {
        log::warn!("a connection on {local} could not be watched: {error}; it is closed");
    }
}

/// Whether accepting fails at the moment, and for how long to leave it alone: said once, not at each try.
#[derive(Clone, Copy)]
enum Trouble {
    None,
    Since { pause: Duration },
}

impl Trouble {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(1);

    fn more(self, local: &str, error: &io::Error) -> Self {
        match self {
            Trouble::None => {
                log::error!(
                    "accepting on {local} failed: {error}; new connections wait, tried again shortly"
                );
                Trouble::Since { pause: Self::FIRST }
            }
            Trouble::Since { pause } => Trouble::Since {
                pause: (pause * 2).min(Self::LONGEST),
            },
        }
    }

    fn over(self, local: &str) -> Self {
        if let Trouble::Since { .. } = self {
            log::info!("accepting on {local} works again");
        }
        Trouble::None
    }

    fn pause(self) -> Duration {
        match self {
            Trouble::None => Duration::ZERO,
            Trouble::Since { pause } => pause,
        }
    }
}
