//! Packing, decoding and opening.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onebit_benches::{Matrix, demo_folder, floats, ternary_codes};
use onebit_format::{Layout, PackedFile, pack};

const COLS: usize = 2560;

fn pack_rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("pack row");
    group.throughput(Throughput::Elements(COLS as u64));
    let (codes, values) = (ternary_codes(COLS), floats(COLS));
    let mut out = vec![0; Layout::T2.row_bytes(COLS).expect("small")];
    pack::ternary_row(&codes, &mut out);
    let packed = Matrix::random(Layout::T2, 1, COLS);
    let view = packed.view();
    assert!((0..COLS).all(|k| view.code(0, k) == i32::from(codes[k])));
    assert_eq!(out, view.row_bytes_of(0));
    group.bench_function("t2", |b| b.iter(|| pack::ternary_row(&codes, &mut out)));

    let mut out = vec![0; Layout::I8.row_bytes(COLS).expect("small")];
    let largest = values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    assert_eq!(pack::quantize_i8_row(&values, &mut out), largest / 127.0);
    group.bench_function("q8", |b| {
        b.iter(|| pack::quantize_i8_row(&values, &mut out))
    });
    group.finish();
}

fn decode_rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode row");
    group.throughput(Throughput::Elements(COLS as u64));
    for &layout in Layout::ALL {
        let matrix = Matrix::random(layout, 2, COLS);
        let view = matrix.view();
        let mut out = vec![0.0; COLS];
        view.decode_row(1, &mut out);
        assert!((0..COLS).all(|k| out[k] == view.value(1, k)));
        group.bench_function(layout.name(), |b| b.iter(|| view.decode_row(1, &mut out)));
    }
    group.finish();
}

fn open(c: &mut Criterion) {
    let path = demo_folder().join("demo.onebit");
    let file = PackedFile::open(&path).expect("the demo model opens");
    assert_eq!(file.meta().format_version, 1);
    c.bench_function("open the demo model", |b| {
        b.iter(|| PackedFile::open(&path))
    });
}

criterion_group!(benches, pack_rows, decode_rows, open);
criterion_main!(benches);
