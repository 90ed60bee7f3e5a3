//! Rings: caches that keep fewer rows than there are positions.

mod common;

use common::chosen::sets;
use common::run::{Backwards, Runner, bits, rows, tokens};
use common::{Recipe, shapes};
use onebit_kernels::{Kernels, Serial};
use onebit_model::{KvCache, KvOptions, KvType, Model};

fn model() -> std::sync::Arc<Model> {
    shapes::bitnet().model(4)
}

fn narrow(kind: KvType, window: usize, sinks: usize) -> KvOptions {
    KvOptions {
        window: Some(window),
        sinks,
        recent: 16,
        ..KvOptions::from(kind)
    }
}

/// All logits of `ids`, in steps of `chunk`, from an empty cache of 2,048 tokens.
fn run(model: &Model, options: KvOptions, ids: &[u32], chunk: usize) -> Vec<Vec<u32>> {
    let mut runner = Runner::new(model, Kernels::best(), &Backwards(3));
    let mut cache = KvCache::new(model.spec(), options, 2048).unwrap();
    bits(&runner.extend(&mut cache, ids, chunk))
}

#[test]
fn a_prompt_can_be_cut_anywhere() {
    let model = model();
    let ids = tokens(&model, 250, 2);
    for &kind in KvType::ALL {
        for options in [
            narrow(kind, 40, 0),
            narrow(kind, 40, 4),
            narrow(kind, 70, 64),
            narrow(kind, 1, 1),
            KvOptions {
                window: None,
                ..narrow(kind, 1, 4)
            },
        ] {
            let expected = run(&model, options, &ids, 64);
            for chunk in [1, 13, 47] {
                let found = run(&model, options, &ids, chunk);
                assert!(found == expected, "{options:?} in steps of {chunk}");
            }
        }
    }
}

#[test]
fn every_kernel_set_and_thread_count() {
    let model = model();
    let ids = tokens(&model, 130, 3);
    for kind in [KvType::F16, KvType::Q8, KvType::Q4, KvType::Q2, KvType::B1] {
        let options = narrow(kind, 50, 4);
        let mut all = Vec::new();
        for kernels in sets() {
            for threads in [1, 3] {
                let executor = Backwards(threads);
                let mut runner = Runner::new(&model, kernels, &executor);
                let mut cache = KvCache::new(model.spec(), options, 2048).unwrap();
                all.push(bits(&runner.extend(&mut cache, &ids, 60)));
            }
        }
        assert!(all.iter().all(|logits| *logits == all[0]), "{options:?}");
    }
}

/// A window given at run time is the same as one the model was made with, as long as there are no sinks.
#[test]
fn windows_of_the_model_and_of_the_user_agree() {
    let recipe = shapes::bitnet();
    let windowed = Recipe {
        spec: onebit_model::ModelSpec {
            windows: Some(onebit_model::WindowSpec {
                size: 33,
                first_layer: 0,
            }),
            ..recipe.spec.clone()
        },
        ..shapes::bitnet()
    };
    let (plain, windowed) = (recipe.model(4), windowed.model(4));
    let ids = tokens(&plain, 200, 5);
    for kind in [KvType::F32, KvType::Q8, KvType::Q4] {
        let trained = |sinks| {
            let options = KvOptions {
                recent: 16,
                sinks,
                ..kind.into()
            };
            run(&windowed, options, &ids, 50)
        };
        assert!(run(&plain, narrow(kind, 33, 0), &ids, 50) == trained(0));
        // A window that is no narrower changes nothing, sinks included.
        assert!(run(&windowed, narrow(kind, 33, 4), &ids, 50) == trained(4));
        assert!(run(&windowed, narrow(kind, 100, 4), &ids, 50) == trained(4));
        let with_sinks = run(&plain, narrow(kind, 33, 4), &ids, 50);
        assert!(with_sinks[..33] == trained(4)[..33]);
        assert!(with_sinks[36..] != trained(4)[36..]);
    }
}

