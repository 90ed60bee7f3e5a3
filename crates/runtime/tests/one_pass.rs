//! Scoring in one pass: the same bits as a session, in less memory.

mod common;

use std::ops::ControlFlow::{self, Break, Continue};

use common::{VOCAB, engine, model};
use onebit_kernels::{Kernels, KvType};
use onebit_model::{KvOptions, ModelError};
use onebit_runtime::{
    Engine, MemoryKind, MemoryParts, OnePass, RuntimeError, Session, SessionOptions,
};

fn options(kv: KvOptions) -> SessionOptions {
    SessionOptions {
        context: 200,
        batch: 24,
        logits_rows: 7,
        kv,
    }
}

fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|i| i * 37 % VOCAB as u32).collect()
}

/// Scores, and the bits of all logits.
type Scored = (Vec<f64>, Vec<u32>);

fn in_a_session(engine: &Engine, options: SessionOptions, ids: &[u32]) -> Scored {
    let mut bits = Vec::new();
    let mut session = Session::new(engine.clone(), options).unwrap();
    let scores = session.score(ids, |_, row| {
        bits.extend(row.iter().map(|x| x.to_bits()));
        Continue(())
    });
    (scores.unwrap(), bits)
}

fn in_one_pass(pass: &mut OnePass, ids: &[u32]) -> Scored {
    let (mut bits, mut next) = (Vec::new(), 0);
    let on_row = |index, row: &[f32]| {
        assert_eq!(index, next);
        next += 1;
        bits.extend(row.iter().map(|x| x.to_bits()));
        Continue(())
    };
    let scores = pass.score(ids, || Continue(()), on_row).unwrap().unwrap();
    (scores, bits)
}

#[test]
fn a_pass_gives_what_a_session_gives() {
    let model = model("llama3");
    for threads in [1, 3] {
        let engine = engine(&model, Kernels::best(), threads);
        let narrow = KvOptions {
            window: Some(40),
            ..KvType::Q8.into()
        };
        for kv in [
            KvType::F16.into(),
            KvType::Q4.into(),
            KvType::B1.into(),
            narrow,
        ] {
            let options = options(kv);
            let mut pass = OnePass::new(engine.clone(), options).unwrap();
            for count in [1, 150, 24, 200] {
                let ids = ids(count);
                let expected = in_a_session(&engine, options, &ids);
                let found = in_one_pass(&mut pass, &ids);
                assert!(found == expected, "{kv:?}, {count} tokens");
            }
        }
    }
}

#[test]
fn passes_can_be_left_early_and_begun_again() {
    let model = model("llama3");
    let engine = engine(&model, Kernels::best(), 2);
    let options = options(KvType::F16.into());
    let mut pass = OnePass::new(engine.clone(), options).unwrap();
    let ids = ids(60);
    let mut layers = 0;
    let stop_in_layers = || {
        layers += 1;
        if layers == 2 { Break(()) } else { Continue(()) }
    };
    let nothing = pass.score(&ids, stop_in_layers, |_, _| Continue(()));
    assert!(nothing.unwrap().is_none());
    let stop_in_rows =
        |index, _: &[f32]| -> ControlFlow<()> { if index == 9 { Break(()) } else { Continue(()) } };
    let some = pass.score(&ids, || Continue(()), stop_in_rows).unwrap();
    let all = in_a_session(&engine, options, &ids);
    assert_eq!(some.unwrap(), all.0[..10]);
    assert!(in_one_pass(&mut pass, &ids) == all);
}

#[test]
fn texts_that_cannot_be_scored_are_refused() {
    let model = model("llama3");
    let engine = engine(&model, Kernels::best(), 1);
    let options = options(KvType::F16.into());
    let mut pass = OnePass::new(engine.clone(), options).unwrap();
    let mut score = |ids: &[u32]| {
        let scores = pass.score(ids, || Continue(()), |_, _| Continue(()));
        scores.unwrap_err()
    };
    assert!(matches!(score(&[]), RuntimeError::EmptyPrompt));
    let long = score(&ids(201));
    let is_long = matches!(
        long,
        RuntimeError::ContextTooSmall {
            tokens: 201,
            context: 200
        }
    );
    assert!(is_long, "{long}");
    let unknown = score(&[1, VOCAB as u32]);
    assert!(matches!(
        unknown,
        RuntimeError::Model(ModelError::Token { .. })
    ));
    let none = SessionOptions {
        batch: 0,
        ..options
    };
    assert!(OnePass::new(engine.clone(), none).is_err());
    let none = SessionOptions {
        context: 0,
        ..options
    };
    assert!(OnePass::new(engine, none).is_err());
}

#[test]
fn the_plan_has_keys_and_values_of_one_layer() {
    let model = model("llama3");
    let options = SessionOptions {
        context: 4096,
        ..options(KvType::F16.into())
    };
    let parts = MemoryParts::of_model(&model);
    let kept = parts.plan(&options).unwrap();
    let pass = parts.one_pass().plan(&options).unwrap();
    let spec = model.spec();
    assert_eq!(
        pass.bytes("kv cache") * spec.layers as u64,
        kept.bytes("kv cache")
    );
    // Beside the batch there are the states and angles of all rows, the rows, and which of them want logits.
    let waiting = (4096 - options.batch) * 4 * (spec.hidden + spec.head_dim);
    let rows = 4096 * (24 + 8 - 4);
    assert_eq!(
        pass.bytes("scratch"),
        kept.bytes("scratch") + (waiting + rows) as u64
    );
    let own = |plan: &onebit_runtime::MemoryPlan| plan.of_kind(MemoryKind::File);
    assert_eq!(own(&pass), own(&kept));
}
