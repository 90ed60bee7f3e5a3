//! `onebit info`: what is in a model file, which kernels run here, how much memory it takes.

mod report;
mod shape;
mod text;

use crate::cli::{HubArgs, KeepArgs, KvArg, Load, MemoryArgs, parse_kv};
use crate::exit::Code;
use crate::source::Source;
use crate::stdout;
use anyhow::Context;
use clap::Args;
use onebit_model::{Activations, Model};
use report::Report;
use std::path::PathBuf;
use std::sync::Arc;

/// Flags of `onebit info`.
#[derive(Clone, Debug, Args)]
pub struct InfoArgs {
    /// A packed file, a Hugging Face folder, or a hub id user/name[@revision] [default: the demo model]
    model: Option<PathBuf>,
    /// Positions of the memory plan [default: 2048, or the model's maximum if smaller]
    #[arg(short, long, value_name = "N")]
    ctx_size: Option<usize>,
    /// Type of the key/value cache of the memory plan: f32, f16, q8, q4, q2, b1
    #[arg(long, alias = "kv-cache-dtype", value_name = "TYPE", value_parser = parse_kv, default_value = "f16")]
    kv: KvArg,
    #[command(flatten)]
    keep: KeepArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Compare every tensor with its stored hash
    #[arg(long)]
    check: bool,
    /// Plan a shape without a file: 2b4t, 3b, xl, large, tinyllama, falcon3-1b, llama3-8b, bonsai-1.7b, bonsai-8b
    #[arg(
        long, value_name = "NAME", hide_possible_values = true, conflicts_with_all = ["model", "check"],
        value_parser = clap::builder::PossibleValuesParser::new(onebit_runtime::Shape::NAMES)
    )]
    shape: Option<String>,
    /// Plan the shape with weights of 16, 4, 2, 1.6 and 1 bits
    #[arg(long, requires = "shape")]
    compare: bool,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    hub: HubArgs,
}

/// Does it.
pub(crate) fn run(args: InfoArgs) -> anyhow::Result<Code> {
    if let Some(name) = &args.shape {
        return shape::run(name, &args);
    }
    let source = Source::find(args.model.as_deref(), &args.hub)?;
    let file = Arc::new(source.open(Load::Mmap)?);
    if args.check {
        file.check_hashes()?;
    }
    let model = Model::from_file(file)
        .and_then(|model| model.with_activations(Activations::Auto))
        .with_context(|| source.to_string())?;
    let report = Report::new(&source, &model, &args)?;
    if args.json {
        stdout::json(&report)?;
    } else {
        stdout::print(&report.to_string())?;
    }
    Ok(Code::Success)
}
