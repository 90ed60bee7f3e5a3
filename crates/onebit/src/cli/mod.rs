//! What a person may type: the commands and the flags they share.

mod engine;
mod hub;
mod ids;
mod kv;
mod memory;
mod prompt;
mod sampling;
mod threads;

pub use engine::{Activations, ContextArg, EngineArgs, KvArg, Load, parse_kv};
pub use hub::HubArgs;
pub use ids::{IdList, parse_ids};
pub use kv::KeepArgs;
pub use memory::MemoryArgs;
pub(crate) use prompt::{MAX_TEXT, read_text_file, read_text_stdin};
pub use prompt::{Prompt, PromptArgs};
pub use sampling::SamplingArgs;
pub use threads::{Numa, ThreadArgs};

use crate::commands::{
    chat::ChatArgs, completions::CompletionsArgs, convert::ConvertArgs, info::InfoArgs,
    run::RunArgs, score::ScoreArgs, tokenize::TokenizeArgs,
};
use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
MODEL is a packed file, a Hugging Face folder, or a hub id user/name[@revision]. Folders and hub ids are
converted once, into $ONEBIT_CACHE, else $XDG_CACHE_HOME/onebit, else ~/.cache/onebit, under a name made from
their content. What is fetched from the hub goes into the cache of Python's huggingface_hub and is found there;
HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to Python.
Without MODEL, the small story model built into the program is used.

Exit codes: 0 fine, 1 other failure (I/O, full disk, network), 2 the request cannot be served as asked,
3 model missing or broken, 4 well-formed but not supported, 5 does not fit in memory, 130 interrupted.";

/// Run 1-bit and ternary language models on ordinary CPUs.
#[derive(Debug, Parser)]
#[command(name = "onebit", version, after_help = EXIT_CODES, max_term_width = 110, propagate_version = true)]
pub struct Cli {
    /// Log what happens inside on stderr; twice for more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One command and its flags.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Continue a text.
    Run(Box<RunArgs>),
    /// Talk with a model.
    Chat(Box<ChatArgs>),
    /// Perplexity, token log-probabilities and logits of a given text.
    Score(Box<ScoreArgs>),
    /// Turn text into token ids, and back.
    Tokenize(TokenizeArgs),
    /// What is in a model file, which kernels run here, how much memory it takes.
    Info(InfoArgs),
    /// Convert a Hugging Face folder or a model of the hub into a packed file.
    Convert(ConvertArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
}
