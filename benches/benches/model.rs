//! Steps of the network, without sessions and threads.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use onebit_benches::demo_folder;
use onebit_kernels::{Kernels, Serial};
use onebit_model::{KvCache, KvType, Model, Row, Step, Workspace};

/// Positions before the step that is timed.
const DEPTH: usize = 128;

fn rows(sequences: usize, positions: std::ops::Range<usize>) -> Vec<Row> {
    let row = |position| {
        move |sequence| Row {
            sequence,
            position,
            token: (40 + position % 50) as u32,
        }
    };
    positions
        .flat_map(|position| (0..sequences).map(row(position)))
        .collect()
}

fn model() -> Model {
    Model::open(demo_folder().join("demo.onebit")).expect("the demo model opens")
}

/// Logits of the last row of a step.
fn forward(
    model: &Model,
    workspace: &mut Workspace,
    caches: &mut [&mut KvCache],
    rows: &[Row],
) -> Vec<f32> {
    let step = Step {
        rows,
        caches,
        logits_for: &[rows.len() - 1],
        hidden: false,
    };
    let output = model.forward(Kernels::best(), &Serial, workspace, step);
    output.expect("a step").logits(0).to_vec()
}

/// One token of each of some sequences, computed together, is what each gets alone.
fn decode_together(c: &mut Criterion) {
    let model = model();
    let mut workspace = Workspace::new(&model, DEPTH, 1).expect("a workspace");
    let mut cache = KvCache::new(model.spec(), KvType::Q8, DEPTH + 1).expect("a cache");
    forward(
        &model,
        &mut workspace,
        &mut [&mut cache],
        &rows(1, 0..DEPTH),
    );
    let next = rows(1, DEPTH..DEPTH + 1);
    let mut alone = cache.fork();
    let expected = forward(&model, &mut workspace, &mut [&mut alone], &next);

    let mut group = c.benchmark_group("decode together");
    for sequences in [1, 2, 4, 8] {
        let mut caches: Vec<KvCache> = (0..sequences).map(|_| cache.fork()).collect();
        let next = rows(sequences, DEPTH..DEPTH + 1);
        group.throughput(Throughput::Elements(sequences as u64));
        group.bench_function(BenchmarkId::from_parameter(sequences), |b| {
            b.iter(|| {
                for cache in &mut caches {
                    cache.truncate(DEPTH);
                }
                let mut caches: Vec<&mut KvCache> = caches.iter_mut().collect();
                let logits = forward(&model, &mut workspace, &mut caches, &next);
                assert_eq!(logits, expected);
            });
        });
    }
    group.finish();
}

/// A prompt in one step, with every type of keys and values.
fn prompt(c: &mut Criterion) {
    let model = model();
    let mut workspace = Workspace::new(&model, DEPTH, 1).expect("a workspace");
    let rows = rows(1, 0..DEPTH);
    let mut group = c.benchmark_group("prompt of 128");
    group.throughput(Throughput::Elements(DEPTH as u64));
    for &kind in KvType::ALL {
        let mut cache = KvCache::new(model.spec(), kind, DEPTH).expect("a cache");
        let expected = forward(&model, &mut workspace, &mut [&mut cache], &rows);
        assert!(expected.iter().all(|x| x.is_finite()));
        group.bench_function(kind.name(), |b| {
            b.iter(|| {
                cache.truncate(0);
                let logits = forward(&model, &mut workspace, &mut [&mut cache], &rows);
                assert_eq!(logits, expected);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode_together, prompt);
criterion_main!(benches);
