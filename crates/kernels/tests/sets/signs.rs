//! Signs, ternary codes and int8 by groups: quantizers, and products of ternary and binary matrices.

use onebit_format::{Layout, SIGN_GROUP};
use onebit_kernels::{BitRows, I8GroupRows, I8Rows, Input, Kernels, TileMut, oracle};
use proptest::prelude::*;

use crate::chosen::sets;
use crate::common::{Matrix, Random, assert_same, sums_of_groups};
use crate::memory::{Skewed, assert_exact};

const LENGTHS: &[usize] = &[
    1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 511, 512, 513, 700, 2560,
];
const TOKENS: usize = 9;
const ROWS: usize = 11;

/// Compares a product on every set, for every number of tokens and some ranges of rows.
fn check<'a>(matrix: &Matrix, what: &str, x: impl Fn(usize) -> Input<'a>) {
    let w = matrix.view();
    let all = oracle::matmul(&w, 0..w.rows(), x(TOKENS));
    for set in sets() {
        for tokens in 1..=TOKENS {
            for rows in [0..w.rows(), 1..w.rows(), 3..8, 2..3, 4..4] {
                let mut out = vec![f32::NAN; tokens * rows.len()];
                let mut tile = TileMut::whole(&mut out, tokens, rows.len());
                set.matmul(&w, rows.clone(), x(tokens), &mut tile);
                let expected: Vec<f32> = (0..tokens)
                    .flat_map(|t| all[t * w.rows()..][rows.clone()].iter().copied())
                    .collect();
                let name = format!("{what}: {} {} {rows:?} x {tokens}", set.name(), w.layout());
                assert_same(&out, &expected, name);
            }
        }
    }
}

/// Signs of several tokens, as bits and as codes, starting `skew` bytes into their buffers.
struct Signs {
    /// Those of the first token, of the first two, and so on.
    bits: Vec<Skewed<u8>>,
    bit_stride: usize,
    codes: Vec<i8>,
    stride: usize,
    /// The first, the first two, and so on.
    scales: Vec<Box<[f32]>>,
    sums: Box<[i32]>,
}

impl Signs {
    /// Garbage past the last column, which must take no part.
    fn new(cols: usize, skew: usize, random: &mut Random) -> Self {
        let stride = Layout::B1.padded_cols(cols).unwrap();
        let bit_stride = stride / 8 + skew % 5;
        let bits = random.bytes(TOKENS * bit_stride);
        let mut codes = vec![0; TOKENS * stride];
        let mut sums: Vec<i32> = vec![];
        for (row, bits) in codes.chunks_mut(stride).zip(bits.chunks(bit_stride)) {
            row[..cols].copy_from_slice(&oracle::signs(bits, cols));
            sums.push(row.iter().map(|&q| i32::from(q)).sum());
        }
        let first = |tokens: usize| Skewed::new(skew, &bits[..tokens * bit_stride]);
        let scales = |tokens: usize| (0..tokens).map(|t| 0.3 + t as f32).collect();
        Self {
            bits: (1..=TOKENS).map(first).collect(),
            bit_stride,
            codes,
            stride,
            scales: (1..=TOKENS).map(scales).collect(),
            sums: sums.into(),
        }
    }

    fn bits(&self, tokens: usize) -> Input<'_> {
        let (bits, scales) = (&self.bits[tokens - 1], &self.scales[tokens - 1]);
        assert_exact(scales);
        Input::Bits(BitRows::new(bits, self.bit_stride, scales))
    }

    fn codes(&self) -> Input<'_> {
        let (scales, sums) = (&self.scales[TOKENS - 1], &self.sums);
        assert_exact(&self.codes);
        Input::I8(I8Rows::new(&self.codes, self.stride, scales, sums))
    }
}

fn check_bits(matrix: &Matrix, skew: usize, random: &mut Random) {
    let signs = Signs::new(matrix.cols, skew, random);
    check(matrix, "signs", |tokens| signs.bits(tokens));
    let w = matrix.view();
    assert_same(
        &oracle::matmul(&w, 0..w.rows(), signs.bits(TOKENS)),
        &oracle::matmul(&w, 0..w.rows(), signs.codes()),
        "signs as bits and as codes",
    );
    for set in sets() {
        let mut out = vec![0.0; TOKENS * w.rows()];
        let mut tile = TileMut::whole(&mut out, TOKENS, w.rows());
        set.matmul(&w, 0..w.rows(), signs.codes(), &mut tile);
        let expected = oracle::matmul(&w, 0..w.rows(), signs.bits(TOKENS));
        assert_same(&out, &expected, format!("{} codes", set.name()));
    }
}

