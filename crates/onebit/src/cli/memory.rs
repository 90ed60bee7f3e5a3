//! How much memory may be taken.

use clap::Args;
use onebit_runtime::{Budget, parse_size};

/// How much memory may be taken.
#[derive(Clone, Debug, Default, Args)]
pub struct MemoryArgs {
    /// Most memory of the whole process, weights included: 900M, 1.5G, 800Mi [default: what the machine leaves]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "memory_limit_mb", help_heading = "Engine")]
    memory_limit: Option<u64>,
    /// The same in megabytes
    #[arg(long = "memory_limit_mb", value_name = "N", value_parser = megabytes, hide = true)]
    memory_limit_mb: Option<u64>,
}

impl MemoryArgs {
    /// The limit asked for, else what the system leaves now.
    pub fn budget(&self) -> Budget {
        self.memory_limit
            .or(self.memory_limit_mb)
            .map_or_else(Budget::of_machine, Budget::asked)
    }
}

fn megabytes(text: &str) -> Result<u64, String> {
    match text
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1_000_000))
    {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("not a number of megabytes".to_owned()),
    }
}
