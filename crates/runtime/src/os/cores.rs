//! The CPUs that this process may use.

use std::path::Path;

use super::affinity::allowed_cpus;
use super::stay::threads_before;

/// The number of threads that use the machine without getting in each other's way: the physical
/// cores that this process may run on, within its CPU quota; at least 1. On the thread of a pool with CPUs of its own
/// ([`Pool::pinned`](crate::Pool::pinned)) it is what it was before that pool.
pub fn default_threads() -> usize {
    threads_before().unwrap_or_else(count)
}

fn count() -> usize {
    // Knows the affinity of this thread and the quotas of control groups, version 1 and 2.
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = allowed_cpus()
        .and_then(|cpus| physical_cores(Path::new("/sys/devices/system/cpu"), cpus.cpus()));
    cores.unwrap_or(available).clamp(1, available)
}

/// How many different cores the CPUs belong to, from the topology below `root`; `None` where it
/// does not say.
fn physical_cores(root: &Path, cpus: &[usize]) -> Option<usize> {
    let mut cores: Vec<(String, String)> = Vec::new();
    for cpu in cpus {
        let topology = root.join(format!("cpu{cpu}/topology"));
        let read = |name| std::fs::read_to_string(topology.join(name)).ok();
        cores.push((read("physical_package_id")?, read("core_id")?));
    }
    cores.sort_unstable();
    cores.dedup();
    Some(cores.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_count_once() {
        let root = tempfile::tempdir().unwrap();
        for cpu in 0..8 {
            let topology = root.path().join(format!("cpu{cpu}/topology"));
            std::fs::create_dir_all(&topology).unwrap();
            std::fs::write(
                topology.join("physical_package_id"),
                format!("{}\n", cpu / 4),
            )
            .unwrap();
            std::fs::write(topology.join("core_id"), format!("{}\n", cpu % 2)).unwrap();
        }
        let cores = |cpus: &[usize]| physical_cores(root.path(), cpus);
        assert_eq!(cores(&[0, 1, 2, 3, 4, 5, 6, 7]), Some(4));
        assert_eq!(cores(&[0, 2]), Some(1));
        assert_eq!(cores(&[1, 5]), Some(2));
        assert_eq!(cores(&[8]), None);
        assert!(default_threads() >= 1);
    }
}
