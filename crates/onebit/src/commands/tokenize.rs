//! `onebit tokenize`: text into token ids, and back.

use crate::cli::{HubArgs, IdList, Load, read_text_file, read_text_stdin};
use crate::exit::{self, Code};
use crate::source::Source;
use crate::stdout;
use clap::Args;
use onebit_runtime::{ChatTemplate, Message, RenderOptions, RuntimeError, TextFiles, Tokenizer};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Flags of `onebit tokenize`.
#[derive(Clone, Debug, Args)]
pub struct TokenizeArgs {
    /// A packed file, a Hugging Face folder, a hub id, or a folder that holds only the tokenizer's files
    model: PathBuf,
    /// The text to encode
    #[arg(
        allow_negative_numbers = true,
        required_unless_present_any = ["decode", "chat"],
        conflicts_with_all = ["decode", "chat"]
    )]
    text: Option<String>,
    /// Print {"ids":[...]}; with --decode, {"text":"..."}
    #[arg(long)]
    json: bool,
    /// Add no special tokens when encoding; leave them out when decoding
    #[arg(long, conflicts_with = "chat")]
    no_special: bool,
    /// Print the text of these ids instead
    #[arg(
        long,
        value_name = "IDS",
        allow_negative_numbers = true,
        conflicts_with = "chat"
    )]
    decode: Option<IdList>,
    /// Render and encode a conversation, a JSON array of {role, content} (- is stdin): prints {"text","ids"}
    #[arg(long, value_name = "MESSAGES.json")]
    chat: Option<PathBuf>,
    /// Do not ask for an answer at the end of the conversation
    #[arg(long, requires = "chat")]
    no_generation_prompt: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Does it.
pub(crate) fn run(args: TokenizeArgs) -> anyhow::Result<Code> {
    match Source::find(Some(&args.model), &args.hub)?.with_tokenizer()? {
        Source::Folder(folder) => with_files(&args, &TextFiles::from_dir(&folder)?),
        source => with_files(&args, &TextFiles::from_packed(&source.open(Load::Mmap)?)?),
    }
}

fn with_files(args: &TokenizeArgs, files: &TextFiles<'_>) -> anyhow::Result<Code> {
    let tokenizer = Tokenizer::new(files)?;
    match (&args.chat, &args.decode) {
        (Some(messages), _) => chat(args, files, &tokenizer, messages)?,
        (_, Some(IdList(ids))) => decode(args, &tokenizer, ids)?,
        _ => encode(args, &tokenizer)?,
    }
    Ok(Code::Success)
}

fn encode(args: &TokenizeArgs, tokenizer: &Tokenizer) -> anyhow::Result<()> {
    let ids = tokenizer.encode(args.text.as_deref().unwrap_or_default(), !args.no_special)?;
    if args.json {
        return stdout::json(&json!({ "ids": ids }));
    }
    Ok(stdout::line(&comma_separated(&ids))?)
}

fn decode(args: &TokenizeArgs, tokenizer: &Tokenizer, ids: &[u32]) -> anyhow::Result<()> {
    if let Some(id) = ids.iter().find(|id| tokenizer.token(**id).is_none()) {
        return Err(exit::request(format!(
            "token id {id} is out of range: the tokenizer has {} tokens",
            tokenizer.len()
        )));
    }
    let text = tokenizer.decode(ids, args.no_special)?;
    if args.json {
        return stdout::json(&json!({ "text": text }));
    }
    Ok(stdout::line(&text)?)
}

fn chat(
    args: &TokenizeArgs,
    files: &TextFiles<'_>,
    tokenizer: &Tokenizer,
    messages: &Path,
) -> anyhow::Result<()> {
    let template = ChatTemplate::from_files(files)?.ok_or(RuntimeError::NoChatTemplate)?;
    let json = match messages.to_str() {
        Some("-") => read_text_stdin()?,
        _ => read_text_file(messages)?,
    };
    let options = RenderOptions {
        add_generation_prompt: !args.no_generation_prompt,
        ..RenderOptions::default()
    };
    let text = template.render(&Message::list_from_json(json.as_bytes())?, &options)?;
    let ids = tokenizer.encode(&text, false)?;
    stdout::json(&json!({ "text": text, "ids": ids }))
}

/// Ids in the form that `--ids` reads.
pub(crate) fn comma_separated(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    ids.join(",")
}
