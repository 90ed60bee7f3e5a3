//! Products that leave out what is multiplied by zero: listed rows, and transposed matrices.

use std::ops::Range;

use onebit_format::{Layout, MatrixRef, Scales, pack};
use onebit_kernels::{I8Rows, Input, TileMut, padded_stride};
use proptest::prelude::*;

use crate::chosen::sets;
use crate::common::{Matrix, Random, assert_same};
use crate::memory::{Bytes, assert_exact};

/// Enough for panels.
const TOKENS: usize = 33;

/// Activations of several tokens with a share of zeros.
struct Activations {
    codes: Box<[i8]>,
    stride: usize,
    scales: Box<[f32]>,
    sums: Box<[i32]>,
}

impl Activations {
    /// One code in `one_in` is not zero.
    fn new(cols: usize, one_in: u64, random: &mut Random) -> Self {
        let stride = padded_stride(cols);
        let mut codes = vec![0; TOKENS * stride];
        let mut sums: Vec<i32> = vec![];
        for row in codes.chunks_exact_mut(stride) {
            for x in &mut row[..cols] {
                if random.next().is_multiple_of(one_in) {
                    *x = [127, -128, random.next() as i8][random.next() as usize % 3];
                }
            }
            sums.push(row.iter().map(|x| i32::from(*x)).sum());
        }
        let scales = (0..TOKENS).map(|t| 0.3 + t as f32).collect();
        Self {
            codes: codes.into(),
            stride,
            scales,
            sums: sums.into(),
        }
    }

    /// The first tokens, with memory of their own.
    fn first(&self, tokens: usize) -> Self {
        Self {
            codes: self.codes[..tokens * self.stride].into(),
            stride: self.stride,
            scales: self.scales[..tokens].into(),
            sums: self.sums[..tokens].into(),
        }
    }

    fn rows(&self) -> I8Rows<'_> {
        assert_exact(&self.codes);
        assert_exact(&self.scales);
        assert_exact(&self.sums);
        I8Rows::new(&self.codes, self.stride, &self.scales, &self.sums)
    }
}

/// All products, by rows.
fn by_rows(set: &onebit_kernels::Kernels, w: &MatrixRef<'_>, x: I8Rows<'_>) -> Vec<f32> {
    let mut out = vec![0.0; TOKENS * w.rows()];
    let mut tile = TileMut::whole(&mut out, TOKENS, w.rows());
    set.matmul(w, 0..w.rows(), Input::I8(x), &mut tile);
    out
}

/// A ternary matrix and its transpose.
fn both_ways(rows: usize, cols: usize, random: &mut Random) -> [Bytes; 2] {
    let codes: Vec<i8> = (0..rows * cols)
        .map(|_| (random.next() % 3) as i8 - 1)
        .collect();
    let turned: Vec<i8> = (0..rows * cols)
        .map(|i| codes[i % rows * cols + i / rows])
        .collect();
    [(codes, cols), (turned, rows)].map(|(codes, cols)| {
        let row_bytes = Layout::T2.row_bytes(cols).unwrap();
        let mut bytes = Bytes::zeroed(codes.len() / cols * row_bytes);
        for (codes, out) in codes.chunks(cols).zip(bytes.chunks_exact_mut(row_bytes)) {
            pack::ternary_row(codes, out);
        }
        bytes
    })
}

/// The product of a transposed matrix and one token, by shares of the inputs.
fn by_shares(
    set: &onebit_kernels::Kernels,
    w: &MatrixRef<'_>,
    outputs: Range<usize>,
    x: I8Rows<'_>,
    of: usize,
) -> Vec<f32> {
    let width = outputs.len();
    let mut sums = vec![f32::NAN; of * width];
    for part in 0..of {
        let mut tile = TileMut::whole(&mut sums[part * width..][..width], 1, width);
        set.matmul_transposed_share(w, outputs.clone(), x, [part, of], &mut tile);
    }
    let (product, others) = sums.split_at_mut(width);
    set.join_shares(w, x, product, others);
    product.to_vec()
}

