//! What is counted over the life of a process, and how the next one goes on from there.

use std::time::Duration;

use async_io::Timer;
use futures_lite::future;

use super::driver::Driver;
use super::successor::Successor;
use crate::observe::metrics::Counter;
use crate::sync::token::token;

/// How often the next process is told what this one still answers.
const EVERY: Duration = Duration::from_millis(500);

impl Driver {
    pub(super) fn count(&self, what: Counter) {
        self.plan.metrics.count(what);
    }

    /// Before the new process accepts: it goes on from what it is told, and this one shows nothing more than that.
    pub(super) async fn hand_over_counts(&mut self) {
        if let Some(teller) = self.successor.as_ref().and_then(Successor::teller) {
            teller.tell(self.plan.metrics.freeze()).await;
        }
    }

    /// From the handover on, until this process ends or the new one does. The first word waits until what was begun
    /// here is surely answered: it has the new one show what it counts itself.
    pub(super) fn go_on_telling(&mut self) {
        let Some(teller) = self.successor.as_ref().and_then(Successor::teller) else {
            return;
        };
        let (stop, stopped) = token();
        let metrics = self.plan.metrics.clone();
        self.telling = Some(stop);
        async_std::task::spawn(async move {
            let tell = async {
                loop {
                    Timer::after(EVERY).await;
                    teller.tell(metrics.messages()).await;
                }
            };
            future::or(stopped.wait(), tell).await;
        });
    }

    /// The new process has come to nothing: counting goes on here.
    pub(super) fn count_here(&mut self) {
        self.telling = None;
        self.plan.metrics.unfreeze();
    }

    /// The last that the next process hears of this one.
    pub(super) async fn tell_last_counts(&mut self) {
        if let Some(since) = self.leaving_since {
            self.plan.metrics.drained(since.elapsed());
        }
        if self.telling.take().is_some() {
            if let Some(teller) = self.successor.as_ref().and_then(Successor::teller) {
                teller.tell(self.plan.metrics.messages()).await;
            }
        }
    }
}
