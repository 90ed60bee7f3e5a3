//! How much memory a process may have.

use super::{MemoryKind, MemoryPlan};
use crate::os::{Headroom, headroom, process_memory};

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

impl Budget {
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
        let allocatable = [left.addresses, left.data].into_iter().flatten().min();
        let found = |left: Option<u64>, source| Some((left?.saturating_add(now), source));
        let system = [
            found(left.machine, BudgetSource::Machine),
            found(left.cgroup, BudgetSource::Cgroup),
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

    /// Whether a plan stays within it.
    pub fn holds(&self, plan: &MemoryPlan) -> bool {
        let own = plan.of_kind(MemoryKind::Anonymous);
        plan.total() <= self.resident && self.allocatable.is_none_or(|most| own <= most)
    }

    /// Whether the memory that no file backs stays within it: what must hold even where weights may be read again and again.
    pub fn holds_own(&self, plan: &MemoryPlan) -> bool {
        let own = plan.of_kind(MemoryKind::Anonymous);
        own <= self.resident && self.allocatable.is_none_or(|most| own <= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryItem;

    #[test]
    fn the_tightest_limit_counts() {
        let left = Headroom {
            machine: Some(1000),
            cgroup: Some(600),
            addresses: Some(500),
            data: Some(400),
        };
        let budget = Budget::new(None, left, 50);
        assert_eq!(
            (budget.resident, budget.source),
            (650, BudgetSource::Cgroup)
        );
        assert_eq!(budget.allocatable, Some(400));
        let asked = Budget::new(Some(300), left, 50);
        assert_eq!((asked.resident, asked.source), (300, BudgetSource::Asked));
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
        assert!(budget.holds(&plan(250, 400)) && !budget.holds(&plan(251, 400)));
        assert!(!budget.holds(&plan(0, 401)) && !budget.holds_own(&plan(0, 401)));
        assert!(budget.holds_own(&plan(9999, 400)) && unknown.holds(&plan(1 << 60, 1 << 60)));
    }
}
