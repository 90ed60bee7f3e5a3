//! Int8 keys and values: bytes are widened to 16 bits, `vpmaddwd` adds pairs of products in 32. And
//! the sums of four accumulators, which are transposed while they are added.

use std::arch::x86_64::*;
use std::ops::Range;

use super::Sums;
use crate::kv::KV_BLOCK;

/// Adds the products of 32 columns.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn i8_i16<const T: usize>(
    acc: &mut [Sums; T],
    w: &[u8; 32],
    x: &[&[i16; 32]; T],
) {
    // SAFETY: the caller vouches for the instructions; 16 bytes can be read at either half of `w`,
    // and 32 at either half of each of `x`.
    unsafe {
        for half in 0..2 {
            let w = _mm_loadu_si128(w.as_ptr().cast::<__m128i>().add(half));
            let w = _mm256_cvtepi8_epi16(w);
            for t in 0..T {
                let x = _mm256_loadu_si256(x[t].as_ptr().cast::<__m256i>().add(half));
                let sums = &mut acc[t].0[half];
                *sums = _mm256_add_epi32(*sums, _mm256_madd_epi16(w, x));
            }
        }
    }
}

/// Adds up 16 columns from `C` of pairs of rows, each pair interleaved so that a 32-bit lane holds both
/// values of a column.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn weighted<const C: usize, const T: usize>(
    rows: &[u8],
    stride: usize,
    pairs: Range<usize>,
    weights: &[[i16; KV_BLOCK]; T],
    ahead: (*const u8, usize),
    sums: &mut [[i32; 32]; T],
) {
    const { assert!(C + 16 <= 32) };
    assert!(pairs.end <= KV_BLOCK / 2, "pairs of a block");
    // SAFETY: the caller vouches for the instructions; loads and stores are of 16 bytes of arrays of
    // that length, and of two halves of 16 sums.
    unsafe {
        let mut acc = [[_mm256_setzero_si256(); 2]; T];
        for pair in pairs {
            for line in 0..ahead.1 {
                let line = ahead.0.wrapping_add(64 * (pair * ahead.1 + line));
                _mm_prefetch::<_MM_HINT_T1>(line.cast());
            }
            let mut wide = [_mm256_setzero_si256(); 2];
            for i in 0..2 {
                let row: &[u8; 16] = rows[(2 * pair + i) * stride + C..]
                    .first_chunk()
                    .expect("32 bytes of each row");
                wide[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128(row.as_ptr().cast()));
            }
            let low = _mm256_unpacklo_epi16(wide[0], wide[1]);
            let high = _mm256_unpackhi_epi16(wide[0], wide[1]);
            for t in 0..T {
                let both: i32 = bytemuck::cast(weights[t].as_chunks::<2>().0[pair]);
                let weight = _mm256_set1_epi32(both);
                acc[t][0] = _mm256_add_epi32(acc[t][0], _mm256_madd_epi16(low, weight));
                acc[t][1] = _mm256_add_epi32(acc[t][1], _mm256_madd_epi16(high, weight));
            }
        }
        for t in 0..T {
            let out = sums[t][C..].as_mut_ptr().cast::<__m256i>();
            let [low, high] = acc[t];
            _mm256_storeu_si256(out, _mm256_permute2x128_si256::<0x20>(low, high));
            _mm256_storeu_si256(out.add(1), _mm256_permute2x128_si256::<0x31>(low, high));
        }
    }
}

/// The sums of four times 16 lanes in the order of a tree sum, of `i32` if `INT`, else of `f32`: halves,
/// quarters, pairs and single lanes are added, of two vectors side by side in one.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn four<const INT: bool>(v: [[__m256; 2]; 4]) -> __m128 {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut quarters = [_mm256_setzero_ps(); 2];
        for i in 0..2 {
            let a = add::<INT>(v[2 * i][0], v[2 * i][1]);
            let b = add::<INT>(v[2 * i + 1][0], v[2 * i + 1][1]);
            let low = _mm256_permute2f128_ps::<0x20>(a, b);
            let high = _mm256_permute2f128_ps::<0x31>(a, b);
            quarters[i] = add::<INT>(low, high);
        }
        let [a, b] = [_mm256_castps_pd(quarters[0]), _mm256_castps_pd(quarters[1])];
        let low = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
        let high = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
        let pairs = add::<INT>(low, high);
        let even = _mm256_shuffle_ps::<0b10_00_10_00>(pairs, pairs);
        let odd = _mm256_shuffle_ps::<0b11_01_11_01>(pairs, pairs);
        // Of vectors 0 and 2 in the lower half, of 1 and 3 in the upper.
        let sums = add::<INT>(even, odd);
        _mm_unpacklo_ps(
            _mm256_castps256_ps128(sums),
            _mm256_extractf128_ps::<1>(sums),
        )
    }
}

/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn add<const INT: bool>(a: __m256, b: __m256) -> __m256 {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        match INT {
            true => _mm256_castsi256_ps(_mm256_add_epi32(
                _mm256_castps_si256(a),
                _mm256_castps_si256(b),
            )),
            false => _mm256_add_ps(a, b),
        }
    }
}
