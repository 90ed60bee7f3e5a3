//! The exact sums of groups of columns.

use std::arch::x86_64::*;

use super::{load, load_rows};
use crate::body::grouped::MAX_GROUPS;

/// [`Set::group_dots`](crate::sets::Set::group_dots). Sums stand in 16 registers, which are added up
/// together: four rows and four groups of a token, or four rows and four tokens of a group.
///
/// # Safety
/// The CPU must have the set's features.
#[inline(always)]
pub(super) unsafe fn dots<const BITS: usize, const R: usize, const T: usize>(
    w: [&[u8; 64]; R],
    x: [&[[i8; 64]]; T],
) -> [[[i32; R]; MAX_GROUPS]; T] {
    const { assert!(R <= 4 && T <= 4) };
    let (planes, group_planes) = (8 / BITS, if BITS == 4 { 1 } else { 2 });
    let x = x.map(|x| &x[..planes]);
    let mut dots = [[[0; R]; MAX_GROUPS]; T];
    // SAFETY: the caller vouches for the features.
    unsafe {
        let w = load_rows(w);
        if T == 1 {
            let mut acc = [_mm512_setzero_si512(); 16];
            for p in 0..planes {
                let (g, x) = (p / group_planes, load(&x[0][p]));
                for r in 0..R {
                    let code = codes::<BITS>(w[r], p);
                    acc[4 * g + r] = _mm512_dpbusd_epi32(acc[4 * g + r], code, x);
                }
            }
            for (dots, sums) in dots[0].iter_mut().zip(sums_of_16(acc)) {
                dots.copy_from_slice(&sums[..R]);
            }
            return dots;
        }
        for g in 0..planes / group_planes {
            let mut acc = [_mm512_setzero_si512(); 16];
            for p in g * group_planes..(g + 1) * group_planes {
                let mut code = w;
                for r in 0..R {
                    code[r] = codes::<BITS>(w[r], p);
                }
                for t in 0..T {
                    let x = load(&x[t][p]);
                    for r in 0..R {
                        acc[4 * t + r] = _mm512_dpbusd_epi32(acc[4 * t + r], code[r], x);
                    }
                }
            }
            for (dots, sums) in dots.iter_mut().zip(sums_of_16(acc)) {
                dots[g].copy_from_slice(&sums[..R]);
            }
        }
    }
    dots
}

/// The codes of plane `p`.
///
/// # Safety
/// The CPU must have AVX-512BW.
#[inline(always)]
unsafe fn codes<const BITS: usize>(w: __m512i, p: usize) -> __m512i {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let count = _mm_cvtsi32_si128((BITS * p) as i32);
        let mask = _mm512_set1_epi8(((1u16 << BITS) - 1) as i8);
        _mm512_and_si512(_mm512_srl_epi16(w, count), mask)
    }
}

/// The sum of each register.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn sums_of_16(acc: [__m512i; 16]) -> [[i32; 4]; 4] {
    // SAFETY: the caller vouches for the instructions; 16 sums are 64 bytes.
    unsafe {
        let mut fours = [_mm512_setzero_si512(); 4];
        for (four, acc) in fours.iter_mut().zip(acc.as_chunks::<4>().0) {
            let ab = _mm512_add_epi32(
                _mm512_unpacklo_epi32(acc[0], acc[1]),
                _mm512_unpackhi_epi32(acc[0], acc[1]),
            );
            let cd = _mm512_add_epi32(
                _mm512_unpacklo_epi32(acc[2], acc[3]),
                _mm512_unpackhi_epi32(acc[2], acc[3]),
            );
            *four = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        }
        let low = _mm512_add_epi32(
            _mm512_shuffle_i32x4::<0b01_00_01_00>(fours[0], fours[1]),
            _mm512_shuffle_i32x4::<0b11_10_11_10>(fours[0], fours[1]),
        );
        let high = _mm512_add_epi32(
            _mm512_shuffle_i32x4::<0b01_00_01_00>(fours[2], fours[3]),
            _mm512_shuffle_i32x4::<0b11_10_11_10>(fours[2], fours[3]),
        );
        let all = _mm512_add_epi32(
            _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high),
        );
        let mut sums = [[0; 4]; 4];
        _mm512_storeu_si512(sums.as_mut_ptr().cast(), all);
        sums
    }
}
