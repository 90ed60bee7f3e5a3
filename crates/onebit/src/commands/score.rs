//! `onebit score`: perplexity and token log-probabilities of a given text.

mod logits;
mod report;

use crate::cli::{EngineArgs, IdList, SamplingArgs, read_text_file, read_text_stdin};
use crate::exit::{self, Code};
use crate::load::Loaded;
use crate::{interrupt, stdout};
use clap::Args;
use logits::LogitsFile;
use onebit_runtime::MemoryLog;
use report::Report;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Most rows of logits kept at once.
const LOGITS_ROWS: usize = 32;

/// Flags of `onebit score`.
#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    /// A packed file, a Hugging Face folder, or a hub id user/name[@revision] [default: the demo model]
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
pub(crate) fn run(mut args: ScoreArgs) -> anyhow::Result<Code> {
    args.engine.check()?;
    args.engine.logits_rows = LOGITS_ROWS;
    let interrupt = interrupt::install()?;
    let log = if args.json {
        MemoryLog::new()
    } else {
        MemoryLog::off()
    };
    let mut loaded = Loaded::measured(args.model.as_deref(), &args.engine, log)?;
    let ids = ids(&args, &loaded)?;
    if ids.is_empty() {
        return Err(exit::request(
            "there is nothing to score: the text has no token",
        ));
    }
    loaded.check_ids(&ids)?;

    let vocab = loaded.engine.model().spec().vocab;
    let mut out = args
        .logits
        .as_deref()
        .map(|path| LogitsFile::create(path, ids.len(), vocab))
        .transpose()?;
    let mut failed = None;
    let mut session = loaded.engine.session(loaded.session)?;
    loaded.memory.end("load");
    let start = Instant::now();
    let log_probs = session.score(&ids, |_, row| {
        failed = out.as_mut().and_then(|out| out.push(row).err());
        match failed.is_some() || interrupt.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    let seconds = start.elapsed().as_secs_f64();
    loaded.memory.end("score");
    if let Some(error) = failed {
        return Err(error);
    }
    if interrupt.load(Ordering::Relaxed) {
        return Ok(Code::Interrupted);
    }
    out.map_or(Ok(()), LogitsFile::finish)?;

    let report = Report::new(&loaded, ids, log_probs, seconds);
    if args.json {
        stdout::json(&report)?;
    } else {
        stdout::print(&report.lines(loaded.tokenizer()))?;
    }
    Ok(Code::Success)
}

fn ids(args: &ScoreArgs, loaded: &Loaded) -> anyhow::Result<Vec<u32>> {
    let text = match (&args.ids, &args.text, &args.file) {
        (Some(IdList(ids)), ..) => return Ok(ids.clone()),
        (_, Some(text), _) => text.clone(),
        (.., Some(path)) => read_text_file(path)?,
        _ if std::io::IsTerminal::is_terminal(&std::io::stdin()) => {
            return Err(exit::request(
                "nothing to score: give --text TEXT, -f FILE, --ids IDS, or text on stdin",
            ));
        }
        _ => read_text_stdin()?,
    };
    Ok(loaded.need_tokenizer()?.encode(&text, true)?)
}
