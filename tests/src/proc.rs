//! Readings from `/proc`.

use std::fs;

/// A process, read through `/proc`. All readings are zero after the process is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proc(pub u32);

impl Proc {
    /// Returns the resident memory in KiB.
    #[must_use]
    pub fn rss_kib(self) -> u64 {
        self.status("VmRSS:")
    }

    /// Returns the peak of the resident memory in KiB.
    #[must_use]
    pub fn peak_kib(self) -> u64 {
        self.status("VmHWM:")
    }

    /// Returns the number of threads.
    #[must_use]
    pub fn threads(self) -> u64 {
        self.status("Threads:")
    }

    /// Returns the number of open descriptors.
    #[must_use]
    pub fn open_fds(self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0))
            .map(Iterator::count)
            .unwrap_or(0)
    }

    /// Returns the processor time so far, user and system, in clock ticks (100 a second).
    #[must_use]
    pub fn cpu_ticks(self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        // the name, in parentheses, may contain spaces: count fields after it
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

    /// Returns the voluntary context switches of all threads so far.
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

    /// Returns true if it exists and is not a zombie.
    #[must_use]
    pub fn is_alive(self) -> bool {
        self.stat(0)
            .is_some_and(|state| state != "Z" && state != "X")
    }

    /// Returns true if it exists, even as a zombie.
    #[must_use]
    pub fn exists(self) -> bool {
        self.stat(0).is_some()
    }

    /// Returns true if it is stopped, as by SIGSTOP.
    #[must_use]
    pub fn is_stopped(self) -> bool {
        self.stat(0).is_some_and(|state| state == "T")
    }

    /// Returns the pid of its parent.
    #[must_use]
    pub fn parent(self) -> u32 {
        self.stat(1).and_then(|ppid| ppid.parse().ok()).unwrap_or(0)
    }

    /// Returns the number of its descriptors that are listening TCP sockets.
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

    /// Returns a field of its `stat` after the name. Field 0 is the state. The name may contain spaces and parentheses.
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
        let own = Proc(std::process::id());
        assert!(
            own.rss_kib() > 100
                && own.peak_kib() >= own.rss_kib()
                && own.threads() > 0
                && own.open_fds() > 2
                && own.is_alive()
        );
        let missing = Proc(u32::MAX);
        assert_eq!(
            (missing.rss_kib(), missing.open_fds(), missing.cpu_ticks()),
            (0, 0, 0)
        );
        assert!(!missing.is_alive());
    }
}
