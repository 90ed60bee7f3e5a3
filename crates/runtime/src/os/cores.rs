//! The CPUs that this process may use.

use std::path::Path;

use super::field;

/// The number of threads that use the machine without getting in each other's way: the physical
/// cores that this process may run on, within its CPU quota; at least 1.
pub fn default_threads() -> usize {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let allowed = std::fs::read_to_string("/proc/self/status").ok();
    let allowed = allowed
        .as_deref()
        .and_then(|status| field(status, "Cpus_allowed_list"));
    let cores = allowed
        .and_then(parse_cpu_list)
        .and_then(|cpus| physical_cores(Path::new("/sys/devices/system/cpu"), &cpus));
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

/// The CPUs of a list such as `0,2-3`; `None` where it is malformed.
fn parse_cpu_list(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= 1 << 16 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("0,2-4,9\n"), Some(vec![0, 2, 3, 4, 9]));
        assert_eq!(parse_cpu_list(""), None);
        assert_eq!(parse_cpu_list("3-x"), None);
        assert_eq!(parse_cpu_list("0-99999999999"), None);
    }

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
