//! A one-shot notification: announces the end of a generation, a drain or a shutdown.

use std::convert::Infallible;

use async_channel::{Receiver, Sender};

/// The sending side: [`fire`](Trigger::fire) or a drop resolves every [`Token`] of the pair.
#[derive(Debug)]
pub(crate) struct Trigger(Sender<Infallible>);

/// A cloneable one-shot notification. Once triggered it stays triggered.
///
/// ```
/// # async fn in_a_task(token: slackwater::Token) {
/// if !token.is_triggered() {
///     token.wait().await;
/// }
/// // finish up
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Token(Receiver<Infallible>);

/// Creates a trigger and its token.
pub(crate) fn token() -> (Trigger, Token) {
    let (sender, receiver) = async_channel::bounded(1);
    (Trigger(sender), Token(receiver))
}

impl Trigger {
    /// Triggers every clone of the token. Calling it again has no effect.
    pub(crate) fn fire(&self) {
        self.0.close();
    }
}

impl Token {
    /// Returns true if the token has been triggered.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.is_closed()
    }

    /// Resolves when the token is triggered, or at once if it already was.
    pub async fn wait(&self) {
        // nothing is ever sent, so this ends only when the trigger closes the channel or is dropped
        let _ = self.0.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_of_a_token_is_triggered() {
        let (trigger, token) = token();
        let clone = token.clone();
        assert!(!token.is_triggered());
        trigger.fire();
        assert!(token.is_triggered() && clone.is_triggered());
        futures_lite::future::block_on(clone.wait());
    }

    #[test]
    fn a_dropped_trigger_triggers_its_token() {
        let (trigger, token) = token();
        drop(trigger);
        assert!(token.is_triggered());
    }
}
