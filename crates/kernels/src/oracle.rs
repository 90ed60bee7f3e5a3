//! The naive reference: what every kernel is tested against.
//!
//! Loops over [`MatrixRef::code`] and [`MatrixRef::value`] in the most obvious order; integer sums
//! in `i64`. Where floats are added, the order is the one the kernels promise, spelled out.
//!
//! Slow, and meant for tests and for reading.

use std::ops::Range;

use onebit_format::{MatrixRef, SIGN_GROUP, Scales};

use crate::input::{Input, RowQuant};

/// The codes of a row.
pub fn codes(w: &MatrixRef<'_>, row: usize) -> Vec<i64> {
    (0..w.cols()).map(|k| w.code(row, k).into()).collect()
}

/// The exact sum of `codes[k] * x[k]`; what follows in `x` is padding.
pub fn sum(codes: &[i64], x: &[i8]) -> i64 {
    let x = &x[..codes.len()];
    codes.iter().zip(x).map(|(w, x)| w * i64::from(*x)).sum()
}

/// The 16 lanes added as the kernels do: `(l, l + 8)`, `(l, l + 4)`, `(l, l + 2)`, `(l, l + 1)`.
pub fn tree_sum(mut lanes: [f32; 16]) -> f32 {
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
    }
    lanes[0]
}

/// A row of weights, taken apart once for all tokens.
enum Row<'a> {
    Codes(MatrixRef<'a>, usize, Vec<i64>),
    Values(Vec<f32>),
}

impl<'a> Row<'a> {
    fn new(w: &MatrixRef<'a>, row: usize, x: Input<'_>) -> Self {
        match x {
            Input::F32(_) => Self::Values(values(w, row)),
            _ => Self::Codes(*w, row, codes(w, row)),
        }
    }

    /// Its product with token `t`.
    fn product(&self, x: Input<'_>, t: usize) -> f32 {
        match (self, x) {
            (Self::Codes(w, row, codes), Input::I8(x)) => {
                scaled(w, *row, codes, x.row(t), x.scale(t))
            }
            (Self::Codes(w, row, codes), Input::Bits(x)) => {
                scaled(w, *row, codes, &signs(x.row(t), w.cols()), x.scale(t))
            }
            (Self::Codes(w, row, codes), Input::I8Groups(x)) => {
                let multipliers = x.multipliers(t);
                grouped(w, *row, codes, x.row(t), SIGN_GROUP, |g| multipliers[g])
            }
            (Self::Values(values), Input::F32(x)) => product_f32(values, x.row(t)),
            _ => unreachable!("rows are made for their input"),
        }
    }
}

/// A product with int8 activations of scale `x_scale`.
fn scaled(w: &MatrixRef<'_>, row: usize, codes: &[i64], x: &[i8], x_scale: f32) -> f32 {
    match w.scales() {
        Scales::Tensor(scale) => sum(codes, x) as f32 * (scale / x_scale),
        Scales::Rows(scales) => sum(codes, x) as f32 * (scales[row] / x_scale),
        Scales::Groups { size } => grouped(w, row, codes, x, size, |_| 1.0) * (1.0 / x_scale),
        Scales::None => panic!("float layouts take float activations"),
    }
}

/// Per group an exact sum; between groups `f32`, in order.
fn grouped(
    w: &MatrixRef<'_>,
    row: usize,
    codes: &[i64],
    x: &[i8],
    size: usize,
    multiplier: impl Fn(usize) -> f32,
) -> f32 {
    let mut y = 0.0f32;
    let x = x[..codes.len()].chunks(size);
    for (g, (codes, x)) in codes.chunks(size).zip(x).enumerate() {
        y = (sum(codes, x) as f32).mul_add(w.scale(row, g * size) * multiplier(g), y);
    }
    y
}

/// The codes -1 and 1 of activations stored as bits, for `cols` columns.
pub fn signs(bits: &[u8], cols: usize) -> Vec<i8> {
    let bit = |k: usize| bits[k / 512 * 64 + k % 64] >> (k % 512 / 64) & 1;
    (0..cols).map(|k| 2 * bit(k) as i8 - 1).collect()
}

/// The weights of a row.
pub fn values(w: &MatrixRef<'_>, row: usize) -> Vec<f32> {
    (0..w.cols()).map(|k| w.value(row, k)).collect()
}

/// One element of a product with float activations: lane `k % 16`, one rounding per column.
pub fn product_f32(values: &[f32], x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for (k, value) in values.iter().enumerate() {
        lanes[k % 16] = value.mul_add(x[k], lanes[k % 16]);
    }
    tree_sum(lanes)
}

/// [`Kernels::matmul`](crate::Kernels::matmul): one row of `rows.len()` products per token.
pub fn matmul(w: &MatrixRef<'_>, rows: Range<usize>, x: Input<'_>) -> Vec<f32> {
    let rows: Vec<_> = rows.map(|row| Row::new(w, row, x)).collect();
    let of_token = |t| rows.iter().map(move |row| row.product(x, t));
    (0..x.tokens()).flat_map(of_token).collect()
}

