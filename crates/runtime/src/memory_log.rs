//! The memory of a process phase by phase.

use crate::os::{ProcessReading, read_process, reset_peak};

/// What a phase left in memory, and the most it had, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PhaseMemory {
    /// The phase.
    pub name: &'static str,
    /// Resident at its end and not backed by a file.
    pub anon: u64,
    /// Resident at its end and backed by files.
    pub file: u64,
    /// Most that was resident during it.
    pub peak: u64,
    /// Resident at its end, with pages that several processes map divided among them.
    pub pss: Option<u64>,
    /// Addresses in use at its end.
    pub vm_size: u64,
    /// Threads at its end.
    pub threads: u64,
    /// Pages that it found in memory or made.
    pub minor_faults: u64,
    /// Pages that it read from a disk.
    pub major_faults: u64,
}

/// Keeps what [`read_process`] says at the ends of phases, and starts the peak anew for each.
///
/// Recording takes milliseconds per gigabyte resident, so it belongs between timed sections.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    off: bool,
    phases: Vec<PhaseMemory>,
    faults: [u64; 2],
}

impl MemoryLog {
    /// A log whose first phase began with the process.
    pub fn new() -> Self {
        Self::default()
    }

    /// A log that records nothing, for those who do not ask: the system's own account of the peak stays whole.
    pub fn off() -> Self {
        Self {
            off: true,
            ..Self::default()
        }
    }

    /// Records that a phase ended now; nothing where the system does not say.
    pub fn end(&mut self, name: &'static str) {
        if let Some(reading) = (!self.off).then(read_process).flatten() {
            self.record(name, &reading);
            reset_peak();
        }
    }

    fn record(&mut self, name: &'static str, reading: &ProcessReading) {
        let [minor, major] = self.faults;
        self.phases.push(PhaseMemory {
            name,
            anon: reading.memory.anon,
            file: reading.memory.file,
            peak: reading.memory.peak,
            pss: reading.pss,
            vm_size: reading.vm_size,
            threads: reading.threads,
            minor_faults: reading.minor_faults - minor,
            major_faults: reading.major_faults - major,
        });
        self.faults = [reading.minor_faults, reading.major_faults];
    }

    /// The phases so far.
    pub fn phases(&self) -> &[PhaseMemory] {
        &self.phases
    }

    /// Most that was resident in any phase so far.
    pub fn peak(&self) -> Option<u64> {
        self.phases.iter().map(|phase| phase.peak).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_phase_has_its_own_peak() {
        const SIZE: usize = 64 << 20;
        let mut log = MemoryLog::new();
        log.end("before");
        std::hint::black_box(vec![1u8; SIZE]);
        log.end("large");
        log.end("after");
        let [before, large, after] = log.phases() else {
            panic!("three phases");
        };
        assert!(large.peak >= before.anon + SIZE as u64);
        assert!(large.minor_faults > 0);
        assert_eq!(log.peak(), Some(large.peak.max(before.peak)));
        if reset_peak() {
            assert!(after.peak < large.peak);
        }
    }
}
