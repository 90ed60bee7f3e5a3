//! Many tokens: sizes around the edges of panels, tiles and groups of tokens.

use onebit_format::{Layout, SIGN_GROUP};
use onebit_kernels::{I8GroupRows, I8Rows, Input, TileMut, oracle};
use proptest::prelude::*;

use crate::chosen::sets;
use crate::common::{Matrix, Random, assert_same, sums_of_groups};
use crate::memory::{Skewed, assert_exact};

/// Activations in buffers of exact length that start `skew` bytes in.
struct Activations {
    data: Skewed<i8>,
    stride: usize,
    scales: Vec<f32>,
    sums: Box<[i32]>,
    multipliers: Vec<f32>,
    group_sums: Box<[i32]>,
    groups: usize,
}

impl Activations {
    fn new(matrix: &Matrix, tokens: usize, skew: usize, mut code: impl FnMut(usize) -> i8) -> Self {
        let (cols, stride) = (matrix.cols, matrix.layout.padded_cols(matrix.cols).unwrap());
        let mut data = vec![0; tokens * stride];
        let mut sums: Vec<i32> = vec![];
        for row in data.chunks_exact_mut(stride) {
            row[..cols]
                .iter_mut()
                .enumerate()
                .for_each(|(k, x)| *x = code(k));
            sums.push(row.iter().map(|x| i32::from(*x)).sum());
        }
        let groups = cols.div_ceil(SIGN_GROUP);
        let rows = data.chunks_exact(stride);
        let group_sums = rows.flat_map(|row| sums_of_groups(row, groups)).collect();
        let multiplier = |i| 0.01 + (i * 7 % 23) as f32 / 64.0;
        Self {
            data: Skewed::new(skew, &data),
            stride,
            scales: (0..tokens).map(|t| 0.3 + t as f32).collect(),
            sums: sums.into(),
            multipliers: (0..tokens * groups).map(multiplier).collect(),
            group_sums,
            groups,
        }
    }

    fn by_token(&self) -> Input<'_> {
        assert_exact(&self.scales);
        assert_exact(&self.sums);
        Input::I8(I8Rows::new(
            &self.data,
            self.stride,
            &self.scales,
            &self.sums,
        ))
    }

    fn by_group(&self) -> Input<'_> {
        assert_exact(&self.multipliers);
        assert_exact(&self.group_sums);
        let x = I8GroupRows::new(
            &self.data,
            self.stride,
            &self.multipliers,
            &self.group_sums,
            self.groups,
        );
        Input::I8Groups(x)
    }
}

/// Compares rows from `first` on, on every set, with the reference.
fn check(matrix: &Matrix, first: usize, x: Input<'_>) {
    let w = matrix.view();
    let (rows, tokens) = (first..w.rows(), x.tokens());
    let expected = oracle::matmul(&w, rows.clone(), x);
    for set in sets() {
        // Beside each other with a gap, which must stay as it was.
        let stride = rows.len() + 3;
        let mut out = vec![f32::INFINITY; tokens * stride];
        let mut tile = TileMut::strided(&mut out, tokens, rows.len(), stride);
        set.matmul(&w, rows.clone(), x, &mut tile);
        for (found, expected) in out.chunks(stride).zip(expected.chunks(rows.len())) {
            let what = format!("{} {w:?} rows {rows:?} x {tokens}", set.name());
            assert_same(&found[..rows.len()], expected, what);
            assert!(found[rows.len()..].iter().all(|x| *x == f32::INFINITY));
        }
    }
}

/// Checks a layout with all scales and activations it takes.
fn check_layout(
    layout: Layout,
    [rows, cols, tokens]: [usize; 3],
    first: usize,
    skew: usize,
    random: &mut Random,
) {
    let matrix = Matrix::random(layout, rows, cols, random);
    let x = Activations::new(&matrix, tokens, skew, |_| random.next() as i8);
    check(&matrix, first, x.by_token());
    if layout.group() == Some(SIGN_GROUP) {
        check(&matrix, first, x.by_group());
        let matrix = matrix.grouped(SIGN_GROUP, random);
        check(&matrix, first, x.by_token());
        check(&matrix, first, x.by_group());
    }
}

