//! Integer matrices times int8 activations.

use onebit_format::{Layout, Scales};
use onebit_kernels::{I8Rows, Input, TileMut, oracle, padded_stride};
use proptest::prelude::*;

use crate::chosen::sets;
use crate::common::{Matrix, Random, assert_same};
use crate::memory::{Skewed, assert_exact};

/// Around every tile edge of every layout and set.
const COLS: &[usize] = &[
    1, 63, 64, 65, 127, 128, 129, 255, 256, 257, 319, 320, 321, 511, 512, 513, 2560,
];
const ROWS: usize = 17;
const TOKENS: usize = 9;

/// Activations of several tokens, starting `skew` bytes into their buffer, of exact length.
struct Activations {
    data: Skewed<i8>,
    skew: usize,
    stride: usize,
    scales: Box<[f32]>,
    sums: Box<[i32]>,
}

impl Activations {
    fn new(cols: usize, stride: usize, skew: usize, mut code: impl FnMut(usize) -> i8) -> Self {
        let mut data = vec![0; TOKENS * stride];
        let mut sums: Vec<i32> = vec![];
        for t in 0..TOKENS {
            let row = &mut data[t * stride..][..cols];
            row.iter_mut()
                .enumerate()
                .for_each(|(k, x)| *x = code(k + t));
            sums.push(row.iter().map(|&x| i32::from(x)).sum());
        }
        let scales = (0..TOKENS).map(|t| 0.3 + t as f32).collect();
        Self {
            data: Skewed::new(skew, &data),
            skew,
            stride,
            scales,
            sums: sums.into(),
        }
    }

    /// The first tokens, with memory of their own.
    fn first(&self, tokens: usize) -> Self {
        Self {
            data: Skewed::new(self.skew, &self.data[..tokens * self.stride]),
            skew: self.skew,
            stride: self.stride,
            scales: self.scales[..tokens].into(),
            sums: self.sums[..tokens].into(),
        }
    }

    fn rows(&self) -> I8Rows<'_> {
        assert_exact(&self.scales);
        assert_exact(&self.sums);
        I8Rows::new(&self.data, self.stride, &self.scales, &self.sums)
    }
}

/// Row ranges that begin and end everywhere relative to blocks of four.
fn ranges(rows: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<_> = (1..=rows).map(|n| 0..n).collect();
    ranges.extend([3..rows, 5..9, 7..8, 4..4]);
    ranges
}

/// Checks every set, every number of tokens and many ranges of rows against the reference.
fn check(matrix: &Matrix, x: &Activations) {
    let w = matrix.view();
    let all = oracle::matmul(&w, 0..w.rows(), Input::I8(x.rows()));
    let firsts: Vec<Activations> = (1..=TOKENS).map(|tokens| x.first(tokens)).collect();
    for set in sets() {
        for (x, tokens) in firsts.iter().zip(1..) {
            for rows in ranges(w.rows()) {
                let what = format!(
                    "{} {} rows {rows:?} cols {} x {tokens}",
                    set.name(),
                    w.layout(),
                    w.cols()
                );
                let mut out = vec![f32::NAN; tokens * rows.len()];
                let mut tile = TileMut::whole(&mut out, tokens, rows.len());
                set.matmul(&w, rows.clone(), Input::I8(x.rows()), &mut tile);
                let expected: Vec<f32> = (0..tokens)
                    .flat_map(|t| all[t * w.rows()..][rows.clone()].iter().copied())
                    .collect();
                assert_same(&out, &expected, what);
            }
        }
    }
    check_sums(matrix, x);
}

/// Checks the exact sums before scaling, on every set.
fn check_sums(matrix: &Matrix, x: &Activations) {
    let w = matrix.view();
    if w.layout() == Layout::I4 || matches!(w.scales(), Scales::Groups { .. }) {
        return;
    }
    let codes: Vec<_> = (0..w.rows()).map(|r| oracle::codes(&w, r)).collect();
    for set in sets() {
        let mut out = vec![0; TOKENS * w.rows()];
        let mut tile = TileMut::whole(&mut out, TOKENS, w.rows());
        set.sums(&w, 0..w.rows(), x.rows(), &mut tile);
        for (t, found) in out.chunks(w.rows()).enumerate() {
            for (r, found) in found.iter().enumerate() {
                let expected = oracle::sum(&codes[r], x.rows().row(t));
                let what = (set.name(), w.layout(), r, t);
                assert_eq!(i64::from(*found), expected, "{what:?}");
            }
        }
    }
}

fn integer_layouts() -> impl Iterator<Item = Layout> {
    Layout::ALL
        .iter()
        .copied()
        .filter(|layout| !layout.is_float())
}

