//! `bench kv`: what each type of the key/value cache costs in bytes and in quality.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use onebit_model::{KvCache, KvOptions, KvType};
use onebit_runtime::{Engine, Session, SessionOptions, Tokenizer};
use serde_json::{Value, json};

/// Rows of logits computed at once.
const LOGITS_ROWS: usize = 64;

#[derive(Debug, Args)]
pub(super) struct KvArgs {
    /// A packed file
    #[arg(long, default_value = "fixtures/demo/demo.onebit")]
    model: PathBuf,
    /// The text, cut into contexts that each start with the first special token
    #[arg(long, default_value = "fixtures/demo/heldout.txt")]
    text: PathBuf,
    /// Tokens of a context
    #[arg(long, value_name = "N", default_value_t = 512)]
    ctx: usize,
    /// Most contexts to compute
    #[arg(long, value_name = "N", default_value_t = usize::MAX)]
    contexts: usize,
    /// First positions at 8 bits
    #[arg(long, value_name = "S", default_value_t = 4)]
    sinks: usize,
    /// Last positions at 8 bits; several are compared
    #[arg(long, value_name = "R", default_values_t = [0, 32, 64])]
    recent: Vec<usize>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// A cache, and how the model does with it.
struct Row {
    options: KvOptions,
    /// Bytes of a full context.
    bytes: usize,
    /// Sum of the negative log-probabilities of the text.
    loss: f64,
    /// Sum of the divergences from f32.
    kl: f64,
}

/// Measures and prints.
pub(super) fn run(args: &KvArgs) -> anyhow::Result<()> {
    ensure!(args.ctx > 1, "--ctx must be at least 2");
    let engine = Engine::open(&args.model).with_context(|| args.model.display().to_string())?;
    let contexts = contexts(args, &engine)?;
    ensure!(!contexts.is_empty(), "the text has fewer than --ctx tokens");
    let spec = engine.model().spec();
    let mut rows = Vec::new();
    for options in types(args) {
        let bytes = KvCache::bytes(spec, options, args.ctx).context("sizes overflow")?;
        rows.push(Row {
            options,
            bytes,
            loss: 0.0,
            kl: 0.0,
        });
    }
    let mut sessions = Vec::new();
    for row in &rows {
        sessions.push(engine.session(SessionOptions {
            context: args.ctx,
            logits_rows: LOGITS_ROWS,
            kv: row.options,
            ..SessionOptions::new(spec)
        })?);
    }
    let predicted = contexts.len() * (args.ctx - 1);
    let show = std::io::stderr().is_terminal();
    for (i, ids) in contexts.iter().enumerate() {
        if show {
            eprint!("\rcontext {} of {} ", i + 1, contexts.len());
        }
        let mut exact = Vec::new();
        for (row, session) in rows.iter_mut().zip(&mut sessions) {
            let (loss, kl) = score(session, ids, &mut exact)?;
            row.loss += loss;
            row.kl += kl;
        }
    }
    print(args, &rows, contexts.len(), predicted);
    Ok(())
}

/// The caches compared, f32 first.
fn types(args: &KvArgs) -> Vec<KvOptions> {
    let of = |keys, values, recent| KvOptions {
        sinks: args.sinks,
        recent,
        ..KvOptions::new(keys, values)
    };
    let (wide, packed): (Vec<KvType>, Vec<_>) =
        KvType::ALL.iter().partition(|kind| !kind.is_packed());
    let mut all: Vec<_> = wide.into_iter().map(|kind| of(kind, kind, 0)).collect();
    for &recent in &args.recent {
        all.extend(packed.iter().map(|&kind| of(kind, kind, recent)));
        for (keys, values) in [(KvType::Q8, KvType::B1), (KvType::B1, KvType::Q8)] {
            all.push(of(keys, values, recent));
        }
    }
    all
}

/// The text in contexts of equal length.
fn contexts(args: &KvArgs, engine: &Engine) -> anyhow::Result<Vec<Vec<u32>>> {
    let text =
        std::fs::read_to_string(&args.text).with_context(|| args.text.display().to_string())?;
    let tokenizer = Tokenizer::from_packed(engine.model().file())?;
    let ids = tokenizer.encode(&text, false)?;
    let start = tokenizer.role("bos_token");
    let own = args.ctx - usize::from(start.is_some());
    let parts = ids.chunks_exact(own).take(args.contexts);
    Ok(parts
        .map(|part| start.into_iter().chain(part.iter().copied()).collect())
        .collect())
}

/// The loss of a context, and its divergence from `exact`, the log-probabilities of the first cache, which
/// are kept there.
fn score(session: &mut Session, ids: &[u32], exact: &mut Vec<f64>) -> anyhow::Result<(f64, f64)> {
    session.truncate(0);
    let fresh = exact.is_empty();
    let (mut kl, mut at) = (0.0, 0);
    let last = ids.len() - 1;
    let scores = session.score(ids, |index, logits| {
        if index == last {
            return ControlFlow::Continue(());
        }
        let max = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let total: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
        let log_total = total.ln() + f64::from(max);
        let found = logits.iter().map(|&x| f64::from(x) - log_total);
        if fresh {
            exact.extend(found);
        } else {
            let pairs = exact[at..].iter().zip(found);
            kl += pairs.map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            at += logits.len();
        }
        ControlFlow::Continue(())
    })?;
    Ok((-scores.iter().sum::<f64>(), kl))
}

fn print(args: &KvArgs, rows: &[Row], contexts: usize, predicted: usize) {
    let n = predicted as f64;
    let base = rows[0].loss / n;
    let name = |row: &Row| match (row.options.keys, row.options.values) {
        (a, b) if a == b => a.name().to_owned(),
        (a, b) => format!("{}/{}", a.name(), b.name()),
    };
    let figures = |row: &Row| {
        let loss = row.loss / n;
        (loss.exp(), 100.0 * ((loss - base).exp() - 1.0), row.kl / n)
    };
    if args.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| {
                let (perplexity, worse, kl) = figures(row);
                json!({"kv": name(row), "recent": row.options.recent, "sinks": row.options.sinks,
                    "bytes": row.bytes, "perplexity": perplexity, "worse_percent": worse, "kl": kl})
            })
            .collect();
        let report = json!({"model": args.model, "text": args.text, "ctx": args.ctx,
            "contexts": contexts, "rows": rows});
        println!("{report}");
        return;
    }
    println!(
        "{} contexts of {} tokens of {}; sinks {}",
        contexts,
        args.ctx,
        args.text.display(),
        args.sinks
    );
    println!("keys/values  recent      bytes  perplexity  against f32  KL from f32 (nats)");
    for row in rows {
        let (perplexity, worse, kl) = figures(row);
        let recent = match row.options.keys.is_packed() || row.options.values.is_packed() {
            true => row.options.recent.to_string(),
            false => "-".to_owned(),
        };
        println!(
            "{:<11}  {recent:>6}  {:>9}  {perplexity:>10.4}  {worse:>+9.3} %  {kl:>18.6}",
            name(row),
            row.bytes
        );
    }
}
