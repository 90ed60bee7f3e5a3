//! The byte products of one row's atom, summed in 16 bits as long as they fit.

use std::arch::aarch64::*;

use super::{quarter, quarter_i8};
use crate::body::grouped::MAX_GROUPS;

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

/// The sums of `code * x` of each group of an atom of row `r`. A 16-bit lane takes at most 16 products of
/// 3 * 128 or 8 of 15 * 128: 15360 at most.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(super) unsafe fn group_dots<const BITS: usize, const R: usize, const T: usize>(
    dots: &mut [[[i32; R]; MAX_GROUPS]; T],
    r: usize,
    w: &[u8; 64],
    x: &[&[[i8; 64]]; T],
) {
    let (planes, group_planes) = (8 / BITS, if BITS == 4 { 1 } else { 2 });
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        for g in 0..planes / group_planes {
            let mut sums = [vdupq_n_s16(0); T];
            for q in 0..4 {
                for p in g * group_planes..(g + 1) * group_planes {
                    let codes = codes::<BITS>(w, q, p);
                    for t in 0..T {
                        let x = quarter_i8(&x[t][p], q);
                        sums[t] = vmlal_s8(sums[t], vget_low_s8(codes), vget_low_s8(x));
                        sums[t] = vmlal_high_s8(sums[t], codes, x);
                    }
                }
            }
            for t in 0..T {
                dots[t][g][r] = vaddlvq_s16(sums[t]);
            }
        }
    }
}

/// The codes of plane `p` in quarter `q`.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(in crate::sets) unsafe fn codes<const BITS: usize>(
    w: &[u8; 64],
    q: usize,
    p: usize,
) -> int8x16_t {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let shifted = vshlq_u8(quarter(w, q), vdupq_n_s8(-((BITS * p) as i8)));
        vreinterpretq_s8_u8(vandq_u8(shifted, vdupq_n_u8((1 << BITS) - 1)))
    }
}
