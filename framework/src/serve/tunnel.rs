//! A connection after a 101: bytes of another protocol, still seated, still in the ledger, and cut with the rest.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_lite::io::{AsyncRead, AsyncWrite};

use super::registry::Registration;
use crate::http::connection::Connection;
use crate::http::deadlines::now;
use crate::http::shared::Stage;
use crate::http::state::{ConnState, Switch};
use crate::socket::Stream;
use crate::sync::limiter::Permit;

/// What an upgrade's handler reads from and writes to.
pub(crate) struct TunnelStream {
    stream: Stream,
    read_ahead: Bytes,
    conn: Arc<ConnState>,
    _permits: (Permit, Permit),
    /// In the generation that answered with the 101.
    _generation: Option<Permit>,
    _registration: Registration,
}

impl TunnelStream {
    /// Gives the connection to whoever has asked for it.
    pub(crate) fn start(
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
        conn.tunnels(request);
        upgrade.start(Box::new(TunnelStream {
            stream,
            read_ahead: head,
            conn,
            _permits: (permit, among_tunnels),
            _generation: generation,
            _registration: registration,
        }));
    }

    /// Fails once everything is cut, or the client has taken nothing for `http.write_timeout`.
    fn stands(&self) -> io::Result<()> {
        if self.conn.deadlines.write_overdue(now()) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client took nothing for http.write_timeout",
            ));
        }
        match self.conn.stage() {
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
        // reader and writer may be two tasks: each is woken
        self.conn.watch_body(cx.waker());
        self.stands()?;
        if self.read_ahead.is_empty() {
            return self.stream.poll_read(cx, buf);
        }
        let n = self.read_ahead.len().min(buf.len());
        self.read_ahead.copy_to_slice(&mut buf[..n]);
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.conn.watch(cx.waker());
        self.stands()?;
        let written = self.stream.poll_write(cx, &[io::IoSlice::new(buf)]);
        match &written {
            Poll::Ready(_) => self.conn.has_written(),
            Poll::Pending => self.conn.cannot_write(),
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}
