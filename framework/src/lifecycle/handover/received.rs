//! A connection from another process.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;

use super::wire::ConnectionRecord;
use crate::http::clock::now;
use crate::http::connection::Detached;
use crate::http::Endpoints;
use crate::sync::limiter::Permit;
use crate::sys::claims::{Claim, Claims};

/// A connection from another process, until it is registered here.
pub(crate) struct ReceivedConnection {
    socket: OwnedFd,
    record: ConnectionRecord,
    claim: Option<Claim>,
}

impl ReceivedConnection {
    /// Joins the records of a message with their sockets. If the other process may take its connections back, `claims`
    /// is where this process claims them.
    pub(crate) fn all(
        records: Vec<ConnectionRecord>,
        sockets: Vec<OwnedFd>,
        claims: Option<&Claims>,
    ) -> Vec<Self> {
        let join = |(record, socket): (ConnectionRecord, OwnedFd)| {
            let claim = claims.map(|claims| Claim::new(claims.clone(), record.claim));
            ReceivedConnection {
                socket,
                record,
                claim,
            }
        };
        records.into_iter().zip(sockets).map(join).collect()
    }

    pub(crate) fn into_connection(self, permit: Permit) -> Detached {
        let ConnectionRecord {
            peer,
            local,
            accepted_ago,
            since_ago,
            head,
            ..
        } = self.record;
        let ago = |millis: u64| now().saturating_sub(millis);
        Detached {
            stream: self.socket,
            endpoints: Arc::new(Endpoints {
                peer,
                local: local.into(),
            }),
            permit,
            accepted: ago(accepted_ago),
            head: Bytes::from(head),
            since: ago(since_ago),
            claim: self.claim,
        }
    }
}
