//! `onebit run`: continue a text.

use crate::cli::{EngineArgs, PromptArgs, SamplingArgs};
use crate::exit::{self, Code};
use clap::Args;
use std::path::PathBuf;

/// Flags of `onebit run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// A packed file or a Hugging Face folder [default: the demo model]
    model: Option<PathBuf>,
    #[command(flatten)]
    prompt: PromptArgs,
    /// Put the prompt first on stdout
    #[arg(long)]
    echo: bool,
    /// Treat the prompt as one user message of a chat
    #[arg(long, conflicts_with = "ids")]
    chat: bool,
    /// The system message of the chat
    #[arg(
        long,
        value_name = "TEXT",
        requires = "chat",
        allow_hyphen_values = true
    )]
    system: Option<String>,
    /// Print one JSON object instead of the text
    #[arg(long)]
    json: bool,
    /// Print one JSON object per token, and the whole one at the end
    #[arg(long, conflicts_with = "json")]
    json_lines: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Does it.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<Code> {
    args.engine.refuse_later()?;
    Err(exit::unsupported("not built yet"))
}
