//! Ternary weights of 16 rows side by side, four to a register. See [`rows16`](crate::body::rows16).

use std::arch::aarch64::*;

use super::{prefetch, quarter};
use crate::body::rows16::{ATOMS, BAND, Fours, Step};

/// [`Set::lane_sums`](crate::sets::Set::lane_sums) of a band. A 16-bit lane takes a product of at most 3 * 128 for each of 32 fields: 12288.
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
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        // As many rows at a time as leave their sums in registers.
        if T <= 2 {
            quarters::<0, 4, T>(step, &x, &mut sums);
        } else {
            quarters::<0, 2, T>(step, &x, &mut sums);
            quarters::<2, 2, T>(step, &x, &mut sums);
        }
    }
    sums
}

/// `Q` quarters of the rows from `FIRST` on, which share the activations.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
unsafe fn quarters<const FIRST: usize, const Q: usize, const T: usize>(
    step: &Step,
    x: &[&Fours; T],
    sums: &mut [[i32; BAND]; T],
) {
    // SAFETY: the caller vouches for the instructions; four sums are 16 bytes.
    unsafe {
        let mut acc = [[[vdupq_n_s16(0); 2]; Q]; T];
        for a in 0..ATOMS {
            let mut atoms = [vdupq_n_u8(0); Q];
            for q in 0..Q {
                atoms[q] = quarter(&step[a], FIRST + q);
            }
            for p in 0..4 {
                let mut codes = [vdupq_n_s8(0); Q];
                for q in 0..Q {
                    codes[q] = vreinterpretq_s8_u8(vandq_u8(atoms[q], vdupq_n_u8(3)));
                    atoms[q] = vshrq_n_u8::<2>(atoms[q]);
                }
                for t in 0..T {
                    let four = four(x[t], a, p);
                    for q in 0..Q {
                        let [low, high] = &mut acc[t][q];
                        *low = vmlal_s8(*low, vget_low_s8(codes[q]), vget_low_s8(four));
                        *high = vmlal_high_s8(*high, codes[q], four);
                    }
                }
            }
        }
        for t in 0..T {
            for q in 0..Q {
                // The four sums of a row are neighbours.
                let rows = vpaddq_s32(vpaddlq_s16(acc[t][q][0]), vpaddlq_s16(acc[t][q][1]));
                let sums = &mut sums[t].as_chunks_mut::<4>().0[FIRST + q];
                vst1q_s32(sums.as_mut_ptr(), rows);
            }
        }
    }
}

/// The activations of field `p` of atom `a`, for each of four rows.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
unsafe fn four(x: &Fours, a: usize, p: usize) -> int8x16_t {
    // SAFETY: the caller vouches for the instructions.
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(bytemuck::cast(x[4 * a + p]))) }
}
