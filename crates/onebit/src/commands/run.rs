//! `onebit run`: continue a text.

mod report;

use crate::cli::{EngineArgs, Prompt, PromptArgs, SamplingArgs};
use crate::exit::Code;
use crate::generation::{options, streaming, summary};
use crate::load::Loaded;
use crate::{interrupt, stdout};
use clap::Args;
use onebit_runtime::{
    MemoryLog, Message, PhaseMemory, RenderOptions, StopReason, generate_in_phases,
};
use report::{Report, TokenLine};
use std::path::PathBuf;

/// Flags of `onebit run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// A packed file, a Hugging Face folder, or a hub id user/name[@revision] [default: the demo model]
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
    /// Print one JSON object per token, and the one of --json at the end
    #[arg(long, conflicts_with = "json")]
    json_lines: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Does it.
pub(crate) fn run(mut args: RunArgs) -> anyhow::Result<Code> {
    args.engine.check()?;
    let prompt = std::mem::take(&mut args.prompt).read()?;
    let interrupt = interrupt::install()?;
    let wants_report = args.json || args.json_lines;
    let log = if wants_report {
        MemoryLog::new()
    } else {
        MemoryLog::off()
    };
    let mut loaded = Loaded::measured(args.model.as_deref(), &args.engine, log)?;
    let prompt_ids = encode(&loaded, &prompt, &args)?;
    loaded.check_ids(&prompt_ids)?;

    let mut options = options(&loaded, &args.sampling);
    options.continue_text = !args.chat;
    let mut session = loaded.engine.session(loaded.session)?;
    let mut memory = std::mem::take(&mut loaded.memory);
    memory.end("load");
    if args.echo && !wants_report {
        stdout::print(&shown(&loaded, &prompt)?)?;
    }
    let has_text = loaded.tokenizer().is_some();
    let mut separator = "";
    let generation = streaming(
        interrupt,
        |piece| match piece.id {
            _ if args.json => Ok(()),
            id if args.json_lines => stdout::json(&TokenLine {
                id,
                text: piece.text,
            }),
            Some(id) if !has_text => {
                stdout::print(&format!("{separator}{id}"))?;
                separator = ",";
                Ok(())
            }
            _ => Ok(stdout::print(piece.text)?),
        },
        |output| {
            generate_in_phases(
                &mut session,
                loaded.tokenizer(),
                &prompt_ids,
                &options,
                output,
                &mut || memory.end("prefill"),
            )
        },
    )?;
    let is_prefilled = |phase: &PhaseMemory| phase.name == "prefill";
    let last = if memory.phases().iter().any(is_prefilled) {
        "decode"
    } else {
        "prefill"
    };
    memory.end(last);
    loaded.memory = memory;

    if wants_report {
        stdout::json(&Report::new(
            &loaded,
            prompt_ids,
            &options,
            generation.clone(),
        ))?;
    } else {
        stdout::end_line_on_terminal()?;
        summary(&loaded, &options, &generation);
    }
    Ok(if generation.stop == StopReason::Interrupted {
        Code::Interrupted
    } else {
        Code::Success
    })
}

fn encode(loaded: &Loaded, prompt: &Prompt, args: &RunArgs) -> anyhow::Result<Vec<u32>> {
    Ok(match prompt {
        Prompt::Ids(ids) => ids.clone(),
        Prompt::Text(text) if args.chat => {
            let system = args.system.iter().map(|text| Message::new("system", text));
            let messages: Vec<Message> = system.chain([Message::new("user", text)]).collect();
            let rendered = loaded
                .need_template()?
                .render(&messages, &RenderOptions::default())?;
            loaded.need_tokenizer()?.encode(&rendered, false)?
        }
        Prompt::Text(text) => loaded.need_tokenizer()?.encode(text, true)?,
    })
}

/// The prompt as `--echo` shows it.
fn shown(loaded: &Loaded, prompt: &Prompt) -> anyhow::Result<String> {
    Ok(match (prompt, loaded.tokenizer()) {
        (Prompt::Text(text), _) => text.clone(),
        (Prompt::Ids(ids), Some(tokenizer)) => tokenizer.decode(ids, true)?,
        (Prompt::Ids(ids), None) => super::tokenize::comma_separated(ids) + ",",
    })
}
