//! What a session will take, before anything is allocated.

mod budget;
mod fit;
mod parts;
mod size;

pub use budget::{Budget, BudgetSource};
pub use fit::{DoesNotFit, Open, fit, largest_contexts};
pub use parts::MemoryParts;
pub use size::{format_size, parse_size};

use onebit_model::Model;

use crate::error::RuntimeError;
use crate::session::SessionOptions;

/// Where the bytes of an item come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryKind {
    /// Mapped from a file: resident once touched, and given back when memory is short.
    File,
    /// The process's own.
    Anonymous,
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryItem {
    /// What it is.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
    /// How much of it is in memory at once.
    pub resident: u64,
    /// Where it comes from.
    pub kind: MemoryKind,
}

/// The memory of a process with one session and everything in use: all weights touched, the context full.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryPlan {
    /// The lines.
    pub items: Vec<MemoryItem>,
}

impl MemoryPlan {
    /// Plans a session of a model.
    ///
    /// # Errors
    /// [`RuntimeError::Model`] where the sizes are more than this machine can address.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Self, RuntimeError> {
        MemoryParts::of_model(model).plan(options)
    }

    /// Bytes resident at the peak.
    pub fn total(&self) -> u64 {
        self.items.iter().map(|item| item.resident).sum()
    }

    /// Bytes of one kind resident at the peak.
    pub fn of_kind(&self, kind: MemoryKind) -> u64 {
        self.items
            .iter()
            .filter(|item| item.kind == kind)
            .map(|item| item.resident)
            .sum()
    }

    /// Bytes of the line `name`; 0 where there is none.
    pub fn bytes(&self, name: &str) -> u64 {
        let item = self.items.iter().find(|item| item.name == name);
        item.map_or(0, |item| item.bytes)
    }
}
