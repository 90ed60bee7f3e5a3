//! Nothing is allocated per token, on any thread.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use common::{engine, mapped_model, model, session};
use onebit_kernels::{Executor, Kernels};
use onebit_model::Model;
use onebit_runtime::{Budget, Room, Sampler, SamplingOptions, SessionOptions, Streamer};

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a count of what is asked of it.
struct Counting;

// SAFETY: every call goes to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer comes from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The only test of this binary, so that no other thread allocates while it counts.
#[test]
fn steps_allocate_nothing() {
    steps_of(&model("llama3"));
    let (_folder, mapped) = mapped_model("llama3", &common::spec());
    let streamer = Streamer::new(&mapped, Room::fixed(0)).unwrap();
    steps_of(&Arc::new(mapped.with_residency(Arc::new(streamer))));
    let (_folder, mapped) = mapped_model("llama3", &common::spec());
    let options = SessionOptions::new(mapped.spec());
    if let Some(room) = Room::beside(&mapped, &options, &Budget::of_machine()) {
        let streamer = Streamer::new(&mapped, room).unwrap();
        steps_of(&Arc::new(mapped.with_residency(Arc::new(streamer))));
    }
}

fn steps_of(model: &Arc<Model>) {
    let engine = engine(model, Kernels::best(), 3);
    // A thread allocates as it starts, so all are made to take a part first.
    let started = Barrier::new(3);
    engine.pool().run(3, &|_| {
        started.wait();
    });
    let mut session = session(&engine, 128, 16);
    let options = SamplingOptions {
        repetition_penalty: 1.1,
        ..SamplingOptions::default()
    };
    let mut sampler = Sampler::new(options, common::VOCAB).unwrap();
    let mut before = 0;
    for round in 0..3 {
        session.truncate(0);
        let position = session.prefill(&[5; 40]).unwrap();
        let mut id = sampler.sample(position.logits, position.tokens).unwrap();
        for _ in 0..80 {
            let position = session.step(id).unwrap();
            id = sampler.sample(position.logits, position.tokens).unwrap();
        }
        if round == 0 {
            // Locks and buffers have set themselves up by now.
            before = COUNT.load(Ordering::SeqCst);
        }
    }
    assert_eq!(COUNT.load(Ordering::SeqCst) - before, 0);
}
