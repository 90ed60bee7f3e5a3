//! Int8 keys and values: bytes are widened to 16 bits, `smlal` adds products in 32.

use std::arch::aarch64::*;
use std::ops::Range;

use crate::body::attend::requests::Requests;
use crate::kv::KV_BLOCK;
use crate::sets::Set;

/// 32 bytes as 16-bit numbers.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
unsafe fn widen(bytes: &[u8; 32]) -> [int16x8_t; 4] {
    // SAFETY: the caller vouches for the instructions; two times 16 bytes can be read.
    unsafe {
        let low = vld1q_s8(bytes.as_ptr().cast());
        let high = vld1q_s8(bytes[16..].as_ptr().cast());
        [
            vmovl_s8(vget_low_s8(low)),
            vmovl_high_s8(low),
            vmovl_s8(vget_low_s8(high)),
            vmovl_high_s8(high),
        ]
    }
}

/// Adds the products of 32 columns.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(in crate::sets) unsafe fn i8_i16<const R: usize, const T: usize>(
    acc: &mut [[int32x4_t; T]; R],
    w: [&[u8; 32]; R],
    x: [&[i16; 32]; T],
) {
    for r in 0..R {
        // SAFETY: the caller vouches for the instructions; loads are of eight numbers of `x`.
        unsafe {
            let w = widen(w[r]);
            for t in 0..T {
                for (w, x) in w.iter().zip(x[t].as_chunks::<8>().0) {
                    let x = vld1q_s16(x.as_ptr());
                    acc[r][t] = vmlal_s16(acc[r][t], vget_low_s16(*w), vget_low_s16(x));
                    acc[r][t] = vmlal_high_s16(acc[r][t], *w, x);
                }
            }
        }
    }
}

/// Adds up 32 columns of pairs of rows, 16 at a time.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(in crate::sets) unsafe fn weighted<S: Set, const T: usize>(
    s: S,
    rows: &[u8],
    stride: usize,
    pairs: Range<usize>,
    weights: &[[i16; KV_BLOCK]; T],
    ahead: Requests,
) -> [[i32; 32]; T] {
    let mut sums = [[0; 32]; T];
    let mut ahead = ahead.steps(KV_BLOCK / 2);
    for half in 0..2 {
        // SAFETY: the caller vouches for the instructions; loads are of 16 bytes, stores of four sums.
        unsafe {
            let mut acc = [[vdupq_n_s32(0); 4]; T];
            for j in 2 * pairs.start..2 * pairs.end {
                if half == 0 && j % 2 == 0 {
                    ahead.ask(s);
                }
                let row: &[u8; 16] = rows[j * stride + 16 * half..]
                    .first_chunk()
                    .expect("32 bytes of each row");
                let row = vld1q_s8(row.as_ptr().cast());
                let (low, high) = (vmovl_s8(vget_low_s8(row)), vmovl_high_s8(row));
                for t in 0..T {
                    let weight = weights[t][j];
                    acc[t][0] = vmlal_n_s16(acc[t][0], vget_low_s16(low), weight);
                    acc[t][1] = vmlal_high_n_s16(acc[t][1], low, weight);
                    acc[t][2] = vmlal_n_s16(acc[t][2], vget_low_s16(high), weight);
                    acc[t][3] = vmlal_high_n_s16(acc[t][3], high, weight);
                }
            }
            for t in 0..T {
                let out = sums[t][16 * half..].as_chunks_mut::<4>().0;
                for (out, acc) in out.iter_mut().zip(acc[t]) {
                    vst1q_s32(out.as_mut_ptr(), acc);
                }
            }
        }
    }
    sums
}
