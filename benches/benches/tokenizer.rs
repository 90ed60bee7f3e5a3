//! The compact tokenizer, beside the library whose ids it gives.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onebit_benches::demo_folder;
use onebit_tokenizer::{Origin, build, load};

/// Bytes of text that are encoded.
const TEXT: usize = 20_000;

fn compact(c: &mut Criterion) {
    let json = demo_folder().join("checkpoint/tokenizer.json");
    let json = std::fs::read(json).expect("the demo model has a tokenizer");
    let text = demo_folder().join("heldout.txt");
    let text = std::fs::read_to_string(text).expect("the held-out stories are there");
    let text = &text[..text.floor_char_boundary(TEXT)];

    let blob = build(&json, &Default::default(), &Origin::default()).expect("representable");
    c.bench_function("build", |b| {
        b.iter(|| {
            let again = build(&json, &Default::default(), &Origin::default());
            assert_eq!(again.expect("representable"), blob);
        });
    });
    c.bench_function("load", |b| {
        b.iter(|| load(blob.clone()).expect("just built"))
    });

    let tokenizer = load(blob.clone()).expect("just built");
    let expected = tokenizer.encode_fast(text, false).expect("encodes");
    let decoded = tokenizer.decode(expected.get_ids(), false);
    assert_eq!(decoded.expect("decodes"), text);
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("held-out stories", |b| {
        b.iter(|| {
            let encoding = tokenizer.encode_fast(text, false).expect("encodes");
            assert_eq!(encoding.get_ids(), expected.get_ids());
        });
    });
    group.finish();
}

criterion_group!(benches, compact);
criterion_main!(benches);
