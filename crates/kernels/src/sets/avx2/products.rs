//! The byte products of one row's atom.

use std::arch::x86_64::*;

use super::{Sums, half};
use crate::body::columns::{Batch, STRIP, Strip};

/// The planes at bits `A` and `B` of half `H` of a strip: one 16-bit lane per output and pair of
/// inputs. Over a batch of 64 inputs a lane reaches 16 * 2 * 3 * 128 = 12288 at most.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn t2_columns<const H: usize, const A: i32, const B: i32>(
    strip: Strip<'_>,
    batch: &Batch,
    sums: &mut [i32; STRIP],
) {
    // SAFETY: the caller vouches for the instructions; a plane has 64 sums, a half of it 32, which
    // are four registers.
    unsafe {
        let mask = _mm256_set1_epi8(3);
        let mut acc = [[_mm256_setzero_si256(); 4]; 2];
        for (inputs, codes) in batch.fours() {
            let x = _mm256_set1_epi32(i32::from_le_bytes(codes.map(|code| code as u8)));
            let rows = side_by_side([
                half::<u8, H>(strip.atom(inputs[0])),
                half::<u8, H>(strip.atom(inputs[1])),
                half::<u8, H>(strip.atom(inputs[2])),
                half::<u8, H>(strip.atom(inputs[3])),
            ]);
            for q in 0..4 {
                let code = _mm256_and_si256(_mm256_srli_epi16::<A>(rows[q]), mask);
                acc[0][q] = _mm256_add_epi16(acc[0][q], _mm256_maddubs_epi16(code, x));
                let code = _mm256_and_si256(_mm256_srli_epi16::<B>(rows[q]), mask);
                acc[1][q] = _mm256_add_epi16(acc[1][q], _mm256_maddubs_epi16(code, x));
            }
        }
        let planes = sums.as_chunks_mut::<64>().0;
        for (shift, acc) in [A, B].into_iter().zip(acc) {
            let plane = planes[shift as usize / 2][32 * H..].as_mut_ptr();
            let mut wide = acc;
            for sums in &mut wide {
                *sums = _mm256_madd_epi16(*sums, _mm256_set1_epi16(1));
            }
            let ordered = [
                _mm256_permute2x128_si256::<0x20>(wide[0], wide[1]),
                _mm256_permute2x128_si256::<0x20>(wide[2], wide[3]),
                _mm256_permute2x128_si256::<0x31>(wide[0], wide[1]),
                _mm256_permute2x128_si256::<0x31>(wide[2], wide[3]),
            ];
            for (n, sums) in ordered.into_iter().enumerate() {
                let at = plane.add(8 * n).cast::<__m256i>();
                _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), sums));
            }
        }
    }
}

/// Interleaves the bytes of four halves: 32-bit element `4 l + e` of vector `q` is byte
/// `16 l + 4 q + e` of each.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn side_by_side(w: [__m256i; 4]) -> [__m256i; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let low = _mm256_unpacklo_epi8(w[0], w[1]);
        let high = _mm256_unpackhi_epi8(w[0], w[1]);
        let low2 = _mm256_unpacklo_epi8(w[2], w[3]);
        let high2 = _mm256_unpackhi_epi8(w[2], w[3]);
        [
            _mm256_unpacklo_epi16(low, low2),
            _mm256_unpackhi_epi16(low, low2),
            _mm256_unpacklo_epi16(high, high2),
            _mm256_unpackhi_epi16(high, high2),
        ]
    }
}

/// Adds `lanes`, pairs in 16 bits, to half `H` of the sums.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn widen<const H: usize>(acc: &mut Sums, lanes: __m256i) {
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

/// How many bits of whole rows differ; see [`Set::differing`](crate::sets::Set::differing).
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn differing<const R: usize, const T: usize>(
    w: [&[[u8; 64]]; R],
    x: [&[[u8; 64]]; T],
    mask: &[u8; 64],
) -> [[u32; T]; R] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut counts = [[0; T]; R];
        let last = w[0].len() - 1;
        for r in 0..R {
            for t in 0..T {
                let mut acc = _mm256_setzero_si256();
                for (w, x) in w[r][..last].iter().zip(x[t]) {
                    let low = _mm256_xor_si256(half::<u8, 0>(w), half::<u8, 0>(x));
                    let high = _mm256_xor_si256(half::<u8, 1>(w), half::<u8, 1>(x));
                    acc = _mm256_add_epi64(acc, ones(low, high));
                }
                let (w, x) = (&w[r][last], &x[t][last]);
                let low = _mm256_xor_si256(half::<u8, 0>(w), half::<u8, 0>(x));
                let high = _mm256_xor_si256(half::<u8, 1>(w), half::<u8, 1>(x));
                let low = _mm256_and_si256(low, half::<u8, 0>(mask));
                let high = _mm256_and_si256(high, half::<u8, 1>(mask));
                acc = _mm256_add_epi64(acc, ones(low, high));
                let two = _mm_add_epi64(
                    _mm256_castsi256_si128(acc),
                    _mm256_extracti128_si256::<1>(acc),
                );
                let one = _mm_add_epi64(two, _mm_unpackhi_epi64(two, two));
                counts[r][t] = _mm_cvtsi128_si32(one) as u32;
            }
        }
        counts
    }
}

/// Set bits of two vectors, in four sums: each byte's from a table of its nibbles.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn ones(a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let table = _mm256_setr_epi8(
            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2,
            3, 3, 4,
        );
        let mask = _mm256_set1_epi8(15);
        let mut bytes = _mm256_setzero_si256();
        for v in [a, b] {
            let low = _mm256_and_si256(v, mask);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(v), mask);
            bytes = _mm256_add_epi8(bytes, _mm256_shuffle_epi8(table, low));
            bytes = _mm256_add_epi8(bytes, _mm256_shuffle_epi8(table, high));
        }
        _mm256_sad_epu8(bytes, _mm256_setzero_si256())
    }
}
