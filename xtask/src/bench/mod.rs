//! `cargo xtask bench`: what is measured, on synthetic weights of the real shapes.

mod attention;
mod bar;
mod batch;
mod cases;
mod child;
mod compare;
mod figure;
mod gguf;
mod html;
mod job;
mod kernels;
mod kv;
mod load;
mod machine;
mod measure;
mod memory;
mod models;
mod peers;
mod plot;
mod repetition;
mod report;
mod series;
mod settings;
mod show;
mod soak;
mod system;
mod table;
mod text;
mod threads;
mod work;

pub(crate) use batch::{BatchArgs, decode as decode_batch};
pub(crate) use child::COMMAND as HERE;

use clap::{Args, Subcommand};
use onebit::exit::Code;

/// Measurements. Without a command: memory and speed of whole models beside FP16 and 4 bits.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    table: table::TableArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What became worse between two reports of `--json`, beyond their noise; fails where something did.
    Compare(compare::CompareArgs),
    /// Each kernel alone: GB/s, operations per second, and the share of what this CPU reads and multiplies in the same run.
    Kernels(kernels::KernelsArgs),
    /// Each type of the key/value cache: its bytes, and the perplexity and divergence it costs on a text.
    Kv(kv::KvArgs),
    /// Time to the first token from a disk and from the page cache, mapped and on the heap.
    Load(load::LoadArgs),
    /// Speed with 1 to N threads, left to the system, and pinned where the program can.
    Threads(threads::ThreadsArgs),
    /// Planned and measured memory of runs that fill their context, in every combination of the settings given.
    Memory(memory::MemoryArgs),
    /// Whether memory, or the time of a token, grows with the number of generations.
    Soak(soak::SoakArgs),
}

/// A measurement that is made in this process.
#[derive(Debug, Args)]
pub(crate) struct HereArgs {
    #[command(subcommand)]
    what: What,
}

/// Runs what was asked for. What measures this program itself is done by a process started for it.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<Code> {
    match &args.what {
        None => table::run(&args.table),
        Some(What::Kernels(_) | What::Kv(_) | What::Soak(_)) => child::again(),
        Some(what) => measure_with(what),
    }
}

/// Runs what was asked for in this process.
pub(crate) fn run_here(args: &HereArgs) -> anyhow::Result<Code> {
    measure_with(&args.what)
}

fn measure_with(what: &What) -> anyhow::Result<Code> {
    match what {
        What::Compare(args) => return compare::run(args),
        What::Kernels(args) => kernels::run(args),
        What::Kv(args) => kv::run(args),
        What::Load(args) => load::run(args),
        What::Threads(args) => threads::run(args),
        What::Memory(args) => memory::run(args),
        What::Soak(args) => soak::run(args),
    }
    .map(|()| Code::Success)
}
