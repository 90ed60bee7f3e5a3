//! What a token costs, in numbers that do not depend on the machine: bytes of weights read, parallel regions, allocations.

mod common;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::counting::{ALLOCATIONS, Counting};
use common::run::{Runner, rows};
use onebit_kernels::{Executor, Kernels};
use onebit_model::{KvType, Model, Step};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Cuts the work for two threads, runs it on one, and counts the parallel regions.
#[derive(Default)]
struct Regions(AtomicUsize);

impl Executor for Regions {
    fn threads(&self) -> usize {
        2
    }

    fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        self.0.fetch_add(1, Ordering::Relaxed);
        (0..parts).for_each(job);
    }
}

/// Tokens of the prompt, and steps after it.
const PROMPT: usize = 32;
const STEPS: usize = 32;

/// The counts of a prompt and of the steps after it.
fn counts(model: &Model, kernels: &'static Kernels) -> Value {
    let regions = Regions::default();
    let mut runner = Runner::new(model, kernels, &regions);
    let mut cache = runner.cache(KvType::F16);
    let ids: Vec<u32> = (100..).take(PROMPT + STEPS).collect();
    let (mut skipped, mut prompt_regions, mut prompt_allocations) = (0, 0, 0);
    let starts = std::iter::once(0..PROMPT).chain((PROMPT..PROMPT + STEPS).map(|i| i..i + 1));
    let mut steps_from = (0, 0);
    for range in starts {
        let rows = rows(0, range.start, &ids[range.clone()]);
        let last = [rows.len() - 1];
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let step = Step {
            rows: &rows,
            caches: &mut [&mut cache],
            logits_for: &last,
            hidden: false,
        };
        let output = model
            .forward(kernels, &regions, &mut runner.workspace, step)
            .unwrap();
        let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
        if range.start == 0 {
            (prompt_regions, prompt_allocations) = (regions.0.load(Ordering::Relaxed), allocated);
            steps_from = (prompt_regions, 0);
        } else {
            skipped += output.skipped_bytes();
            steps_from.1 += allocated;
        }
    }
    let steps = STEPS as u64;
    json!({
        "weight_bytes_per_step": model.bytes_per_token(),
        "weight_bytes_left_out": skipped,
        "weight_bytes_read_per_step": model.bytes_per_token() as u64 - skipped / steps,
        "regions_of_prompt": prompt_regions,
        "regions_of_steps": regions.0.load(Ordering::Relaxed) - steps_from.0,
        "allocations_of_prompt": prompt_allocations,
        "allocations_of_steps": steps_from.1,
    })
}

/// The only test of this binary, so that no other thread allocates while it counts. Where a change of the code is meant to
/// change the counts, `counters.json` changes with it: the failure prints what belongs there.
#[test]
fn a_token_costs_what_is_expected() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(root.join("tests/counters.json")).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    for packed in ["demo.onebit", "b1/b1.onebit"] {
        let model = Model::open(root.join("../../fixtures/demo").join(packed)).unwrap();
        for kernels in Kernels::available() {
            let found = counts(&model, kernels);
            assert_eq!(
                found,
                expected[packed],
                "{packed} on {}: found {found:#}",
                kernels.name()
            );
        }
    }
}
