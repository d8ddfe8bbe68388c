//! Accepts connections: one task for each listener, and one permit for each connection.
//!
//! If accept(2) fails, for example because file descriptors have run out, the task tries again with growing pauses.

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

/// A listener and the task that accepts from it.
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

    /// Stops accepting and waits for the task to end. New connections wait in the accept queue.
    pub(crate) async fn stop(self) -> Arc<Listener> {
        self.stop.fire();
        self.task.await;
        self.listener
    }
}

/// The largest accept queue. [`empty_queue`] accepts no more than this, so that it ends even if clients keep connecting.
const MAX_QUEUE: usize = 1 << 16;

/// Accepts the connections in the queue of a listener that is about to be closed, because close(2) would reset them.
///
/// Returns their number.
pub(crate) fn empty_queue(listener: &Listener, connections: &Arc<Connections>) -> usize {
    let local = local(listener);
    let mut accepted = 0;
    while accepted < MAX_QUEUE {
        let Some(permit) = connections.permits.try_acquire() else {
            break;
        };
        let Ok(Some((socket, peer))) = listener.try_accept() else {
            break;
        };
        serve(connections, socket, &peer, &local, permit);
        accepted += 1;
    }
    accepted
}

async fn run(listener: Arc<Listener>, connections: Arc<Connections>, stopped: Token) {
    let local = local(&listener);
    let mut state = AcceptState::Working;
    loop {
        let stop = async {
            stopped.wait().await;
            None
        };
        let next = async { Some(next(&listener, &connections).await) };
        match future::or(stop, next).await {
            None => return,
            Some(Ok((permit, socket, peer))) => {
                state = state.succeeded(&local);
                serve(&connections, socket, &peer, &local, permit);
            }
            Some(Err(error)) => {
                state = state.failed(&local, &error);
                let pause = async {
                    Timer::after(state.pause()).await;
                };
                future::or(stopped.wait(), pause).await;
            }
        }
    }
}

/// Acquires a permit, then accepts. If the accept queue is empty, the permit is released before waiting.
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

fn serve(
    connections: &Arc<Connections>,
    socket: OwnedFd,
    peer: &Address,
    local: &Arc<str>,
    permit: Permit,
) {
    if matches!(peer, Address::Tcp(_)) {
        // Nagle's algorithm would delay small answers. A socket without the option is served nevertheless.
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
    }
    let endpoints = Arc::new(Endpoints {
        peer: peer.to_string(),
        local: local.clone(),
    });
    if let Err(error) = connections.serve_accepted(socket, endpoints, permit) {
        log::warn!("a connection accepted on {local} could not be registered with epoll: {error}; it is closed");
    }
}

/// The state of accepting on a listener. Only a change of the state is logged, not every attempt.
#[derive(Clone, Copy)]
enum AcceptState {
    Working,
    /// The last accept failed. The next one follows after `pause`.
    Failing {
        pause: Duration,
    },
}

impl AcceptState {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(1);

    fn failed(self, local: &str, error: &io::Error) -> Self {
        match self {
            AcceptState::Working => {
                log::error!(
                    "accepting on {local} failed: {error}; new connections wait in the queue, the server tries again"
                );
                AcceptState::Failing { pause: Self::FIRST }
            }
            AcceptState::Failing { pause } => AcceptState::Failing {
                pause: (pause * 2).min(Self::LONGEST),
            },
        }
    }

    fn succeeded(self, local: &str) -> Self {
        if let AcceptState::Failing { .. } = self {
            log::info!("accepting on {local} works again");
        }
        AcceptState::Working
    }

    fn pause(self) -> Duration {
        match self {
            AcceptState::Working => Duration::ZERO,
            AcceptState::Failing { pause } => pause,
        }
    }
}
