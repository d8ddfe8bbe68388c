//! A connection after a 101: a stream of bytes of another protocol.
//!
//! A tunnel keeps its permits and its registration, and a shutdown closes it with the other connections.

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
use crate::http::clock::now;
use crate::http::connection::Connection;
use crate::http::linger;
use crate::http::shared::Stage;
use crate::http::state::{ConnState, ProtocolSwitch};
use crate::http::states::TimedState;
use crate::socket::Stream;
use crate::sync::limiter::Permit;
use crate::sync::lock::Mutex;
use crate::sync::token::{token, Trigger};

/// The stream that the handler of an upgrade reads from and writes to.
///
/// The connection is offered until the handler first reads or writes. The clock of `TimedState::Switching` runs until then;
/// when it expires, the connection is closed.
pub(crate) struct TunnelStream {
    offered: Offer,
    tunnel: Option<OpenTunnel>,
}

/// The offered connection; `None` once the handler has taken it or the clock has expired.
type Offer = Arc<Mutex<Option<OpenTunnel>>>;

/// A connection whose protocol has changed.
struct OpenTunnel {
    socket: Arc<TunnelSocket>,
    read_ahead: Bytes,
    /// Dropped when the handler first uses the connection, or when the connection is closed.
    unused: Option<Trigger>,
    _tunnel_permit: Permit,
    /// The permit of the generation that answered with the 101.
    _generation: Option<Permit>,
}

/// The part of a tunnel that is kept until the connection is closed.
struct TunnelSocket {
    stream: Stream,
    conn: Arc<ConnState>,
    _permit: Permit,
    _registration: Registration,
}

impl TunnelStream {
    /// Offers the connection to the handler that answered 101. Returns when the handler uses or drops it, or when the
    /// clock has expired and the connection is closed.
    pub(crate) async fn offer(
        connection: Connection,
        switch: ProtocolSwitch,
        registration: Registration,
        tunnel_permit: Permit,
    ) {
        let Connection {
            stream,
            permit,
            head,
            ..
        } = connection;
        let ProtocolSwitch {
            upgrade,
            request,
            permit: generation,
        } = switch;
        // every connection that is served is registered, so this branch is never taken
        let Some(conn) = registration.conn() else {
            return;
        };
        conn.set_request(request);
        let (unused, used) = token();
        let offered = Arc::new(Mutex::new(Some(OpenTunnel {
            socket: Arc::new(TunnelSocket {
                stream,
                conn: conn.clone(),
                _permit: permit,
                _registration: registration,
            }),
            read_ahead: head,
            unused: Some(unused),
            _tunnel_permit: tunnel_permit,
            _generation: generation,
        })));
        upgrade.start(Box::new(TunnelStream {
            offered: offered.clone(),
            tunnel: None,
        }));
        let expired = poll_fn(|cx| {
            conn.register(cx.waker());
            let over = conn.stage() == Stage::Cut || conn.deadlines.read_overdue(now());
            if over {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        future::or(used.wait(), expired).await;
        if let Some(tunnel) = take(&offered) {
            log::warn!(
                "the handler that answered 101 to {} has not used the connection; it is closed after {}",
                conn.endpoints.peer,
                TimedState::Switching.clock()
            );
            drop(tunnel);
        }
    }

    /// Takes the connection out of the offer at the first use, and returns it.
    fn tunnel(&mut self) -> io::Result<&mut OpenTunnel> {
        if self.tunnel.is_none() {
            self.tunnel = take(&self.offered);
            if let Some(tunnel) = &mut self.tunnel {
                tunnel.socket.conn.start_tunnel();
                tunnel.unused = None;
            }
        }
        self.tunnel.as_mut().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "the connection was closed, because it was not used within {} after its 101",
                    TimedState::Switching.clock()
                ),
            )
        })
    }
}

/// Takes the connection out of the offer, if it is still there.
fn take(offer: &Offer) -> Option<OpenTunnel> {
    offer.lock().take()
}

impl Drop for TunnelStream {
    /// Closes a connection that the handler never used.
    fn drop(&mut self) {
        drop(take(&self.offered));
    }
}

impl OpenTunnel {
    /// Returns an error after `Stage::Cut`, or if the client has received nothing for `http.write_timeout`.
    fn check_open(&self) -> io::Result<()> {
        if self.socket.conn.deadlines.write_overdue(now()) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client received nothing for http.write_timeout",
            ));
        }
        match self.socket.conn.stage() {
            Stage::Cut => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server has stopped",
            )),
            Stage::Open | Stage::HandOver | Stage::NoKeepAlive | Stage::CloseIdle | Stage::Stop => {
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
        let this = self.tunnel()?;
        // the reader and the writer may be two tasks, so each has a waker of its own
        this.socket.conn.register_body_reader(cx.waker());
        this.check_open()?;
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
        let this = self.tunnel()?;
        this.socket.conn.register(cx.waker());
        this.check_open()?;
        let written = this.socket.stream.poll_write(cx, &[io::IoSlice::new(buf)]);
        match &written {
            Poll::Ready(_) => this.socket.conn.on_written(),
            Poll::Pending => this.socket.conn.on_write_blocked(),
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.tunnel()?.socket.stream.shutdown(Shutdown::Write))
    }
}

impl Drop for OpenTunnel {
    /// Closes the connection when the handler drops it, so that the client receives what the handler wrote last.
    fn drop(&mut self) {
        if self.check_open().is_ok() {
            let socket = self.socket.clone();
            async_std::task::spawn(async move {
                linger::close(&socket.stream, &socket.conn).await;
            });
        }
    }
}
