//! Matrices times float activations.

use onebit_format::Layout;
use onebit_kernels::{F32Rows, Input, TileMut, oracle};
use proptest::prelude::*;

use crate::chosen::sets;
use crate::common::{Matrix, Random, assert_same};
use crate::memory::Skewed;

const TOKENS: usize = 9;

/// Checks every set and number of tokens against the reference, with activations that start `skew`
/// floats into their buffer.
fn check(matrix: &Matrix, skew: usize, random: &mut Random) {
    let w = matrix.view();
    let stride = w.padded_cols() + skew % 3;
    let mut data = vec![0.0; TOKENS * stride];
    for row in data.chunks_exact_mut(stride) {
        row[..w.cols()].copy_from_slice(&random.floats(w.cols()));
    }
    let first = |tokens: usize| Skewed::new(skew, &data[..tokens * stride]);
    let firsts: Vec<_> = (1..=TOKENS).map(first).collect();
    let x = |tokens: usize| Input::F32(F32Rows::new(&firsts[tokens - 1], stride, tokens));
    let all = oracle::matmul(&w, 0..w.rows(), x(TOKENS));
    for set in sets() {
        for tokens in 1..=TOKENS {
            for rows in [0..w.rows(), 1..w.rows(), 3..8, 2..3] {
                let what = format!("{} {} rows {rows:?} x {tokens}", set.name(), w.layout());
                let mut out = vec![f32::NAN; tokens * rows.len()];
                let mut tile = TileMut::whole(&mut out, tokens, rows.len());
                set.matmul(&w, rows.clone(), x(tokens), &mut tile);
                let expected: Vec<f32> = (0..tokens)
                    .flat_map(|t| all[t * w.rows()..][rows.clone()].iter().copied())
                    .collect();
                assert_same(&out, &expected, what);
            }
        }
    }
}

#[test]
fn sizes_around_every_edge() {
    let mut random = Random(1);
    for &layout in Layout::ALL {
        for cols in [
            1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 257, 513, 1000,
        ] {
            check(
                &Matrix::random(layout, 17, cols, &mut random),
                0,
                &mut random,
            );
        }
    }
}

#[test]
fn group_scales() {
    let mut random = Random(2);
    for layout in [Layout::T2, Layout::T2R16, Layout::B1, Layout::B1R64] {
        let matrix = Matrix::random(layout, 9, 300, &mut random).grouped(128, &mut random);
        check(&matrix, 0, &mut random);
    }
}

#[test]
fn close_to_exact() {
    let mut random = Random(3);
    for layout in [Layout::F16, Layout::BF16, Layout::F32] {
        let matrix = Matrix::random(layout, 4, 2560, &mut random);
        let w = matrix.view();
        let x = random.floats(2560);
        for row in 0..4 {
            let values = oracle::values(&w, row);
            let terms = values
                .iter()
                .zip(&x)
                .map(|(w, x)| f64::from(*w) * f64::from(*x));
            let exact: f64 = terms.sum();
            let found = f64::from(oracle::product_f32(&values, &x));
            assert!(
                (found - exact).abs() < 1e-4,
                "{layout}: {found} and {exact}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_matrix(
        layout in prop::sample::select(Layout::ALL),
        rows in 8usize..20,
        cols in 1usize..700,
        skew in 0usize..16,
        seed: u64,
    ) {
        let mut random = Random(seed);
        check(&Matrix::random(layout, rows, cols, &mut random), skew, &mut random);
    }
}
