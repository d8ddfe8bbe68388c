//! The processes below the waiter: reaped as they end, until the application is none of them any more.

use rustix::process::{self, Pid, WaitOptions, WaitStatus};

use super::newest::{self, Named, Newest};
use super::pid;
use crate::sys::child::Ending;

/// What the waiter has seen end.
#[derive(Debug, Default)]
pub(crate) struct Family {
    /// The generations among them, the latest last. A generation that ends ends the waiter, or has a successor: few.
    ended: Vec<(u32, Ending)>,
}

/// What the last look at the children has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Children {
    Some,
    None,
}

impl Family {
    /// Reaps all that have ended, and says how the application has, if it has: as its newest generation did.
    pub(crate) fn reap(&mut self, newest: &Newest) -> Option<Ending> {
        let children = loop {
            match process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.note(pid, status, newest.read()),
                Ok(None) => break Children::Some,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break Children::None,
            }
        };
        self.verdict(newest.read(), children, is_alive)
    }

    fn note(&mut self, pid: Pid, status: WaitStatus, named: Named) {
        let number = pid.as_raw_nonzero().get().unsigned_abs();
        let ending = match (status.exit_status(), status.terminating_signal()) {
            (Some(status), _) => Ending::Exited(status),
            (None, Some(signal)) => Ending::Killed(signal),
            (None, None) => return,
        };
        if [named.live, named.previous, named.next].contains(&number) {
            self.ended.retain(|(earlier, _)| *earlier != number);
            self.ended.push((number, ending));
        }
    }

    /// Nothing ends while one of those who are or may become the newest lives. With no child left there is none, even
    /// if a pid that the record names belongs to somebody by now.
    fn verdict(
        &self,
        named: Named,
        children: Children,
        is_alive: impl Fn(u32) -> bool,
    ) -> Option<Ending> {
        let lives = |pid: u32| pid != 0 && self.ending(pid).is_none() && is_alive(pid);
        if children == Children::Some
            && [named.live, named.previous, named.next]
                .into_iter()
                .any(lives)
        {
            return None;
        }
        let last = self.ended.last().map(|(_, ending)| *ending);
        Some(self.ending(named.live).or(last).unwrap_or(Ending::Unknown))
    }

    fn ending(&self, pid: u32) -> Option<Ending> {
        self.ended
            .iter()
            .find(|(ended, _)| *ended == pid)
            .map(|(_, ending)| *ending)
    }
}

/// Blocks until any child has ended, and leaves it to be reaped.
pub(super) fn wait_for_any() {
    let options = process::WaitIdOptions::EXITED | process::WaitIdOptions::NOWAIT;
    let _ = process::waitid(process::WaitId::All, options);
}

/// Who is to be sent signals: the live one, or whoever is to be in its place.
pub(super) fn newest_alive(newest: &Newest) -> Option<Pid> {
    let Named {
        live,
        previous,
        next,
    } = newest.read();
    [live, previous, next]
        .into_iter()
        .find(|pid| is_alive(*pid))
        .and_then(pid)
}

/// Whether there is such a process, this one apart.
fn is_alive(number: u32) -> bool {
    number != std::process::id() && newest::is_alive(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Children = Children::Some;

    fn named(live: u32, previous: u32, next: u32) -> Named {
        Named {
            live,
            previous,
            next,
        }
    }

    fn ended(all: &[(u32, Ending)]) -> Family {
        Family {
            ended: all.to_vec(),
        }
    }

    #[test]
    fn it_lasts_as_long_as_one_who_is_or_may_be_the_newest() {
        let first = Ending::Exited(0);
        // an older generation has ended, the newest lives
        assert_eq!(
            ended(&[(10, first)]).verdict(named(11, 0, 0), LEFT, |pid| pid == 11),
            None
        );
        // the newest has died, and its predecessor is about to take over again
        assert_eq!(
            ended(&[]).verdict(named(11, 10, 0), LEFT, |pid| pid == 10),
            None
        );
        // the newest has died with its successor on the way
        assert_eq!(
            ended(&[(10, Ending::Killed(9))]).verdict(named(10, 0, 11), LEFT, |pid| pid == 11),
            None
        );
    }

    #[test]
    fn it_ends_as_the_newest_did() {
        let all = [(10, Ending::Exited(0)), (11, Ending::Exited(3))];
        assert_eq!(
            ended(&all).verdict(named(11, 0, 0), LEFT, |_| false),
            Some(Ending::Exited(3))
        );
        // whatever ended last, and whatever orphan is left
        let all = [(11, Ending::Exited(3)), (10, Ending::Exited(0))];
        assert_eq!(
            ended(&all).verdict(named(11, 10, 0), LEFT, |_| true),
            Some(Ending::Exited(3))
        );
        // the newest was reaped by its predecessor, which then died itself
        let all = [(10, Ending::Killed(9))];
        assert_eq!(
            ended(&all).verdict(named(11, 10, 0), LEFT, |_| false),
            Some(Ending::Killed(9))
        );
    }

    #[test]
    fn with_no_child_left_nobody_can_be_the_newest() {
        assert_eq!(
            ended(&[]).verdict(named(11, 0, 0), Children::None, |_| true),
            Some(Ending::Unknown)
        );
        assert_eq!(
            ended(&[(10, Ending::Exited(4))]).verdict(named(11, 0, 0), Children::None, |_| true),
            Some(Ending::Exited(4))
        );
    }

    #[test]
    fn neither_nobody_nor_oneself_is_alive() {
        assert!(!is_alive(0));
        assert!(!is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX));
        assert!(is_alive(1) || std::process::id() == 1);
    }
}
