//! Transfer for another process: few at a time, so that a client whose connection is on its way does not wait for a crowd
//! of others. Who finds no place is served where it is.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::deadlines::{now, Millis};
use super::detached::Detached;
use crate::sync::limiter::{Limiter, Permit};

/// How many are on their way at a time that may be in the middle of a conversation.
const BUSY_AT_A_TIME: usize = 8;

/// The same for those that have been silent for a while.
const SILENT_AT_A_TIME: usize = 50;

/// How long that while is, in milliseconds.
const SILENT: Millis = 100;

/// The places on the way to another process.
pub(crate) struct TransferLimits {
    busy: Arc<Limiter>,
    silent: Arc<Limiter>,
}

/// A connection that leaves, and its place on the way until the other process has it.
pub(crate) struct Transfer {
    pub(crate) connection: Detached,
    pub(crate) place: Permit,
}

/// How far a connection has come that is to leave.
#[derive(Default)]
pub(crate) enum TransferPermit {
    #[default]
    Stays,
    Waits(Pin<Box<dyn Future<Output = Permit> + Send>>),
    Leaves(Permit),
}

impl TransferLimits {
    pub(super) fn new() -> Self {
        TransferLimits {
            busy: Limiter::new(BUSY_AT_A_TIME),
            silent: Limiter::new(SILENT_AT_A_TIME),
        }
    }

    /// Waits for a place for a silent one, and takes what others there are.
    pub(crate) async fn take_silent(&self) -> Vec<Permit> {
        let mut transfer_limits = vec![self.silent.acquire().await];
        transfer_limits.extend(std::iter::from_fn(|| self.silent.try_acquire()));
        transfer_limits
    }

    /// Those for a connection that has been idle since then.
    fn of(&self, since: Millis) -> &Arc<Limiter> {
        if now().saturating_sub(since) > SILENT {
            &self.silent
        } else {
            &self.busy
        }
    }
}

impl TransferPermit {
    /// Whether a connection that has been idle since then has a place; if not, `cx` is woken when it may have one.
    pub(super) fn poll(
        &mut self,
        transfer_limits: &TransferLimits,
        since: Millis,
        cx: &mut Context<'_>,
    ) -> bool {
        if let TransferPermit::Stays = self {
            let transfer_limits = transfer_limits.of(since).clone();
            *self = TransferPermit::Waits(Box::pin(async move { transfer_limits.acquire().await }));
        }
        if let TransferPermit::Waits(place) = self {
            match place.as_mut().poll(cx) {
                Poll::Ready(place) => *self = TransferPermit::Leaves(place),
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
    fn one_that_finds_no_place_waits_until_one_is_given_back_and_keeps_none_from_the_silent() {
        let (transfer_limits, mut cx) = (TransferLimits::new(), Context::from_waker(Waker::noop()));
        let since = now();
        let mut transfer: Vec<TransferPermit> = (0..=BUSY_AT_A_TIME)
            .map(|_| TransferPermit::default())
            .collect();
        let mut last = transfer.pop().unwrap();
        assert!(transfer
            .iter_mut()
            .all(|one| one.poll(&transfer_limits, since, &mut cx)));
        assert!(!last.poll(&transfer_limits, since, &mut cx));
        assert_eq!(
            futures_lite::future::block_on(transfer_limits.take_silent()).len(),
            SILENT_AT_A_TIME
        );
        transfer.pop();
        assert!(last.poll(&transfer_limits, since, &mut cx));
    }

    #[test]
    fn whoever_gives_up_waiting_leaves_the_place_to_the_next() {
        let (transfer_limits, mut cx) = (TransferLimits::new(), Context::from_waker(Waker::noop()));
        let since = now();
        let mut transfer: Vec<TransferPermit> = (0..BUSY_AT_A_TIME + 2)
            .map(|_| TransferPermit::default())
            .collect();
        transfer.iter_mut().for_each(|one| {
            one.poll(&transfer_limits, since, &mut cx);
        });
        let (mut next, gives_up) = (transfer.pop().unwrap(), transfer.pop().unwrap());
        drop((transfer.pop(), gives_up));
        assert!(next.poll(&transfer_limits, since, &mut cx));
    }
}
