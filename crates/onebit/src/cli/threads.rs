//! Flags that decide which threads compute, and where.

use super::engine::positive;
use clap::Args;
use onebit_runtime::{CpuList, MAX_THREADS};

/// Where threads and memory are placed among the nodes of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numa {
    /// Wherever the system and whoever started the program say.
    #[default]
    None,
    /// On one node.
    Bind(usize),
}

/// Flags that decide which threads compute, and where.
#[derive(Clone, Debug, Default, Args)]
pub struct ThreadArgs {
    /// Threads to compute with [default: the physical cores this process may use, or as many as --cpus lists]
    #[arg(short, long, alias = "num_threads", value_name = "N", value_parser = threads, help_heading = "Engine")]
    pub threads: Option<usize>,
    /// CPUs to compute on, one thread on each: 0,2-3. With fewer --threads, the first ones
    #[arg(long, value_name = "LIST", value_parser = CpuList::parse, help_heading = "Engine")]
    pub cpus: Option<CpuList>,
    /// Keep threads and memory on one node: bind:N. Pages of mapped weights stay where they are; with --load heap the node
    /// gets its own. none changes nothing [default: none]
    #[arg(long, value_name = "POLICY", value_parser = numa, help_heading = "Engine")]
    pub numa: Option<Numa>,
}

/// A number of threads that the pool can have.
fn threads(text: &str) -> Result<usize, String> {
    match positive(text)? {
        n if n > MAX_THREADS => Err(format!("must be at most {MAX_THREADS}")),
        n => Ok(n),
    }
}

fn numa(text: &str) -> Result<Numa, String> {
    let node = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
    match (text, text.strip_prefix("bind:").and_then(node)) {
        ("none", _) => Ok(Numa::None),
        (_, Some(node)) => Ok(Numa::Bind(node)),
        _ => Err("must be none, or bind:N with the number of a node".to_owned()),
    }
}
