//! Counting the bits in which rows differ: `cnt` counts those of each byte.

use std::arch::aarch64::*;

use super::quarter;
use crate::body::ahead::Ahead;
use crate::sets::Set;

/// [`Set::differing`](crate::sets::Set::differing). The four counts of a byte's place in an atom are
/// at most 32 together; pairs of them are added in 16 bits, which hold the 64 of 1023 atoms, and a row
/// has at most 128.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(in crate::sets) unsafe fn differing<S: Set, A: Ahead, const R: usize, const T: usize>(
    s: S,
    w: [&[[u8; 64]]; R],
    mut ahead: A,
    x: [&[[u8; 64]]; T],
    mask: &[u8; 64],
) -> [[u32; T]; R] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut acc = [[vdupq_n_u16(0); T]; R];
        let last = w[0].len() - 1;
        for a in 0..=last {
            for r in 0..R {
                ahead.request(s, r, 64 * a);
                for t in 0..T {
                    let mut ones = vdupq_n_u8(0);
                    for q in 0..4 {
                        let mut bits = veorq_u8(quarter(&w[r][a], q), quarter(&x[t][a], q));
                        if a == last {
                            bits = vandq_u8(bits, quarter(mask, q));
                        }
                        ones = vaddq_u8(ones, vcntq_u8(bits));
                    }
                    acc[r][t] = vpadalq_u8(acc[r][t], ones);
                }
            }
        }
        let mut counts = [[0; T]; R];
        for r in 0..R {
            for t in 0..T {
                counts[r][t] = vaddlvq_u16(acc[r][t]);
            }
        }
        counts
    }
}
