//! One signal that comes twice: to a whole process group, and once more from the waiter in it.

use std::time::{Duration, Instant};

/// How far apart the two may be: the waiter only has to wake up.
const APART: Duration = Duration::from_millis(500);

/// Tells the second of a pair from a signal that was sent twice on purpose, since a second TERM or INT cuts.
///
/// `kill %1` in a shell, timeout(1) and supervisors that stop a group send to all its processes at once. The waiter, one
/// of them, cannot know that and passes the signal on.
#[derive(Debug, Default)]
pub(crate) struct Echoes {
    /// The first of what may become a pair.
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    signal: i32,
    from: From,
    at: Instant,
}

/// Who has sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The waiter, which passes it on.
    Waiter,
    /// Anybody else.
    Elsewhere,
}

impl Echoes {
    /// Whether this signal is one that came the other way a moment ago.
    pub(crate) fn is_echo(&mut self, signal: i32, from: From, now: Instant) -> bool {
        self.seen.retain(|seen| now.duration_since(seen.at) < APART);
        let pair = self
            .seen
            .iter()
            .position(|seen| seen.signal == signal && seen.from != from);
        match pair {
            Some(first) => {
                self.seen.swap_remove(first);
                true
            }
            None => {
                self.seen.push(Seen {
                    signal,
                    from,
                    at: now,
                });
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: i32 = 15;
    const INT: i32 = 2;

    #[test]
    fn one_that_came_both_ways_is_one() {
        let now = Instant::now();
        for (first, second) in [
            (From::Elsewhere, From::Waiter),
            (From::Waiter, From::Elsewhere),
        ] {
            let mut echoes = Echoes::default();
            assert!(!echoes.is_echo(TERM, first, now));
            assert!(!echoes.is_echo(INT, second, now));
            assert!(echoes.is_echo(TERM, second, now + APART / 2));
            // the pair is complete: the next is another
            assert!(!echoes.is_echo(TERM, second, now + APART / 2));
        }
    }

    #[test]
    fn one_that_came_the_same_way_or_later_is_another() {
        let now = Instant::now();
        let mut echoes = Echoes::default();
        assert!(!echoes.is_echo(TERM, From::Waiter, now));
        assert!(!echoes.is_echo(TERM, From::Waiter, now));
        assert!(!echoes.is_echo(TERM, From::Elsewhere, now + APART));
    }
}
