//! `cargo xtask bench soak`: whether memory grows with the number of generations.

use clap::Args;
use onebit::{soak, stdout};

/// Flags of `cargo xtask bench soak`.
#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// Generations, of which the first tenth does not count
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..))]
    generations: u32,
    /// Tokens of each
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=512))]
    tokens: u32,
}

/// Prints the report as JSON, and fails where memory grew.
pub(super) fn run(args: &SoakArgs) -> anyhow::Result<()> {
    let report = soak::run(args.generations as usize, args.tokens as usize)?;
    stdout::json(&report)?;
    anyhow::ensure!(
        !report.grew(),
        "memory grew by {:.0} bytes over {} generations",
        report.growth,
        report.generations - report.warm_up
    );
    Ok(())
}
