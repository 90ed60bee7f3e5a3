//! The byte products of one row's atom.

use std::arch::x86_64::*;

use super::{Lanes, Sums, half};

/// Adds `lanes`, pairs in 16 bits, to half `H` of the sums.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn widen<const H: usize>(acc: &mut Sums, lanes: __m256i) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let wide = _mm256_madd_epi16(lanes, _mm256_set1_epi16(1));
        acc.0[H] = _mm256_add_epi32(acc.0[H], wide);
    }
}

/// Half `H` of a ternary atom.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn t2_half<const H: usize, const T: usize>(
    acc: &mut [Sums; T],
    w: &[u8; 64],
    x: &[&[[i8; 64]; 4]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let (w, mask) = (half::<u8, H>(w), _mm256_set1_epi8(3));
        let codes = [
            _mm256_and_si256(w, mask),
            _mm256_and_si256(_mm256_srli_epi16::<2>(w), mask),
            _mm256_and_si256(_mm256_srli_epi16::<4>(w), mask),
            _mm256_and_si256(_mm256_srli_epi16::<6>(w), mask),
        ];
        for t in 0..T {
            let mut pairs = _mm256_maddubs_epi16(codes[0], half::<i8, H>(&x[t][0]));
            for p in 1..4 {
                let product = _mm256_maddubs_epi16(codes[p], half::<i8, H>(&x[t][p]));
                pairs = _mm256_add_epi16(pairs, product);
            }
            widen::<H>(&mut acc[t], pairs);
        }
    }
}

/// Half `H` of a binary atom.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn b1_half<const H: usize, const T: usize>(
    acc: &mut [Sums; T],
    w: &[u8; 64],
    x: &[&[[i8; 64]; 8]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mask = _mm256_set1_epi8(1);
        let mut w = half::<u8, H>(w);
        let mut pairs = [_mm256_setzero_si256(); T];
        for p in 0..8 {
            let codes = _mm256_and_si256(w, mask);
            w = _mm256_srli_epi16::<1>(w);
            for t in 0..T {
                let product = _mm256_maddubs_epi16(codes, half::<i8, H>(&x[t][p]));
                pairs[t] = _mm256_add_epi16(pairs[t], product);
            }
        }
        for t in 0..T {
            widen::<H>(&mut acc[t], pairs[t]);
        }
    }
}

/// An int8 atom: 16 bytes at a time widened to 16 bits.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn i8_atom<const T: usize>(
    acc: &mut [Sums; T],
    w: &[u8; 64],
    x: &[&[[i8; 64]; 1]; T],
) {
    let w = w.as_chunks::<16>().0;
    for q in 0..4 {
        // SAFETY: 16 bytes are read at a time; the caller vouches for the instructions.
        unsafe {
            let w = _mm256_cvtepi8_epi16(_mm_loadu_si128(w[q].as_ptr().cast()));
            for t in 0..T {
                let x = x[t][0].as_chunks::<16>().0[q].as_ptr();
                let x = _mm256_cvtepi8_epi16(_mm_loadu_si128(x.cast()));
                let sums = &mut acc[t].0[q % 2];
                *sums = _mm256_add_epi32(*sums, _mm256_madd_epi16(w, x));
            }
        }
    }
}

/// Group `G` of a 4-bit atom, its nibbles at bit `SHIFT`: the offset of 8 is taken back in 16
/// bits, before widening.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn i4_group<const G: usize, const SHIFT: i32, const T: usize>(
    acc: &mut [Lanes; T],
    w: &[u8; 64],
    scale: f32,
    x: &[&[[i8; 64]; 2]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mask = _mm256_set1_epi8(15);
        let low = _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(half::<u8, 0>(w)), mask);
        let high = _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(half::<u8, 1>(w)), mask);
        let scale = _mm256_set1_ps(scale);
        for t in 0..T {
            let (a, b) = (half::<i8, 0>(&x[t][G]), half::<i8, 1>(&x[t][G]));
            let (a, b) = (nibble_dots(low, a), nibble_dots(high, b));
            acc[t] = acc[t] + Lanes(_mm256_mul_ps(a, scale), _mm256_mul_ps(b, scale));
        }
    }
}

/// The sums of four products each of `code - 8` and `x`.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn nibble_dots(codes: __m256i, x: __m256i) -> __m256 {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let product = _mm256_maddubs_epi16(codes, x);
        let eights = _mm256_maddubs_epi16(_mm256_set1_epi8(8), x);
        let pairs = _mm256_sub_epi16(product, eights);
        _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}
