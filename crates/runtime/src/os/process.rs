//! The memory of this process, as the system counts it.

use std::path::Path;

use super::{field, kilobytes};

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

/// Everything that the system says of this process, in bytes and numbers since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessReading {
    /// What is resident.
    pub memory: ProcessMemory,
    /// What is resident, with pages that several processes map divided among them.
    pub pss: Option<u64>,
    /// Addresses in use, resident or not.
    pub vm_size: u64,
    /// Addresses in use that are writable and private: what `RLIMIT_DATA` limits.
    pub vm_data: u64,
    /// Threads.
    pub threads: u64,
    /// Pages found in memory when first touched, or made.
    pub minor_faults: u64,
    /// Pages read from a disk.
    pub major_faults: u64,
}

/// The memory of this process; `None` where the system does not say.
///
/// Costs some microseconds.
pub fn process_memory() -> Option<ProcessMemory> {
    parse_memory(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// All numbers of this process; `None` where the system does not say.
///
/// The system walks all mapped pages for it, which takes milliseconds per gigabyte: not for timed sections.
pub fn read_process() -> Option<ProcessReading> {
    read_at(Path::new("/proc/self"))
}

/// The same from the files of the folder `process`.
fn read_at(process: &Path) -> Option<ProcessReading> {
    let read = |name| std::fs::read_to_string(process.join(name)).ok();
    let rollup = read("smaps_rollup");
    let status = read("status")?;
    let mut memory = parse_memory(&status)?;
    let exact = rollup
        .as_deref()
        .and_then(|text| Some((kilobytes(text, "Rss")?, kilobytes(text, "Anonymous")?)));
    if let Some((resident, anon)) = exact {
        // The counters behind `status` may lag by some pages per CPU; these do not.
        memory = ProcessMemory {
            peak: memory.peak.max(resident),
            anon,
            file: resident.saturating_sub(anon),
        };
    }
    let (minor_faults, major_faults) = parse_faults(&read("stat")?)?;
    Some(ProcessReading {
        memory,
        pss: rollup.as_deref().and_then(|text| kilobytes(text, "Pss")),
        vm_size: kilobytes(&status, "VmSize")?,
        vm_data: kilobytes(&status, "VmData")?,
        threads: field(&status, "Threads")?.parse().ok()?,
        minor_faults,
        major_faults,
    })
}

fn parse_memory(status: &str) -> Option<ProcessMemory> {
    let bytes = |name| kilobytes(status, name);
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

/// Minor and major faults of `/proc/PID/stat`, whose second field may hold anything in brackets.
fn parse_faults(stat: &str) -> Option<(u64, u64)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(7);
    let minor = fields.next()?.parse().ok()?;
    let major = fields.nth(1)?.parse().ok()?;
    Some((minor, major))
}

/// Starts a new measurement of [`ProcessMemory::peak`]; whether the system allows it.
///
/// What other programs see as the peak of this process, such as `time -v`, starts anew too.
pub fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nVmHWM:\t  900 kB\nVmSize:\t 5000 kB\nVmRSS:\t 800 kB\nRssAnon:\t 300 kB\n\
                          RssFile:\t 450 kB\nRssShmem:\t 50 kB\nVmData:\t 700 kB\nThreads:\t3\n";

    #[test]
    fn memory_fields() {
        let expected = ProcessMemory {
            peak: 900 << 10,
            anon: 300 << 10,
            file: 500 << 10,
        };
        assert_eq!(parse_memory(STATUS), Some(expected));
        assert_eq!(parse_memory("VmHWM: 1 kB\n"), None);
    }

    #[test]
    fn the_walk_is_more_exact_than_the_counters() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name, text| std::fs::write(folder.path().join(name), text).unwrap();
        write("status", STATUS);
        write("stat", "17 (a) b) S 1 2 3 4 5 6 77 8 99 10\n");
        let reading = read_at(folder.path()).unwrap();
        assert_eq!((reading.memory.anon, reading.pss), (300 << 10, None));
        assert_eq!((reading.minor_faults, reading.major_faults), (77, 99));
        assert_eq!((reading.vm_size, reading.threads), (5000 << 10, 3));
        write(
            "smaps_rollup",
            "00-ff ---p 0 0 0 [rollup]\nRss: 1000 kB\nPss: 600 kB\nAnonymous: 310 kB\n",
        );
        let reading = read_at(folder.path()).unwrap();
        let expected = ProcessMemory {
            peak: 1000 << 10,
            anon: 310 << 10,
            file: 690 << 10,
        };
        assert_eq!((reading.memory, reading.pss), (expected, Some(600 << 10)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory() {
        let memory = process_memory().unwrap();
        assert!(memory.peak >= memory.anon + memory.file && memory.anon > 0);
        let reading = read_process().unwrap();
        assert!(reading.vm_size > reading.memory.anon && reading.threads >= 1);
    }
}
