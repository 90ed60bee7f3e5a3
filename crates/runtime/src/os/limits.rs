//! What this process may still take of the machine's memory.

use std::path::Path;

use super::{CgroupMemory, kilobytes};

/// What may still be taken beyond what the process has now, in bytes; `None` for what nothing limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headroom {
    /// Memory that the machine can give, pages of cached files included.
    pub machine: Option<u64>,
    /// What the control groups leave.
    pub cgroup: Option<u64>,
    /// What the tightest control group allows in all.
    pub cgroup_limit: Option<u64>,
    /// Addresses left below `RLIMIT_AS`.
    pub addresses: Option<u64>,
    /// Private memory left below `RLIMIT_DATA`.
    pub data: Option<u64>,
}

/// What may still be taken now.
pub fn headroom() -> Headroom {
    headroom_below(Path::new("/"))
}

/// The same in a file system whose root is `root`.
fn headroom_below(root: &Path) -> Headroom {
    let read = |path| std::fs::read_to_string(root.join(path)).ok();
    let (limits, status) = (read("proc/self/limits"), read("proc/self/status"));
    let left = |limit, used| {
        let limit = soft_limit(limits.as_deref()?, limit)?;
        Some(limit.saturating_sub(kilobytes(status.as_deref()?, used)?))
    };
    let group = CgroupMemory::read_below(root);
    Headroom {
        machine: read("proc/meminfo").and_then(|text| kilobytes(&text, "MemAvailable")),
        cgroup: group.as_ref().and_then(CgroupMemory::left),
        cgroup_limit: group.and_then(|group| group.limit),
        addresses: left("Max address space", "VmSize"),
        data: left("Max data size", "VmData"),
    }
}

/// The limit in force, of `/proc/self/limits`; `None` where there is none.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_found() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("proc/self");
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(headroom_below(root.path()), Headroom::default());
        let write =
            |name: &str, text| std::fs::write(root.path().join("proc").join(name), text).unwrap();
        write(
            "meminfo",
            "MemTotal: 90 kB\nMemFree: 10 kB\nMemAvailable:   60 kB\n",
        );
        write("self/status", "VmSize:\t 30 kB\nVmData:\t 20 kB\n");
        write(
            "self/limits",
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max data size             unlimited            unlimited            bytes\n\
             Max address space         102400               unlimited            bytes\n",
        );
        let expected = Headroom {
            machine: Some(60 << 10),
            addresses: Some(70 << 10),
            ..Headroom::default()
        };
        assert_eq!(headroom_below(root.path()), expected);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_memory() {
        assert!(headroom().machine.unwrap() > 1 << 20);
    }
}
