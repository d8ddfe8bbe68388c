//! Counts of answers and failures. Each kind of failure is counted separately.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// The kind of a failed request or connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The connection was refused.
    Refused,
    /// The connection was reset, while connecting, sending or receiving.
    Reset,
    /// The connection was closed after the request and before the first byte of its answer.
    ClosedBeforeAnswer,
    /// The connection was closed inside an answer.
    CutInTheMiddle,
    /// The client's timeout passed.
    TimedOut,
    /// The status of the answer was not 2xx.
    BadStatus(u16),
    /// A kept-alive connection was closed between two requests without an announcement.
    ClosedWhileIdle,
    /// The bytes received were not the expected HTTP answer.
    Malformed,
    /// A failure of the client's machine, such as no free port or descriptor. It does not concern the server.
    Local(io::ErrorKind),
}

impl Failure {
    /// Converts an error of the operating system.
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

/// The counts of one client, or the sum of many.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    answered: u64,
    announced_closes: u64,
    failures: BTreeMap<Failure, u64>,
    examples: Vec<String>,
    /// The time of each answer, and its latency in microseconds.
    answers: Vec<(Instant, u32)>,
}

/// The answers within one time window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The number of answers.
    pub answered: usize,
    /// The 99th percentile of their latency; zero without answers.
    pub p99: Duration,
}

impl Tally {
    /// Counts an answer with status 2xx.
    pub fn answer(&mut self, took: Duration) {
        self.answered += 1;
        self.answers.push((
            Instant::now(),
            u32::try_from(took.as_micros()).unwrap_or(u32::MAX),
        ));
    }

    /// Counts a connection whose end was announced by `Connection: close`.
    pub fn announced_close(&mut self) {
        self.announced_closes += 1;
    }

    /// Counts a failure. The text of `example` is kept for the first five.
    pub fn failure(&mut self, failure: Failure, example: impl FnOnce() -> String) {
        *self.failures.entry(failure).or_default() += 1;
        if self.examples.len() < 5 {
            self.examples.push(format!("{failure:?}: {}", example()));
        }
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: Tally) {
        self.answered += other.answered;
        self.announced_closes += other.announced_closes;
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

    /// Returns the number of answers with status 2xx.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Returns the number of connections whose end was announced.
    #[must_use]
    pub fn announced_closes(&self) -> u64 {
        self.announced_closes
    }

    /// Returns the number of failures of this kind.
    #[must_use]
    pub fn count(&self, failure: Failure) -> u64 {
        self.failures.get(&failure).copied().unwrap_or(0)
    }

    /// Returns the number of all failures.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Returns a percentile of the latency; zero without answers.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        percentile_of(
            self.answers.iter().map(|(_, micros)| *micros).collect(),
            percent,
        )
    }

    /// Returns the answers in windows of `width`, from `start` to the last answer.
    #[must_use]
    pub fn windows(&self, start: Instant, width: Duration) -> Vec<Window> {
        let mut sorted: Vec<Vec<u32>> = Vec::new();
        for (at, micros) in self.answers.iter().filter(|(at, _)| *at >= start) {
            let index =
                usize::try_from(at.duration_since(start).as_micros() / width.as_micros().max(1));
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

    /// Asserts that there are answers and no failures.
    ///
    /// # Panics
    ///
    /// Panics with the whole tally otherwise.
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
            "{} announced closes, {} failed",
            self.announced_closes,
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
    fn kinds_are_counted_separately_and_added() {
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
    fn percentiles_are_computed_from_the_answers() {
        let mut tally = Tally::default();
        assert_eq!(tally.percentile(50.0), Duration::ZERO);
        for micros in 1..=101 {
            tally.answer(Duration::from_micros(micros));
        }
        assert_eq!(tally.percentile(50.0), Duration::from_micros(51));
        assert_eq!(tally.percentile(100.0), Duration::from_micros(101));
    }

    #[test]
    fn answers_are_divided_into_windows() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        for _ in 0..3 {
            tally.answer(Duration::from_micros(7));
        }
        let windows = tally.windows(start, Duration::from_secs(3600));
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
