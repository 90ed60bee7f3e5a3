//! Integer matrices times many tokens: sets may take tiles or blocks of tokens that a few do not
//! fill.

use std::ops::Range;

use onebit_format::Layout;
use onebit_kernels::{I8Rows, TileMut, oracle};

use crate::chosen::sets;
use crate::common::{Matrix, Random};
use crate::memory::{Skewed, assert_exact};

const LAYOUTS: [Layout; 7] = [
    Layout::T2,
    Layout::T2R16,
    Layout::T5,
    Layout::T5R5,
    Layout::B1,
    Layout::B1R64,
    Layout::I8,
];

/// Compares the sums of every set with the reference, for activations `skew` bytes into their
/// buffer and of exact length.
fn check(matrix: &Matrix, rows: Range<usize>, tokens: usize, skew: usize, code: impl Fn() -> i8) {
    let w = matrix.view();
    let stride = w.padded_cols();
    let mut data = vec![0; tokens * stride];
    for row in data.chunks_mut(stride) {
        row[..w.cols()].fill_with(&code);
    }
    let data = Skewed::new(skew, &data);
    let row = |t: usize| &data[t * stride..][..stride];
    let scales = vec![1.0; tokens];
    let sums: Vec<i32> = (0..tokens)
        .map(|t| row(t).iter().map(|&x| i32::from(x)).sum())
        .collect();
    assert_exact(&sums);
    let x = I8Rows::new(&data, stride, &scales, &sums);

    // The output lies in a wider matrix, of which nothing else may be written.
    let width = rows.len() + 5;
    let mut expected = vec![-1; tokens * width];
    for (column, r) in rows.clone().enumerate() {
        let codes = oracle::codes(&w, r);
        for t in 0..tokens {
            expected[t * width + column] = oracle::sum(&codes, row(t)) as i32;
        }
    }
    for set in sets() {
        let mut out = vec![-1; tokens * width];
        let mut tile = TileMut::strided(&mut out, tokens, rows.len(), width);
        set.sums(&w, rows.clone(), x, &mut tile);
        let what = (set.name(), w.layout(), rows.clone(), w.cols(), tokens);
        assert!(out == expected, "{what:?}");
    }
}

fn random_codes(seed: u64) -> impl Fn() -> i8 {
    let random = std::cell::RefCell::new(Random(seed));
    move || random.borrow_mut().next() as i8
}

#[test]
fn tokens_around_every_edge() {
    let mut random = Random(1);
    for layout in LAYOUTS {
        let matrix = Matrix::random(layout, 40, 600, &mut random);
        for tokens in [15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65] {
            check(&matrix, 0..40, tokens, 0, random_codes(tokens as u64));
        }
    }
}

#[test]
fn rows_around_every_edge() {
    let mut random = Random(2);
    for layout in LAYOUTS {
        let matrix = Matrix::random(layout, 70, 300, &mut random);
        for rows in [
            0..1,
            0..16,
            1..18,
            3..34,
            0..32,
            37..70,
            2..66,
            16..50,
            48..67,
            69..70,
            9..9,
        ] {
            check(&matrix, rows, 21, 1, random_codes(3));
        }
    }
}

#[test]
fn columns_around_every_edge() {
    let mut random = Random(3);
    for layout in LAYOUTS {
        for cols in [1, 64, 511, 512, 513, 768, 1025, 2560] {
            let matrix = Matrix::random(layout, 35, cols, &mut random);
            check(&matrix, 0..35, 37, 63, random_codes(4));
        }
    }
}

#[test]
fn more_tokens_than_a_panel() {
    let mut random = Random(4);
    for layout in LAYOUTS {
        for (cols, tokens) in [(64, 300), (20_000, 70)] {
            let matrix = Matrix::random(layout, 3, cols, &mut random);
            check(&matrix, 0..3, tokens, 0, random_codes(5));
        }
    }
}

#[test]
fn extremes_do_not_overflow() {
    let mut random = Random(5);
    for layout in LAYOUTS {
        for (byte, code) in [
            (0x80, -128),
            (0x7f, -128),
            (0xaa, -128),
            (0xff, 127),
            (0, 127),
        ] {
            let mut matrix = Matrix::random(layout, 33, 16_384, &mut random);
            matrix.bytes.fill(byte);
            check(&matrix, 0..33, 18, 0, || code);
        }
    }
}
