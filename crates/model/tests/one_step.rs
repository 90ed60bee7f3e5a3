//! Long steps, and caches that last for one of them.

mod common;

use std::ops::ControlFlow;

use common::run::{Backwards, Runner, bits, rows, tokens};
use common::{Recipe, shapes};
use onebit_kernels::{Kernels, Serial};
use onebit_model::{ErrorKind, KvCache, KvOptions, KvType, Model, ModelError, Step, Workspace};

const CONTEXT: usize = 256;

/// All logits of `ids`, from one step that takes `at_once` rows through a layer at a time.
fn one_step(model: &Model, options: KvOptions, ids: &[u32], at_once: usize) -> Vec<Vec<u32>> {
    let (kernels, executor) = (Kernels::best(), &Backwards(3));
    let mut workspace = Workspace::for_long_steps(model, CONTEXT, at_once, 5).unwrap();
    let mut cache = KvCache::for_one_step(model.spec(), options, CONTEXT).unwrap();
    let step = Step {
        rows: &rows(0, 0, ids),
        caches: &mut [&mut cache],
        logits_for: &[],
        hidden: false,
    };
    model
        .forward(kernels, executor, &mut workspace, step)
        .unwrap();
    assert_eq!(cache.len(), ids.len());
    let all: Vec<usize> = (0..ids.len()).collect();
    let mut logits = Vec::new();
    for wanted in all.chunks(5.min(at_once)) {
        let output = model
            .logits(kernels, executor, &mut workspace, wanted)
            .unwrap();
        logits.extend((0..wanted.len()).map(|i| output.logits(i).to_vec()));
    }
    bits(&logits)
}

fn step_by_step(model: &Model, options: KvOptions, ids: &[u32]) -> Vec<Vec<u32>> {
    let mut runner = Runner::new(model, Kernels::best(), &Serial);
    let mut cache = KvCache::new(model.spec(), options, CONTEXT).unwrap();
    bits(&runner.extend(&mut cache, ids, 50))
}

#[test]
fn one_step_gives_what_a_kept_cache_gives() {
    for (name, recipe) in shapes::all() {
        let model = recipe.model(3);
        let ids = tokens(&model, 150, 1);
        for &kind in KvType::ALL {
            let expected = step_by_step(&model, kind.into(), &ids);
            let found = one_step(&model, kind.into(), &ids, 64);
            assert!(found == expected, "{name} {kind:?}");
        }
    }
}

#[test]
fn rows_may_be_cut_anywhere_and_windows_narrowed() {
    for recipe in [
        shapes::bitnet(),
        shapes::windowed(),
        shapes::windowed_at_both_ends(),
    ] {
        let model = recipe.model(4);
        let ids = tokens(&model, 201, 2);
        for kind in [KvType::F16, KvType::Q2] {
            for window in [None, Some(40)] {
                let options = KvOptions {
                    window,
                    recent: 16,
                    ..kind.into()
                };
                let expected = step_by_step(&model, options, &ids);
                for at_once in [1, 10, 67, CONTEXT] {
                    let found = one_step(&model, options, &ids, at_once);
                    assert!(found == expected, "{options:?}, {at_once} at once");
                }
            }
        }
    }
}

#[test]
fn a_second_step_is_refused_until_the_cache_is_empty() {
    let model = shapes::bitnet().model(5);
    let ids = tokens(&model, 20, 3);
    let mut runner = Runner::new(&model, Kernels::best(), &Serial);
    let mut cache = KvCache::for_one_step(model.spec(), KvType::F16, 64).unwrap();
    let elsewhere = runner.step(&rows(0, 3, &ids), &mut [&mut cache]);
    assert!(matches!(elsewhere, Err(ModelError::Position { .. })));
    let expected = bits(&runner.extend(&mut cache, &ids, 20));
    for first in [20, 0] {
        let error = runner
            .step(&rows(0, first, &ids[..2]), &mut [&mut cache])
            .unwrap_err();
        assert!(matches!(error, ModelError::OneStep), "{error}");
        assert_eq!(error.kind(), ErrorKind::Request);
    }
    let mut fork = cache.fork();
    let error = runner.step(&rows(0, 20, &ids[..2]), &mut [&mut fork]);
    assert!(matches!(error, Err(ModelError::OneStep)));

    let mark = cache.mark();
    let unsupported = cache.write_rows(&mut Vec::new()).unwrap_err();
    assert_eq!(unsupported.kind(), std::io::ErrorKind::Unsupported);
    let error = cache.check_mark(model.spec(), &mark);
    assert!(matches!(error, Err(ModelError::OneStep)));

    // There is no going back to some of the tokens.
    assert_eq!(cache.truncate(20), 20);
    assert_eq!(cache.truncate(10), 0);
    assert!(bits(&runner.extend(&mut cache, &ids, 20)) == expected);
}

