//! What became of requests and connections: each failure by its kind, never lumped together.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// One way in which a request or a connection fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// Nobody listened.
    Refused,
    /// The connection was reset, while connecting, sending or receiving.
    Reset,
    /// The connection ended after the request was sent and before a byte of its answer.
    ClosedBeforeAnswer,
    /// The connection ended inside an answer.
    CutInTheMiddle,
    /// Nothing came for as long as the client was patient.
    TimedOut,
    /// An answer, but not of the 2xx kind.
    BadStatus(u16),
    /// A kept-alive connection was closed while nothing was asked on it, without an announcement.
    ClosedWhileIdle,
    /// What came was no HTTP.
    Malformed,
    /// The client's own machine failed: no port, no descriptor. Says nothing about the server.
    Local(io::ErrorKind),
}

impl Failure {
    /// What an error of the operating system means to a client.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Failure::Refused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected => Failure::Reset,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::TimedOut,
            other => Failure::Local(other),
        }
    }
}

/// The sum of what happened to a client, or to many.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    answered: u64,
    polite_closes: u64,
    failures: BTreeMap<Failure, u64>,
    examples: Vec<String>,
    /// When an answer came, and after how many microseconds.
    answers: Vec<(Instant, u32)>,
}

/// What came within a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many answers.
    pub answered: usize,
    /// The time within which 99 of 100 of them came; zero when there were none.
    pub p99: Duration,
}

impl Tally {
    /// A request that was answered with 2xx.
    pub fn answer(&mut self, took: Duration) {
        self.answered += 1;
        self.answers.push((
            Instant::now(),
            u32::try_from(took.as_micros()).unwrap_or(u32::MAX),
        ));
    }

    /// A connection that was closed as announced by `Connection: close`.
    pub fn polite_close(&mut self) {
        self.polite_closes += 1;
    }

    /// A failure; the first few keep what `example` says of them.
    pub fn failure(&mut self, failure: Failure, example: impl FnOnce() -> String) {
        *self.failures.entry(failure).or_default() += 1;
        if self.examples.len() < 5 {
            self.examples.push(format!("{failure:?}: {}", example()));
        }
    }

    /// Adds another's sum to this one.
    pub fn add(&mut self, other: Tally) {
        self.answered += other.answered;
        self.polite_closes += other.polite_closes;
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
        self.examples.extend(
            other
                .examples
                .into_iter()
                .take(5_usize.saturating_sub(self.examples.len())),
        );
        self.answers.extend(other.answers);
    }

    /// How many requests were answered with 2xx.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// How many connections ended as announced.
    #[must_use]
    pub fn polite_closes(&self) -> u64 {
        self.polite_closes
    }

    /// How often `failure` happened.
    #[must_use]
    pub fn count(&self, failure: Failure) -> u64 {
        self.failures.get(&failure).copied().unwrap_or(0)
    }

    /// How many failures there were, of any kind.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The time within which `percent` of the answers came; zero when there were none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        percentile_of(
            self.answers.iter().map(|(_, micros)| *micros).collect(),
            percent,
        )
    }

    /// What came in each span of `width`, from `begun` on until the last answer.
    #[must_use]
    pub fn windows(&self, begun: Instant, width: Duration) -> Vec<Window> {
        let mut sorted: Vec<Vec<u32>> = Vec::new();
        for (at, micros) in self.answers.iter().filter(|(at, _)| *at >= begun) {
            let index =
                usize::try_from(at.duration_since(begun).as_micros() / width.as_micros().max(1));
            let index = index.unwrap_or(usize::MAX >> 1);
            if sorted.len() <= index {
                sorted.resize(index + 1, Vec::new());
            }
            sorted[index].push(*micros);
        }
        let window = |micros: Vec<u32>| Window {
            answered: micros.len(),
            p99: percentile_of(micros, 99.0),
        };
        sorted.into_iter().map(window).collect()
    }

    /// Ends the test unless there were answers and not one failure.
    ///
    /// # Panics
    ///
    /// With the whole tally.
    pub fn assert_flawless(&self) {
        assert!(self.failed() == 0 && self.answered > 0, "{self}");
    }
}

fn percentile_of(mut micros: Vec<u32>, percent: f64) -> Duration {
    micros.sort_unstable();
    let last = micros.len().saturating_sub(1);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let index = ((last as f64) * percent / 100.0).round() as usize;
    Duration::from_micros(micros.get(index).copied().unwrap_or(0).into())
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, max) = (
            self.percentile(50.0),
            self.percentile(99.0),
            self.percentile(100.0),
        );
        write!(
            f,
            "{} answered (p50 {p50:?}, p99 {p99:?}, max {max:?}), ",
            self.answered
        )?;
        write!(
            f,
            "{} polite closes, {} failed",
            self.polite_closes,
            self.failed()
        )?;
        for (failure, count) in &self.failures {
            write!(f, ", {failure:?} {count}")?;
        }
        if !self.examples.is_empty() {
            write!(f, " [{}]", self.examples.join("; "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_apart_and_summed() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.answer(Duration::from_micros(10));
        one.failure(Failure::Reset, || "a".into());
        other.failure(Failure::Reset, || "b".into());
        other.failure(Failure::BadStatus(503), || "c".into());
        one.add(other);
        assert_eq!(
            (one.answered(), one.count(Failure::Reset), one.failed()),
            (1, 2, 3)
        );
        assert!(one.to_string().contains("BadStatus(503) 1"), "{one}");
        assert!(!one.to_string().contains('\n'), "one line: {one}");
    }

    #[test]
    fn percentiles_are_of_the_answers() {
        let mut tally = Tally::default();
        assert_eq!(tally.percentile(50.0), Duration::ZERO);
        (1..=101).for_each(|n| tally.answer(Duration::from_micros(n)));
        assert_eq!(tally.percentile(50.0), Duration::from_micros(51));
        assert_eq!(tally.percentile(100.0), Duration::from_micros(101));
    }
    #[test]
    fn answers_fall_into_windows() {
        let (mut tally, begun) = (Tally::default(), Instant::now());
        (0..3).for_each(|_| tally.answer(Duration::from_micros(7)));
        let windows = tally.windows(begun, Duration::from_secs(3600));
        assert_eq!(
            windows,
            [Window {
                answered: 3,
                p99: Duration::from_micros(7)
            }]
        );
        assert!(tally
            .windows(Instant::now(), Duration::from_secs(1))
            .is_empty());
    }
}
