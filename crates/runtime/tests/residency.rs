//! Weights that are locked, or pass through memory: the same bits as those in memory.

mod common;

use std::sync::Arc;

use common::{engine, mapped_model, model_of, session, spec};
use onebit_kernels::Kernels;
use onebit_model::{Model, ModelSpec};
use onebit_runtime::{
    ErrorKind, Mapper, Room, RuntimeError, SessionOptions, Streamer, lock_weights,
};

const PROMPT: [u32; 9] = [1, 77, 13, 400, 5, 5, 321, 9, 18];

fn deep() -> ModelSpec {
    ModelSpec {
        layers: 6,
        ..spec()
    }
}

/// The bits of all logits of a prompt and ten tokens after it.
fn bits(model: &Arc<Model>, threads: usize) -> Vec<u32> {
    let engine = engine(model, Kernels::best(), threads);
    let mut session = session(&engine, 64, 4);
    let mut bits: Vec<u32> = Vec::new();
    let add = |bits: &mut Vec<u32>, logits: &[f32]| bits.extend(logits.iter().map(|x| x.to_bits()));
    add(&mut bits, session.prefill(&PROMPT).unwrap().logits);
    for id in 100..110 {
        add(&mut bits, session.step(id).unwrap().logits);
    }
    bits
}

#[test]
fn streamed_weights_give_the_same_bits() {
    let expected = bits(&model_of("llama3", &deep()), 1);
    let (_folder, model) = mapped_model("llama3", &deep());
    let total: u64 = model
        .stages()
        .iter()
        .flatten()
        .map(|range| range.len() as u64)
        .sum();
    drop(model);
    for (room, threads) in [(0, 1), (total / 2, 3), (total * 3 / 4, 2), (total, 3)] {
        let (_folder, model) = mapped_model("llama3", &deep());
        let streamer = Arc::new(Streamer::new(&model, Room::fixed(room)).unwrap());
        assert_eq!(streamer.streamed_bytes() == 0, room == total);
        assert!(room < total / 2 || streamer.streamed_bytes() <= total);
        let model = Arc::new(model.with_residency(streamer));
        assert_eq!(bits(&model, threads), expected, "{room} of {total} bytes");
    }
}

#[test]
fn weights_entered_ahead_give_the_same_bits() {
    let expected = bits(&model_of("llama3", &deep()), 1);
    let (_folder, model) = mapped_model("llama3", &deep());
    let mapper = Arc::new(Mapper::new(&model));
    let model = Arc::new(model.with_residency(mapper));
    assert_eq!(bits(&model, 2), expected);
    assert_eq!(bits(&model, 1), expected, "entered before");
}

#[test]
fn sessions_may_share_streamed_weights() {
    let (_folder, model) = mapped_model("llama3", &deep());
    let streamer = Streamer::new(&model, Room::fixed(0)).unwrap();
    let model = Arc::new(model.with_residency(Arc::new(streamer)));
    let expected = bits(&model, 1);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(bits(&model, 1), expected));
        }
    });
}

#[test]
fn room_is_what_the_limits_leave() {
    let model = model_of("llama3", &spec());
    let options = SessionOptions::new(model.spec());
    let Some(room) = Room::beside(&model, &options, &onebit_runtime::Budget::of_machine()) else {
        if cfg!(target_os = "linux") {
            panic!("Linux says how much memory there is");
        }
        eprintln!("skipped because this system does not say how much memory there is");
        return;
    };
    assert!(room.bytes() > 0);
    assert_eq!(Room::fixed(7).bytes(), 7);
}

#[test]
fn locked_weights_give_the_same_bits() {
    let (_folder, model) = mapped_model("llama3", &spec());
    match lock_weights(model.file()) {
        Ok(()) => assert_eq!(
            bits(&Arc::new(model), 2),
            bits(&model_of("llama3", &spec()), 1)
        ),
        Err(error @ RuntimeError::CannotLock) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            eprintln!("skipped because {error}");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Memory);
            eprintln!("skipped because {error}");
        }
    }
}