/// [`Kernels::quantize_i8`](crate::Kernels::quantize_i8).
pub fn quantize_i8(x: &[f32]) -> (Vec<i8>, RowQuant) {
    if x.iter().any(|x| !x.is_finite()) {
        return (
            vec![0; x.len()],
            RowQuant {
                scale: f32::NAN,
                sum: 0,
            },
        );
    }
    let absmax = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let scale = 127.0 / absmax.max(1e-5);
    let code = |x: &f32| (x * scale).round_ties_even().clamp(-128.0, 127.0) as i8;
    let q: Vec<i8> = x.iter().map(code).collect();
    let sum = q.iter().map(|&q| i32::from(q)).sum();
    (q, RowQuant { scale, sum })
}

/// [`Kernels::quantize_sign`](crate::Kernels::quantize_sign).
pub fn quantize_sign(x: &[f32]) -> (Vec<i8>, RowQuant) {
    by_mean(x, |x, _| if x >= 0.0 { 1 } else { -1 })
}

/// [`Kernels::quantize_ternary`](crate::Kernels::quantize_ternary).
pub fn quantize_ternary(x: &[f32]) -> (Vec<i8>, RowQuant) {
    by_mean(x, |x, scale| {
        (x * scale).round_ties_even().clamp(-1.0, 1.0) as i8
    })
}

/// Codes from values and the reciprocal of their mean magnitude, which is summed in 16 lanes.
fn by_mean(x: &[f32], code: impl Fn(f32, f32) -> i8) -> (Vec<i8>, RowQuant) {
    let mut lanes = [0.0f32; 16];
    for (k, x) in x.iter().enumerate() {
        lanes[k % 16] += x.abs();
    }
    let mean = tree_sum(lanes) / x.len().max(1) as f32;
    if !mean.is_finite() {
        let (scale, sum) = (f32::NAN, 0);
        return (vec![0; x.len()], RowQuant { scale, sum });
    }
    let scale = 1.0 / mean.max(1e-5);
    let q: Vec<i8> = x.iter().map(|&x| code(x, scale)).collect();
    let sum = q.iter().map(|&q| i32::from(q)).sum();
    (q, RowQuant { scale, sum })
}

/// [`Kernels::rms_norm`](crate::Kernels::rms_norm).
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut lanes = [0.0f32; 16];
    for (k, x) in x.iter().enumerate() {
        lanes[k % 16] = x.mul_add(*x, lanes[k % 16]);
    }
    let factor = 1.0 / (tree_sum(lanes) / x.len() as f32 + eps).sqrt();
    x.iter().zip(weight).map(|(x, w)| x * factor * w).collect()
}

/// A cache row of `bits` bits a number, as it is read back: the nearest odd numbers times the scale; see
/// [`KvType`](crate::KvType).
pub fn packed_row(x: &[f32], bits: usize) -> Vec<f32> {
    if x.iter().any(|x| !x.is_finite()) {
        return vec![f32::NAN; x.len()];
    }
    let mean = |of: fn(f32) -> f32| {
        let mut lanes = [0.0f32; 16];
        for (k, x) in x.iter().enumerate() {
            lanes[k % 16] += of(*x);
        }
        tree_sum(lanes) / x.len() as f32
    };
    let scale = match bits {
        4 => x.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 15.0,
        2 => 0.498 * mean(|x| x * x).sqrt(),
        1 => mean(f32::abs),
        _ => panic!("no rows of {bits} bits"),
    };
    let scale = if scale < f32::MIN_POSITIVE {
        0.0
    } else {
        scale
    };
    let scale = half::bf16::from_f32(scale).min(half::bf16::MAX).to_f32();
    let largest = (1 << bits) - 1;
    let factor = if scale == 0.0 { 0.0 } else { 0.5 / scale };
    let code = |x: f32| {
        let place = (x * factor + (1 << (bits - 1)) as f32).floor();
        2 * place.clamp(0.0, largest as f32) as i32 - largest
    };
    x.iter().map(|&x| code(x) as f32 * scale).collect()
}

/// [`Kernels::rotate`](crate::Kernels::rotate) by the definition of the matrix, in `f64`.
pub fn rotate(head: &[f32]) -> Vec<f64> {
    let mut out = Vec::new();
    while out.len() < head.len() {
        let rest = &head[out.len()..];
        let size = 1 << rest.len().ilog2();
        for row in 0..size {
            let sign = |column: usize| 1.0 - 2.0 * ((row & column).count_ones() % 2) as f64;
            let sum: f64 = (0..size).map(|k| sign(k) * f64::from(rest[k])).sum();
            out.push(sum / (size as f64).sqrt());
        }
    }
    out
}

/// Attention of one head in `f64`, which the kernels approximate: rows are `head_dim` long, one per
/// position attended to.
pub fn attend(q: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>], scale: f32) -> Vec<f64> {
    let dot = |k: &Vec<f32>| {
        q.iter()
            .zip(k)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    };
    let scores: Vec<f64> = keys
        .iter()
        .map(dot)
        .map(|s: f64| s * f64::from(scale))
        .collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut out = vec![0.0; q.len()];
    for (weight, value) in weights.iter().zip(values) {
        for (out, &v) in out.iter_mut().zip(value) {
            *out += weight / total * f64::from(v);
        }
    }
    out
}
