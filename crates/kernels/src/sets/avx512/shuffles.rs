//! Elements that change places.

use std::arch::x86_64::*;

/// Interleaves the bytes of four atoms: 32-bit element `4 l + e` of vector `q` is byte
/// `16 l + 4 q + e` of each.
///
/// # Safety
/// The CPU must have AVX-512BW.
#[inline(always)]
pub(super) unsafe fn side_by_side(w: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let low = _mm512_unpacklo_epi8(w[0], w[1]);
        let high = _mm512_unpackhi_epi8(w[0], w[1]);
        let low2 = _mm512_unpacklo_epi8(w[2], w[3]);
        let high2 = _mm512_unpackhi_epi8(w[2], w[3]);
        [
            _mm512_unpacklo_epi16(low, low2),
            _mm512_unpackhi_epi16(low, low2),
            _mm512_unpacklo_epi16(high, high2),
            _mm512_unpackhi_epi16(high, high2),
        ]
    }
}

/// Undoes the order of [`side_by_side`] in four vectors of sums: transposes their 128-bit lanes.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
pub(in crate::sets) unsafe fn in_order(q: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let a = _mm512_shuffle_i32x4::<0b01_00_01_00>(q[0], q[1]);
        let b = _mm512_shuffle_i32x4::<0b11_10_11_10>(q[0], q[1]);
        let c = _mm512_shuffle_i32x4::<0b01_00_01_00>(q[2], q[3]);
        let d = _mm512_shuffle_i32x4::<0b11_10_11_10>(q[2], q[3]);
        [
            _mm512_shuffle_i32x4::<0b10_00_10_00>(a, c),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(a, c),
            _mm512_shuffle_i32x4::<0b10_00_10_00>(b, d),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(b, d),
        ]
    }
}

/// The sums of the lanes of each of four vectors.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
pub(super) unsafe fn four_sums(acc: [__m512i; 4]) -> [i32; 4] {
    // SAFETY: the caller vouches for the instructions; the array is 16 bytes.
    unsafe {
        let pair =
            |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (ab, cd) = (pair(acc[0], acc[1]), pair(acc[2], acc[3]));
        let all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let half = _mm256_add_epi32(
            _mm512_castsi512_si256(all),
            _mm512_extracti64x4_epi64::<1>(all),
        );
        let quarter = _mm_add_epi32(
            _mm256_castsi256_si128(half),
            _mm256_extracti128_si256::<1>(half),
        );
        let mut sums = [0; 4];
        _mm_storeu_si128(sums.as_mut_ptr().cast(), quarter);
        sums
    }
}

/// Transposes 16 rows of 16 times 32 bits.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
pub(super) unsafe fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        // Of four rows, vector c gets column c of each 128-bit lane.
        let mut fours = rows;
        for four in fours.as_chunks_mut::<4>().0 {
            let [a, b, c, d] = *four;
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (ab2, cd2) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            *four = [
                _mm512_unpacklo_epi64(ab, cd),
                _mm512_unpackhi_epi64(ab, cd),
                _mm512_unpacklo_epi64(ab2, cd2),
                _mm512_unpackhi_epi64(ab2, cd2),
            ];
        }
        // Lane l of the four vectors c makes column 4 l + c.
        let mut out = rows;
        for c in 0..4 {
            let lanes = in_order([fours[c], fours[4 + c], fours[8 + c], fours[12 + c]]);
            for l in 0..4 {
                out[4 * l + c] = lanes[l];
            }
        }
        out
    }
}
