//! Converting the demo model's checkpoint.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onebit_benches::demo_folder;
use onebit_convert::{Options, convert};

fn demo(c: &mut Criterion) {
    let source = demo_folder().join("checkpoint");
    let weights = std::fs::metadata(source.join("model.safetensors")).expect("it has weights");
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("demo.onebit");
    let mut group = c.benchmark_group("convert the demo model");
    group.throughput(Throughput::Bytes(weights.len()));
    for name in ["auto", "dense"] {
        let mut options = Options::default();
        options.weights = name.parse().expect("a type of weights");
        options.force = true;
        convert(&source, &out, &options, &mut ()).expect("converts");
        let expected = std::fs::read(&out).expect("it was written");
        group.bench_function(name, |b| {
            b.iter(|| convert(&source, &out, &options, &mut ()).expect("converts"));
        });
        assert_eq!(std::fs::read(&out).expect("it was written"), expected);
    }
    group.finish();
}

criterion_group!(benches, demo);
criterion_main!(benches);
