//! The byte products of one row's atom.

use std::arch::x86_64::*;

use super::{Avx2, Sums, half};
use crate::body::ahead::Ahead;
use crate::body::columns::{Batch, STRIP, Strip};
use crate::sets::Set;

/// Half `H` of a strip, all planes: bytes of two inputs side by side, so that one 16-bit lane is an output. Over a batch of 64
/// inputs a lane reaches 64 * 3 * 128 = 24576 at most.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn t2_columns<const H: usize, A: Ahead>(
    s: Avx2,
    strip: Strip<'_>,
    batch: &Batch,
    sums: &mut [i32; STRIP],
    ahead: &mut A,
) {
    // SAFETY: the caller vouches for the instructions; a plane has 64 sums, a half of it 32, which are four registers.
    unsafe {
        let mut acc = [[_mm256_setzero_si256(); 2]; 4];
        for (inputs, codes) in batch.fours() {
            // As many lines as there are inputs, over both halves; more at once would fill all buffers.
            ahead.request(s, 0, 0);
            ahead.request(s, 0, 0);
            for i in [0, 2] {
                let x = i16::from_le_bytes([codes[i] as u8, codes[i + 1] as u8]);
                let x = _mm256_set1_epi16(x);
                let a = half::<u8, H>(strip.atom(inputs[i]));
                let b = half::<u8, H>(strip.atom(inputs[i + 1]));
                add_pair(&mut acc, 0, _mm256_unpacklo_epi8(a, b), x);
                add_pair(&mut acc, 1, _mm256_unpackhi_epi8(a, b), x);
            }
        }
        for (plane, [low, high]) in sums.as_chunks_mut::<64>().0.iter_mut().zip(acc) {
            // Unpacking works within 128 bits: outputs 0 to 8 and 16 to 24 are low, the others high.
            let ordered = [
                _mm256_castsi256_si128(low),
                _mm256_castsi256_si128(high),
                _mm256_extracti128_si256::<1>(low),
                _mm256_extracti128_si256::<1>(high),
            ];
            let plane = &mut plane.as_chunks_mut::<32>().0[H];
            for (out, sums) in plane.as_chunks_mut::<8>().0.iter_mut().zip(ordered) {
                let at = out.as_mut_ptr().cast::<__m256i>();
                let sum = _mm256_add_epi32(_mm256_loadu_si256(at), _mm256_cvtepi16_epi32(sums));
                _mm256_storeu_si256(at, sum);
            }
        }
    }
}

/// Adds the four planes of the bytes of two inputs, side by side, times their codes.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn add_pair(acc: &mut [[__m256i; 2]; 4], h: usize, bytes: __m256i, x: __m256i) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mask = _mm256_set1_epi8(3);
        let planes = [
            bytes,
            _mm256_srli_epi16::<2>(bytes),
            _mm256_srli_epi16::<4>(bytes),
            _mm256_srli_epi16::<6>(bytes),
        ];
        for p in 0..4 {
            let product = _mm256_maddubs_epi16(_mm256_and_si256(planes[p], mask), x);
            acc[p][h] = _mm256_add_epi16(acc[p][h], product);
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

/// Atoms whose products fit 16 bits: two halves of four planes, two products of at most 3 * 128 to a lane.
const T2_ATOMS: usize = i16::MAX as usize / (2 * 4 * 2 * 3 * 128);

/// [`Set::t2_rows`](crate::sets::Set::t2_rows): sums stay in 16 bits as long as they surely fit. So there is one
/// register for each row and token.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn t2_rows<A: Ahead, const R: usize, const T: usize>(
    s: Avx2,
    w: [&[[u8; 64]]; R],
    mut ahead: A,
    x: [&[[[i8; 64]; 4]]; T],
) -> [[i32; T]; R] {
    let atoms = w[0].len();
    let (mut w_rows, mut x_rows) = (w, x);
    for r in 0..R {
        w_rows[r] = &w[r][..atoms];
    }
    for t in 0..T {
        x_rows[t] = &x[t][..atoms];
    }
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut acc = [[s.zero_sums(); T]; R];
        for start in (0..atoms).step_by(T2_ATOMS) {
            let mut pairs = [[_mm256_setzero_si256(); T]; R];
            for a in start..atoms.min(start + T2_ATOMS) {
                let mut planes = [&[[0; 64]; 4]; T];
                for t in 0..T {
                    planes[t] = &x_rows[t][a];
                }
                for r in 0..R {
                    ahead.request(s, r, 64 * a);
                    t2_atom(&mut pairs[r], &w_rows[r][a], &planes);
                }
            }
            for r in 0..R {
                for t in 0..T {
                    widen::<0>(&mut acc[r][t], pairs[r][t]);
                }
            }
        }
        s.block_sums(acc)
    }
}

/// Adds the products of a ternary atom in 16 bits: at most 6144.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn t2_atom<const T: usize>(
    pairs: &mut [__m256i; T],
    w: &[u8; 64],
    x: &[&[[i8; 64]; 4]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        t2_half::<0, T>(pairs, w, x);
        t2_half::<1, T>(pairs, w, x);
    }
}

/// Half `H` of it.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn t2_half<const H: usize, const T: usize>(
    pairs: &mut [__m256i; T],
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
            for p in 0..4 {
                let product = _mm256_maddubs_epi16(codes[p], half::<i8, H>(&x[t][p]));
                pairs[t] = _mm256_add_epi16(pairs[t], product);
            }
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
pub(super) unsafe fn differing<A: Ahead, const R: usize, const T: usize>(
    set: Avx2,
    w: [&[[u8; 64]]; R],
    mut ahead: A,
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
                for (a, (w, x)) in w[r][..last].iter().zip(x[t]).enumerate() {
                    ahead.request(set, r, 64 * a);
                    let low = _mm256_xor_si256(half::<u8, 0>(w), half::<u8, 0>(x));
                    let high = _mm256_xor_si256(half::<u8, 1>(w), half::<u8, 1>(x));
                    acc = _mm256_add_epi64(acc, ones(low, high));
                }
                let (w, x) = (&w[r][last], &x[t][last]);
                ahead.request(set, r, 64 * last);
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
