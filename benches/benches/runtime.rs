//! The demo model, end to end.

use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onebit_benches::demo_folder;
use onebit_runtime::{Engine, SessionOptions, Tokenizer, sampling::greedy};

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the held-out stories are there")
}

fn demo(c: &mut Criterion) {
    let engine = Engine::open(demo_folder().join("demo.onebit")).expect("the demo model opens");
    let tokenizer = Tokenizer::from_packed(engine.model().file()).expect("it has a tokenizer");
    let stories = text(&demo_folder().join("heldout.txt"));
    let ids = tokenizer.encode(&stories[..4000], true).expect("encodes");
    assert_eq!(
        tokenizer.decode(&ids, true).expect("decodes"),
        stories[..4000]
    );
    c.bench_function("tokenize 4,000 characters", |b| {
        b.iter(|| tokenizer.encode(&stories[..4000], true))
    });

    let options = SessionOptions::new(engine.model().spec());
    let mut session = engine.session(options).expect("a session");
    let prompt = &ids[..256];
    let mut group = c.benchmark_group("demo model");
    group.throughput(Throughput::Elements(prompt.len() as u64));
    let expected: Vec<f32> = session.prefill(prompt).expect("prefill").logits.to_vec();
    group.bench_function("prefill 256", |b| {
        b.iter(|| {
            session.truncate(0);
            let position = session.prefill(prompt).expect("prefill");
            assert_eq!(position.logits, expected);
        });
    });

    let first = greedy(&expected);
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode at 256", |b| {
        b.iter(|| {
            session.truncate(256);
            session.step(first).expect("a step").tokens.len()
        });
    });
    group.finish();
}

criterion_group!(benches, demo);
criterion_main!(benches);
