//! `onebit tokenize`: text into token ids, and back.

use crate::cli::IdList;
use crate::exit::{self, Code};
use clap::Args;
use std::path::PathBuf;

/// Flags of `onebit tokenize`.
#[derive(Clone, Debug, Args)]
pub struct TokenizeArgs {
    /// A packed file, a Hugging Face folder, or a folder that holds only the tokenizer's files
    model: PathBuf,
    /// The text to encode
    #[arg(allow_negative_numbers = true, required_unless_present_any = ["decode", "chat"], conflicts_with_all = ["decode", "chat"])]
    text: Option<String>,
    /// Print {"ids":[...]}
    #[arg(long)]
    json: bool,
    /// Add no special tokens when encoding; leave them out when decoding
    #[arg(long)]
    no_special: bool,
    /// Print the text of these ids instead
    #[arg(
        long,
        value_name = "IDS",
        allow_negative_numbers = true,
        conflicts_with = "chat"
    )]
    decode: Option<IdList>,
    /// Render and encode a conversation, a JSON array of {role, content}: prints {"text","ids"}
    #[arg(long, value_name = "MESSAGES.json")]
    chat: Option<PathBuf>,
    /// Do not ask for an answer at the end of the conversation
    #[arg(long, requires = "chat")]
    no_generation_prompt: bool,
    /// Use no network
    #[arg(long)]
    offline: bool,
}

/// Does it.
pub(crate) fn run(_args: TokenizeArgs) -> anyhow::Result<Code> {
    Err(exit::unsupported("not built yet"))
}
