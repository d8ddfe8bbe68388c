//! A connection after a 101: bytes of another protocol, still seated, still in the ledger, and cut with the rest.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_lite::future;
use futures_lite::io::{AsyncRead, AsyncWrite};

use super::registry::Registration;
use crate::http::connection::Connection;
use crate::http::deadlines::now;
use crate::http::linger;
use crate::http::shared::Stage;
use crate::http::state::{ConnState, Switch};
use crate::http::states::State;
use crate::socket::Stream;
use crate::sync::limiter::Permit;
use crate::sync::lock::Mutex;
use crate::sync::token::{token, Trigger};

/// What an upgrade's handler reads from and writes to.
///
/// The connection is offered until the handler first reads or writes; until then the clock of `State::Switching` runs,
/// and takes the connection back when it is over.
pub(crate) struct TunnelStream {
    offered: Offer,
    switched: Option<Switched>,
}

type Offer = Arc<Mutex<Option<Switched>>>;

/// A connection of another protocol.
struct Switched {
    socket: Arc<Socket>,
    read_ahead: Bytes,
    /// Dropped when the handler uses the connection, or when that is closed.
    unused: Option<Trigger>,
    _among_tunnels: Permit,
    /// In the generation that answered with the 101.
    _generation: Option<Permit>,
}

/// The part of a tunnel that stays until the connection is closed.
struct Socket {
    stream: Stream,
    conn: Arc<ConnState>,
    _permit: Permit,
    _registration: Registration,
}

impl TunnelStream {
    /// Offers the connection to the handler that answered 101. Returns when the handler uses it or has dropped it, or
    /// when the offer has lapsed and the connection is closed.
    pub(crate) async fn offer(
        connection: Connection,
        switch: Switch,
        registration: Registration,
        among_tunnels: Permit,
    ) {
        let Connection {
            stream,
            permit,
            head,
            ..
        } = connection;
        let Switch {
            upgrade,
            request,
            permit: generation,
        } = switch;
        // the ledger knows every connection that is served: there is always one
        let Some(conn) = registration.conn() else {
            return;
        };
        conn.offers(request);
        let (unused, used) = token();
        let offered = Arc::new(Mutex::new(Some(Switched {
            socket: Arc::new(Socket {
                stream,
                conn: conn.clone(),
                _permit: permit,
                _registration: registration,
            }),
            read_ahead: head,
            unused: Some(unused),
            _among_tunnels: among_tunnels,
            _generation: generation,
        })));
        upgrade.start(Box::new(TunnelStream {
            offered: offered.clone(),
            switched: None,
        }));
        let lapsed = poll_fn(|cx| {
            conn.watch(cx.waker());
            let over = conn.stage() == Stage::Cut || conn.deadlines.read_overdue(now());
            if over {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        future::or(used.wait(), lapsed).await;
        if let Some(switched) = take(&offered) {
            log::warn!(
                "the handler that answered 101 to {} has not used the connection; it is closed after {}",
                conn.endpoints.peer,
                State::Switching.clock()
            );
            drop(switched);
        }
    }

    /// The connection, once the handler uses it.
    fn switched(&mut self) -> io::Result<&mut Switched> {
        if self.switched.is_none() {
            self.switched = take(&self.offered);
            if let Some(switched) = &mut self.switched {
                switched.socket.conn.tunnels();
                switched.unused = None;
            }
        }
        self.switched.as_mut().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "closed: not used within {} of its 101",
                    State::Switching.clock()
                ),
            )
        })
    }
}

/// Takes the connection out of the offer, if it is there still.
fn take(offer: &Offer) -> Option<Switched> {
    offer.lock().take()
}

impl Drop for TunnelStream {
    /// A connection that was never used is closed with its handler's end.
    fn drop(&mut self) {
        drop(take(&self.offered));
    }
}

impl Switched {
    /// Fails once everything is cut, or the client has taken nothing for `http.write_timeout`.
    fn stands(&self) -> io::Result<()> {
        if self.socket.conn.deadlines.write_overdue(now()) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client took nothing for http.write_timeout",
            ));
        }
        match self.socket.conn.stage() {
            Stage::Cut => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server has stopped",
            )),
            Stage::Open | Stage::HandOver | Stage::LastCall | Stage::CloseIdle | Stage::Stop => {
                Ok(())
            }
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.switched()?;
        // reader and writer may be two tasks: each is woken
        this.socket.conn.watch_body(cx.waker());
        this.stands()?;
        if this.read_ahead.is_empty() {
            return this.socket.stream.poll_read(cx, buf);
        }
        let n = this.read_ahead.len().min(buf.len());
        this.read_ahead.copy_to_slice(&mut buf[..n]);
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.switched()?;
        this.socket.conn.watch(cx.waker());
        this.stands()?;
        let written = this.socket.stream.poll_write(cx, &[io::IoSlice::new(buf)]);
        match &written {
            Poll::Ready(_) => this.socket.conn.has_written(),
            Poll::Pending => this.socket.conn.cannot_write(),
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.switched()?.socket.stream.shutdown(Shutdown::Write))
    }
}

impl Drop for Switched {
    /// Closes the connection when the handler drops it, so that the client receives what the handler wrote last.
    fn drop(&mut self) {
        if self.stands().is_ok() {
            let socket = self.socket.clone();
            async_std::task::spawn(async move {
                linger::close(&socket.stream, &socket.conn).await;
            });
        }
    }
}
