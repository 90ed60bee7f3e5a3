//! A forward pass allocates nothing.

mod common;

use std::sync::atomic::Ordering;

use common::counting::{ALLOCATIONS, Counting};
use common::run::{Backwards, Runner, rows, tokens};
use common::shapes;
use onebit_kernels::{Executor, Kernels, Serial};
use onebit_model::{KvCache, KvType, Step, Workspace};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The only test of this binary, so that no other thread allocates while it counts.
#[test]
fn a_forward_pass_allocates_nothing() {
    for (name, recipe) in shapes::all() {
        let model = recipe.model(8);
        let ids = tokens(&model, 40, 6);
        let executors: [&dyn Executor; 2] = [&Serial, &Backwards(4)];
        for (executor, kind) in [
            (executors[0], KvType::F16),
            (executors[1], KvType::F16),
            (executors[1], KvType::Q8),
            (executors[1], KvType::Q4),
            (executors[0], KvType::B1),
        ] {
            let mut runner = Runner::new(&model, Kernels::best(), executor);
            let mut cache = runner.cache(kind);
            for (range, logits_for, hidden) in [
                (0..38, &[37][..], true),
                (38..39, &[0], false),
                (39..40, &[0], false),
            ] {
                let rows = rows(0, range.start, &ids[range]);
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                let step = Step {
                    rows: &rows,
                    caches: &mut [&mut cache],
                    logits_for,
                    hidden,
                };
                model
                    .forward(runner.kernels, runner.executor, &mut runner.workspace, step)
                    .unwrap();
                let after = ALLOCATIONS.load(Ordering::Relaxed);
                assert_eq!(
                    after - before,
                    0,
                    "{name}: allocations in a step of {} rows",
                    rows.len()
                );
            }

            let mut workspace = Workspace::for_long_steps(&model, 40, 7, 2).unwrap();
            let mut cache = KvCache::for_one_step(model.spec(), kind, 40).unwrap();
            let rows = rows(0, 0, &ids);
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            let step = Step {
                rows: &rows,
                caches: &mut [&mut cache],
                logits_for: &[],
                hidden: false,
            };
            model
                .forward(runner.kernels, executor, &mut workspace, step)
                .unwrap();
            model
                .logits(runner.kernels, executor, &mut workspace, &[3, 38])
                .unwrap();
            let after = ALLOCATIONS.load(Ordering::Relaxed);
            assert_eq!(after - before, 0, "{name}: allocations in a long step");
        }
    }
}
