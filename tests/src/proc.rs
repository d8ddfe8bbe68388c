//! What the kernel knows of a process.

use std::fs;

/// A process, seen through `/proc`. All of it is zero once the process is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proc(pub u32);

impl Proc {
    /// Resident memory in KiB.
    #[must_use]
    pub fn rss_kib(self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most resident memory it ever had, in KiB.
    #[must_use]
    pub fn peak_kib(self) -> u64 {
        self.status("VmHWM:")
    }

    /// How many threads it has.
    #[must_use]
    pub fn threads(self) -> u64 {
        self.status("Threads:")
    }

    /// How many descriptors it has open.
    #[must_use]
    pub fn open_fds(self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0))
            .map(Iterator::count)
            .unwrap_or(0)
    }

    /// Processor time so far, user's and system's, in clock ticks (100 a second).
    #[must_use]
    pub fn cpu_ticks(self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        // the name, in parentheses, may hold spaces: count fields after it
        let fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        fields
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum()
    }

    /// How often its threads have gone to sleep so far.
    #[must_use]
    pub fn switches(self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0))
            .into_iter()
            .flatten()
            .flatten();
        let of = |text: String| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.and_then(|count| count.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        tasks
            .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
            .map(of)
            .sum()
    }

    /// Whether it is there and no zombie.
    #[must_use]
    pub fn is_alive(self) -> bool {
        self.stat(0)
            .is_some_and(|state| state != "Z" && state != "X")
    }

    /// Whether it is there, a zombie included.
    #[must_use]
    pub fn exists(self) -> bool {
        self.stat(0).is_some()
    }

    /// Whether it is stopped, as by SIGSTOP.
    #[must_use]
    pub fn is_stopped(self) -> bool {
        self.stat(0).is_some_and(|state| state == "T")
    }

    /// Its parent's process id.
    #[must_use]
    pub fn parent(self) -> u32 {
        self.stat(1).and_then(|ppid| ppid.parse().ok()).unwrap_or(0)
    }

    /// How many of its descriptors are listening TCP sockets.
    #[must_use]
    pub fn listening(self) -> usize {
        let table =
            |name| fs::read_to_string(format!("/proc/{}/net/{name}", self.0)).unwrap_or_default();
        let tables = table("tcp") + &table("tcp6");
        let in_listen = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(3) == Some(&"0A"))
                .then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
        };
        let sockets: Vec<String> = tables.lines().filter_map(in_listen).collect();
        let fds = fs::read_dir(format!("/proc/{}/fd", self.0))
            .into_iter()
            .flatten()
            .flatten();
        let links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        links
            .filter(|link| {
                sockets
                    .iter()
                    .any(|socket| link.as_os_str() == socket.as_str())
            })
            .count()
    }

    /// A field of its stat after the name, which may hold spaces and parentheses; the state is the first.
    fn stat(self, index: usize) -> Option<String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        stat.rsplit(')')
            .next()?
            .split_whitespace()
            .nth(index)
            .map(str::to_owned)
    }

    fn status(self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        line.split_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured() {
        let me = Proc(std::process::id());
        assert!(
            me.rss_kib() > 100
                && me.peak_kib() >= me.rss_kib()
                && me.threads() > 0
                && me.open_fds() > 2
                && me.is_alive()
        );
        let nobody = Proc(u32::MAX);
        assert_eq!(
            (nobody.rss_kib(), nobody.open_fds(), nobody.cpu_ticks()),
            (0, 0, 0)
        );
        assert!(!nobody.is_alive());
    }
}
