//! A token that is told once and heard by all who hold it: how a generation, a drain or a shutdown is announced.

use std::convert::Infallible;

use async_channel::{Receiver, Sender};

/// The side that tells: dropping it, or calling [`tell`](Trigger::tell), resolves every [`Token`] of the pair.
#[derive(Debug)]
pub(crate) struct Trigger(Sender<Infallible>);

/// A future-giving handle on something that happens at most once.
///
/// Cheap to clone. It never un-happens.
#[derive(Clone, Debug)]
pub struct Token(Receiver<Infallible>);

/// Makes a pair of a teller and its listeners' token.
pub(crate) fn token() -> (Trigger, Token) {
    let (sender, receiver) = async_channel::bounded(1);
    (Trigger(sender), Token(receiver))
}

impl Trigger {
    /// Tells every holder of the token; telling again does nothing.
    pub(crate) fn fire(&self) {
        self.0.close();
    }
}

impl Token {
    /// Whether it has been told.
    ///
    /// ```
    /// # fn in_a_task(token: slackwater::Token) {
    /// if token.is_triggered() { /* finish up */ }
    /// # }
    /// ```
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.is_closed()
    }

    /// Resolves when it has been told; at once if it already was.
    ///
    /// ```
    /// # async fn in_a_task(token: slackwater::Token) {
    /// token.wait().await;
    /// # }
    /// ```
    pub async fn wait(&self) {
        // nothing is ever sent, so this ends only when the teller closes the channel or is gone
        let _ = self.0.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_once_and_heard_by_every_clone() {
        let (trigger, token) = token();
        let clone = token.clone();
        assert!(!token.is_triggered());
        trigger.fire();
        assert!(token.is_triggered() && clone.is_triggered());
        futures_lite::future::block_on(clone.wait());
    }

    #[test]
    fn a_teller_that_is_dropped_has_told() {
        let (trigger, token) = token();
        drop(trigger);
        assert!(token.is_triggered());
    }
}