/// Int8 activations by group.
fn check_groups(matrix: &Matrix, extra: usize, mut code: impl FnMut(usize) -> i8) {
    let cols = matrix.cols;
    let groups = cols.div_ceil(SIGN_GROUP) + extra;
    let stride = matrix.layout.padded_cols(cols).unwrap() + extra;
    let mut data = vec![0; TOKENS * stride];
    for row in data.chunks_exact_mut(stride) {
        row[..cols]
            .iter_mut()
            .enumerate()
            .for_each(|(k, x)| *x = code(k));
    }
    let multipliers: Vec<f32> = (0..TOKENS * groups)
        .map(|i| 0.01 + (i * 7 % 23) as f32 / 64.0)
        .collect();
    let sums: Vec<i32> = data
        .chunks_exact(stride)
        .flat_map(|row| sums_of_groups(row, groups))
        .collect();
    let first = |tokens: usize| {
        let multipliers = Box::<[f32]>::from(&multipliers[..tokens * groups]);
        let sums = Box::<[i32]>::from(&sums[..tokens * groups]);
        (
            Skewed::new(extra, &data[..tokens * stride]),
            multipliers,
            sums,
        )
    };
    let firsts: Vec<_> = (1..=TOKENS).map(first).collect();
    check(matrix, "groups", |tokens| {
        let (data, multipliers, sums) = &firsts[tokens - 1];
        assert_exact(multipliers);
        assert_exact(sums);
        Input::I8Groups(I8GroupRows::new(data, stride, multipliers, sums, groups))
    });
}

fn sign_layouts() -> [Layout; 4] {
    [Layout::T2, Layout::T2R16, Layout::B1, Layout::B1R64]
}

#[test]
fn xnor_products() {
    let mut random = Random(1);
    for &cols in LENGTHS {
        let matrix = Matrix::random(Layout::B1, ROWS, cols, &mut random);
        check_bits(&matrix, cols % 3, &mut random);
        check_bits(&matrix.grouped(SIGN_GROUP, &mut random), 0, &mut random);
    }
    let wide = Matrix::random(Layout::B1, 4, 1 << 16, &mut random);
    let signs = Signs::new(1 << 16, 0, &mut random);
    let expected = oracle::matmul(&wide.view(), 0..4, signs.bits(1));
    for set in sets() {
        let mut out = vec![0.0; 4];
        let mut tile = TileMut::whole(&mut out, 1, 4);
        set.matmul(&wide.view(), 0..4, signs.bits(1), &mut tile);
        assert_same(&out, &expected, set.name());
    }
}

#[test]
fn all_bits_equal_or_different() {
    let mut random = Random(2);
    for cols in [512, 600, 4096] {
        for (byte, sign) in [(0xff, 1.0), (0, -1.0)] {
            let mut matrix = Matrix::random(Layout::B1, 5, cols, &mut random);
            matrix.bytes.fill(byte);
            let bits = vec![0xff; cols.next_multiple_of(512) / 8];
            assert_exact(&bits);
            let x = Input::Bits(BitRows::new(&bits, bits.len(), &[1.0]));
            for set in sets() {
                let mut out = vec![0.0; 5];
                set.matmul(&matrix.view(), 0..5, x, &mut TileMut::whole(&mut out, 1, 5));
                assert_eq!(out, [sign * cols as f32 * 0.75; 5], "{}", set.name());
            }
        }
    }
}

#[test]
fn int8_by_groups() {
    let mut random = Random(3);
    for layout in sign_layouts() {
        for &cols in LENGTHS {
            let matrix = Matrix::random(layout, ROWS, cols, &mut random);
            check_groups(&matrix, 0, |_| random.next() as i8);
            let matrix = matrix.grouped(SIGN_GROUP, &mut random);
            check_groups(&matrix, 3, |_| random.next() as i8);
        }
    }
}

#[test]
fn int8_by_groups_at_the_extremes() {
    let mut random = Random(4);
    for layout in sign_layouts() {
        for byte in [0x00, 0xff, 0x55, 0xaa] {
            let mut matrix = Matrix::random(layout, ROWS, 1024, &mut random);
            matrix.bytes.fill(byte);
            let matrix = matrix.grouped(SIGN_GROUP, &mut random);
            check_groups(&matrix, 0, |_| -128);
            check_groups(&matrix, 0, |k| if k % 2 == 0 { 127 } else { -128 });
        }
    }
}

/// Floats of both signs, with zeros of both signs and values near the ternary thresholds.
fn values(n: usize, random: &mut Random) -> Vec<f32> {
    let mut next = || match random.next() % 6 {
        0 => 0.0,
        1 => -0.0,
        2 => random.unit() * 1e-20,
        3 => (random.unit() * 8.0).round() / 2.0,
        _ => random.unit() * 3.0,
    };
    (0..n).map(|_| next()).collect()
}

