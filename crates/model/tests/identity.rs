//! The same bits, however the work is cut, ordered or mixed.

mod common;

use common::chosen::sets;
use common::run::{Backwards, Runner, Threads, bits, rows, tokens};
use common::{Recipe, shapes};
use onebit_format::{ActivationMode, Layout};
use onebit_kernels::{Executor, Kernels, Serial};
use onebit_model::{KvCache, KvType, Step, Workspace};

#[test]
fn every_kernel_set_and_thread_count() {
    for (name, recipe) in shapes::all() {
        let model = recipe.model(3);
        let ids = tokens(&model, 24, 1);
        let expected =
            bits(&Runner::new(&model, Kernels::by_name("scalar").unwrap(), &Serial).logits(&ids));
        for kernels in sets() {
            let executors: [&dyn Executor; 6] = [
                &Serial,
                &Backwards(3),
                &Backwards(100),
                &Threads(2),
                &Threads(3),
                &Threads(4),
            ];
            for executor in executors {
                let logits = Runner::new(&model, kernels, executor).logits(&ids);
                let threads = executor.threads();
                assert!(
                    bits(&logits) == expected,
                    "{name}: {} with {threads} threads differs",
                    kernels.name()
                );
            }
        }
    }
}

#[test]
fn weights_in_rows_and_in_bands() {
    use ActivationMode::{SignToken, TernaryToken};
    let recipes: [(&str, &dyn Fn(Layout) -> Recipe); 7] = [
        ("int8", &shapes::llama),
        ("floats", &shapes::float_inputs),
        ("groups", &shapes::bonsai),
        ("groups, int8", &shapes::bonsai_int8),
        ("ternary", &|layout| {
            shapes::few_bits(layout, TernaryToken, false)
        }),
        ("groups, signs", &|layout| {
            shapes::few_bits(layout, SignToken, true)
        }),
        ("head", &shapes::quantized_head),
    ];
    for (name, recipe) in recipes {
        for layouts in [[Layout::T2, Layout::T2R16], [Layout::B1, Layout::B1R64]] {
            let [rows, bands] = layouts.map(|layout| recipe(layout).model(11));
            let ids = tokens(&rows, 9, 5);
            for kernels in sets() {
                let [rows, bands] = [&rows, &bands].map(|model| {
                    let mut runner = Runner::new(model, kernels, &Backwards(3));
                    let mut cache = runner.cache(KvType::F32);
                    [
                        bits(&runner.logits(&ids)),
                        bits(&runner.extend(&mut cache, &ids, 1)),
                    ]
                });
                assert!(rows == bands, "{name}: {} differs", kernels.name());
            }
        }
    }
}

#[test]
fn every_prefill_chunking() {
    for (name, recipe) in shapes::all() {
        let model = recipe.model(4);
        let ids = tokens(&model, 17, 2);
        for &kind in KvType::ALL {
            let mut runner = Runner::new(&model, Kernels::best(), &Backwards(2));
            let mut run = |chunk| {
                let mut cache = runner.cache(kind);
                bits(&runner.extend(&mut cache, &ids, chunk))
            };
            let expected = run(ids.len());
            for chunk in [1, 3, 7] {
                assert!(run(chunk) == expected, "{name}: chunks of {chunk} differ");
            }
        }
    }
}

#[test]
fn chunking_across_attention_blocks() {
    let model = shapes::windowed().model(4);
    let ids = tokens(&model, 100, 2);
    let mut runner = Runner::new(&model, Kernels::best(), &Serial);
    let mut run = |chunk| {
        let mut cache = runner.cache(KvType::F16);
        bits(&runner.extend(&mut cache, &ids, chunk))
    };
    assert!(run(1) == run(64));
    assert!(run(33) == run(64));
}

/// Products of more tokens than a part takes.
#[test]
fn chunking_across_parts_of_products() {
    for (name, recipe) in shapes::all() {
        let model = recipe.model(4);
        let ids = tokens(&model, 300, 2);
        let mut runner = Runner::new(&model, Kernels::best(), &Backwards(2));
        runner.workspace = Workspace::new(&model, ids.len(), ids.len()).unwrap();
        let mut run = |chunk| {
            let mut cache = KvCache::new(model.spec(), KvType::F16, ids.len()).unwrap();
            bits(&runner.extend(&mut cache, &ids, chunk))
        };
        assert!(run(ids.len()) == run(60), "{name}: one chunk differs");
    }
}

