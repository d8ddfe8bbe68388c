//! A program under test and all the processes that come of its upgrades: followed, signalled, and ended in `Drop`.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    getpid, kill_process, set_child_subreaper, waitpid, Pid, Signal, WaitOptions, WaitStatus,
};

use crate::conn::PATIENCE;
use crate::launch::Launch;
use crate::proc::Proc;
use crate::process::Process;
use crate::said;
use crate::wait;

/// How long an upgrade of a debug build may take on a busy machine, beside its `rollback_window`.
const UPGRADE: Duration = Duration::from_secs(60);

/// A program, its successors, and which of them is the one that serves by the test's reckoning. What is known of the
/// whole (output, directory, addresses) is that of the first [`Process`].
#[derive(Debug)]
pub struct Lineage {
    first: Process,
    newest: u32,
    reaped: BTreeSet<u32>,
}

impl Lineage {
    /// Starts the program and waits until it is ready. Processes that outlive their parents become children of the
    /// test.
    ///
    /// # Panics
    ///
    /// When it cannot be started or is not ready in time.
    #[must_use]
    pub fn serve(launch: &Launch) -> Self {
        let mut lineage = Lineage::start(launch);
        lineage.first.ready();
        lineage
    }

    /// As [`serve`](Self::serve), without the wait.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(launch: &Launch) -> Self {
        static ADOPTS: Once = Once::new();
        ADOPTS.call_once(|| set_child_subreaper(Some(getpid())).expect("orphans come to the test"));
        // the first one is to go like any other: that it would stay for this test, which is its parent, is another matter
        let first = launch
            .clone()
            .env("SLACKWATER_FIRST_PROCESS", "exit")
            .start();
        Lineage {
            newest: first.pid(),
            first,
            reaped: BTreeSet::new(),
        }
    }

    /// The process that serves, as far as the test knows.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// From now on the test takes this one for the process that serves.
    pub fn is_now(&mut self, pid: u32) {
        self.newest = pid;
    }

    /// What the kernel knows of the process that serves.
    #[must_use]
    pub fn proc(&self) -> Proc {
        Proc(self.newest)
    }

    /// Sends a signal to the process that serves.
    ///
    /// # Panics
    ///
    /// When it is no longer there.
    pub fn signal(&self, signal: Signal) {
        assert!(
            signal_to(self.newest, signal),
            "{signal:?}: it is gone; the output:\n{}",
            self.log()
        );
    }

    /// Tells the process that serves to reload and waits until it has.
    pub fn reload(&self) {
        let mark = self.mark();
        self.signal(Signal::HUP);
        self.wait_for_log(mark, said::RELOADED);
    }

    /// Upgrades: USR2, and waits until the new process is confirmed. Gives its pid.
    ///
    /// # Panics
    ///
    /// When it is not confirmed in time, or the program says that it failed.
    pub fn upgrade(&mut self) -> u32 {
        let mark = self.mark();
        let new = self.begin();
        self.confirmed(mark, new);
        new
    }

    /// Tells the process that serves to upgrade, and waits until it has started the new one. Gives that one's pid.
    /// Tells it again where it is not yet done with what was before: the process before it, or one that it sent away.
    ///
    /// # Panics
    ///
    /// When none is started.
    pub fn begin(&self) -> u32 {
        let answers = [
            said::STARTED_NEW,
            said::USR2_REFUSED,
            said::REFUSED_RETURNING,
        ];
        wait::until(UPGRADE, "an upgrade begins", || {
            let mark = self.mark();
            self.signal(Signal::USR2);
            pid_after(&self.wait_for_any(mark, &answers), said::STARTED_NEW)
        })
    }

    /// Waits until an upgrade has brought the process `new`, which then is the newest.
    ///
    /// # Panics
    ///
    /// When it is not confirmed in time, or the program says after `mark` that it failed.
    pub fn confirmed(&mut self, mark: usize, new: u32) {
        let outcome = wait::maybe(UPGRADE, || {
            let log = self.log_since(mark);
            if [
                said::UPGRADE_FAILED,
                said::UPGRADE_REFUSED,
                said::ROLLED_BACK,
            ]
            .iter()
            .any(|bad| log.contains(bad))
            {
                return Some(false);
            }
            log.contains(said::CONFIRMED).then_some(true)
        });
        assert_eq!(
            outcome,
            Some(true),
            "the upgrade to {new} was not confirmed; the output:\n{}",
            self.log()
        );
        self.newest = new;
    }

    /// Waits until the process is gone, and no zombie of it is left for the test; gives how it ended where the test
    /// is its parent by then.
    ///
    /// # Panics
    ///
    /// When it is still there after `within`.
    pub fn gone(&mut self, pid: u32, within: Duration) -> Option<WaitStatus> {
        let gone = wait::maybe(within, || self.try_gone(pid));
        gone.unwrap_or_else(|| {
            panic!(
                "{pid} is still there after {within:?}; the output:\n{}",
                self.log()
            )
        })
    }

    /// As [`gone`](Self::gone), now: `None` when it is there, or a zombie that another has to reap.
    pub fn try_gone(&mut self, pid: u32) -> Option<Option<WaitStatus>> {
        if pid == self.first.pid() {
            return self.first.has_ended().then_some(None);
        }
        if self.reaped.contains(&pid) {
            return Some(None);
        }
        match waitpid(pid_of(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => {
                self.reaped.insert(pid);
                Some(Some(status))
            }
            // another's child, or gone
            Err(Errno::CHILD) => (!Path::new(&format!("/proc/{pid}")).exists()).then_some(None),
            Ok(None) | Err(_) => None,
        }
    }

    /// All processes of this lineage that are alive, oldest first as far as pids tell.
    #[must_use]
    pub fn alive(&self) -> Vec<u32> {
        let marker = format!("{}={}", Launch::MARKER, self.dir().path().display());
        let is_ours = |pid: &u32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ
                .split(|byte| *byte == 0)
                .any(|variable| variable == marker.as_bytes())
        };
        let mut alive: Vec<u32> = processes()
            .filter(is_ours)
            .filter(|pid| Proc(*pid).is_alive())
            .collect();
        alive.sort_unstable();
        alive
    }

    /// Zombies among the children of the process that serves, and of the test as far as they are of this lineage.
    #[must_use]
    pub fn zombies(&self) -> Vec<u32> {
        let is_child = |pid: &u32| Proc(*pid).parent() == self.newest;
        processes()
            .filter(|pid| is_child(pid) && Proc(*pid).exists() && !Proc(*pid).is_alive())
            .collect()
    }

    fn end(&mut self) {
        // whoever could start another goes first
        self.first.kill();
        loop {
            let mut left = self.alive();
            left.extend(
                self.said_pids()
                    .into_iter()
                    .filter(|pid| Proc(*pid).parent() == std::process::id()),
            );
            left.retain(|pid| !self.reaped.contains(pid) && *pid != self.first.pid());
            if left.is_empty() {
                return;
            }
            for pid in left {
                signal_to(pid, Signal::KILL);
                if wait::maybe(PATIENCE, || self.try_gone(pid)).is_none() {
                    eprintln!("{pid} cannot be ended");
                    return;
                }
                self.reaped.insert(pid);
            }
        }
    }

    fn said_pids(&self) -> Vec<u32> {
        self.log()
            .lines()
            .filter_map(|line| pid_after(line, said::STARTED_NEW))
            .collect()
    }
}

