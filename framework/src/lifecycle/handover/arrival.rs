//! A connection that has come from another process, and how it goes on in this one.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;

use super::wire::Travelling;
use crate::http::deadlines::now;
use crate::http::detached::Detached;
use crate::http::Endpoints;
use crate::sync::limiter::Permit;
use crate::sys::claims::{Claim, Claims};

/// A connection that has come.
pub(crate) struct Arrival {
    socket: OwnedFd,
    entry: Travelling,
    claim: Option<Claim>,
}

impl Arrival {
    /// The connections of a message, each with its socket and, where the other process could still take it back, its
    /// place in the claims.
    pub(crate) fn all(
        entries: Vec<Travelling>,
        sockets: Vec<OwnedFd>,
        claims: Option<&Claims>,
    ) -> Vec<Arrival> {
        let arrival = |(entry, socket): (Travelling, OwnedFd)| {
            let claim = claims.map(|claims| Claim::new(claims.clone(), entry.claim));
            Arrival {
                socket,
                entry,
                claim,
            }
        };
        entries.into_iter().zip(sockets).map(arrival).collect()
    }

    /// The connection as it was, in this process.
    pub(crate) fn connection(self, permit: Permit) -> Detached {
        let Travelling {
            peer,
            local,
            accepted_ago,
            since_ago,
            head,
            ..
        } = self.entry;
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
