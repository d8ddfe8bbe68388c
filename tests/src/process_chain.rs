//! A program under test and the processes that replace it in upgrades. `Drop` kills and reaps all of them.

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
use crate::log_texts;
use crate::proc::Proc;
use crate::process::Process;
use crate::wait;

/// The longest time an upgrade of a debug build takes on a busy machine, without its `rollback_window`.
const UPGRADE: Duration = Duration::from_secs(60);

/// The first process of a program and the processes that upgrades have started, one of which serves.
///
/// Output, directory and addresses are those of the first [`Process`]: all processes write to its output.
#[derive(Debug)]
pub struct ProcessChain {
    first: Process,
    newest: u32,
    reaped: BTreeSet<u32>,
}

impl ProcessChain {
    /// Starts the program and waits until it is ready.
    ///
    /// Makes the test the subreaper of its descendants, so a process whose parent exits becomes a child of the test.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be started or is not ready in time.
    #[must_use]
    pub fn serve(launch: &Launch) -> Self {
        let mut chain = ProcessChain::start(launch);
        chain.first.ready();
        chain
    }

    /// Starts the program as [`serve`](Self::serve) does, without waiting until it is ready.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be started.
    #[must_use]
    pub fn start(launch: &Launch) -> Self {
        static SUBREAPER: Once = Once::new();
        SUBREAPER.call_once(|| {
            set_child_subreaper(Some(getpid())).expect("the test becomes a subreaper");
        });
        // the first process exits after an upgrade like every other one, although its parent, the test, watches its pid
        let first = launch
            .clone()
            .env("SLACKWATER_FIRST_PROCESS", "exit")
            .start();
        ProcessChain {
            newest: first.pid(),
            first,
            reaped: BTreeSet::new(),
        }
    }

    /// Returns the pid of the process that serves.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// Sets the pid of the process that serves.
    pub fn set_newest(&mut self, pid: u32) {
        self.newest = pid;
    }

    /// Returns the `/proc` readings of the process that serves.
    #[must_use]
    pub fn proc(&self) -> Proc {
        Proc(self.newest)
    }

    /// Sends a signal to the process that serves.
    ///
    /// # Panics
    ///
    /// Panics if it no longer exists.
    pub fn signal(&self, signal: Signal) {
        assert!(
            signal_to(self.newest, signal),
            "cannot send {signal:?}: the process is gone; the output:\n{}",
            self.log()
        );
    }

    /// Sends SIGHUP to the process that serves and waits until the reload is live.
    pub fn reload(&self) {
        let mark = self.mark();
        self.signal(Signal::HUP);
        self.wait_for_log(mark, log_texts::RELOADED);
    }

    /// Sends USR2 and waits until the upgrade is confirmed. Returns the pid of the new process.
    ///
    /// # Panics
    ///
    /// Panics if it is not confirmed in time, or the log reports a failure.
    pub fn upgrade(&mut self) -> u32 {
        let mark = self.mark();
        let new = self.begin_upgrade();
        self.wait_confirmed(mark, new);
        new
    }

    /// Sends USR2 to the process that serves and waits until it has started the new process. Returns that pid.
    ///
    /// Repeats the signal if it is refused because the previous upgrade is not finished.
    ///
    /// # Panics
    ///
    /// Panics if no new process is started in time.
    pub fn begin_upgrade(&self) -> u32 {
        let answers = [
            log_texts::STARTED_NEW,
            log_texts::USR2_REFUSED,
            log_texts::REFUSED_RETURNING,
        ];
        wait::until(UPGRADE, "an upgrade begins", || {
            let mark = self.mark();
            self.signal(Signal::USR2);
            pid_after(&self.wait_for_any(mark, &answers), log_texts::STARTED_NEW)
        })
    }

    /// Waits until the upgrade to the process `new` is confirmed. `new` is then the process that serves.
    ///
    /// # Panics
    ///
    /// Panics if it is not confirmed in time, or the log after `mark` reports a failure.
    pub fn wait_confirmed(&mut self, mark: usize, new: u32) {
        let outcome = wait::maybe(UPGRADE, || {
            let log = self.log_since(mark);
            if [
                log_texts::UPGRADE_FAILED,
                log_texts::UPGRADE_REFUSED,
                log_texts::ROLLED_BACK,
            ]
            .iter()
            .any(|failure| log.contains(failure))
            {
                return Some(false);
            }
            log.contains(log_texts::CONFIRMED).then_some(true)
        });
        assert_eq!(
            outcome,
            Some(true),
            "the upgrade to {new} was not confirmed; the output:\n{}",
            self.log()
        );
        self.newest = new;
    }