fn integer_layouts() -> Vec<Layout> {
    let all = Layout::ALL.iter().copied();
    all.filter(|layout| !layout.is_float()).collect()
}

#[test]
fn tokens_around_every_tile() {
    let mut random = Random(21);
    for layout in integer_layouts() {
        for tokens in (2..=12)
            .chain(24..=44)
            .chain([47, 48, 49, 97, 128, 129, 256, 257])
        {
            check_layout(layout, [18, 130, tokens], 0, 0, &mut random);
        }
    }
}

#[test]
fn rows_and_columns_around_every_panel() {
    let mut random = Random(22);
    for layout in integer_layouts() {
        for rows in [1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 193] {
            check_layout(layout, [rows, 65, 40], 0, 1, &mut random);
        }
        for cols in [1, 511, 512, 513, 640, 1025] {
            check_layout(layout, [19, cols, 37], 2, 0, &mut random);
        }
        check_layout(layout, [260, 1100, 33], 131, 7, &mut random);
        check_layout(layout, [70, 1100, 270], 0, 0, &mut random);
    }
}

/// Few tokens read bands of four parts of the rows by turns, and one more of the first parts where they do not divide.
#[test]
fn bands_of_four_quarters() {
    let mut random = Random(24);
    for layout in [Layout::T2R16, Layout::T5R5, Layout::B1R64] {
        let band = layout.atom_rows();
        for tokens in 1..=7 {
            for rows in [4 * band, 5 * band, 9 * band + 3, 11 * band] {
                check_layout(layout, [rows, 300, tokens], 0, 1, &mut random);
                check_layout(layout, [rows, 128, tokens], band / 2 + 1, 0, &mut random);
            }
        }
    }
}

#[test]
fn extremes_in_bands_of_four_quarters() {
    let mut random = Random(25);
    for layout in [Layout::T2R16, Layout::B1R64] {
        for (byte, code) in [(0xff, -128), (0xff, 127), (0xaa, -128), (0, -128)] {
            for tokens in 1..=4 {
                let rows = 5 * layout.atom_rows();
                let mut matrix = Matrix::random(layout, rows, 384, &mut random);
                matrix.bytes.fill(byte);
                let x = Activations::new(&matrix, tokens, 0, |_| code);
                check(&matrix, 0, x.by_token());
                check(&matrix, 0, x.by_group());
                let matrix = matrix.grouped(SIGN_GROUP, &mut random);
                check(&matrix, 0, x.by_token());
                check(&matrix, 0, x.by_group());
            }
        }
    }
}

#[test]
fn extreme_codes_and_activations() {
    let mut random = Random(23);
    let patterns: [fn(usize) -> i8; 4] = [
        |_| 127,
        |_| -128,
        |k| if k % 2 == 0 { 127 } else { -128 },
        |k| if k / 4 % 2 == 0 { 127 } else { -128 },
    ];
    for layout in integer_layouts() {
        for byte in [0x00, 0xff, 0xaa, 0x80, 0x7f] {
            for pattern in patterns {
                let mut matrix = Matrix::random(layout, 17, 1536, &mut random);
                matrix.bytes.fill(byte);
                let x = Activations::new(&matrix, 34, 0, pattern);
                check(&matrix, 0, x.by_token());
                if layout.group() == Some(SIGN_GROUP) {
                    check(&matrix, 0, x.by_group());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_size(
        layout in prop::sample::select(integer_layouts()),
        rows in 1usize..150,
        cols in 1usize..700,
        tokens in 2usize..70,
        skew in 0usize..64,
        seed: u64,
    ) {
        check_layout(layout, [rows, cols, tokens], rows / 3, skew, &mut Random(seed));
    }
}
