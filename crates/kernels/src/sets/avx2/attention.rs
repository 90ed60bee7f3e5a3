//! Int8 keys and values: bytes are widened to 16 bits, `vpmaddwd` adds pairs of products in 32. And
//! the sums of four accumulators, which are transposed while they are added.

use std::arch::x86_64::*;
use std::ops::Range;

use super::Sums;
use crate::body::attend::requests::Requests;
use crate::kv::KV_BLOCK;
use crate::sets::Set;

/// Adds the products of 32 columns, all to the first half of the sums: registers are few.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn i8_i16<const R: usize, const T: usize>(
    acc: &mut [[Sums; T]; R],
    w: &[&[u8; 32]; R],
    x: &[&[i16; 32]; T],
) {
    // SAFETY: the caller vouches for the instructions; 16 bytes can be read at either half of each of `w`,
    // and 32 at either half of each of `x`.
    unsafe {
        for half in 0..2 {
            let mut codes = [_mm256_setzero_si256(); T];
            for t in 0..T {
                codes[t] = _mm256_loadu_si256(x[t].as_ptr().cast::<__m256i>().add(half));
            }
            for r in 0..R {
                let w = _mm_loadu_si128(w[r].as_ptr().cast::<__m128i>().add(half));
                let w = _mm256_cvtepi8_epi16(w);
                for t in 0..T {
                    let sums = &mut acc[r][t].0[0];
                    *sums = _mm256_add_epi32(*sums, _mm256_madd_epi16(w, codes[t]));
                }
            }
        }
    }
}

/// Adds up 16 columns from `C` of pairs of rows, each pair interleaved so that a 32-bit lane holds both
/// values of a column. Two pairs at a time: their products are added before they meet the sums.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn weighted<S: Set, const C: usize, const T: usize>(
    s: S,
    rows: &[u8],
    stride: usize,
    pairs: Range<usize>,
    weights: &[[i16; KV_BLOCK]; T],
    ahead: Requests,
    sums: &mut [[i32; 32]; T],
) {
    const { assert!(C + 16 <= 32) };
    assert!(
        pairs.start.is_multiple_of(2) && pairs.end.is_multiple_of(2) && pairs.end <= KV_BLOCK / 2,
        "pairs of a block"
    );
    assert!(
        pairs.is_empty() || (2 * pairs.end - 1) * stride + 32 <= rows.len(),
        "32 bytes of each row"
    );
    // SAFETY: the caller vouches for the instructions. Rows up to `2 pairs.end` have 32 bytes from their start, of which 16
    // from `C` are read; there are as many weights in a block, four of which are read; stores are of two halves of 16 sums.
    unsafe {
        let mut acc = [[_mm256_setzero_si256(); 2]; T];
        let mut ahead = ahead.steps(KV_BLOCK / 4);
        for two in pairs.start / 2..pairs.end / 2 {
            ahead.ask(s);
            let row = rows.as_ptr().add(4 * two * stride + C);
            let first = interleaved(row, stride);
            let second = interleaved(row.add(2 * stride), stride);
            for t in 0..T {
                let at = weights[t].as_ptr().add(4 * two).cast::<i32>();
                let first_weight = _mm256_set1_epi32(at.read_unaligned());
                let second_weight = _mm256_set1_epi32(at.add(1).read_unaligned());
                for h in 0..2 {
                    let both = _mm256_add_epi32(
                        _mm256_madd_epi16(first[h], first_weight),
                        _mm256_madd_epi16(second[h], second_weight),
                    );
                    acc[t][h] = _mm256_add_epi32(acc[t][h], both);
                }
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

/// 16 bytes of two rows as 16 bits, side by side: columns 0 to 4 and 8 to 12, then the others.
///
/// # Safety
/// The CPU must have AVX2, and 16 bytes must be there at `row` and `stride` behind it.
#[inline(always)]
unsafe fn interleaved(row: *const u8, stride: usize) -> [__m256i; 2] {
    // SAFETY: the caller vouches for the instructions and the bytes.
    unsafe {
        let a = _mm256_cvtepi8_epi16(_mm_loadu_si128(row.cast()));
        let b = _mm256_cvtepi8_epi16(_mm_loadu_si128(row.add(stride).cast()));
        [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)]
    }
}

/// The sums of the lanes of four vectors.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn four_sums(v: [__m256i; 4]) -> __m128i {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        // Not `vphaddd`, which takes Zen 3 two cycles.
        let mut pairs = [_mm256_setzero_si256(); 2];
        for i in 0..2 {
            let (a, b) = (v[2 * i], v[2 * i + 1]);
            pairs[i] = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        }
        let [a, b] = pairs;
        let eight = _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        _mm_add_epi32(
            _mm256_castsi256_si128(eight),
            _mm256_extracti128_si256::<1>(eight),
        )
    }
}

/// The tree sums of four times 16 lanes: halves, quarters, pairs and single lanes are added, of two vectors side by
/// side in one.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn four_tree_sums(v: [[__m256; 2]; 4]) -> __m128 {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut quarters = [_mm256_setzero_ps(); 2];
        for i in 0..2 {
            let a = _mm256_add_ps(v[2 * i][0], v[2 * i][1]);
            let b = _mm256_add_ps(v[2 * i + 1][0], v[2 * i + 1][1]);
            let low = _mm256_permute2f128_ps::<0x20>(a, b);
            let high = _mm256_permute2f128_ps::<0x31>(a, b);
            quarters[i] = _mm256_add_ps(low, high);
        }
        let [a, b] = [_mm256_castps_pd(quarters[0]), _mm256_castps_pd(quarters[1])];
        let low = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
        let high = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
        let pairs = _mm256_add_ps(low, high);
        let even = _mm256_shuffle_ps::<0b10_00_10_00>(pairs, pairs);
        let odd = _mm256_shuffle_ps::<0b11_01_11_01>(pairs, pairs);
        // Of vectors 0 and 2 in the lower half, of 1 and 3 in the upper.
        let sums = _mm256_add_ps(even, odd);
        _mm_unpacklo_ps(
            _mm256_castps256_ps128(sums),
            _mm256_extractf128_ps::<1>(sums),
        )
    }
}