#[test]
fn sizes_around_every_edge() {
    let mut random = Random(1);
    for layout in integer_layouts() {
        for &cols in COLS {
            let matrix = Matrix::random(layout, ROWS, cols, &mut random);
            let stride = layout.padded_cols(cols).unwrap();
            let x = Activations::new(cols, stride, 0, |_| random.next() as i8);
            check(&matrix, &x);
        }
    }
}

#[test]
fn misaligned_and_widely_spaced_activations() {
    let mut random = Random(2);
    for layout in integer_layouts() {
        for (cols, skew, gap) in [(513, 1, 0), (300, 7, 33), (64, 31, 1)] {
            let matrix = Matrix::random(layout, ROWS, cols, &mut random);
            let stride = layout.padded_cols(cols).unwrap() + gap;
            check(
                &matrix,
                &Activations::new(cols, stride, skew, |_| random.next() as i8),
            );
        }
    }
}

#[test]
fn runs_of_extreme_activations() {
    let patterns: [fn(usize) -> i8; 4] = [
        |_| 127,
        |_| -128,
        |k| if k % 2 == 0 { 127 } else { -128 },
        |k| if k / 64 % 2 == 0 { 127 } else { -128 },
    ];
    let mut random = Random(3);
    for layout in integer_layouts() {
        for byte in [0x00, 0xff, 0x55, 0xaa, 0x80, 0x7f, 0x08] {
            for pattern in patterns {
                let mut matrix = Matrix::random(layout, 9, 2560, &mut random);
                matrix.bytes.fill(byte);
                let stride = layout.padded_cols(2560).unwrap();
                check(&matrix, &Activations::new(2560, stride, 0, pattern));
            }
        }
    }
}

#[test]
fn long_rows_do_not_overflow() {
    let cols = 16384;
    let mut random = Random(4);
    for layout in integer_layouts() {
        let stride = padded_stride(cols);
        let mut matrix = Matrix::random(layout, 9, cols, &mut random);
        matrix
            .bytes
            .fill(if layout == Layout::I8 { 0x80 } else { 0xaa });
        check(&matrix, &Activations::new(cols, stride, 0, |_| -128));
    }
}

#[test]
fn every_byte_of_five_codes_is_the_same_everywhere() {
    let mut random = Random(7);
    // Bands are five times as many weights; 4,096 columns are more than any sum in 16 bits is kept for.
    let cases = [
        (Layout::T5, 256, 320),
        (Layout::T5, 256, 65_536),
        (Layout::T5R5, 5 * 256, 320),
        (Layout::T5R5, 5 * 256, 4_096),
    ];
    for (layout, rows, cols) in cases {
        let mut matrix = Matrix::random(layout, rows, cols, &mut random);
        let len = matrix.bytes.len() / 256;
        for (byte, row) in matrix.bytes.chunks_exact_mut(len).enumerate() {
            row.fill(byte as u8);
        }
        let x = Activations::new(cols, padded_stride(cols), 0, |k| {
            if cols > 320 {
                -128
            } else {
                (k * 77) as u8 as i8
            }
        });
        check_sums(&matrix, &x);
    }
}

#[test]
fn group_scales_on_sign_layouts() {
    let mut random = Random(5);
    for layout in [Layout::T2, Layout::T2R16, Layout::B1, Layout::B1R64] {
        for cols in [1, 127, 128, 129, 512, 700] {
            let matrix = Matrix::random(layout, 9, cols, &mut random).grouped(128, &mut random);
            let stride = layout.padded_cols(cols).unwrap();
            check(
                &matrix,
                &Activations::new(cols, stride, 3, |_| random.next() as i8),
            );
        }
    }
}

#[test]
fn an_unusable_row_gives_nan_everywhere() {
    let mut random = Random(6);
    for layout in integer_layouts() {
        let matrix = Matrix::random(layout, 5, 100, &mut random);
        for set in sets() {
            let mut q = vec![1; 512];
            let quant = set.quantize_i8(&[f32::INFINITY; 100], &mut q);
            let (scale, sum) = ([quant.scale], [quant.sum]);
            let mut out = vec![0.0; 5];
            let x = Input::I8(I8Rows::new(&q, 512, &scale, &sum));
            set.matmul(&matrix.view(), 0..5, x, &mut TileMut::whole(&mut out, 1, 5));
            assert!(
                out.iter().all(|y| y.is_nan()),
                "{} {layout}: {out:?}",
                set.name()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_matrix(
        layout in prop::sample::select(integer_layouts().collect::<Vec<_>>()),
        rows in 9usize..24,
        cols in 1usize..1400,
        skew in 0usize..64,
        seed: u64,
    ) {
        let mut random = Random(seed);
        let matrix = Matrix::random(layout, rows, cols, &mut random);
        let stride = layout.padded_cols(cols).unwrap();
        check(&matrix, &Activations::new(cols, stride, skew, |_| random.next() as i8));
    }
}
