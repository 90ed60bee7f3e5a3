//! Several sequences decoded together, in a process of their own.

use super::figure::{Figures, add};
use anyhow::Context;
use clap::Args;
use onebit::cli::{KvArg, parse_kv};
use onebit::{exit, stdout};
use onebit_kernels::Kernels;
use onebit_model::{Activations, KvCache, Model, Row, Step, Workspace};
use onebit_runtime::{Pool, default_threads};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// Flags of `cargo xtask decode-batch`.
#[derive(Debug, Args)]
pub(crate) struct BatchArgs {
    /// A packed file
    model: PathBuf,
    /// Sequences
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    sequences: u16,
    /// Tokens of each before the steps that are timed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    prompt: u32,
    /// Steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[arg(long, value_name = "NAME")]
    kernels: Option<String>,
    #[arg(long, value_name = "TYPE", value_parser = parse_kv, default_value = "f16")]
    kv: KvArg,
}

/// Runs the steps and prints their times as JSON.
pub(crate) fn decode(args: &BatchArgs) -> anyhow::Result<()> {
    let kernels = match &args.kernels {
        Some(name) => Kernels::by_name(name)?,
        None => Kernels::best(),
    };
    let model = Model::open(&args.model)
        .and_then(|model| model.with_activations(Activations::Auto))
        .with_context(|| args.model.display().to_string())?;
    let pool = Pool::new(args.threads.unwrap_or_else(default_threads)).context("no threads")?;
    let (sequences, prompt, steps) = (
        usize::from(args.sequences),
        args.prompt as usize,
        args.steps as usize,
    );
    let kv = args.kv.known()?;
    let new = |_| KvCache::new(model.spec(), kv, prompt + steps + 1);
    let mut caches = (0..sequences).map(new).collect::<Result<Vec<_>, _>>()?;
    let mut caches: Vec<&mut KvCache> = caches.iter_mut().collect();
    let mut workspace = Workspace::new(&model, sequences.max(128), sequences)?;
    // Sequences of different tokens, as real ones are.
    let row = |sequence: usize, position: usize| Row {
        sequence,
        position,
        token: ((100 + 31 * sequence + position % 97) % model.spec().vocab) as u32,
    };
    for sequence in 0..sequences {
        for first in (0..prompt).step_by(128) {
            let rows: Vec<Row> = (first..prompt.min(first + 128))
                .map(|position| row(sequence, position))
                .collect();
            let step = Step {
                rows: &rows,
                caches: &mut caches,
                logits_for: &[],
                hidden: false,
            };
            model.forward(kernels, &pool, &mut workspace, step)?;
        }
    }
    let wanted: Vec<usize> = (0..sequences).collect();
    let mut times = Vec::with_capacity(steps);
    // The first step pages the head in.
    for position in prompt..=prompt + steps {
        let rows: Vec<Row> = (0..sequences)
            .map(|sequence| row(sequence, position))
            .collect();
        let step = Step {
            rows: &rows,
            caches: &mut caches,
            logits_for: &wanted,
            hidden: false,
        };
        let start = Instant::now();
        let output = model.forward(kernels, &pool, &mut workspace, step)?;
        std::hint::black_box(output.all_logits());
        if position > prompt {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    let total: f64 = times.iter().sum();
    stdout::json(&json!({
        "sequences": sequences,
        "steps": steps,
        "step_ms_p50": times[(steps - 1) / 2],
        "tok_s": (sequences * steps) as f64 / (total / 1e3),
    }))?;
    Ok(())
}

/// Takes the figures of a run over.
pub(super) fn take(figures: &mut Figures, json: &Value) -> anyhow::Result<()> {
    let number = |key: &str| json[key].as_f64().with_context(|| format!("no {key}"));
    let sequences = number("sequences")?;
    add(figures, format!("batch{sequences}_tok_s"), number("tok_s")?);
    add(
        figures,
        format!("batch{sequences}_step_ms_p50"),
        number("step_ms_p50")?,
    );
    Ok(())
}

/// Reads a list such as `1,2,4`.
pub(super) fn list(text: &str) -> anyhow::Result<Vec<usize>> {
    let parse = |part: &str| {
        let number = part.trim().parse::<usize>();
        number.map_err(|_| exit::request(format!("{part:?} in {text:?} is not a number")))
    };
    text.split(',').map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        assert_eq!(list("0,2048, 8192").unwrap(), [0, 2048, 8192]);
        assert!(list("1,,2").is_err() && list("x").is_err());
    }
}