    /// Waits until the process has exited, and reaps it if it is a child of the test. Returns its status in that case.
    ///
    /// # Panics
    ///
    /// Panics if that takes longer than `within`.
    pub fn wait_gone(&mut self, pid: u32, within: Duration) -> Option<WaitStatus> {
        let gone = wait::maybe(within, || self.try_gone(pid));
        gone.unwrap_or_else(|| {
            panic!(
                "process {pid} still exists after {within:?}; the output:\n{}",
                self.log()
            )
        })
    }

    /// Checks without waiting whether the process has exited, as [`wait_gone`](Self::wait_gone) does.
    ///
    /// Returns `None` if it runs, or is a zombie that another process has to reap.
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
            // not a child of the test, or reaped already
            Err(Errno::CHILD) => (!Path::new(&format!("/proc/{pid}")).exists()).then_some(None),
            Ok(None) | Err(_) => None,
        }
    }

    /// Returns the pids of all running processes of the chain, in ascending order.
    #[must_use]
    pub fn alive(&self) -> Vec<u32> {
        let marker = format!("{}={}", Launch::MARKER, self.dir().path().display());
        let is_marked = |pid: &u32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ
                .split(|byte| *byte == 0)
                .any(|variable| variable == marker.as_bytes())
        };
        let mut alive: Vec<u32> = processes()
            .filter(is_marked)
            .filter(|pid| Proc(*pid).is_alive())
            .collect();
        alive.sort_unstable();
        alive
    }

    /// Returns the pids of the zombies among the children of the process that serves.
    #[must_use]
    pub fn zombies(&self) -> Vec<u32> {
        let is_child = |pid: &u32| Proc(*pid).parent() == self.newest;
        processes()
            .filter(|pid| is_child(pid) && Proc(*pid).exists() && !Proc(*pid).is_alive())
            .collect()
    }

    fn end(&mut self) {
        // the first process can start others, so it is killed before them
        self.first.kill();
        loop {
            let mut left = self.alive();
            left.extend(
                self.logged_pids()
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
                    eprintln!("process {pid} cannot be killed");
                    return;
                }
                self.reaped.insert(pid);
            }
        }
    }

    fn logged_pids(&self) -> Vec<u32> {
        self.log()
            .lines()
            .filter_map(|line| pid_after(line, log_texts::STARTED_NEW))
            .collect()
    }
}

impl Deref for ProcessChain {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.first
    }
}

impl Drop for ProcessChain {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends a signal to a process that the test, or a program under test, has started. Returns true if it exists.
pub fn signal_to(pid: u32, signal: Signal) -> bool {
    pid_of(pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn pid_after(line: &str, text: &str) -> Option<u32> {
    let (_, rest) = line.split_once(text)?;
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
        assert_eq!(pid_after(line, log_texts::STARTED_NEW), Some(4711));
        assert_eq!(pid_after("nothing", log_texts::STARTED_NEW), None);
    }

    #[test]
    fn a_process_that_outlives_its_parent_is_killed_too() {
        // the first process starts a second process, which outlives it, as an upgrade does
        let script = "sleep 60 & echo upgrade: started the new process, pid $!; \
                      echo listening on 127.0.0.1:1; wait";
        let launch = Launch::program("/bin/sh".as_ref()).args(["-c", script]);
        set_child_subreaper(Some(getpid())).unwrap();
        let first = launch.start();
        let line = first.wait_for_log(0, log_texts::STARTED_NEW);
        let second = pid_after(&line, log_texts::STARTED_NEW).unwrap();
        let mut chain = ProcessChain {
            newest: second,
            first,
            reaped: BTreeSet::new(),
        };
        // between fork and exec it may not carry the marker yet
        let found = || chain.alive().contains(&second).then_some(());
        wait::until(Duration::from_secs(5), "the second process is found", found);
        chain.first.kill();
        assert!(chain.try_gone(second).is_none());
        drop(chain);
        assert!(!Proc(second).exists());
    }
}