#[test]
fn batch_composition() {
    for (name, recipe) in shapes::all() {
        let model = recipe.model(5);
        let mut runner = Runner::new(&model, Kernels::best(), &Backwards(4));
        let (first, second) = (tokens(&model, 6, 3), tokens(&model, 5, 4));
        let expected = (bits(&runner.logits(&first)), bits(&runner.logits(&second)));

        let (mut a, mut b) = (runner.cache(KvType::F32), runner.cache(KvType::F32));
        let (a_rows, b_rows) = (rows(0, 0, &first), rows(1, 0, &second));
        let mixed: Vec<_> = [0, 6, 7, 1, 2, 8, 3, 9, 10, 4, 5]
            .map(|i| [&a_rows[..], &b_rows].concat()[i])
            .into();
        let logits = bits(&runner.step(&mixed, &mut [&mut a, &mut b]).unwrap());
        let of = |sequence| {
            let rows = mixed
                .iter()
                .zip(&logits)
                .filter(|(row, _)| row.sequence == sequence);
            rows.map(|(_, logits)| logits.clone()).collect::<Vec<_>>()
        };
        assert!((of(0), of(1)) == expected, "{name}: mixed sequences differ");
        assert_eq!((a.len(), b.len()), (6, 5));
    }
}

#[test]
fn forks_and_truncations_continue_as_if_alone() {
    let model = shapes::bitnet().model(6);
    let mut runner = Runner::new(&model, Kernels::best(), &Serial);
    let ids = tokens(&model, 12, 7);
    let expected = bits(&runner.logits(&ids));

    let mut cache = runner.cache(KvType::F32);
    runner.extend(&mut cache, &ids[..8], 8);
    let mut fork = cache.fork();
    assert_eq!((fork.len(), fork.capacity()), (8, 128));
    runner.extend(&mut cache, &tokens(&model, 20, 8), 4);
    assert!(bits(&runner.extend(&mut fork, &ids[8..], 2)) == expected[8..]);

    cache.truncate(100);
    assert_eq!(cache.len(), 28);
    cache.truncate(5);
    assert!(bits(&runner.extend(&mut cache, &ids[5..], 7)) == expected[5..]);
    cache.truncate(0);
    assert!(cache.is_empty());
    assert!(bits(&runner.extend(&mut cache, &ids, 12)) == expected);
}

#[test]
fn chosen_logits_and_hidden_states() {
    let model = shapes::quantized_head(Layout::I8).model(7);
    let ids = tokens(&model, 6, 9);
    let mut runner = Runner::new(&model, Kernels::best(), &Backwards(2));
    let all = runner.logits(&ids);
    let mut cache = runner.cache(KvType::F32);
    let step = |hidden| (rows(0, 0, &ids), [4usize, 0, 4], hidden);
    let mut states = Vec::new();
    for hidden in [true, false] {
        cache.truncate(0);
        let (rows, logits_for, hidden) = step(hidden);
        let step = Step {
            rows: &rows,
            caches: &mut [&mut cache],
            logits_for: &logits_for,
            hidden,
        };
        let output = model
            .forward(runner.kernels, runner.executor, &mut runner.workspace, step)
            .unwrap();
        assert_eq!(output.logits(0), &all[4][..]);
        assert_eq!(output.logits(1), &all[0][..]);
        assert_eq!(output.logits(2), &all[4][..]);
        assert_eq!(output.all_logits().len(), 3 * model.spec().vocab);
        if hidden {
            states = (0..6).map(|i| output.hidden(i).to_vec()).collect();
        }
    }
    let norm = model.file().vector("norm").unwrap();
    for state in states {
        let mean_square = state
            .iter()
            .zip(norm)
            .map(|(x, w)| (x / w).powi(2))
            .sum::<f32>()
            / norm.len() as f32;
        assert!(
            (mean_square - 1.0).abs() < 1e-3,
            "hidden states are final-normed"
        );
    }
}

#[test]
fn one_model_serves_many_threads() {
    let model = shapes::bitnet().model(9);
    let ids = tokens(&model, 10, 3);
    let run = || bits(&Runner::new(&model, Kernels::best(), &Serial).logits(&ids));
    let expected = run();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .for_each(|thread| assert!(thread.join().unwrap() == expected));
    });
}
