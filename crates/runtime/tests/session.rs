//! Sessions: the same bits however the work is divided, and requests that cannot be served.

mod common;

use std::ops::ControlFlow;

use common::{VOCAB, engine, model, session};
use onebit_kernels::Kernels;
use onebit_model::{Model, RopeScaling};
use onebit_runtime::sampling::{greedy, log_prob};
use onebit_runtime::{
    Engine, ErrorKind, MemoryKind, MemoryPlan, RuntimeError, Session, SessionOptions,
};

const PROMPT: [u32; 23] = [
    1, 77, 13, 400, 5, 5, 5, 321, 9, 18, 250, 251, 499, 0, 64, 65, 66, 3, 2, 1, 111, 222, 333,
];

/// Greedy tokens, and the bits of all logits on the way.
fn greedy_tokens(session: &mut Session, prompt: &[u32], count: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut ids, mut bits) = (Vec::new(), Vec::new());
    let mut position = session.prefill(prompt).unwrap();
    loop {
        bits.extend(position.logits.iter().map(|x| x.to_bits()));
        let id = greedy(position.logits);
        ids.push(id);
        if ids.len() == count {
            return (ids, bits);
        }
        position = session.step(id).unwrap();
    }
}

fn serial(model: &std::sync::Arc<Model>) -> Engine {
    engine(model, Kernels::by_name("scalar").unwrap(), 1)
}

#[test]
fn logits_do_not_depend_on_threads_kernels_or_batches() {
    let model = model("llama3");
    let expected = greedy_tokens(&mut session(&serial(&model), 64, 64), &PROMPT, 12);
    assert!(
        expected
            .1
            .iter()
            .all(|&bits| f32::from_bits(bits).is_finite())
    );
    for &kernels in Kernels::available() {
        for threads in 1..=4 {
            let engine = engine(&model, kernels, threads);
            for batch in [1, 2, 7, 23, 64] {
                let found = greedy_tokens(&mut session(&engine, 64, batch), &PROMPT, 12);
                assert!(found == expected, "{} {threads} {batch}", kernels.name());
            }
        }
    }
}

#[test]
fn sessions_run_side_by_side() {
    let model = model("llama3");
    let shared = engine(&model, Kernels::best(), 2);
    let expected = greedy_tokens(&mut session(&serial(&model), 64, 64), &PROMPT, 12);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                assert!(greedy_tokens(&mut session(&shared, 64, 5), &PROMPT, 12) == expected);
            });
        }
    });
}

#[test]
fn truncated_and_forked_sessions_go_on_as_fresh_ones() {
    let model = model("llama3");
    let engine = serial(&model);
    let expected = greedy_tokens(&mut session(&engine, 64, 8), &PROMPT, 5);
    let mut detour = session(&engine, 64, 8);
    detour.prefill(&PROMPT[..10]).unwrap();
    detour.prefill(&[400, 401, 402]).unwrap();
    assert_eq!(detour.tokens().len(), 13);
    let mut fork = detour.fork().unwrap();
    for session in [&mut detour, &mut fork] {
        assert_eq!(session.keep_prefix(&PROMPT), 10);
        assert!(greedy_tokens(session, &PROMPT[10..], 5) == expected);
    }
    // A prompt that is there already: one token has to run again.
    detour.truncate(PROMPT.len());
    assert_eq!(detour.keep_prefix(&PROMPT), PROMPT.len() - 1);
    assert_eq!(detour.keep_prefix(&[]), 0);
    assert!(detour.tokens().is_empty());
}

#[test]
fn dynamic_angles_depend_on_the_prompt_but_not_on_its_batches() {
    let dynamic = |original_max_positions| {
        let mut spec = common::spec();
        spec.rope.scaling = RopeScaling::Dynamic {
            factor: 4.0,
            original_max_positions,
        };
        serial(&common::model_of("llama3", &spec))
    };
    let plain = greedy_tokens(&mut session(&serial(&model("llama3")), 64, 64), &PROMPT, 5);
    let long = greedy_tokens(&mut session(&dynamic(64), 64, 64), &PROMPT, 5);
    assert!(long == plain, "nothing changes up to the original length");

    let engine = dynamic(12);
    let expected = greedy_tokens(&mut session(&engine, 64, 64), &PROMPT, 5);
    assert!(expected != plain);
    for batch in [1, 2, 7, 23] {
        let found = greedy_tokens(&mut session(&engine, 64, batch), &PROMPT, 5);
        assert!(found == expected, "{batch}");
    }
    // Tokens that come one by one have angles of their own.
    let mut stepped = session(&engine, 64, 64);
    PROMPT[..22].iter().for_each(|&id| {
        stepped.step(id).unwrap();
    });
    assert!(greedy_tokens(&mut stepped, &PROMPT[22..], 5) != expected);
    // A longer conversation is read anew.
    assert_eq!(stepped.keep_prefix(&PROMPT), 0);
    assert!(greedy_tokens(&mut stepped, &PROMPT, 5) == expected);
    // A prompt that was given up leaves no trace.
    let mut given_up = session(&engine, 64, 64);
    given_up.prefill(&PROMPT[..3]).unwrap();
    let stopped = given_up.prefill_while(&PROMPT[3..], |_| ControlFlow::Break(()));
    assert!(stopped.unwrap().is_none());
    let mut fresh = session(&engine, 64, 64);
    fresh.prefill(&PROMPT[..3]).unwrap();
    let bits = |position: onebit_runtime::Position<'_>| {
        position
            .logits
            .iter()
            .map(|x| x.to_bits())
            .collect::<Vec<_>>()
    };
    assert!(bits(given_up.step(9).unwrap()) == bits(fresh.step(9).unwrap()));
    // Short ones keep what they share.
    assert_eq!(fresh.keep_prefix(&PROMPT[..12]), 3);
}

