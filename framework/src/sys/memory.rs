//! Determines the memory that this process may use from the limits of its cgroups and of the machine.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the least limit in bytes, or `None` if no limit can be read.
pub(crate) fn available() -> Option<u64> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let cgroup_limits = limit_files(&cgroups)
        .into_iter()
        .filter_map(|file| limit(&fs::read_to_string(file).ok()?));
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    cgroup_limits.chain(machine_total(&machine)).min()
}

/// Returns the files that may contain a limit.
///
/// The lines of /proc/self/cgroup are `ID:CONTROLLERS:PATH`, or `0::PATH` in version 2. In a container the paths may be
/// those of the host. Such files do not exist and are skipped later, but the root of the mount exists and has the
/// container's limit.
fn limit_files(cgroups: &str) -> Vec<PathBuf> {
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

/// Parses a number of bytes. The text `max` means no limit. Version 1 has no such text: without a limit it writes a
/// number that is larger than the memory of any machine.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Returns `MemTotal` of /proc/meminfo in bytes.
fn machine_total(meminfo: &str) -> Option<u64> {
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
        assert_eq!(limit_files(cgroups), expected.map(PathBuf::from));
        assert_eq!(
            limit_files("0::/\n"),
            [PathBuf::from("/sys/fs/cgroup/memory.max")]
        );
    }

    #[test]
    fn numbers_are_limits_and_other_texts_are_none() {
        assert_eq!(limit("536870912\n"), Some(512 << 20));
        assert_eq!(limit("max\n"), None);
        assert_eq!(
            machine_total("MemTotal:       16384 kB\nMemFree: 1 kB\n"),
            Some(16 << 20)
        );
        assert_eq!(machine_total(""), None);
    }

    #[test]
    fn the_limit_of_this_machine_is_read() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
