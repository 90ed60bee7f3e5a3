//! The exact sums of groups of columns.

use std::arch::x86_64::*;

use super::attention::four_sums;
use super::half;
use crate::body::grouped::{BATCH, MAX_GROUPS};

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
    let mut x = x;
    for t in 0..T {
        x[t] = &x[t][..planes];
    }
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
                    let low = _mm256_and_si256(shifted(half::<u8, 0>(w[r]), BITS * p), mask);
                    let high = _mm256_and_si256(shifted(half::<u8, 1>(w[r]), BITS * p), mask);
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
                let four = four_sums(acc[t]);
                let mut sums = [0; 4];
                _mm_storeu_si128(sums.as_mut_ptr().cast(), four);
                dots[t][g].copy_from_slice(&sums[..R]);
            }
        }
    }
    dots
}

/// 16-bit lanes shifted right; not at all costs nothing.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn shifted(w: __m256i, bits: usize) -> __m256i {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        match bits {
            0 => w,
            bits => _mm256_srl_epi16(w, _mm_cvtsi32_si128(bits as i32)),
        }
    }
}

/// [`Set::scales_by_group`](crate::sets::Set::scales_by_group): eight scales of four rows are transposed within 128 bits.
///
/// # Safety
/// The CPU must have AVX2 and F16C.
#[inline(always)]
pub(super) unsafe fn scales_by_group<const R: usize>(
    rows: &[[u8; 2 * BATCH]; R],
) -> [[f32; R]; BATCH] {
    const { assert!(R <= 4) };
    let mut scales = [[0.0; R]; BATCH];
    // SAFETY: the caller vouches for the instructions; 16 bytes can be read at either half of a row, and four
    // scales are as many.
    unsafe {
        for h in 0..2 {
            let mut v = [_mm256_setzero_ps(); 4];
            for r in 0..R {
                let halves = _mm_loadu_si128(rows[r].as_ptr().cast::<__m128i>().add(h));
                v[r] = _mm256_cvtph_ps(halves);
            }
            let low = _mm256_castps_pd(_mm256_unpacklo_ps(v[0], v[1]));
            let high = _mm256_castps_pd(_mm256_unpackhi_ps(v[0], v[1]));
            let low2 = _mm256_castps_pd(_mm256_unpacklo_ps(v[2], v[3]));
            let high2 = _mm256_castps_pd(_mm256_unpackhi_ps(v[2], v[3]));
            let groups = [
                _mm256_unpacklo_pd(low, low2),
                _mm256_unpackhi_pd(low, low2),
                _mm256_unpacklo_pd(high, high2),
                _mm256_unpackhi_pd(high, high2),
            ];
            for g in 0..4 {
                let both = _mm256_castpd_ps(groups[g]);
                for (group, four) in [
                    (8 * h + g, _mm256_castps256_ps128(both)),
                    (8 * h + 4 + g, _mm256_extractf128_ps::<1>(both)),
                ] {
                    let mut lanes = [0.0; 4];
                    _mm_storeu_ps(lanes.as_mut_ptr(), four);
                    scales[group].copy_from_slice(&lanes[..R]);
                }
            }
        }
    }
    scales
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
