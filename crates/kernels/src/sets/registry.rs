//! Which sets there are, and which of them this CPU can run.

use std::sync::OnceLock;

use crate::kernels::{KernelError, Kernels};

/// A set this build knows.
struct Entry {
    table: &'static Kernels,
    /// What this CPU lacks.
    missing: fn() -> Vec<&'static str>,
    /// Whether a CPU that lacks nothing may use it, and why not.
    permission: fn() -> Result<(), String>,
}

impl Entry {
    /// A set that needs instructions only.
    const fn new(table: &'static Kernels, missing: fn() -> Vec<&'static str>) -> Self {
        Self {
            table,
            missing,
            permission: || Ok(()),
        }
    }

    /// Why this machine cannot run the set.
    fn obstacle(&self) -> Option<String> {
        let missing = (self.missing)();
        match missing.is_empty() {
            true => (self.permission)().err(),
            false => Some(format!("this CPU lacks {}", missing.join(", "))),
        }
    }
}

/// The sets of this architecture, worst first.
const ENTRIES: &[Entry] = &[
    Entry::new(&super::scalar::TABLE, Vec::new),
    #[cfg(target_arch = "x86_64")]
    Entry::new(&super::avx2::TABLE, super::avx2::missing),
    #[cfg(target_arch = "x86_64")]
    Entry::new(&super::avx512::TABLE, super::avx512::missing),
    #[cfg(target_arch = "x86_64")]
    Entry {
        permission: super::amx::permission,
        ..Entry::new(&super::amx::TABLE, super::amx::missing)
    },
    #[cfg(target_arch = "aarch64")]
    Entry::new(&super::neon::TABLE, super::neon::missing),
    #[cfg(target_arch = "aarch64")]
    Entry::new(&super::neon_dotprod::TABLE, super::neon_dotprod::missing),
    #[cfg(target_arch = "aarch64")]
    Entry::new(&super::neon_i8mm::TABLE, super::neon_i8mm::missing),
    #[cfg(target_arch = "aarch64")]
    Entry::new(&super::sve2::TABLE, super::sve2::missing),
];

/// The sets of every architecture.
const NAMES: &[&str] = &[
    "scalar",
    "avx2",
    "avx512",
    "amx",
    "neon",
    "neon-dotprod",
    "neon-i8mm",
    "sve2",
];

impl Kernels {
    /// The sets this machine can run, `scalar` first and the best last. Found out once.
    pub fn available() -> &'static [&'static Kernels] {
        static AVAILABLE: OnceLock<Vec<&'static Kernels>> = OnceLock::new();
        AVAILABLE.get_or_init(|| {
            let runs = |entry: &&Entry| entry.obstacle().is_none();
            ENTRIES
                .iter()
                .filter(runs)
                .map(|entry| entry.table)
                .collect()
        })
    }

    /// The best set this machine can run.
    pub fn best() -> &'static Kernels {
        Self::available().last().expect("scalar runs everywhere")
    }

    /// The set called `name`.
    ///
    /// # Errors
    /// When there is no such set, or this machine cannot run it.
    pub fn by_name(name: &str) -> Result<&'static Kernels, KernelError> {
        if let Some(set) = Self::available().iter().find(|set| set.name() == name) {
            return Ok(set);
        }
        Err(match Self::why_unavailable(name) {
            Some(reason) => KernelError::Unavailable {
                name: name.to_owned(),
                reason,
            },
            None => KernelError::Unknown {
                name: name.to_owned(),
            },
        })
    }

    /// The set called `name`, whatever this machine can run: for tests in which something else executes what the CPU does not have.
    ///
    /// # Safety
    /// Every instruction of the set must do what it does on a CPU that has it.
    #[doc(hidden)]
    pub unsafe fn assume(name: &str) -> Option<&'static Kernels> {
        let entry = ENTRIES.iter().find(|entry| entry.table.name() == name);
        entry.map(|entry| entry.table)
    }

    /// The names of all sets, whatever the machine.
    pub fn all_names() -> &'static [&'static str] {
        NAMES
    }

    /// Why this machine cannot run the set called `name`; `None` when it can, or there is no such
    /// set.
    pub fn why_unavailable(name: &str) -> Option<String> {
        let Some(entry) = ENTRIES.iter().find(|entry| entry.table.name() == name) else {
            return NAMES
                .contains(&name)
                .then(|| "made for another architecture".to_owned());
        };
        entry.obstacle()
    }
}
