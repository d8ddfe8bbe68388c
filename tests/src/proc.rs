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

    /// How many threads it has.
    #[must_use]
    pub fn threads(self) -> u64 {
        self.status("Threads:")
    }

    /// How many descriptors it has open.
    #[must_use]
    pub fn open_fds(self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0)).map(Iterator::count).unwrap_or(0)
    }

    /// Processor time so far, user's and system's, in clock ticks (100 a second).
    #[must_use]
    pub fn cpu_ticks(self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        // the name, in parentheses, may hold spaces: count fields after it
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    }

    /// Whether it is there and no zombie.
    #[must_use]
    pub fn is_alive(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().next())
            .is_some_and(|state| state != "Z")
    }

    fn status(self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured() {
        let me = Proc(std::process::id());
        assert!(me.rss_kib() > 100 && me.threads() > 0 && me.open_fds() > 2 && me.is_alive());
        let nobody = Proc(u32::MAX);
        assert_eq!((nobody.rss_kib(), nobody.open_fds(), nobody.cpu_ticks()), (0, 0, 0));
        assert!(!nobody.is_alive());
    }
}
