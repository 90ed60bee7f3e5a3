//! Int8 keys and values: bytes are widened to 16 bits, `vpdpwssd` adds pairs of products in 32. And
//! the sums of 4 x 4 accumulators, which are transposed while they are added.

use std::arch::x86_64::*;
use std::ops::Range;

use super::Sums;
use crate::body::attend::requests::Requests;
use crate::kv::KV_BLOCK;
use crate::sets::Set;

/// Steps in which a block's pairs of rows are taken: something is asked for in each.
const STEPS: usize = 4;
/// Pairs of a step.
const PAIRS: usize = KV_BLOCK / 2 / STEPS;

/// Adds the products of 32 columns.
///
/// # Safety
/// The CPU must have the set's features.
#[inline(always)]
pub(super) unsafe fn i8_i16<const R: usize, const T: usize>(
    acc: &mut [[Sums; T]; R],
    w: [&[u8; 32]; R],
    x: [&[i16; 32]; T],
) {
    // SAFETY: the caller vouches for the instructions; rows of `w` are 32 bytes, of `x` 64.
    unsafe {
        let mut wide = [_mm512_setzero_si512(); R];
        for r in 0..R {
            wide[r] = _mm512_cvtepi8_epi16(_mm256_loadu_si256(w[r].as_ptr().cast()));
        }
        for t in 0..T {
            let x = _mm512_loadu_si512(x[t].as_ptr().cast());
            for r in 0..R {
                acc[r][t].0 = _mm512_dpwssd_epi32(acc[r][t].0, wide[r], x);
            }
        }
    }
}

/// Adds up 32 columns of pairs of rows, each pair interleaved so that a 32-bit lane holds both values
/// of a column.
///
/// # Safety
/// The CPU must have the set's features.
#[inline(always)]
pub(super) unsafe fn weighted<S: Set, const T: usize>(
    s: S,
    rows: &[u8],
    stride: usize,
    pairs: Range<usize>,
    weights: &[[i16; KV_BLOCK]; T],
    ahead: Requests,
) -> [[i32; 32]; T] {
    let mut sums = [[0; 32]; T];
    assert!(pairs.end <= KV_BLOCK / 2, "pairs of a block");
    assert!(
        pairs.is_empty() || (2 * pairs.end - 1) * stride + 32 <= rows.len(),
        "32 bytes of each row"
    );
    // SAFETY: the caller vouches for the instructions; rows up to `2 pairs.end` have 32 bytes from their start, stores are of two
    // halves of 16 sums.
    unsafe {
        let mut acc = [[_mm512_setzero_si512(); 2]; T];
        let mut ahead = ahead.steps(STEPS);
        for step in 0..STEPS {
            ahead.ask(s);
            for pair in pairs.start.max(step * PAIRS)..pairs.end.min((step + 1) * PAIRS) {
                let row = rows.as_ptr().add(2 * pair * stride);
                let a = _mm512_cvtepi8_epi16(_mm256_loadu_si256(row.cast()));
                let b = _mm512_cvtepi8_epi16(_mm256_loadu_si256(row.add(stride).cast()));
                let low = _mm512_unpacklo_epi16(a, b);
                let high = _mm512_unpackhi_epi16(a, b);
                for t in 0..T {
                    let both: i32 = bytemuck::cast(weights[t].as_chunks::<2>().0[pair]);
                    let weight = _mm512_set1_epi32(both);
                    acc[t][0] = _mm512_dpwssd_epi32(acc[t][0], low, weight);
                    acc[t][1] = _mm512_dpwssd_epi32(acc[t][1], high, weight);
                }
            }
        }
        // Unpacking works within 128 bits: `low` has columns 8 n .. 8 n + 4 in its part n.
        let first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
        let second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
        for t in 0..T {
            let out = sums[t].as_mut_ptr().cast::<i32>();
            let [low, high] = acc[t];
            let columns = _mm512_permutex2var_epi64(low, first, high);
            _mm512_storeu_si512(out.cast(), columns);
            let columns = _mm512_permutex2var_epi64(low, second, high);
            _mm512_storeu_si512(out.add(16).cast(), columns);
        }
    }
    sums
}

/// The sums of 16 vectors in the order of a tree sum, of `i32` if `INT`, else of `f32`: halves,
/// quarters, pairs and single lanes are added, with two vectors side by side in one. Lane `4 t + r` of
/// the result belongs to `v[r][t]`.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
pub(super) unsafe fn four_by_four<const INT: bool>(v: [[__m512; 4]; 4]) -> __m512 {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut quarters = [_mm512_setzero_ps(); 4];
        for r in 0..4 {
            let mut halves = [_mm512_setzero_ps(); 2];
            for i in 0..2 {
                let (a, b) = (v[r][2 * i], v[r][2 * i + 1]);
                let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
                let high = _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b);
                halves[i] = add::<INT>(low, high);
            }
            let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(halves[0], halves[1]);
            let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(halves[0], halves[1]);
            quarters[r] = add::<INT>(low, high);
        }
        let mut pairs = [_mm512_setzero_ps(); 2];
        for i in 0..2 {
            let a = _mm512_castps_pd(quarters[2 * i]);
            let b = _mm512_castps_pd(quarters[2 * i + 1]);
            let low = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            let high = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            pairs[i] = add::<INT>(low, high);
        }
        let low = _mm512_shuffle_ps::<0b10_00_10_00>(pairs[0], pairs[1]);
        let high = _mm512_shuffle_ps::<0b11_01_11_01>(pairs[0], pairs[1]);
        add::<INT>(low, high)
    }
}

/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn add<const INT: bool>(a: __m512, b: __m512) -> __m512 {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        match INT {
            true => _mm512_castsi512_ps(_mm512_add_epi32(
                _mm512_castps_si512(a),
                _mm512_castps_si512(b),
            )),
            false => _mm512_add_ps(a, b),
        }
    }
}
