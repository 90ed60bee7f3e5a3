//! `cargo xtask bench`: what is measured, on synthetic weights of the real shapes.

mod cases;
mod kernels;
mod kv;
mod series;
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
}

/// Runs what was asked for.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    match &args.what {
        What::Kernels(args) => kernels::run(args),
        What::Kv(args) => kv::run(args),
    }
}
