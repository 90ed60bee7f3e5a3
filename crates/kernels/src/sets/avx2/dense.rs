//! Ternary codes that stand five to a byte, a half of an atom at a time.
//!
//! A byte is `85 c0 + 29 c1 + 9 c2 + 3 c3 + c4`. Of `b`, `b - 85` and `b - 170` as unsigned bytes the
//! least is what `c0` leaves, because subtracting too much wraps to more than there was; what is gone
//! is a multiple of 85, which leaves `c0` when divided by 4. So are `c1` and `c2` taken; the last two
//! codes are looked up in 16 bytes each. The products of a byte, at most 5 * 2 * 2 * 128 = 2560 with
//! its neighbour's, are added in 16 bits.

use std::arch::x86_64::*;

use super::products::widen;
use super::{Sums, half};

/// Takes the code of the first place off each byte of `rest`.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn take<const PLACE: i8>(rest: &mut __m256i) -> __m256i {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let once = _mm256_sub_epi8(*rest, _mm256_set1_epi8(PLACE));
        let twice = _mm256_sub_epi8(*rest, _mm256_set1_epi8(PLACE.wrapping_mul(2)));
        let least = _mm256_min_epu8(_mm256_min_epu8(*rest, once), twice);
        let taken = _mm256_sub_epi8(*rest, least);
        *rest = least;
        _mm256_and_si256(taken, _mm256_set1_epi8(3))
    }
}

/// The five codes of each byte.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn planes(bytes: __m256i) -> [__m256i; 5] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut rest = bytes;
        let first = take::<85>(&mut rest);
        let second = take::<29>(&mut rest);
        let third = take::<9>(&mut rest);
        // What is left is at most 10.
        let thirds = _mm_setr_epi8(0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2);
        let units = _mm_setr_epi8(0, 1, 2, 0, 1, 2, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2);
        let fourth = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(thirds), rest);
        let fifth = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(units), rest);
        [first, second, third, fourth, fifth]
    }
}

/// Adds the products of half `H` of an atom.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn add_half<const H: usize, const T: usize>(
    acc: &mut [Sums; T],
    w: &[u8; 64],
    x: &[&[[i8; 64]; 5]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let codes = planes(half::<u8, H>(w));
        for t in 0..T {
            let mut pairs = _mm256_maddubs_epi16(codes[0], half::<i8, H>(&x[t][0]));
            for p in 1..5 {
                let product = _mm256_maddubs_epi16(codes[p], half::<i8, H>(&x[t][p]));
                pairs = _mm256_add_epi16(pairs, product);
            }
            widen::<H>(&mut acc[t], pairs);
        }
    }
}
