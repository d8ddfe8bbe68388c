//! The memory that this process may use: the limits of its cgroup and of all cgroups above it, and the machine's.

use std::fs;
use std::path::{Path, PathBuf};

/// The least of these limits in bytes; `None` where the system names none.
pub(crate) fn available() -> Option<u64> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_cgroup = files(&cgroups)
        .into_iter()
        .filter_map(|file| limit(&fs::read_to_string(file).ok()?));
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    of_cgroup.chain(total(&machine)).min()
}

/// The files that may hold a limit, by the lines of /proc/self/cgroup: `ID:CONTROLLERS:PATH`, for version 2 `0::PATH`.
/// A path of the host that a container does not see is skipped when it is read; the root of its mount is not.
fn files(cgroups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        files.extend(
            path.ancestors()
                .map(|group| Path::new(root).join(group).join(name)),
        );
    }
    files
}

/// A number of bytes, or `max`. Version 1 writes "no limit" as a number that is larger than any machine.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `MemTotal` of /proc/meminfo.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_cgroup_and_of_all_above_it_are_read() {
        let expected = [
            "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/a.slice/b.service/memory.max",
            "/sys/fs/cgroup/a.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        let cgroups = "5:cpu,memory:/docker/1\n3:pids:/x\nnonsense\n0::/a.slice/b.service\n";
        assert_eq!(files(cgroups), expected.map(PathBuf::from));
        assert_eq!(
            files("0::/\n"),
            [PathBuf::from("/sys/fs/cgroup/memory.max")]
        );
    }

    #[test]
    fn numbers_are_read_and_words_are_no_limit() {
        assert_eq!(limit("536870912\n"), Some(512 << 20));
        assert_eq!(limit("max\n"), None);
        assert_eq!(
            total("MemTotal:       16384 kB\nMemFree: 1 kB\n"),
            Some(16 << 20)
        );
        assert_eq!(total(""), None);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
