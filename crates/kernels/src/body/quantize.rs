//! Floats to fewer bits: int8, ternary and binary activations, queries, cache rows.

use onebit_format::SIGN_GROUP;

use crate::input::RowQuant;
use crate::sets::{MAX_SUMMED, Set, Vector};

/// The smallest absolute maximum, or mean of magnitudes, that a row is scaled by.
const MIN_MAGNITUDE: f32 = 1e-5;

/// What is said about a row that holds an infinity or NaN.
const UNUSABLE: RowQuant = RowQuant {
    scale: f32::NAN,
    sum: 0,
};

/// One row of activations to int8. Two passes:
///
/// 1. the largest magnitude, and a probe `0 x`, which is 0 unless `x` is infinite or NaN;
/// 2. `q = round_half_even(clamp(x * scale, -128, 127))`, multiplied, never divided, by the
///    correctly rounded `127 / absmax`.
#[inline(always)]
pub(crate) fn quantize_i8<S: Set>(s: S, x: &[f32], q: &mut [i8]) -> RowQuant {
    let (q, padding) = q.split_at_mut(x.len());
    padding.fill(0);
    let Some(absmax) = absmax(s, x) else {
        q.fill(0);
        return UNUSABLE;
    };
    let scale = 127.0 / absmax.max(MIN_MAGNITUDE);
    round(s, x, scale, [-128.0, 127.0], q);
    let sum = sum(s, q);
    RowQuant { scale, sum }
}

/// Each group of 128 columns as by [`quantize_i8`], with the multiplier that takes codes back and their sum.
#[inline(always)]
pub(crate) fn quantize_i8_groups<S: Set>(
    s: S,
    x: &[f32],
    q: &mut [i8],
    multipliers: &mut [f32],
    sums: &mut [i32],
) {
    let (q, padding) = q.split_at_mut(x.len());
    padding.fill(0);
    let groups = x.chunks(SIGN_GROUP).zip(q.chunks_mut(SIGN_GROUP));
    for ((x, q), (multiplier, sum)) in groups.zip(multipliers.iter_mut().zip(sums)) {
        let quant = quantize_i8(s, x, q);
        (*multiplier, *sum) = (1.0 / quant.scale, quant.sum);
    }
}

/// One row of activations to -1, 0 and 1: `round_half_even(clamp(x * scale, -1, 1))` with `scale` the
/// correctly rounded reciprocal of the mean magnitude.
#[inline(always)]
pub(crate) fn quantize_ternary<S: Set>(s: S, x: &[f32], q: &mut [i8]) -> RowQuant {
    let (q, padding) = q.split_at_mut(x.len());
    padding.fill(0);
    let Some(scale) = reciprocal_mean(s, x) else {
        q.fill(0);
        return UNUSABLE;
    };
    round(s, x, scale, [-1.0, 1.0], q);
    let sum = sum(s, q);
    RowQuant { scale, sum }
}

/// One row of activations to -1 and 1; zeros of either sign are 1.
#[inline(always)]
pub(crate) fn quantize_sign<S: Set>(s: S, x: &[f32], q: &mut [i8]) -> RowQuant {
    let (q, padding) = q.split_at_mut(x.len());
    padding.fill(0);
    let Some(scale) = reciprocal_mean(s, x) else {
        q.fill(0);
        return UNUSABLE;
    };
    for (q, x) in q.iter_mut().zip(x) {
        *q = if *x >= 0.0 { 1 } else { -1 };
    }
    let sum = sum(s, q);
    RowQuant { scale, sum }
}

/// The signs of a row as bits in the order of binary weights; returns the scale of
/// [`quantize_sign`].
#[inline(always)]
pub(crate) fn quantize_bits<S: Set>(s: S, x: &[f32], bits: &mut [u8]) -> f32 {
    bits.fill(0);
    let Some(scale) = reciprocal_mean(s, x) else {
        return f32::NAN;
    };
    for (atom, x) in bits.chunks_mut(64).zip(x.chunks(512)) {
        for (p, plane) in x.chunks(64).enumerate() {
            for (byte, x) in atom.iter_mut().zip(plane) {
                *byte |= u8::from(*x >= 0.0) << p;
            }
        }
    }
    scale
}

/// `q = round_half_even(clamp(x * scale))`. Clamping to integers before rounding is the same as after.
#[inline(always)]
fn round<S: Set>(s: S, x: &[f32], scale: f32, [low, high]: [f32; 2], q: &mut [i8]) {
    let factor = s.splat(scale);
    let (low, high) = (s.splat(low), s.splat(high));
    let (chunks, tail) = x.as_chunks::<16>();
    let (q_chunks, q_tail) = q.as_chunks_mut::<16>();
    for (x, q) in chunks.iter().zip(q_chunks) {
        (s.load(x) * factor).max(low).min(high).round_i8(q);
    }
    if !tail.is_empty() {
        let mut last = [0; 16];
        let scaled = s.load_part(tail) * factor;
        scaled.max(low).min(high).round_i8(&mut last);
        q_tail.copy_from_slice(&last[..q_tail.len()]);
    }
}

