//! What the runtime asks the operating system, each with an answer for systems that do not say.

use std::path::Path;

/// Seconds that local time is ahead of UTC at a moment, given in seconds since 1970; 0 where the
/// system does not say.
#[cfg(unix)]
pub(crate) fn utc_offset(seconds: i64) -> i64 {
    // 32 bits on some targets.
    #[allow(irrefutable_let_patterns)]
    let Ok(time) = libc::time_t::try_from(seconds) else {
        return 0;
    };
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call, which keeps neither; all zeroes is a valid `tm`.
    let parts = unsafe {
        libc::localtime_r(&time, parts.as_mut_ptr());
        parts.assume_init()
    };
    // So is this.
    #[allow(clippy::useless_conversion)]
    i64::from(parts.tm_gmtoff)
}

/// Seconds that local time is ahead of UTC: unknown here.
#[cfg(not(unix))]
pub(crate) fn utc_offset(_seconds: i64) -> i64 {
    0
}

/// Makes writing beyond the limit on file sizes (`ulimit -f`) an error like that of a full disk, instead of the end of
/// the process.
#[cfg(unix)]
pub fn survive_file_size_limit() {
    // SAFETY: ignoring a signal installs no handler, and no other code of this process handles this one.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Nothing to do here.
#[cfg(not(unix))]
pub fn survive_file_size_limit() {}

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

/// The value of a line `name: value` of a file below `/proc`.
fn field<'t>(status: &'t str, name: &str) -> Option<&'t str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

/// Memory of this process as the system counts it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Most that was resident at any time since the start or the last [`reset_peak`].
    pub peak: u64,
    /// Resident now and not backed by a file.
    pub anon: u64,
    /// Resident now and backed by files, such as mapped weights.
    pub file: u64,
}

/// The memory of this process; `None` where the system does not say.
pub fn process_memory() -> Option<ProcessMemory> {
    parse_memory(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_memory(status: &str) -> Option<ProcessMemory> {
    let bytes = |name| {
        let kib = field(status, name)?
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()?;
        kib.checked_mul(1024)
    };
    let (anon, file) = (
        bytes("RssAnon")?,
        bytes("RssFile")? + bytes("RssShmem").unwrap_or(0),
    );
    // The kernel batches its counters, so that the peak can lag behind the current size.
    Some(ProcessMemory {
        peak: bytes("VmHWM")?.max(anon + file),
        anon,
        file,
    })
}

/// Starts a new measurement of [`ProcessMemory::peak`]; whether the system allows it.
pub fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
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

    #[test]
    fn memory_fields() {
        let status = "Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t 800 kB\nRssAnon:\t 300 kB\nRssFile:\t 450 kB\nRssShmem:\t 50 kB\n";
        let expected = ProcessMemory {
            peak: 900 << 10,
            anon: 300 << 10,
            file: 500 << 10,
        };
        assert_eq!(parse_memory(status), Some(expected));
        assert_eq!(parse_memory("VmHWM: 1 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory() {
        let memory = process_memory().unwrap();
        assert!(memory.peak >= memory.anon + memory.file && memory.anon > 0);
    }
}