/// Rings of any size hold the same rows.
#[test]
fn a_ring_gives_what_a_whole_cache_gives() {
    let model = model();
    let ids = tokens(&model, 300, 6);
    for sinks in [0, 4] {
        for kind in [KvType::F32, KvType::B1] {
            let options = narrow(kind, 100, sinks);
            let mut runner = Runner::new(&model, Kernels::best(), &Serial);
            // As many slots as positions, so that nothing is ever replaced.
            let mut whole = KvCache::new(model.spec(), options, 128).unwrap();
            let expected = bits(&runner.extend(&mut whole, &ids[..128], 32));
            assert!(run(&model, options, &ids, 32)[..128] == expected);
        }
    }
}

#[test]
fn sequences_of_different_caches_share_a_step() {
    let model = model();
    let ids = tokens(&model, 90, 7);
    let kinds = [
        narrow(KvType::B1, 20, 4),
        KvType::F32.into(),
        narrow(KvType::Q8, 40, 0),
    ];
    let mut runner = Runner::new(&model, Kernels::best(), &Backwards(2));
    let mut caches = kinds.map(|options| KvCache::new(model.spec(), options, 2048).unwrap());
    let mut found = [const { Vec::new() }; 3];
    for part in 0..6 {
        let ids = &ids[15 * part..][..15];
        // The rows of three sequences, mixed.
        let all = [0, 1, 2].map(|sequence| rows(sequence, 15 * part, ids));
        let mixed: Vec<_> = (0..15)
            .flat_map(|i| [all[0][i], all[1][i], all[2][i]])
            .collect();
        let [a, b, c] = &mut caches;
        let logits = bits(&runner.step(&mixed, &mut [a, b, c]).unwrap());
        for (row, logits) in mixed.iter().zip(logits) {
            found[row.sequence].push(logits);
        }
    }
    for (options, found) in kinds.into_iter().zip(found) {
        assert!(run(&model, options, &ids, 30) == found, "{options:?}");
    }
}

#[test]
fn going_back_is_exact_or_starts_over() {
    let model = model();
    let ids = tokens(&model, 200, 8);
    for kind in [KvType::F16, KvType::Q4] {
        for options in [
            narrow(kind, 40, 4),
            KvOptions {
                window: None,
                ..narrow(kind, 1, 4)
            },
        ] {
            let expected = run(&model, options, &ids, 64);
            let mut runner = Runner::new(&model, Kernels::best(), &Serial);
            let mut cache = KvCache::new(model.spec(), options, 2048).unwrap();
            let mut kept_some = false;
            for (upto, back) in [(60, 50), (200, 190), (195, 183), (190, 100), (64, 60)] {
                let len = cache.len();
                runner.extend(&mut cache, &ids[len..upto.max(len)], 64);
                let kept = cache.truncate(back);
                assert!(kept == back || kept == 0, "{kept} of {back}");
                assert_eq!(cache.len(), kept);
                kept_some |= kept > 0;
                let end = (kept + 9).min(ids.len());
                let again = bits(&runner.extend(&mut cache, &ids[kept..end], 4));
                assert!(again == expected[kept..end], "{options:?} back to {back}");
            }
            assert!(kept_some);
        }
    }
}

#[test]
fn forks_go_their_own_way() {
    let model = model();
    let ids = tokens(&model, 160, 9);
    for kind in [KvType::F32, KvType::B1] {
        let options = narrow(kind, 40, 4);
        let expected = run(&model, options, &ids, 64);
        let mut runner = Runner::new(&model, Kernels::best(), &Serial);
        let mut cache = KvCache::new(model.spec(), options, 2048).unwrap();
        runner.extend(&mut cache, &ids[..130], 64);
        let mut fork = cache.fork();
        runner.extend(&mut cache, &tokens(&model, 60, 10), 30);
        assert!(bits(&runner.extend(&mut fork, &ids[130..], 30)) == expected[130..]);
    }
}
