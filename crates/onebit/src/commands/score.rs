//! `onebit score`: perplexity and token log-probabilities of a given text.

use crate::cli::{EngineArgs, IdList, SamplingArgs};
use crate::exit::{self, Code};
use clap::Args;
use std::path::PathBuf;

/// Flags of `onebit score`.
#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    /// A packed file or a Hugging Face folder [default: the demo model]
    model: Option<PathBuf>,
    /// The text to score
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["file", "ids"])]
    text: Option<String>,
    /// Read the text from a file
    #[arg(short, long, value_name = "FILE", conflicts_with = "ids")]
    file: Option<PathBuf>,
    /// Token ids to score, taken exactly as given: 1,2,3
    #[arg(long, value_name = "IDS", allow_negative_numbers = true)]
    ids: Option<IdList>,
    /// Write the logits as float32 `logits [n, vocab]`, one row per id, to a safetensors file
    #[arg(long, value_name = "OUT.safetensors")]
    logits: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Does it.
pub(crate) fn run(args: ScoreArgs) -> anyhow::Result<Code> {
    args.engine.refuse_later()?;
    Err(exit::unsupported("not built yet"))
}