#[test]
fn an_interrupted_step_leaves_its_caches_empty() {
    let model = shapes::bitnet().model(6);
    let ids = tokens(&model, 30, 4);
    let mut runner = Runner::new(&model, Kernels::best(), &Serial);
    let mut cache = runner.cache(KvType::F32);
    runner.extend(&mut cache, &ids[..10], 10);
    let mut asked = Vec::new();
    let step = Step {
        rows: &rows(0, 10, &ids[10..]),
        caches: &mut [&mut cache],
        logits_for: &[0],
        hidden: false,
    };
    let output = model
        .forward_while(
            Kernels::best(),
            &Serial,
            &mut runner.workspace,
            step,
            &mut |layer| {
                asked.push(layer);
                match layer {
                    1 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            },
        )
        .unwrap();
    assert!(output.is_none() && cache.is_empty());
    assert_eq!(asked, [0, 1]);
    let none = model.logits(Kernels::best(), &Serial, &mut runner.workspace, &[0]);
    let none = none.map(|_| ()).unwrap_err();
    assert!(matches!(none, ModelError::LogitsRow { row: 0, rows: 0 }));
}

#[test]
fn long_steps_have_limits_too() {
    let model = shapes::bitnet().model(7);
    let ids = tokens(&model, 12, 5);
    let mut workspace = Workspace::for_long_steps(&model, 12, 4, 8).unwrap();
    let mut cache = KvCache::new(model.spec(), KvType::F16, 64).unwrap();
    let mut run = |logits_for: &[usize], hidden| {
        let step = Step {
            rows: &rows(0, 0, &ids),
            caches: &mut [&mut cache],
            logits_for,
            hidden,
        };
        let output = model.forward(Kernels::best(), &Serial, &mut workspace, step);
        output.map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(
        run(&[0, 1, 2, 3, 4], false),
        "5 rows of logits in one step: the workspace allows 1 to 4"
    );
    assert_eq!(
        run(&[], true),
        "12 rows of hidden states in one step: the workspace allows 1 to 4"
    );
}

/// The cache is that of one layer, of one per window where they differ; rows that wait take only what they carry.
#[test]
fn planned_sizes() {
    let spec = shapes::bitnet().spec;
    let whole = KvCache::bytes(&spec, KvType::Q4, 1024).unwrap();
    let one = KvCache::one_step_bytes(&spec, KvType::Q4, 1024).unwrap();
    assert_eq!(one * spec.layers, whole);
    let two = shapes::windowed_at_both_ends().spec;
    let kinds: std::collections::BTreeSet<_> = (0..two.layers).map(|i| two.window(i)).collect();
    let bytes = |spec| KvCache::one_step_bytes(spec, KvType::F16, 1024).unwrap();
    if kinds.len() > 1 {
        assert!(
            bytes(&two)
                > bytes(&onebit_model::ModelSpec {
                    windows: None,
                    ..two.clone()
                })
        );
    }
    assert_eq!(
        KvCache::one_step_bytes(&spec, KvType::F16, usize::MAX),
        None
    );

    let recipe: Recipe = shapes::bitnet();
    let forms = recipe.model(1).input_forms();
    let bytes = |rows, at_once| Workspace::long_steps_bytes(&spec, forms, [rows, at_once], 1);
    let waiting = 1000 * 4 * (spec.hidden + spec.head_dim);
    assert_eq!(
        bytes(1032, 32).unwrap(),
        Workspace::bytes(&spec, forms, 32, 1).unwrap() + waiting
    );
    assert_eq!(bytes(usize::MAX, 32), None);
}