/// A transposed matrix gives what the matrix gives, for ranges of outputs around strips of 256.
fn check_transposed(rows: usize, cols: usize, one_in: u64, random: &mut Random) {
    let [straight, turned] = both_ways(rows, cols, random);
    let scale = Scales::Tensor(0.75);
    let straight = MatrixRef::new(Layout::T2, rows, cols, &straight, scale).unwrap();
    let turned = MatrixRef::new(Layout::T2, cols, rows, &turned, scale).unwrap();
    let x = Activations::new(cols, one_in, random);
    let (one, two) = (x.first(1), x.first(2));
    for set in sets() {
        let expected = by_rows(set, &straight, x.rows());
        let middle = rows / 2;
        for outputs in [
            0..rows,
            0..middle,
            middle..rows,
            rows - 1..rows,
            middle..middle,
        ] {
            for (tokens, x) in [(2, &two), (TOKENS, &x)] {
                let mut out = vec![f32::NAN; tokens * outputs.len()];
                let mut tile = TileMut::whole(&mut out, tokens, outputs.len());
                set.matmul_transposed(&turned, outputs.clone(), x.rows(), &mut tile);
                let expected: Vec<f32> = expected
                    .chunks(rows)
                    .take(tokens)
                    .flat_map(|row| row[outputs.clone()].to_vec())
                    .collect();
                let what = format!("{rows} x {cols}, 1 in {one_in}, {outputs:?} x {tokens}");
                assert_same(&out, &expected, format!("{} {what}", set.name()));
            }
            for of in [1, 2, 3, 8, 65] {
                let what = format!("{rows} x {cols}, 1 in {one_in}, {outputs:?} of {of} shares");
                let out = by_shares(set, &turned, outputs.clone(), one.rows(), of);
                assert_same(
                    &out,
                    &expected[outputs.clone()],
                    format!("{} {what}", set.name()),
                );
            }
        }
    }
}

#[test]
fn transposed_matrices_around_every_edge() {
    let mut random = Random(11);
    for rows in [
        1, 63, 64, 65, 255, 256, 257, 2047, 2048, 2049, 2560, 4095, 4097,
    ] {
        for cols in [1, 3, 64, 65, 300] {
            check_transposed(rows, cols, 2, &mut random);
        }
    }
}

#[test]
fn transposed_matrices_with_any_share_of_zeros() {
    let mut random = Random(12);
    for one_in in [1, 2, 5, 50, u64::MAX] {
        for cols in [64, 127, 128, 129, 700, 6912] {
            check_transposed(300, cols, one_in, &mut random);
        }
    }
}

#[test]
fn invalid_codes_of_a_transposed_matrix_are_harmless_and_the_same_everywhere() {
    let mut random = Random(13);
    let (rows, cols) = (300, 700);
    let mut bytes = Bytes::zeroed(cols * Layout::T2.row_bytes(rows).unwrap());
    bytes.fill(0xff);
    let w = MatrixRef::new(Layout::T2, cols, rows, &bytes, Scales::Tensor(1.0)).unwrap();
    let mut x = Activations::new(cols, 1, &mut random);
    for pattern in [127, -128] {
        for (row, sum) in x.codes.chunks_exact_mut(x.stride).zip(&mut x.sums) {
            row[..cols].fill(pattern);
            *sum = cols as i32 * i32::from(pattern);
        }
        for set in sets() {
            let mut out = vec![0.0; TOKENS * rows];
            let mut tile = TileMut::whole(&mut out, TOKENS, rows);
            set.matmul_transposed(&w, 0..rows, x.rows(), &mut tile);
            for (t, row) in out.chunks(rows).enumerate() {
                let expected = (2 * cols as i32 * i32::from(pattern)) as f32 * (1.0 / x.scales[t]);
                assert!(row.iter().all(|y| *y == expected), "{}", set.name());
            }
        }
    }
}

/// Listed rows give what all rows give.
fn check_listed(matrix: &Matrix, list: &[u32], x: &Activations) {
    let w = matrix.view();
    let list: &[u32] = &Box::<[u32]>::from(list);
    assert_exact(list);
    for set in sets() {
        let all = by_rows(set, &w, x.rows());
        let mut out = vec![f32::NAN; TOKENS * list.len()];
        let mut tile = TileMut::whole(&mut out, TOKENS, list.len());
        set.matmul_listed(&w, list, Input::I8(x.rows()), &mut tile);
        let expected: Vec<f32> = all
            .chunks(w.rows())
            .flat_map(|row| list.iter().map(|r| row[*r as usize]))
            .collect();
        let what = format!("{} {} rows {list:?}", set.name(), w.layout());
        assert_same(&out, &expected, what);
    }
}

#[test]
fn listed_rows_in_any_order() {
    let mut random = Random(14);
    for layout in [
        Layout::T2,
        Layout::T2R16,
        Layout::T5,
        Layout::T5R5,
        Layout::B1,
        Layout::B1R64,
        Layout::I8,
        Layout::I4,
    ] {
        for cols in [1, 255, 257, 320, 700] {
            let matrix = Matrix::random(layout, 40, cols, &mut random);
            let x = Activations::new(cols, 1, &mut random);
            for list in [
                vec![],
                vec![7],
                vec![39, 0, 5],
                vec![1, 2, 3, 39],
                (0..40).collect(),
                (0..40).rev().step_by(3).collect(),
                vec![4; 13],
            ] {
                check_listed(&matrix, &list, &x);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_transposed_matrix(
        rows in 1usize..1100,
        cols in 1usize..300,
        one_in in 1u64..12,
        seed: u64,
    ) {
        check_transposed(rows, cols, one_in, &mut Random(seed));
    }
}
