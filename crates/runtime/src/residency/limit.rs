//! How much memory this process may take.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that this process may have resident at most, pages of files that it reads through a map included: what its memory
/// cgroup allows, of version 1 or 2, or what the machine has available beside the `own` bytes that the process has already,
/// where that is less; `None` where the system does not say.
pub(super) fn memory_available(own: u64) -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(available);
    let machine = machine.map(|available| available.saturating_add(own));
    [cgroup_limit(), machine].into_iter().flatten().min()
}

/// The smallest limit of the memory cgroups that this process is in.
pub(super) fn cgroup_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        if controllers.split(',').any(|name| name == "memory") {
            lowest(
                Path::new("/sys/fs/cgroup/memory"),
                path,
                "memory.limit_in_bytes",
            )
        } else if controllers.is_empty() {
            lowest(Path::new("/sys/fs/cgroup"), path, "memory.max")
        } else {
            None
        }
    });
    limits.min()
}

/// The lowest limit of a group and those above it. In a container the path may be one of the host, which is not there: then
/// the root that is mounted is the container's own group.
fn lowest(root: &Path, group: &str, file: &str) -> Option<u64> {
    let mut place: PathBuf = root.join(group.trim_start_matches('/'));
    let mut limits = Vec::new();
    loop {
        let limit = fs::read_to_string(place.join(file)).ok();
        limits.extend(limit.and_then(|limit| limit.trim().parse::<u64>().ok()));
        if place == root || !place.pop() {
            break;
        }
    }
    limits.into_iter().min()
}

/// The field `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_above_a_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("a/b");
        fs::create_dir_all(&group).unwrap();
        fs::write(root.path().join("a/memory.max"), "4096\n").unwrap();
        fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(lowest(root.path(), "/a/b", "memory.max"), Some(4096));
        fs::write(group.join("memory.max"), "1024\n").unwrap();
        assert_eq!(lowest(root.path(), "/a/b", "memory.max"), Some(1024));
        assert_eq!(lowest(root.path(), "/", "memory.max"), None);
        fs::write(root.path().join("memory.max"), "9\n").unwrap();
        assert_eq!(lowest(root.path(), "/of/the/host", "memory.max"), Some(9));
    }

    #[test]
    fn available_memory_is_in_kib() {
        let meminfo = "MemTotal:  10 kB\nMemAvailable:    3 kB\n";
        assert_eq!(available(meminfo), Some(3072));
        assert_eq!(available("MemTotal: 10 kB\n"), None);
    }
}
