//! Leaving for another process: few at a time, so that a client whose connection is on its way does not wait for a crowd
//! of others. Who finds no place is served where it is.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::detached::Detached;
use super::limits::{Seat, Seats};
use super::timeouts::{now, Millis};

/// How many are on their way at a time that may be in the middle of a conversation.
const BUSY_AT_A_TIME: usize = 8;

/// The same for those that have been silent for a while.
const SILENT_AT_A_TIME: usize = 50;

/// How long that while is, in milliseconds.
const SILENT: Millis = 100;

/// The places on the way to another process.
pub(crate) struct Places {
    busy: Arc<Seats>,
    silent: Arc<Seats>,
}

/// A connection that leaves, and its place on the way until the other process has it.
pub(crate) struct Leaving {
    pub(crate) connection: Detached,
    pub(crate) place: Seat,
}

/// How far a connection has come that is to leave.
#[derive(Default)]
pub(crate) enum Boarding {
    #[default]
    Stays,
    Waits(Pin<Box<dyn Future<Output = Seat> + Send>>),
    Leaves(Seat),
}

impl Places {
    pub(super) fn new() -> Self {
        Places {
            busy: Seats::new(BUSY_AT_A_TIME),
            silent: Seats::new(SILENT_AT_A_TIME),
        }
    }

    /// Waits for a place for a silent one, and takes what others there are.
    pub(crate) async fn take_silent(&self) -> Vec<Seat> {
        let mut places = vec![self.silent.take().await];
        places.extend(std::iter::from_fn(|| self.silent.try_take()));
        places
    }

    /// Those for a connection that has been idle since then.
    fn of(&self, since: Millis) -> &Arc<Seats> {
        if now().saturating_sub(since) > SILENT {
            &self.silent
        } else {
            &self.busy
        }
    }
}

impl Boarding {
    /// Whether a connection that has been idle since then has a place; if not, `cx` is woken when it may have one.
    pub(super) fn poll(&mut self, places: &Places, since: Millis, cx: &mut Context<'_>) -> bool {
        if let Boarding::Stays = self {
            let places = places.of(since).clone();
            *self = Boarding::Waits(Box::pin(async move { places.take().await }));
        }
        if let Boarding::Waits(place) = self {
            match place.as_mut().poll(cx) {
                Poll::Ready(place) => *self = Boarding::Leaves(place),
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
        let (places, mut cx) = (Places::new(), Context::from_waker(Waker::noop()));
        let since = now();
        let mut boarding: Vec<Boarding> =
            (0..=BUSY_AT_A_TIME).map(|_| Boarding::default()).collect();
        let mut last = boarding.pop().unwrap();
        assert!(boarding
            .iter_mut()
            .all(|one| one.poll(&places, since, &mut cx)));
        assert!(!last.poll(&places, since, &mut cx));
        assert_eq!(
            futures_lite::future::block_on(places.take_silent()).len(),
            SILENT_AT_A_TIME
        );
        boarding.pop();
        assert!(last.poll(&places, since, &mut cx));
    }

    #[test]
    fn whoever_gives_up_waiting_leaves_the_place_to_the_next() {
        let (places, mut cx) = (Places::new(), Context::from_waker(Waker::noop()));
        let since = now();
        let mut boarding: Vec<Boarding> = (0..BUSY_AT_A_TIME + 2)
            .map(|_| Boarding::default())
            .collect();
        boarding.iter_mut().for_each(|one| {
            one.poll(&places, since, &mut cx);
        });
        let (mut next, gives_up) = (boarding.pop().unwrap(), boarding.pop().unwrap());
        drop((boarding.pop(), gives_up));
        assert!(next.poll(&places, since, &mut cx));
    }
}
