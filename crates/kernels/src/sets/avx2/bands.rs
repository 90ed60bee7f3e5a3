//! Ternary codes of five rows to a byte.
//!
//! The products of two neighbouring bytes, at most 2 * 2 * 128 = 512, are added in 16 bits over the
//! halves of 16 atoms, 32 * 512 = 16384 at most, and then widened. One token keeps its five sums in
//! registers while bytes are taken apart; for several the codes of the 16 atoms are kept in memory.

use std::arch::x86_64::*;

use super::dense::planes;
use super::{Avx2, Sums, half};
use crate::body::ahead::Ahead;
use crate::body::bands::{BAND, BandSums, CHUNK};
use crate::sets::Set;

/// Pairs in 16 bits, of each row.
type Pairs = [__m256i; BAND];

/// The codes of a half of an atom, by row.
type Codes = [__m256i; BAND];

/// [`Set::band_sums`].
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn sums<A: Ahead, const R: usize, const T: usize>(
    set: Avx2,
    w: [&[[u8; 64]]; R],
    mut ahead: A,
    x: [&[[[i8; 64]; 1]]; T],
) -> BandSums<i32, R, T> {
    const { assert!(2 * CHUNK * 512 < 1 << 15) };
    let mut acc = [[[set.zero_sums(); T]; BAND]; R];
    let atoms = w[0].len();
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        for start in (0..atoms).step_by(CHUNK) {
            let chunk = start..atoms.min(start + CHUNK);
            for r in 0..R {
                for a in chunk.clone() {
                    ahead.request(set, r, 64 * a);
                }
                let w = &w[r][chunk.clone()];
                if T == 1 {
                    let mut pairs = [_mm256_setzero_si256(); BAND];
                    for (w, x) in w.iter().zip(&x[0][chunk.clone()]) {
                        add(&mut pairs, planes(half::<u8, 0>(w)), half::<i8, 0>(&x[0]));
                        add(&mut pairs, planes(half::<u8, 1>(w)), half::<i8, 1>(&x[0]));
                    }
                    widen(&mut acc[r], 0, pairs);
                    continue;
                }
                let mut codes: [[Codes; 2]; CHUNK] = [[[_mm256_setzero_si256(); BAND]; 2]; CHUNK];
                for (codes, w) in codes.iter_mut().zip(w) {
                    *codes = [planes(half::<u8, 0>(w)), planes(half::<u8, 1>(w))];
                }
                for t in 0..T {
                    let mut pairs = [_mm256_setzero_si256(); BAND];
                    for (codes, x) in codes.iter().zip(&x[t][chunk.clone()]) {
                        add(&mut pairs, codes[0], half::<i8, 0>(&x[0]));
                        add(&mut pairs, codes[1], half::<i8, 1>(&x[0]));
                    }
                    widen(&mut acc[r], t, pairs);
                }
            }
        }
    }
    let mut sums = [[[0; T]; BAND]; R];
    for r in 0..R {
        sums[r] = set.block_sums(acc[r]);
    }
    sums
}

/// Adds the products of a half of an atom.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn add(pairs: &mut Pairs, codes: Codes, x: __m256i) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        for p in 0..BAND {
            pairs[p] = _mm256_add_epi16(pairs[p], _mm256_maddubs_epi16(codes[p], x));
        }
    }
}

/// Adds the pairs of a token to its sums.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn widen<const T: usize>(acc: &mut [[Sums; T]; BAND], t: usize, pairs: Pairs) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        for p in 0..BAND {
            let wide = _mm256_madd_epi16(pairs[p], _mm256_set1_epi16(1));
            acc[p][t].0[0] = _mm256_add_epi32(acc[p][t].0[0], wide);
        }
    }
}
