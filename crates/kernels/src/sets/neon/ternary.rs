//! Ternary weights of 16 rows side by side, four at a time. See [`rows16`](crate::body::rows16).

use std::arch::aarch64::*;

use super::{prefetch, quarter};
use crate::body::rows16::{ATOMS, BAND, Fours, Step};

/// [`Set::lane_sums`](crate::sets::Set::lane_sums). A 16-bit lane takes a product of at most 3 * 128 for each of 32 fields: 12288.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(super) unsafe fn lane_sums<const T: usize>(
    step: &Step,
    x: [&Fours; T],
    ahead: *const u8,
) -> [[i32; BAND]; T] {
    let mut sums = [[0; BAND]; T];
    (0..ATOMS).for_each(|a| prefetch(ahead.wrapping_add(64 * a)));
    // SAFETY: the caller vouches for the instructions; four sums are 16 bytes.
    unsafe {
        for q in 0..4 {
            let mut acc = [[vdupq_n_s16(0); 2]; T];
            for a in 0..ATOMS {
                let mut atom = quarter(&step[a], q);
                for p in 0..4 {
                    let codes = vreinterpretq_s8_u8(vandq_u8(atom, vdupq_n_u8(3)));
                    atom = vshrq_n_u8::<2>(atom);
                    for t in 0..T {
                        let four = four(x[t], a, p);
                        acc[t][0] = vmlal_s8(acc[t][0], vget_low_s8(codes), vget_low_s8(four));
                        acc[t][1] = vmlal_high_s8(acc[t][1], codes, four);
                    }
                }
            }
            for t in 0..T {
                // The four sums of a row are neighbours.
                let rows = vpaddq_s32(vpaddlq_s16(acc[t][0]), vpaddlq_s16(acc[t][1]));
                vst1q_s32(sums[t].as_chunks_mut::<4>().0[q].as_mut_ptr(), rows);
            }
        }
    }
    sums
}

/// The activations of field `p` of atom `a`, for each of four rows.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(in crate::sets) unsafe fn four(x: &Fours, a: usize, p: usize) -> int8x16_t {
    // SAFETY: the caller vouches for the instructions.
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(bytemuck::cast(x[4 * a + p]))) }
}
