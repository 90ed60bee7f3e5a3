//! Which sets there are, and which of them this CPU can run.

use std::sync::OnceLock;

use crate::kernels::{KernelError, Kernels};

/// A set this build knows.
struct Entry {
    table: &'static Kernels,
    /// What this CPU lacks.
    missing: fn() -> Vec<&'static str>,
}

/// The sets of this architecture, worst first.
static ENTRIES: &[Entry] = &[
    Entry {
        table: &super::scalar::TABLE,
        missing: Vec::new,
    },
    #[cfg(target_arch = "x86_64")]
    Entry {
        table: &super::avx2::TABLE,
        missing: super::avx2::missing,
    },
    #[cfg(target_arch = "x86_64")]
    Entry {
        table: &super::avx512::TABLE,
        missing: super::avx512::missing,
    },
    #[cfg(target_arch = "aarch64")]
    Entry {
        table: &super::neon::TABLE,
        missing: super::neon::missing,
    },
    #[cfg(target_arch = "aarch64")]
    Entry {
        table: &super::neon_dotprod::TABLE,
        missing: super::neon_dotprod::missing,
    },
    #[cfg(target_arch = "aarch64")]
    Entry {
        table: &super::neon_i8mm::TABLE,
        missing: super::neon_i8mm::missing,
    },
    #[cfg(target_arch = "aarch64")]
    Entry {
        table: &super::sve2::TABLE,
        missing: super::sve2::missing,
    },
];

/// The sets of every architecture.
static NAMES: &[&str] = &[
    "scalar",
    "avx2",
    "avx512",
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
            let runs = |entry: &&Entry| (entry.missing)().is_empty();
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
        let missing = (entry.missing)();
        (!missing.is_empty()).then(|| format!("this CPU lacks {}", missing.join(", ")))
    }
}
