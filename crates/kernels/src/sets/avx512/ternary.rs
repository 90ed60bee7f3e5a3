//! Ternary weights of 16 rows side by side. Codes are not shifted to the bottom of their bytes: `vpdpbusd` takes them where they
//! are, and one shift of 16 sums makes up for it. See [`rows16`](crate::body::rows16).

use std::arch::x86_64::*;

use super::load;
use crate::body::rows16::{ATOMS, BAND, Fours, Step};

/// How much further ahead weights are asked for into the second level, which takes more requests at a time.
const EARLIER: usize = 3072;

/// [`Set::lane_sums`](crate::sets::Set::lane_sums). The sums of field `p` are multiples of `4^p`, of at most `32 * 192 * 128`.
///
/// # Safety
/// The CPU must have this set's features.
#[inline(always)]
pub(super) unsafe fn lane_sums<const T: usize>(
    step: &Step,
    x: [&Fours; T],
    ahead: *const u8,
) -> [[i32; BAND]; T] {
    let mut sums = [[0; BAND]; T];
    // SAFETY: the caller vouches for the instructions; a prefetch takes any address; 16 sums are 64 bytes.
    unsafe {
        let mut masks = [_mm512_set1_epi8(3); 4];
        for p in 0..4 {
            masks[p] = _mm512_set1_epi8((3u8 << (2 * p)) as i8);
        }
        let mut acc = [[_mm512_setzero_si512(); 4]; T];
        for a in 0..ATOMS {
            let atom = load(&step[a]);
            let line = ahead.wrapping_add(64 * a);
            _mm_prefetch::<_MM_HINT_T0>(line.cast());
            _mm_prefetch::<_MM_HINT_T1>(line.wrapping_add(EARLIER).cast());
            for p in 0..4 {
                let codes = _mm512_and_si512(atom, masks[p]);
                for t in 0..T {
                    let four = _mm512_set1_epi32(bytemuck::cast(x[t][4 * a + p]));
                    acc[t][p] = _mm512_dpbusd_epi32(acc[t][p], codes, four);
                }
            }
        }
        for t in 0..T {
            let low = _mm512_add_epi32(acc[t][0], _mm512_srai_epi32::<2>(acc[t][1]));
            let high = _mm512_add_epi32(
                _mm512_srai_epi32::<4>(acc[t][2]),
                _mm512_srai_epi32::<6>(acc[t][3]),
            );
            _mm512_storeu_si512(sums[t].as_mut_ptr().cast(), _mm512_add_epi32(low, high));
        }
    }
    sums
}
