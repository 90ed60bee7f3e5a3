//! What `onebit run --json` prints.

use crate::generation::{MemoryReport, TimingReport};
use crate::load::Loaded;
use onebit_runtime::{GenerateOptions, Generation, StopReason};
use serde::Serialize;

/// The object of `--json`.
#[derive(Serialize)]
pub(super) struct Report {
    prompt_ids: Vec<u32>,
    ids: Vec<u32>,
    text: String,
    stop: StopReason,
    timings: TimingReport,
    memory: MemoryReport,
    weights: WeightReport,
    kernels: &'static str,
    threads: usize,
    seed: u64,
    kv: String,
    ctx: usize,
}

impl Report {
    pub(super) fn new(
        loaded: &Loaded,
        prompt_ids: Vec<u32>,
        options: &GenerateOptions,
        generation: Generation,
    ) -> Self {
        Self {
            prompt_ids,
            ids: generation.ids,
            text: generation.text,
            stop: generation.stop,
            timings: TimingReport::new(loaded, generation.timings),
            memory: MemoryReport::new(loaded),
            weights: WeightReport {
                bytes_per_token: loaded.engine.model().bytes_per_token(),
                skipped: generation.weights_skipped,
            },
            kernels: loaded.engine.kernels().name(),
            threads: loaded.threads(),
            seed: options.sampling.seed,
            kv: loaded.kv_name(),
            ctx: loaded.session.context,
        }
    }
}

/// What decoding reads.
#[derive(Serialize)]
struct WeightReport {
    /// Bytes of weights in a token's way, layers and head.
    bytes_per_token: usize,
    /// Share of them that was not read, because it is multiplied with zeros.
    skipped: f64,
}

/// A line of `--json-lines` before the last.
#[derive(Serialize)]
pub(super) struct TokenLine<'t> {
    pub(super) id: Option<u32>,
    pub(super) text: &'t str,
}
