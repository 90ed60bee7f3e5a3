//! Ternary weights of 16 rows side by side, eight at a time. See [`rows16`](crate::body::rows16).

use std::arch::x86_64::*;

use super::half;
use crate::body::rows16::{ATOMS, BAND, Fours, Step};

/// Half `H` of the rows of [`Set::lane_sums`](crate::sets::Set::lane_sums). A 16-bit lane takes two products of at most 3 * 128 for each of
/// 32 fields: 24576.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn lane_sums<const H: usize, const T: usize>(
    step: &Step,
    x: &[&Fours; T],
    ahead: *const u8,
    sums: &mut [[i32; BAND]; T],
) {
    // SAFETY: the caller vouches for the instructions; a prefetch takes any address; eight sums are 32 bytes.
    unsafe {
        let mask = _mm256_set1_epi8(3);
        let mut pairs = [_mm256_setzero_si256(); T];
        for a in 0..ATOMS {
            let atom = half::<u8, H>(&step[a]);
            if a % 2 == H {
                let lines = ahead.wrapping_add(64 * a);
                _mm_prefetch::<_MM_HINT_T0>(lines.cast());
            }
            let fields = [
                atom,
                _mm256_srli_epi16::<2>(atom),
                _mm256_srli_epi16::<4>(atom),
                _mm256_srli_epi16::<6>(atom),
            ];
            for p in 0..4 {
                let codes = _mm256_and_si256(fields[p], mask);
                for t in 0..T {
                    let four = _mm256_set1_epi32(bytemuck::cast(x[t][4 * a + p]));
                    pairs[t] = _mm256_add_epi16(pairs[t], _mm256_maddubs_epi16(codes, four));
                }
            }
        }
        for t in 0..T {
            let eight = _mm256_madd_epi16(pairs[t], _mm256_set1_epi16(1));
            let sums = &mut sums[t].as_chunks_mut::<8>().0[H];
            _mm256_storeu_si256(sums.as_mut_ptr().cast(), eight);
        }
    }
}