fn check_quantizers(set: &Kernels, x: &[f32]) {
    let n = x.len();
    let name = set.name();
    assert_exact(x);
    let (expected, quant) = oracle::quantize_sign(x);
    let mut q = vec![7; n + 33];
    let found = set.quantize_sign(x, &mut q);
    assert_eq!(q[..n], expected, "{name} signs");
    assert!(q[n..].iter().all(|&q| q == 0), "{name} padding");
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    assert!(
        same(found.scale, quant.scale) && found.sum == quant.sum,
        "{name}"
    );

    let mut bits = vec![0xa5; n.next_multiple_of(512) / 8 + 5];
    let scale = set.quantize_bits(x, &mut bits);
    assert!(same(scale, quant.scale), "{name}");
    let ones: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
    let positive = expected.iter().filter(|&&q| q == 1).count();
    assert_eq!(ones as usize, positive, "{name}: bits past the row are 0");
    if !scale.is_nan() {
        assert_eq!(oracle::signs(&bits, n), expected, "{name} bits");
    }

    let (expected, quant) = oracle::quantize_ternary(x);
    let found = set.quantize_ternary(x, &mut q);
    assert_eq!(q[..n], expected, "{name} ternary");
    assert!(
        same(found.scale, quant.scale) && found.sum == quant.sum,
        "{name}"
    );

    let groups = n.div_ceil(SIGN_GROUP);
    let (mut multipliers, mut sums) = (vec![0.0; groups], vec![7; groups]);
    q.fill(7);
    set.quantize_i8_groups(x, &mut q, &mut multipliers, &mut sums);
    assert!(q[n..].iter().all(|&q| q == 0), "{name} padding");
    let groups = x.chunks(SIGN_GROUP).zip(q.chunks(SIGN_GROUP));
    for ((x, q), (multiplier, sum)) in groups.zip(multipliers.iter().zip(sums)) {
        let (expected, quant) = oracle::quantize_i8(x);
        assert_eq!(q[..x.len()], expected, "{name} groups");
        assert!(same(*multiplier, 1.0 / quant.scale), "{name} groups");
        assert_eq!(sum, quant.sum, "{name} groups");
    }
}

#[test]
fn quantizers() {
    let mut random = Random(5);
    for set in sets() {
        for &n in LENGTHS {
            check_quantizers(set, &values(n, &mut random));
            check_quantizers(set, &vec![0.0; n]);
            check_quantizers(set, &vec![-1e-30; n]);
            check_quantizers(set, &vec![f32::MAX; n]);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = values(n, &mut random);
                x[n / 2] = bad;
                check_quantizers(set, &x);
            }
        }
        check_quantizers(set, &[]);
    }
}

#[test]
fn ternary_ties_go_to_even() {
    // The mean magnitude is 1, so that 0.5 and -0.5 lie on the threshold and 1.5 beyond the end.
    let x = [0.5, -0.5, 1.5, -1.5];
    for set in sets() {
        let mut q = [9; 4];
        assert_eq!(set.quantize_ternary(&x, &mut q).scale, 1.0);
        assert_eq!(q, [0, 0, 1, -1], "{}", set.name());
    }
}

#[test]
fn a_row_that_is_not_finite_gives_nan() {
    let mut random = Random(6);
    let matrix = Matrix::random(Layout::B1, 5, 300, &mut random);
    let grouped = Matrix::random(Layout::B1, 5, 300, &mut random).grouped(128, &mut random);
    let mut x = random.floats(300);
    x[299] = f32::NAN;
    for set in sets() {
        let (mut bits, mut q, mut multipliers) = ([0; 64], [0; 512], [0.0; 3]);
        let mut sums = [0; 3];
        let scale = [set.quantize_bits(&x, &mut bits)];
        set.quantize_i8_groups(&x, &mut q, &mut multipliers, &mut sums);
        for matrix in [&matrix, &grouped] {
            for x in [
                Input::Bits(BitRows::new(&bits, 64, &scale)),
                Input::I8Groups(I8GroupRows::new(&q, 512, &multipliers, &sums, 3)),
            ] {
                let mut out = vec![0.0; 5];
                set.matmul(&matrix.view(), 0..5, x, &mut TileMut::whole(&mut out, 1, 5));
                assert!(out.iter().all(|y| y.is_nan()), "{} {out:?}", set.name());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_matrix(
        layout in prop::sample::select(sign_layouts().to_vec()),
        rows in 9usize..20,
        cols in 1usize..1400,
        grouped: bool,
        skew in 0usize..9,
        seed: u64,
    ) {
        let mut random = Random(seed);
        let mut matrix = Matrix::random(layout, rows, cols, &mut random);
        if grouped {
            matrix = matrix.grouped(SIGN_GROUP, &mut random);
        }
        if layout == Layout::B1 {
            check_bits(&matrix, skew, &mut random);
        }
        check_groups(&matrix, skew, |_| random.next() as i8);
    }

    #[test]
    fn quantize_anything(bits in prop::collection::vec(any::<u32>(), 0..600), small: bool) {
        let float = |&b: &u32| if small { b as i32 as f32 / 65536.0 } else { f32::from_bits(b) };
        let x: Vec<f32> = bits.iter().map(float).collect();
        for set in sets() {
            check_quantizers(set, &x);
        }
    }
}
