//! The signal to long-running responses that their generation drains.

use std::time::Duration;

use crate::sync::token::Token;

/// Resolves when a long-running response must end, with a random delay for the client's reconnection.
#[derive(Clone, Debug, Default)]
pub(crate) struct DrainSignal {
    /// `None` if no slackwater server received the request, as in a test that calls a handler directly. Then the signal
    /// never resolves.
    token: Option<Token>,
    spread: Duration,
}

impl DrainSignal {
    /// A signal that resolves when `token` is triggered, with a delay of at most `spread`.
    pub(crate) fn new(token: Token, spread: Duration) -> Self {
        DrainSignal {
            token: Some(token),
            spread,
        }
    }

    /// Returns the token of the generation; `None` if no slackwater server received the request.
    pub(crate) fn token(&self) -> Option<Token> {
        self.token.clone()
    }

    /// Waits until the generation begins to drain.
    ///
    /// Returns a random part of `shutdown.close_spread`. The client should reconnect after this delay, so that not all
    /// clients reconnect at the same time.
    pub(crate) async fn wait(&self) -> Duration {
        match &self.token {
            Some(token) => token.wait().await,
            None => std::future::pending().await,
        }
        self.spread.mul_f64(fastrand::f64())
    }
}
