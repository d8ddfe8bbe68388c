//! The counters of a process, which continue in the next one after an upgrade.

use std::time::Duration;

use async_io::Timer;
use futures_lite::future;

use super::driver::Driver;
use super::successor::Successor;
use crate::observe::metrics::Counter;
use crate::sync::token::token;

/// The interval at which the old process sends its counters to the new one.
const INTERVAL: Duration = Duration::from_millis(500);

impl Driver {
    pub(super) fn count(&self, counter: Counter) {
        self.context.metrics.count(counter);
    }

    /// Sends the counters to the new process before it accepts. From then on a scrape of the old process shows these
    /// values, because the new process adds to them.
    pub(super) async fn hand_over_counters(&mut self) {
        if let Some(sender) = self.successor.as_ref().and_then(Successor::counter_sender) {
            sender.send(self.context.metrics.freeze()).await;
        }
    }

    /// Sends the counters at intervals, until this process exits or the new one fails.
    ///
    /// The new process shows its own counts from the first of these messages on. That message is delayed by one
    /// interval, so that scrapes which began in this process have been answered.
    pub(super) fn keep_sending_counters(&mut self) {
        let Some(sender) = self.successor.as_ref().and_then(Successor::counter_sender) else {
            return;
        };
        let (stop, stopped) = token();
        let metrics = self.context.metrics.clone();
        self.counter_task = Some(stop);
        async_std::task::spawn(async move {
            let send = async {
                loop {
                    Timer::after(INTERVAL).await;
                    sender.send(metrics.messages()).await;
                }
            };
            future::or(stopped.wait(), send).await;
        });
    }

    /// Counts in this process again, because the new one has failed.
    pub(super) fn count_here_again(&mut self) {
        self.counter_task = None;
        self.context.metrics.unfreeze();
    }

    /// Sends the final counters before this process exits.
    pub(super) async fn send_last_counters(&mut self) {
        if let Some(since) = self.leaving_since {
            self.context.metrics.drained(since.elapsed());
        }
        if self.counter_task.take().is_some() {
            if let Some(sender) = self.successor.as_ref().and_then(Successor::counter_sender) {
                sender.send(self.context.metrics.messages()).await;
            }
        }
    }
}
