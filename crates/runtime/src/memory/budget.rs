//! How much memory a process may have.

use super::{MemoryKind, MemoryPlan};
use crate::os::{Headroom, default_threads, headroom, process_memory};

/// Who sets a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BudgetSource {
    /// Whoever runs the program.
    Asked,
    /// The memory that is free, cached files included.
    Machine,
    /// A control group.
    Cgroup,
    /// Nobody: the system does not say.
    Unknown,
}

/// The most that a process may have in memory.
///
/// The limit is on everything resident, mapped weights included, although the system could drop those: a model that runs
/// below its size reads its weights again for every token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes resident at most, of the whole process.
    pub resident: u64,
    /// Who says so.
    pub source: BudgetSource,
    /// Bytes that may still be allocated below `RLIMIT_AS` and `RLIMIT_DATA`.
    pub allocatable: Option<u64>,
}

/// What a plan may be wrong by at most, for the limit to hold: so many bytes, and this part of the plan.
const MARGIN: (u64, u64) = (2 << 20, 64);
/// What is allocated besides what is planned, such as the stacks of threads.
const ALLOCATION_SLACK: u64 = 16 << 20;
/// Addresses that a thread takes: its stack, and what the C library reserves for its allocations.
const THREAD_ADDRESSES: u64 = 66 << 20;

impl Budget {
    /// The least limit that holds a plan of `bytes`.
    pub fn least(bytes: u64) -> u64 {
        let (fixed, part) = MARGIN;
        bytes.saturating_add(fixed + bytes / part)
    }

    /// A limit that somebody asked for; those on allocations hold beside it.
    pub fn asked(bytes: u64) -> Self {
        Self::new(Some(bytes), headroom(), 0)
    }

    /// What the machine, the control groups and the resource limits really leave now. Weights in the cache of files count as
    /// free until this process has them.
    pub fn of_machine() -> Self {
        let now = process_memory().map_or(0, |memory| memory.anon + memory.file);
        Self::new(None, headroom(), now)
    }

    /// `now` is what the process has already.
    fn new(asked: Option<u64>, left: Headroom, now: u64) -> Self {
        // One thread more waits for signals.
        let threads = (default_threads() as u64 + 1) * THREAD_ADDRESSES;
        let addresses = left.addresses.map(|left| left.saturating_sub(threads));
        let allocatable = [addresses, left.data].into_iter().flatten().min();
        let found = |left: Option<u64>, source| Some((left?.saturating_add(now), source));
        let system = [
            found(left.machine, BudgetSource::Machine),
            found(left.cgroup, BudgetSource::Cgroup),
        ];
        // What this process has of files that others read before is not charged to the group, but may be one day.
        let [machine, group] = system;
        let limit = left.cgroup_limit.unwrap_or(u64::MAX);
        let system = [
            machine,
            group.map(|(bytes, source)| (bytes.min(limit), source)),
        ];
        let tightest = system.into_iter().flatten().min_by_key(|(bytes, _)| *bytes);
        let (resident, source) = match asked {
            Some(bytes) => (bytes, BudgetSource::Asked),
            None => tightest.unwrap_or((u64::MAX, BudgetSource::Unknown)),
        };
        Self {
            resident,
            source,
            allocatable,
        }
    }

    /// Whether a plan stays within it, with a margin for what the plan does not know.
    pub fn holds(&self, plan: &MemoryPlan) -> bool {
        self.holds_bytes(plan.total(), plan)
    }

    /// Whether the memory that no file backs stays within it: what must hold even where weights may be read again and again.
    pub fn holds_own(&self, plan: &MemoryPlan) -> bool {
        self.holds_bytes(plan.of_kind(MemoryKind::Anonymous), plan)
    }

    fn holds_bytes(&self, resident: u64, plan: &MemoryPlan) -> bool {
        let own = plan.of_kind(MemoryKind::Anonymous);
        let allocated = own.saturating_add(ALLOCATION_SLACK);
        Self::least(resident) <= self.resident
            && self.allocatable.is_none_or(|most| allocated <= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryItem;

    #[test]
    fn the_tightest_limit_counts() {
        const M: u64 = 1 << 20;
        let left = Headroom {
            machine: Some(1000 * M),
            cgroup: Some(600 * M),
            cgroup_limit: Some(700 * M),
            addresses: Some(500_000 * M),
            data: Some(416 * M),
        };
        let budget = Budget::new(None, left, 52 * M);
        assert_eq!(
            (budget.resident, budget.source),
            (652 * M, BudgetSource::Cgroup)
        );
        assert_eq!(budget.allocatable, Some(416 * M));
        let asked = Budget::new(Some(300), left, 50);
        assert_eq!((asked.resident, asked.source), (300, BudgetSource::Asked));
        let cached = Budget::new(None, left, 150 * M);
        assert_eq!(cached.resident, 700 * M);
        let unknown = Budget::new(None, Headroom::default(), 50);
        assert_eq!(unknown.source, BudgetSource::Unknown);

        let item = |kind, resident| MemoryItem {
            name: "x",
            bytes: resident,
            resident,
            kind,
        };
        let plan = |file, own| MemoryPlan {
            items: vec![
                item(MemoryKind::File, file),
                item(MemoryKind::Anonymous, own),
            ],
        };
        // 640 MiB, a 64th of them, and 2 MiB.
        assert!(budget.holds(&plan(240 * M, 400 * M)) && !budget.holds(&plan(241 * M, 400 * M)));
        assert!(!budget.holds(&plan(0, 401 * M)) && !budget.holds_own(&plan(0, 401 * M)));
        assert!(budget.holds_own(&plan(9999 * M, 400 * M)));
        assert!(unknown.holds(&plan(1 << 60, 1 << 60)));
    }
}
