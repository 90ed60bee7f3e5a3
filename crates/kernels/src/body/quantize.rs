//! Floats to fewer bits: int8 activations, f16 cache rows.

use crate::input::RowQuant;
use crate::sets::{Set, Vector};

/// The smallest absolute maximum a row is scaled by.
const MIN_ABSMAX: f32 = 1e-5;

/// One row of activations to int8. Two passes:
///
/// 1. the largest magnitude, and a probe `0 x`, which is 0 unless `x` is infinite or NaN;
/// 2. `q = round_half_even(clamp(x * scale, -128, 127))`, multiplied, never divided, by the
///    correctly rounded `127 / absmax`. Clamping to integers before rounding is the same as after.
#[inline(always)]
pub(crate) fn quantize_i8<S: Set>(s: S, x: &[f32], q: &mut [i8]) -> RowQuant {
    let (q, padding) = q.split_at_mut(x.len());
    padding.fill(0);
    let Some(absmax) = absmax(s, x) else {
        q.fill(0);
        return RowQuant {
            scale: f32::NAN,
            sum: 0,
        };
    };
    let scale = 127.0 / absmax.max(MIN_ABSMAX);
    let factor = s.splat(scale);
    let (chunks, tail) = x.as_chunks::<16>();
    let (q_chunks, q_tail) = q.as_chunks_mut::<16>();
    for (x, q) in chunks.iter().zip(q_chunks) {
        clamp(s, s.load(x) * factor).round_i8(q);
    }
    if !tail.is_empty() {
        let mut last = [0; 16];
        clamp(s, s.load_part(tail) * factor).round_i8(&mut last);
        q_tail.copy_from_slice(&last[..q_tail.len()]);
    }
    RowQuant { scale, sum: sum(q) }
}

#[inline(always)]
fn clamp<S: Set>(s: S, x: S::F) -> S::F {
    x.max(s.splat(-128.0)).min(s.splat(127.0))
}

/// The largest magnitude, unless a value is infinite or NaN.
#[inline(always)]
fn absmax<S: Set>(s: S, x: &[f32]) -> Option<f32> {
    let (chunks, tail) = x.as_chunks::<16>();
    let zero = s.splat(0.0);
    let (mut max, mut probe) = (zero, zero);
    for chunk in chunks {
        let v = s.load(chunk);
        max = v.abs().max(max);
        probe = probe + v * zero;
    }
    let v = s.load_part(tail);
    max = v.abs().max(max);
    probe = probe + v * zero;
    let mut lanes = [0.0; 16];
    max.store(&mut lanes);
    (probe.tree_sum() == 0.0).then(|| lanes.iter().fold(0.0, |a: f32, &b| a.max(b)))
}

#[inline(always)]
fn sum(q: &[i8]) -> i32 {
    let mut sum = 0i32;
    for &q in q {
        sum = sum.wrapping_add(i32::from(q));
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
