//! Products of every layout on every kernel set of this machine, and the float parts.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use onebit_benches::{Activations, Matrix, floats};
use onebit_format::Layout;
use onebit_kernels::{Activation, Kernels, TileMut, oracle, padded_stride};

const ROWS: usize = 256;
const COLS: usize = 2560;

fn matmul(c: &mut Criterion) {
    for tokens in [1, 8] {
        let mut group = c.benchmark_group(format!("matmul {ROWS} x {COLS}, {tokens} tokens"));
        for &layout in Layout::ALL {
            let (matrix, x) = (
                Matrix::random(layout, ROWS, COLS),
                Activations::random(tokens, COLS),
            );
            let (view, input) = (matrix.view(), x.input(layout));
            let expected = oracle::matmul(&view, 0..ROWS, input);
            let mut out = vec![0.0; tokens * ROWS];
            group.throughput(Throughput::Bytes(matrix.byte_len() as u64));
            for &set in Kernels::available() {
                set.matmul(
                    &view,
                    0..ROWS,
                    input,
                    &mut TileMut::whole(&mut out, tokens, ROWS),
                );
                assert_eq!(out, expected, "{} {}", layout.name(), set.name());
                let mut run = || {
                    set.matmul(
                        &view,
                        0..ROWS,
                        input,
                        &mut TileMut::whole(&mut out, tokens, ROWS),
                    )
                };
                group.bench_function(BenchmarkId::new(layout.name(), set.name()), |b| {
                    b.iter(&mut run)
                });
            }
        }
        group.finish();
    }
}

fn float_parts(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("rows of {COLS}"));
    group.throughput(Throughput::Elements(COLS as u64));
    let (x, weight, ones) = (floats(COLS), vec![1.0; COLS], vec![1.0; COLS]);
    let scalar = Kernels::by_name("scalar").expect("every machine has it");
    let mut expected = (vec![0.0; COLS], vec![0; padded_stride(COLS)], x.clone());
    scalar.rms_norm(&x, &weight, 1e-5, &mut expected.0);
    scalar.quantize_i8(&x, &mut expected.1);
    scalar.gate(Activation::Silu, &mut expected.2, &ones);
    for &set in Kernels::available() {
        let (mut normed, mut codes, mut gated) =
            (vec![0.0; COLS], vec![0; padded_stride(COLS)], x.clone());
        set.rms_norm(&x, &weight, 1e-5, &mut normed);
        set.quantize_i8(&x, &mut codes);
        set.gate(Activation::Silu, &mut gated, &ones);
        assert_eq!(
            (&normed, &codes, &gated),
            (&expected.0, &expected.1, &expected.2),
            "{}",
            set.name()
        );

        group.bench_function(BenchmarkId::new("rms_norm", set.name()), |b| {
            b.iter(|| set.rms_norm(&x, &weight, 1e-5, &mut normed));
        });
        group.bench_function(BenchmarkId::new("quantize_i8", set.name()), |b| {
            b.iter(|| set.quantize_i8(&x, &mut codes));
        });
        group.bench_function(BenchmarkId::new("silu", set.name()), |b| {
            b.iter(|| {
                gated.copy_from_slice(&x);
                set.gate(Activation::Silu, &mut gated, &ones);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, matmul, float_parts);
criterion_main!(benches);