/// One over the mean magnitude, unless a value or the sum is infinite or NaN.
#[inline(always)]
fn reciprocal_mean<S: Set>(s: S, x: &[f32]) -> Option<f32> {
    let mean = mean::<S, false>(s, x);
    mean.is_finite()
        .then(|| 1.0 / f32::max(mean, MIN_MAGNITUDE))
}

/// The mean of the magnitudes, or of the squares, added in 16 lanes.
#[inline(always)]
pub(crate) fn mean<S: Set, const SQUARES: bool>(s: S, x: &[f32]) -> f32 {
    let (chunks, tail) = x.as_chunks::<16>();
    let mut sum = s.splat(0.0);
    for chunk in chunks {
        let v = s.load(chunk);
        sum = sum + if SQUARES { v * v } else { v.abs() };
    }
    let v = s.load_part(tail);
    sum = sum + if SQUARES { v * v } else { v.abs() };
    sum.tree_sum() / x.len().max(1) as f32
}

/// The largest magnitude, unless a value is infinite or NaN.
#[inline(always)]
pub(crate) fn absmax<S: Set>(s: S, x: &[f32]) -> Option<f32> {
    let (chunks, tail) = x.as_chunks::<16>();
    let zero = s.splat(0.0);
    let (mut max, mut probe) = (zero, zero);
    for chunk in chunks {
        let v = s.load(chunk);
        max = v.abs().max(max);
        probe = probe + v * zero;
    }
    if !tail.is_empty() {
        let v = s.load_part(tail);
        max = v.abs().max(max);
        probe = probe + v * zero;
    }
    match probe.tree_sum() == 0.0 {
        true => Some(max.tree_max()),
        false => None,
    }
}

#[inline(always)]
fn sum<S: Set>(s: S, q: &[i8]) -> i32 {
    let (planes, tail) = q.as_chunks();
    let mut sum = 0;
    for planes in planes.chunks(MAX_SUMMED) {
        sum += s.group_sum(planes);
    }
    for &q in tail {
        sum += i32::from(q);
    }
    sum
}

/// Stores `x` as f16, saturating at +-65504.
#[inline(always)]
pub(crate) fn store_f16<S: Set>(s: S, x: &[f32], out: &mut [u8]) {
    let (chunks, tail) = x.as_chunks::<16>();
    let (out_chunks, out_tail) = out.as_chunks_mut::<32>();
    for (x, out) in chunks.iter().zip(out_chunks) {
        saturate(s, s.load(x)).store_f16(out);
    }
    if !tail.is_empty() {
        let mut last = [0; 32];
        saturate(s, s.load_part(tail)).store_f16(&mut last);
        out_tail.copy_from_slice(&last[..out_tail.len()]);
    }
}

/// Clamps to the finite range of f16; NaN stays NaN.
#[inline(always)]
fn saturate<S: Set>(s: S, x: S::F) -> S::F {
    s.splat(65504.0).min(s.splat(-65504.0).max(x))
}

/// Stores `x` as int8 and returns the multiplier that takes the codes back.
#[inline(always)]
pub(crate) fn store_q8<S: Set>(s: S, x: &[f32], out: &mut [u8]) -> f32 {
    1.0 / quantize_i8(s, x, bytemuck::cast_slice_mut(out)).scale
}

/// `q = round_half_even(x * limit / absmax)`, zeros past `x`; returns the multiplier that takes the
/// codes back, NaN for a row that holds an infinity or NaN.
#[inline(always)]
pub(crate) fn quantize_i16<S: Set>(s: S, x: &[f32], limit: f32, q: &mut [i16]) -> f32 {
    q.fill(0);
    let Some(absmax) = absmax(s, x) else {
        return f32::NAN;
    };
    let absmax = absmax.max(MIN_MAGNITUDE);
    let factor = s.splat(limit / absmax);
    let (low, high) = (s.splat(-limit), s.splat(limit));
    for (x, q) in x.chunks(16).zip(q.as_chunks_mut::<16>().0) {
        let x = match x.first_chunk() {
            Some(x) => s.load(x),
            None => s.load_part(x),
        };
        round_i16(s, (x * factor).max(low).min(high), q);
    }
    absmax / limit
}

/// Rounds half to even; lanes must lie in -32768.5..32767.5.
#[inline(always)]
pub(crate) fn round_i16<S: Set>(_: S, x: S::F, q: &mut [i16; 16]) {
    /// 1.5 * 2^23: a small number added to it stands in its low bits, rounded.
    const ROUND: f32 = 12_582_912.0;
    let mut lanes = [0.0; 16];
    x.store(&mut lanes);
    for (q, x) in q.iter_mut().zip(lanes) {
        *q = (x + ROUND).to_bits() as i16;
    }
}
