//! `onebit score`: perplexity and token log-probabilities of a given text.

mod logits;
mod report;

use crate::cli::{EngineArgs, IdList, SamplingArgs, read_text_file, read_text_stdin};
use crate::exit::{self, Code};
use crate::load::Loaded;
use crate::{interrupt, stdout};
use clap::Args;
use logits::LogitsFile;
use onebit_runtime::{MemoryLog, OnePass, RuntimeError, Session};
use report::Report;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Keep no keys and values beyond the layer that computes them: all tokens pass through one layer before the next.
    /// The same results in less memory
    #[arg(long, help_heading = "Engine")]
    no_kv_cache: bool,
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
    args.engine.one_pass = args.no_kv_cache;
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
    let mut scorer = Scorer::new(&loaded, args.no_kv_cache)?;
    loaded.memory.end("load");
    let start = Instant::now();
    let log_probs = scorer.score(&ids, interrupt, |row| {
        failed = out.as_mut().and_then(|out| out.push(row).err());
        failed.is_none()
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

/// What computes the scores.
enum Scorer {
    Session(Session),
    OnePass(OnePass),
}

impl Scorer {
    fn new(loaded: &Loaded, one_pass: bool) -> Result<Self, RuntimeError> {
        let (engine, options) = (loaded.engine.clone(), loaded.session);
        Ok(match one_pass {
            true => Self::OnePass(OnePass::new(engine, options)?),
            false => Self::Session(engine.session(options)?),
        })
    }

    /// The log-probabilities of `ids`; fewer after an interrupt, and when `on_row` is not content.
    fn score(
        &mut self,
        ids: &[u32],
        interrupt: &AtomicBool,
        mut on_row: impl FnMut(&[f32]) -> bool,
    ) -> Result<Vec<f64>, RuntimeError> {
        let go_on = |content: bool| match content && !interrupt.load(Ordering::Relaxed) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let on_row = |_: usize, row: &[f32]| go_on(on_row(row));
        match self {
            Self::Session(session) => session.score(ids, on_row),
            Self::OnePass(pass) => {
                let scores = pass.score(ids, || go_on(true), on_row)?;
                Ok(scores.unwrap_or_default())
            }
        }
    }
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
