//! What `run` and `chat` share: from flags to options, streaming to stdout, and the closing summary.

use crate::cli::SamplingArgs;
use crate::load::Loaded;
use crate::note;
use onebit_runtime::{
    CgroupMemory, GenerateOptions, Generation, Output, PhaseMemory, Piece, RuntimeError,
    SamplingOverrides, StopReason, Timings, eos_tokens, process_memory, random_seed,
};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};

/// The options of a generation: what was asked for, else what the model recommends.
pub fn options(loaded: &Loaded, args: &SamplingArgs) -> GenerateOptions {
    let defaults = &loaded.engine.model().file().meta().generation;
    let overrides = SamplingOverrides {
        temperature: args.temp,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repeat_penalty,
        repetition_window: Some(usize::try_from(args.repeat_last_n).unwrap_or(usize::MAX)),
    };
    // A random seed must be one that --seed and every JSON reader can take.
    let seed = u64::try_from(args.seed).unwrap_or_else(|_| random_seed() >> 11);
    GenerateOptions {
        predict: usize::try_from(args.predict).ok(),
        eos: eos_tokens(defaults, loaded.tokenizer()),
        ignore_eos: args.ignore_eos,
        stop: args.stop.clone(),
        sampling: overrides.resolve(defaults, seed),
        continue_text: false,
    }
}

/// Runs a generation whose pieces go to `print`; the first one that cannot be printed ends it.
///
/// # Errors
/// That of `print`, else that of the generation.
pub fn streaming<T>(
    interrupt: &AtomicBool,
    mut print: impl FnMut(Piece<'_>) -> anyhow::Result<()>,
    generate: impl FnOnce(Output<'_>) -> Result<T, RuntimeError>,
) -> anyhow::Result<T> {
    let mut failed = None;
    let mut on_piece = |piece: Piece<'_>| {
        if failed.is_none() {
            failed = print(piece).err();
            interrupt.fetch_or(failed.is_some(), Ordering::Relaxed);
        }
    };
    let result = generate(Output {
        on_piece: &mut on_piece,
        interrupt,
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(result?),
    }
}

/// The times that `--json` reports.
#[derive(Serialize)]
pub struct TimingReport {
    load_s: f64,
    #[serde(flatten)]
    timings: Timings,
}

impl TimingReport {
    /// Of a generation with a loaded model.
    pub fn new(loaded: &Loaded, timings: Timings) -> Self {
        Self {
            load_s: loaded.load_s,
            timings,
        }
    }
}

/// The memory that `--json` reports, in bytes; `null` where the system does not say.
#[derive(Serialize)]
pub struct MemoryReport {
    planned: u64,
    peak: Option<u64>,
    anon: Option<u64>,
    file: Option<u64>,
    phases: Vec<PhaseMemory>,
    cgroup: Option<CgroupMemory>,
}

impl MemoryReport {
    /// Of this process now.
    pub fn new(loaded: &Loaded) -> Self {
        let now = process_memory();
        Self {
            planned: loaded.plan().map_or(u64::MAX, |plan| plan.total()),
            peak: now.map(|memory| memory.peak).max(loaded.memory.peak()),
            anon: now.map(|memory| memory.anon),
            file: now.map(|memory| memory.file),
            phases: loaded.memory.phases().to_vec(),
            cgroup: CgroupMemory::read(),
        }
    }
}

/// Prints the closing summary on stderr.
pub fn summary(loaded: &Loaded, options: &GenerateOptions, generation: &Generation) {
    let times = &generation.timings;
    let end = match generation.stop {
        StopReason::Eos => "the model ended",
        StopReason::Stop => "stop text",
        StopReason::Length => "length",
        StopReason::Interrupted => "interrupted",
    };
    note!(
        "{} tokens, {end}; first after {:.0} ms, prompt {:.0} tok/s, then {:.1} tok/s",
        generation.ids.len(),
        times.ttft_s * 1e3,
        times.prefill_tok_s,
        times.decode_tok_s,
    );
    let peak = process_memory().map_or_else(String::new, |memory| {
        format!(", peak {:.1} MB", memory.peak as f64 / 1e6)
    });
    let seed = if options.sampling.temperature > 0.0 {
        format!(", seed {}", options.sampling.seed)
    } else {
        String::new()
    };
    note!(
        "{} kernels, {} threads, context {}, kv {}{peak}{seed}",
        loaded.engine.kernels().name(),
        loaded.threads(),
        loaded.session.context,
        loaded.kv_name(),
    );
}
