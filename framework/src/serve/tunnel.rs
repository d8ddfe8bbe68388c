//! A connection after a 101: bytes of another protocol, still seated, still in the ledger, and cut with the rest.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_lite::io::{AsyncRead, AsyncWrite};

use super::ledger::Entry;
use crate::http::connection::Connection;
use crate::http::env::Stage;
use crate::http::limits::Seat;
use crate::http::record::Record;
use crate::socket::Stream;

/// What an upgrade's handler reads from and writes to.
pub(crate) struct TunnelStream {
    stream: Stream,
    read_ahead: Bytes,
    record: Arc<Record>,
    _seats: (Seat, Seat),
    _entry: Entry,
}

impl TunnelStream {
    /// `None` for a connection that the ledger does not know, which cannot be.
    pub(crate) fn new(connection: Connection, entry: Entry, among_tunnels: Seat) -> Option<Self> {
        let record = entry.record()?;
        let Connection { stream, seat, head, .. } = connection;
        Some(TunnelStream { stream, read_ahead: head, record, _seats: (seat, among_tunnels), _entry: entry })
    }

    /// Fails once everything is cut; until then has the reader woken when that happens.
    fn stands(&self, cx: &Context<'_>) -> io::Result<()> {
        self.record.watch(cx.waker());
        match self.record.stage() {
            Stage::Cut => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server has stopped")),
            Stage::Open | Stage::HandOver | Stage::LastCall | Stage::CloseIdle | Stage::Stop => Ok(()),
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.stands(cx)?;
        if self.read_ahead.is_empty() {
            return self.stream.poll_read(cx, buf);
        }
        let n = self.read_ahead.len().min(buf.len());
        self.read_ahead.copy_to_slice(&mut buf[..n]);
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stands(cx)?;
        self.stream.poll_write(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}
