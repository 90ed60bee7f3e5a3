//! `onebit info`: what is in a model file, which kernels run here, how much memory it takes.

mod report;
mod text;

use crate::cli::{HubArgs, KeepArgs, KvArg, Load, parse_kv};
use crate::exit::{self, Code};
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
    /// Type of the key/value cache of the memory plan: f32, f16, q8
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
    #[command(flatten)]
    hub: HubArgs,
    #[arg(long, value_name = "NAME", hide = true)]
    shape: Option<String>,
    #[arg(long, hide = true, requires = "shape")]
    compare: bool,
}

/// Does it.
pub(crate) fn run(args: InfoArgs) -> anyhow::Result<Code> {
    if args.shape.is_some() {
        return Err(exit::unsupported("--shape is not supported yet"));
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
