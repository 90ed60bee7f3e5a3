//! `onebit chat`: talk with a model.

use crate::cli::{EngineArgs, SamplingArgs};
use crate::exit::{self, Code};
use clap::Args;
use std::path::PathBuf;

/// Flags of `onebit chat`.
#[derive(Clone, Debug, Args)]
pub struct ChatArgs {
    /// A packed file or a Hugging Face folder [default: the demo model]
    model: Option<PathBuf>,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Print one JSON object per answer instead of the text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Does it.
pub(crate) fn run(args: ChatArgs) -> anyhow::Result<Code> {
    args.engine.refuse_later()?;
    Err(exit::unsupported("not built yet"))
}