#[test]
fn prefill_can_be_stopped_between_batches() {
    let model = model("llama3");
    let mut session = session(&serial(&model), 64, 4);
    let stop_at = |at| {
        move |done| {
            if done >= at {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    };
    assert!(
        session
            .prefill_while(&PROMPT, stop_at(8))
            .unwrap()
            .is_none()
    );
    assert_eq!(session.tokens(), &PROMPT[..8]);
    assert!(
        session
            .prefill_while(&PROMPT[8..], stop_at(99))
            .unwrap()
            .is_some()
    );
    assert_eq!(session.tokens(), PROMPT);
}

#[test]
fn scores_are_those_of_single_steps() {
    let model = model("llama3");
    let engine = engine(&model, Kernels::best(), 2);
    let mut steps = session(&engine, 64, 64);
    let mut expected = Vec::new();
    for pair in PROMPT.windows(2) {
        let position = steps.step(pair[0]).unwrap();
        expected.push(log_prob(position.logits, pair[1]).unwrap());
    }
    for logits_rows in [1, 3, 16, 64] {
        let options = SessionOptions {
            logits_rows,
            ..*steps.options()
        };
        let mut session = engine.session(options).unwrap();
        let mut rows = 0;
        let scores = session.score(&PROMPT, |index, logits| {
            assert_eq!((index, logits.len()), (rows, VOCAB));
            rows += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(scores.unwrap(), expected, "{logits_rows}");
        assert_eq!((rows, session.tokens()), (PROMPT.len(), &PROMPT[..]));
    }
    let mut early = engine.session(*steps.options()).unwrap();
    let stop = |index, _: &[f32]| {
        if index == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    assert_eq!(early.score(&PROMPT, stop).unwrap(), expected[..3]);
    let mut one = engine.session(*steps.options()).unwrap();
    assert!(
        one.score(&[5], |_, _| ControlFlow::Continue(()))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn requests_out_of_bounds_change_nothing() {
    let model = model("llama3");
    let mut session = session(&serial(&model), 10, 4);
    session.prefill(&PROMPT[..5]).unwrap();
    let refused = |result: Result<(), RuntimeError>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        error.to_string()
    };
    let mut prefill = |ids: &[u32]| {
        let text = refused(session.prefill(ids).map(|_| ()));
        assert_eq!(session.tokens(), &PROMPT[..5]);
        text
    };
    assert_eq!(prefill(&[]), "the prompt is empty");
    assert_eq!(
        prefill(&PROMPT[..6]),
        "11 tokens do not fit a context of 10"
    );
    let message = prefill(&[1, 2, 3, 4, VOCAB as u32]);
    assert!(message.contains(&VOCAB.to_string()), "{message}");
    for id in 0..5 {
        session.step(id).unwrap();
    }
    assert_eq!(session.remaining(), 0);
    refused(session.step(1).map(|_| ()));

    let engine = session.engine().clone();
    for (context, batch) in [(0, 4), (4, 0)] {
        let options = SessionOptions {
            context,
            batch,
            ..*session.options()
        };
        refused(engine.session(options).map(|_| ()));
    }
    let huge = SessionOptions {
        context: usize::MAX,
        ..*session.options()
    };
    assert!(engine.session(huge).is_err());
}

#[test]
fn contexts_follow_the_model() {
    let mut spec = common::spec();
    let context = |spec: &onebit_model::ModelSpec| SessionOptions::new(spec).context;
    assert_eq!(context(&spec), 256);
    spec.max_positions = 131_072;
    assert_eq!(context(&spec), 2048);
    assert_eq!(
        SessionOptions::new(&spec).context(0, &spec).context,
        131_072
    );
    assert_eq!(SessionOptions::new(&spec).context(77, &spec).context, 77);
}

#[test]
fn plans_add_up() {
    let model = model("llama3");
    let options = SessionOptions::new(model.spec());
    let plan = MemoryPlan::new(&model, &options).unwrap();
    let bytes = |name: &str| {
        plan.items
            .iter()
            .find(|item| item.name == name)
            .unwrap()
            .bytes
    };
    // 2 layers x 2 kv heads x 256 positions x 16 numbers x 2 bytes, keys and values.
    assert_eq!(bytes("kv cache"), 2 * 2 * 256 * 16 * 2 * 2);
    assert_eq!(
        plan.total(),
        plan.of_kind(MemoryKind::File) + plan.of_kind(MemoryKind::Anonymous)
    );
    let stored = ["layers", "embeddings", "header and texts"].map(bytes);
    assert_eq!(stored.iter().sum::<u64>(), model.file().file_len());
    let larger = SessionOptions {
        context: 512,
        ..options
    };
    assert!(MemoryPlan::new(&model, &larger).unwrap().total() > plan.total());
    let absurd = SessionOptions {
        context: usize::MAX / 4,
        ..options
    };
    let error = MemoryPlan::new(&model, &absurd).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Memory);
}
