//! Limits the number of connections that move to another process at the same time.
//!
//! A client whose connection is on its way waits until the other process has received it, together with all connections
//! sent before. Therefore only a few are on their way at once. The others are served in this process until they get a permit.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::clock::{now, Millis};
use crate::sync::limiter::{Limiter, Permit};

/// The number of busy connections on their way at the same time. Their clients probably send another request soon.
const BUSY_AT_A_TIME: usize = 8;

/// The number of idle connections on their way at the same time.
const IDLE_AT_A_TIME: usize = 50;

/// The milliseconds after the last request until a connection counts as idle rather than busy.
const IDLE_AFTER: Millis = 100;

/// The permits for moving connections to another process.
pub(crate) struct TransferLimits {
    busy: Arc<Limiter>,
    idle: Arc<Limiter>,
}

/// The transfer permit of one connection.
#[derive(Default)]
pub(crate) enum TransferPermit {
    #[default]
    NotRequested,
    Waiting(Pin<Box<dyn Future<Output = Permit> + Send>>),
    Acquired(Permit),
}

impl TransferLimits {
    pub(super) fn new() -> Self {
        TransferLimits {
            busy: Limiter::new(BUSY_AT_A_TIME),
            idle: Limiter::new(IDLE_AT_A_TIME),
        }
    }

    /// Waits for a permit for an idle connection. Returns it together with all others that are free.
    pub(crate) async fn acquire_idle(&self) -> Vec<Permit> {
        let mut permits = vec![self.idle.acquire().await];
        permits.extend(std::iter::from_fn(|| self.idle.try_acquire()));
        permits
    }

    /// Returns the limiter for a connection whose last request ended at `since`.
    fn limiter(&self, since: Millis) -> &Arc<Limiter> {
        if now().saturating_sub(since) > IDLE_AFTER {
            &self.idle
        } else {
            &self.busy
        }
    }
}

impl TransferPermit {
    /// Returns true once the permit is acquired. Requests it first if necessary; `since` is the moment at which the
    /// connection became idle. After `false` the task of `cx` is woken when the permit is available.
    pub(super) fn poll(
        &mut self,
        limits: &TransferLimits,
        since: Millis,
        cx: &mut Context<'_>,
    ) -> bool {
        if let TransferPermit::NotRequested = self {
            let limiter = limits.limiter(since).clone();
            *self = TransferPermit::Waiting(Box::pin(async move { limiter.acquire().await }));
        }
        if let TransferPermit::Waiting(permit) = self {
            match permit.as_mut().poll(cx) {
                Poll::Ready(permit) => *self = TransferPermit::Acquired(permit),
                Poll::Pending => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn a_busy_connection_waits_for_a_free_permit_and_takes_none_of_the_idle_ones() {
        let (limits, mut cx) = (TransferLimits::new(), Context::from_waker(Waker::noop()));
        let since = now();
        let mut permits: Vec<TransferPermit> = (0..=BUSY_AT_A_TIME)
            .map(|_| TransferPermit::default())
            .collect();
        let mut last = permits.pop().unwrap();
        assert!(permits
            .iter_mut()
            .all(|permit| permit.poll(&limits, since, &mut cx)));
        assert!(!last.poll(&limits, since, &mut cx));
        assert_eq!(
            futures_lite::future::block_on(limits.acquire_idle()).len(),
            IDLE_AT_A_TIME
        );
        permits.pop();
        assert!(last.poll(&limits, since, &mut cx));
    }

    #[test]
    fn a_connection_that_stops_waiting_leaves_its_permit_to_the_next_one() {
        let (limits, mut cx) = (TransferLimits::new(), Context::from_waker(Waker::noop()));
        let since = now();
        let mut permits: Vec<TransferPermit> = (0..BUSY_AT_A_TIME + 2)
            .map(|_| TransferPermit::default())
            .collect();
        for permit in &mut permits {
            permit.poll(&limits, since, &mut cx);
        }
        let (mut next, stopped) = (permits.pop().unwrap(), permits.pop().unwrap());
        drop((permits.pop(), stopped));
        assert!(next.poll(&limits, since, &mut cx));
    }
}