impl Deref for Lineage {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.first
    }
}

impl Drop for Lineage {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends a signal to a process that the test or a program of its started; tells whether it was there.
pub fn signal_to(pid: u32, signal: Signal) -> bool {
    pid_of(pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn pid_after(line: &str, words: &str) -> Option<u32> {
    let (_, rest) = line.split_once(words)?;
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_is_read_from_a_line() {
        let line = r#"{"msg":"upgrade: started the new process, pid 4711"}"#;
        assert_eq!(pid_after(line, said::STARTED_NEW), Some(4711));
        assert_eq!(pid_after("nothing", said::STARTED_NEW), None);
    }

    #[test]
    fn what_outlives_its_parent_is_ended_too() {
        // a first process that leaves a second one behind, as an upgrade does
        let script = "sleep 60 & echo upgrade: started the new process, pid $!; \
                      echo listening on 127.0.0.1:1; wait";
        let launch = Launch::program("/bin/sh".as_ref()).args(["-c", script]);
        set_child_subreaper(Some(getpid())).unwrap();
        let first = launch.start();
        let line = first.wait_for_log(0, said::STARTED_NEW);
        let second = pid_after(&line, said::STARTED_NEW).unwrap();
        let mut lineage = Lineage {
            newest: second,
            first,
            reaped: BTreeSet::new(),
        };
        // between its fork and its exec it may not be told from others for a moment
        let seen = || lineage.alive().contains(&second).then_some(());
        wait::until(Duration::from_secs(5), "the second one is seen", seen);
        lineage.first.kill();
        assert!(lineage.try_gone(second).is_none());
        drop(lineage);
        assert!(!Proc(second).exists());
    }
}
