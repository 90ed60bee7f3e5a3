//! The exact sums of groups of columns.

use std::arch::x86_64::*;

use super::half;
use crate::body::grouped::MAX_GROUPS;

/// [`Set::group_dots`](crate::sets::Set::group_dots). A 16-bit lane takes at most 8 products of 3 * 128,
/// or 4 of 15 * 128: 7680 at most.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn dots<const BITS: usize, const R: usize, const T: usize>(
    w: [&[u8; 64]; R],
    x: [&[[i8; 64]]; T],
) -> [[[i32; R]; MAX_GROUPS]; T] {
    const { assert!(R <= 4) };
    let (planes, group_planes) = (8 / BITS, if BITS == 4 { 1 } else { 2 });
    let x = x.map(|x| &x[..planes]);
    let mut dots = [[[0; R]; MAX_GROUPS]; T];
    // SAFETY: the caller vouches for the instructions; four sums are 16 bytes.
    unsafe {
        let (mask, one) = (
            _mm256_set1_epi8(((1u16 << BITS) - 1) as i8),
            _mm256_set1_epi16(1),
        );
        for g in 0..planes / group_planes {
            let mut acc = [[_mm256_setzero_si256(); 4]; T];
            for r in 0..R {
                let mut pairs = [_mm256_setzero_si256(); T];
                for p in g * group_planes..(g + 1) * group_planes {
                    let count = _mm_cvtsi32_si128((BITS * p) as i32);
                    let low = _mm256_srl_epi16(half::<u8, 0>(w[r]), count);
                    let low = _mm256_and_si256(low, mask);
                    let high = _mm256_srl_epi16(half::<u8, 1>(w[r]), count);
                    let high = _mm256_and_si256(high, mask);
                    for t in 0..T {
                        let low = _mm256_maddubs_epi16(low, half::<i8, 0>(&x[t][p]));
                        let high = _mm256_maddubs_epi16(high, half::<i8, 1>(&x[t][p]));
                        pairs[t] = _mm256_add_epi16(pairs[t], _mm256_add_epi16(low, high));
                    }
                }
                for t in 0..T {
                    acc[t][r] = _mm256_madd_epi16(pairs[t], one);
                }
            }
            for t in 0..T {
                let eight = _mm256_hadd_epi32(
                    _mm256_hadd_epi32(acc[t][0], acc[t][1]),
                    _mm256_hadd_epi32(acc[t][2], acc[t][3]),
                );
                let four = _mm_add_epi32(
                    _mm256_castsi256_si128(eight),
                    _mm256_extracti128_si256::<1>(eight),
                );
                let mut sums = [0; 4];
                _mm_storeu_si128(sums.as_mut_ptr().cast(), four);
                dots[t][g].copy_from_slice(&sums[..R]);
            }
        }
    }
    dots
}

/// The sum of the activations of a group of at most two planes, added in 16 bits first.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn sum(x: &[[i8; 64]]) -> i32 {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let one = _mm256_set1_epi8(1);
        let mut pairs = _mm256_setzero_si256();
        for x in x {
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(one, half::<i8, 0>(x)));
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(one, half::<i8, 1>(x)));
        }
        let eight = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        let four = _mm_add_epi32(
            _mm256_castsi256_si128(eight),
            _mm256_extracti128_si256::<1>(eight),
        );
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
    }
}
