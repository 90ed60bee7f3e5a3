//! The byte products of one row's atom, summed in 16 bits as long as they fit.

use std::arch::aarch64::*;

use super::{Lanes, quarter, quarter_i8};

/// A ternary atom. A 16-bit lane takes 8 products of each of 4 planes of at most 3 * 128:
/// 12288 at most.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(super) unsafe fn t2_atom<const T: usize>(
    acc: &mut [int32x4_t; T],
    w: &[u8; 64],
    x: &[&[[i8; 64]; 4]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut sums = [[vdupq_n_s16(0); 2]; T];
        for q in 0..4 {
            let mut w = quarter(w, q);
            for p in 0..4 {
                let codes = vreinterpretq_s8_u8(vandq_u8(w, vdupq_n_u8(3)));
                w = vshrq_n_u8::<2>(w);
                for t in 0..T {
                    let x = quarter_i8(&x[t][p], q);
                    sums[t][0] = vmlal_s8(sums[t][0], vget_low_s8(codes), vget_low_s8(x));
                    sums[t][1] = vmlal_high_s8(sums[t][1], codes, x);
                }
            }
        }
        for t in 0..T {
            acc[t] = vpadalq_s16(acc[t], vaddq_s16(sums[t][0], sums[t][1]));
        }
    }
}

/// A binary atom: the activations under the set bits, added in pairs without a multiplication. A
/// 16-bit lane takes 2 of them from each of 8 planes and 4 quarters: 64 * 128 = 8192 at most.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(super) unsafe fn b1_atom<const T: usize>(
    acc: &mut [int32x4_t; T],
    w: &[u8; 64],
    x: &[&[[i8; 64]; 8]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut sums = [vdupq_n_s16(0); T];
        for q in 0..4 {
            let w = quarter(w, q);
            for p in 0..8 {
                let under = vreinterpretq_s8_u8(vtstq_u8(w, vdupq_n_u8(1 << p)));
                for t in 0..T {
                    let x = vandq_s8(under, quarter_i8(&x[t][p], q));
                    sums[t] = vpadalq_s8(sums[t], x);
                }
            }
        }
        for t in 0..T {
            acc[t] = vpadalq_s16(acc[t], sums[t]);
        }
    }
}

/// An int8 atom. One product is at most 2^14, but two are not always below 2^15: each is widened.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(super) unsafe fn i8_atom<const T: usize>(
    acc: &mut [int32x4_t; T],
    w: &[u8; 64],
    x: &[&[[i8; 64]; 1]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        for q in 0..4 {
            let w = vreinterpretq_s8_u8(quarter(w, q));
            for t in 0..T {
                let x = quarter_i8(&x[t][0], q);
                acc[t] = vpadalq_s16(acc[t], vmull_s8(vget_low_s8(w), vget_low_s8(x)));
                acc[t] = vpadalq_s16(acc[t], vmull_high_s8(w, x));
            }
        }
    }
}

/// A 4-bit atom: its two groups, the second in the high nibbles.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(super) unsafe fn i4_atom<const T: usize>(
    acc: &mut [Lanes; T],
    w: &[u8; 64],
    scales: [f32; 2],
    x: &[&[[i8; 64]; 2]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        for group in 0..2 {
            for q in 0..4 {
                let codes = nibbles(w, q, group);
                for t in 0..T {
                    let x = quarter_i8(&x[t][group], q);
                    let low = vpaddlq_s16(vmull_s8(vget_low_s8(codes), vget_low_s8(x)));
                    let high = vpaddlq_s16(vmull_high_s8(codes, x));
                    add_scaled(&mut acc[t], q, vpaddq_s32(low, high), scales[group]);
                }
            }
        }
    }
}

/// The 4-bit weights of a group in quarter `q`.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(in crate::sets) unsafe fn nibbles(w: &[u8; 64], q: usize, group: usize) -> int8x16_t {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let w = quarter(w, q);
        let codes = match group {
            0 => vandq_u8(w, vdupq_n_u8(15)),
            _ => vshrq_n_u8::<4>(w),
        };
        vsubq_s8(vreinterpretq_s8_u8(codes), vdupq_n_s8(8))
    }
}

/// `acc += dots * scale` in the lanes of quarter `q`, a product and then a sum.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(in crate::sets) unsafe fn add_scaled(acc: &mut Lanes, q: usize, dots: int32x4_t, scale: f32) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let product = vmulq_f32(vcvtq_f32_s32(dots), vdupq_n_f32(scale));
        acc.0[q] = vaddq_f32(acc.0[q], product);
    }
}

/// A group of 128 ternary or binary weights, its two planes from bit `shift` on. A product is at most
/// 2 * 128, so the two that meet in a 16-bit lane are at most 512.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(super) unsafe fn sign_group<const BITS: usize, const T: usize>(
    acc: &mut [Lanes; T],
    w: &[u8; 64],
    shift: usize,
    factors: [f32; T],
    x: &[&[[i8; 64]; 2]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        for q in 0..4 {
            let [a, b] = sign_codes::<BITS>(w, q, shift);
            for t in 0..T {
                let (x, y) = (quarter_i8(&x[t][0], q), quarter_i8(&x[t][1], q));
                let low = vmull_s8(vget_low_s8(a), vget_low_s8(x));
                let low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(y));
                let high = vmlal_high_s8(vmull_high_s8(a, x), b, y);
                let dots = vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
                add_scaled(&mut acc[t], q, dots, factors[t]);
            }
        }
    }
}

/// The weights of both planes in quarter `q`: ternary -1 to 2, binary -1 or 1.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(in crate::sets) unsafe fn sign_codes<const BITS: usize>(
    w: &[u8; 64],
    q: usize,
    shift: usize,
) -> [int8x16_t; 2] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let w = vshlq_u8(quarter(w, q), vdupq_n_s8(-(shift as i8)));
        let one = vdupq_n_s8(1);
        if BITS == 2 {
            let mask = vdupq_n_u8(3);
            let (a, b) = (vandq_u8(w, mask), vandq_u8(vshrq_n_u8::<2>(w), mask));
            [
                vsubq_s8(vreinterpretq_s8_u8(a), one),
                vsubq_s8(vreinterpretq_s8_u8(b), one),
            ]
        } else {
            let mask = vdupq_n_u8(2);
            let (a, b) = (vandq_u8(vaddq_u8(w, w), mask), vandq_u8(w, mask));
            [
                vsubq_s8(vreinterpretq_s8_u8(a), one),
                vsubq_s8(vreinterpretq_s8_u8(b), one),
            ]
        }
    }
}
