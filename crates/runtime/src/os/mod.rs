//! What the runtime asks the operating system, each with an answer for systems that do not say.

mod affinity;
mod cgroup;
mod clock;
mod cores;
mod limits;
mod numa;
mod parent;
mod process;
mod signals;
mod stay;

pub use affinity::{CpuList, allowed_cpus, run_on};
pub use cgroup::CgroupMemory;
pub(crate) use clock::utc_offset;
pub use cores::default_threads;
pub use limits::{Headroom, headroom};
pub use numa::NumaNode;
pub use parent::end_with_parent;
pub use process::{ProcessMemory, ProcessReading, process_memory, read_process, reset_peak};
pub use signals::survive_file_size_limit;
pub(crate) use stay::Stay;

/// The value of a line `name: value` of a file below `/proc`.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

/// Bytes of a line `name: 12 kB` of a file below `/proc`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let number = field(text, name)?.strip_suffix("kB")?.trim();
    number.parse::<u64>().ok()?.checked_mul(1024)
}
