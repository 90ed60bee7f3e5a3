//! `cargo xtask bench`: what is measured, on synthetic weights of the real shapes.

mod cases;
mod kernels;
mod kv;
mod measure;
mod memory;
mod series;
mod soak;
mod work;

use clap::{Args, Subcommand};

/// Measurements.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Each kernel alone: GB/s, operations per second, and the share of what this CPU reads and multiplies in the same run.
    Kernels(kernels::KernelsArgs),
    /// Each type of the key/value cache: its bytes, and the perplexity and divergence it costs on a text.
    Kv(kv::KvArgs),
    /// Planned and measured memory of runs that fill their context, in every combination of the settings given.
    Memory(memory::MemoryArgs),
    /// Whether memory grows with the number of generations.
    Soak(soak::SoakArgs),
}

/// Runs what was asked for.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    match &args.what {
        What::Kernels(args) => kernels::run(args),
        What::Kv(args) => kv::run(args),
        What::Memory(args) => memory::run(args),
        What::Soak(args) => soak::run(args),
    }
}
