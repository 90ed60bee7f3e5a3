//! On which CPUs threads run.

use std::io;

/// A list of CPUs, each at most once, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// From `0,2-3`.
    ///
    /// # Errors
    /// A message naming the part that is malformed, or the CPU that is listed twice.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut cpus = Vec::new();
        for part in list.trim().split(',') {
            let range = parse_range(part).ok_or_else(|| {
                format!("`{part}` is neither a CPU nor a range of CPUs such as 2-3")
            })?;
            for cpu in range {
                if cpus.contains(&cpu) {
                    return Err(format!("CPU {cpu} is listed twice"));
                }
                cpus.push(cpu);
            }
        }
        Ok(Self(cpus))
    }

    /// The CPUs.
    pub fn cpus(&self) -> &[usize] {
        &self.0
    }

    /// The first `count` of them, at least one.
    pub fn first(&self, count: usize) -> Self {
        Self(self.0[..count.clamp(1, self.0.len())].to_vec())
    }

    /// The first that is not among `allowed`.
    pub fn first_not_in(&self, allowed: &[usize]) -> Option<usize> {
        self.0.iter().copied().find(|cpu| !allowed.contains(cpu))
    }
}

impl std::fmt::Display for CpuList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut runs = Vec::new();
        for run in self.0.chunk_by(|a, b| a + 1 == *b) {
            runs.push(match run {
                [.., last] if run.len() > 1 => format!("{}-{last}", run[0]),
                _ => run[0].to_string(),
            });
        }
        f.write_str(&runs.join(","))
    }
}

/// Larger numbers than any system has are no CPUs.
const MAX_CPU: usize = 1 << 13;

fn parse_range(part: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<usize>().ok().filter(|cpu| *cpu < MAX_CPU),
        false => None,
    };
    let range = number(first)?..=number(last)?;
    (!range.is_empty()).then_some(range)
}

/// The CPUs that the first thread of this process may run on; `None` where the system does not say.
pub fn allowed_cpus() -> Option<CpuList> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    CpuList::parse(super::field(&status, "Cpus_allowed_list")?).ok()
}

/// The CPUs that the calling thread may run on; `None` where the system does not say.
pub(super) fn thread_cpus() -> Option<CpuList> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    CpuList::parse(super::field(&status, "Cpus_allowed_list")?).ok()
}

/// Lets the calling thread, and those it starts from now on, run on these CPUs only.
///
/// # Errors
/// What the system says where it has none of them or does not allow them; [`io::ErrorKind::Unsupported`] where threads
/// cannot be bound.
#[cfg(target_os = "linux")]
pub fn run_on(cpus: &[usize]) -> io::Result<()> {
    const BITS: usize = libc::c_ulong::BITS as usize;
    // The system takes masks of any size, so a larger one than that of the C library.
    let mut mask = [0 as libc::c_ulong; MAX_CPU / BITS];
    for cpu in cpus {
        let word = mask
            .get_mut(cpu / BITS)
            .ok_or(io::ErrorKind::InvalidInput)?;
        *word |= 1 << (cpu % BITS);
    }
    // SAFETY: the pointer is valid for as many bytes as are named; the call reads them and keeps nothing. 0 is this thread.
    let failed = unsafe { libc::sched_setaffinity(0, size_of_val(&mask), mask.as_ptr().cast()) };
    match failed {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Threads cannot be bound here.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn run_on(_cpus: &[usize]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let parse = |list| CpuList::parse(list).map(|list| list.0);
        assert_eq!(parse("0,2-4,9\n"), Ok(vec![0, 2, 3, 4, 9]));
        assert_eq!(parse("5,1-2"), Ok(vec![5, 1, 2]));
        for (list, part) in [
            ("", "``"),
            ("0,", "``"),
            ("3-x", "`3-x`"),
            ("+1", "`+1`"),
            ("3-2", "`3-2`"),
            ("0-99999999999", "`0-99999999999`"),
            ("1 2", "`1 2`"),
            ("-1", "`-1`"),
            ("0-2,1", "CPU 1 is listed twice"),
        ] {
            let error = parse(list).unwrap_err();
            assert!(error.contains(part), "{list}: {error}");
        }
    }

    #[test]
    fn lists_are_shown_as_they_are_typed() {
        for list in ["0", "0,2-3", "5,1-2,9"] {
            assert_eq!(CpuList::parse(list).unwrap().to_string(), list);
        }
        let list = CpuList::parse("3,1").unwrap();
        assert_eq!(list.first_not_in(&[1, 2]), Some(3));
        assert_eq!(list.first_not_in(&[1, 2, 3]), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_runs_where_it_is_told() {
        let allowed = allowed_cpus().unwrap();
        let thread = |cpus: Vec<usize>| {
            std::thread::spawn(move || {
                let done = run_on(&cpus);
                let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
                let list = super::super::field(&status, "Cpus_allowed_list").unwrap();
                done.map(|()| CpuList::parse(list).unwrap())
            })
        };
        let last = *allowed.cpus().last().unwrap();
        let found = thread(vec![last]).join().unwrap().unwrap();
        assert_eq!(found.cpus(), [last]);
        assert!(thread(vec![MAX_CPU - 1]).join().unwrap().is_err());
        assert!(thread(vec![MAX_CPU]).join().unwrap().is_err());
        assert!(thread(vec![]).join().unwrap().is_err());
        // This thread is where it was.
        assert_eq!(allowed_cpus().unwrap(), allowed);
    }
}
