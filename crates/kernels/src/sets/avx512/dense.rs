//! Ternary codes that stand five to a byte.
//!
//! A byte is `85 c0 + 29 c1 + 9 c2 + 3 c3 + c4`. Of `b`, `b - 85` and `b - 170` as unsigned bytes the
//! least is what `c0` leaves, because subtracting too much wraps to more than there was; what is gone
//! is a multiple of 85, which leaves `c0` when divided by 4. The rest, at most 85, is looked up in a
//! table of 128 bytes where the CPU has an instruction for that (VBMI): it becomes a byte of the four
//! other codes as in the layout of two bits. Elsewhere the second and third code are taken as the
//! first is, and the last two looked up in 16 bytes each.

use std::arch::x86_64::*;

use super::bands::inverse;
use super::{Avx512, Sums, load, load_rows};
use crate::body::ahead::Ahead;

/// `c1 + 4 c2 + 16 c3 + 64 c4` of what `c0` leaves.
pub(super) static FOUR_CODES: [[u8; 64]; 2] = four_codes();

const fn four_codes() -> [[u8; 64]; 2] {
    let mut table = [[0; 64]; 2];
    let mut byte = 0;
    while byte < 128 {
        let (mut rest, mut codes, mut p) = (byte as u8, 0, 0);
        while p < 4 {
            let place = [29, 9, 3, 1][p];
            let code = if rest >= 2 * place { 2 } else { rest / place };
            rest -= code * place;
            codes |= code << (2 * p);
            p += 1;
        }
        table[byte / 64][byte % 64] = codes;
        byte += 1;
    }
    table
}

/// Takes the code of the first place off each byte of `rest`.
///
/// # Safety
/// The CPU must have AVX-512BW.
#[inline(always)]
unsafe fn take<const PLACE: i8>(rest: &mut __m512i) -> __m512i {
    // SAFETY: the caller vouches for the instructions.
    unsafe { _mm512_and_si512(take_away::<PLACE>(rest), _mm512_set1_epi8(3)) }
}

/// Takes the code of the first place off each byte of `rest`: `PLACE` times the code.
///
/// # Safety
/// The CPU must have AVX-512BW.
#[inline(always)]
pub(super) unsafe fn take_away<const PLACE: i8>(rest: &mut __m512i) -> __m512i {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let once = _mm512_sub_epi8(*rest, _mm512_set1_epi8(PLACE));
        let twice = _mm512_sub_epi8(*rest, _mm512_set1_epi8(PLACE.wrapping_mul(2)));
        let least = _mm512_min_epu8(_mm512_min_epu8(*rest, once), twice);
        let taken = _mm512_sub_epi8(*rest, least);
        *rest = least;
        taken
    }
}

/// Adds the products of plane `P`.
///
/// # Safety
/// The CPU must have AVX-512 VNNI.
#[inline(always)]
unsafe fn add<const P: usize, const R: usize, const T: usize>(
    acc: &mut [[Sums; T]; R],
    codes: &[__m512i; R],
    x: &[&[[i8; 64]; 5]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        for t in 0..T {
            let x = load(&x[t][P]);
            for r in 0..R {
                acc[r][t].0 = _mm512_dpbusd_epi32(acc[r][t].0, codes[r], x);
            }
        }
    }
}

/// The five codes of each byte.
///
/// # Safety
/// The CPU must have AVX-512BW.
#[inline(always)]
pub(super) unsafe fn planes(bytes: __m512i) -> [__m512i; 5] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut rest = bytes;
        let first = take::<85>(&mut rest);
        let second = take::<29>(&mut rest);
        let third = take::<9>(&mut rest);
        let [fourth, fifth] = last_two(rest);
        [first, second, third, fourth, fifth]
    }
}

/// The last two codes, of what the first three leave: at most 10.
///
/// # Safety
/// The CPU must have AVX-512BW.
#[inline(always)]
pub(super) unsafe fn last_two(rest: __m512i) -> [__m512i; 2] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let thirds = _mm_setr_epi8(0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2);
        let units = _mm_setr_epi8(0, 1, 2, 0, 1, 2, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2);
        [
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(thirds), rest),
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(units), rest),
        ]
    }
}

/// Adds the products of atoms.
///
/// # Safety
/// The CPU must have AVX-512 BW and VNNI.
#[inline(always)]
pub(super) unsafe fn atoms<const R: usize, const T: usize>(
    acc: &mut [[Sums; T]; R],
    w: [&[u8; 64]; R],
    x: &[&[[i8; 64]; 5]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let rows = load_rows(w);
        let mut codes = [[_mm512_setzero_si512(); R]; 5];
        for r in 0..R {
            let planes = planes(rows[r]);
            for p in 0..5 {
                codes[p][r] = planes[p];
            }
        }
        add::<0, R, T>(acc, &codes[0], x);
        add::<1, R, T>(acc, &codes[1], x);
        add::<2, R, T>(acc, &codes[2], x);
        add::<3, R, T>(acc, &codes[3], x);
        add::<4, R, T>(acc, &codes[4], x);
    }
}

/// [`Set::t5_rows`](crate::sets::Set::t5_rows) with the table of 128 bytes: the accumulators.
///
/// # Safety
/// The CPU must have AVX-512 F, BW, VL, VNNI and VBMI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
pub(super) unsafe fn rows_by_table<A: Ahead, const R: usize, const T: usize>(
    set: Avx512,
    w_rows: [&[[u8; 64]]; R],
    mut ahead: A,
    x_rows: [&[[[i8; 64]; 5]]; T],
) -> [[Sums; T]; R] {
    let atoms = w_rows[0].len();
    let mask = _mm512_set1_epi8(3);
    let mut acc = [[Sums(_mm512_setzero_si512()); T]; R];
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let table = [load(&FOUR_CODES[0]), load(&FOUR_CODES[1])];
        if T == 1 {
            let sums = in_place(set, table, w_rows, ahead, x_rows[0]);
            for r in 0..R {
                acc[r][0] = Sums(sums[r]);
            }
            return acc;
        }
        for a in 0..atoms {
            let mut x = [&[[0; 64]; 5]; T];
            for t in 0..T {
                x[t] = &x_rows[t][a];
            }
            let (mut codes, mut rest) = ([_mm512_setzero_si512(); R], [_mm512_setzero_si512(); R]);
            for r in 0..R {
                ahead.request(set, r, 64 * a);
                rest[r] = load(&w_rows[r][a]);
                codes[r] = take::<85>(&mut rest[r]);
                rest[r] = _mm512_permutex2var_epi8(table[0], rest[r], table[1]);
            }
            add::<0, R, T>(&mut acc, &codes, &x);
            for r in 0..R {
                codes[r] = _mm512_and_si512(rest[r], mask);
            }
            add::<1, R, T>(&mut acc, &codes, &x);
            for r in 0..R {
                codes[r] = _mm512_and_si512(_mm512_srli_epi16::<2>(rest[r]), mask);
            }
            add::<2, R, T>(&mut acc, &codes, &x);
            for r in 0..R {
                codes[r] = _mm512_and_si512(_mm512_srli_epi16::<4>(rest[r]), mask);
            }
            add::<3, R, T>(&mut acc, &codes, &x);
            for r in 0..R {
                codes[r] = _mm512_and_si512(_mm512_srli_epi16::<6>(rest[r]), mask);
            }
            add::<4, R, T>(&mut acc, &codes, &x);
        }
    }
    acc
}

/// The same of one token, whose codes stay where they are in their bytes: the first as 85 times itself, the others as 1 or 4 times. What
/// their sums are too large by is divided out once for a row; see [`bands`](super::bands).
///
/// # Safety
/// The CPU must have AVX-512 F, BW, VNNI and VBMI.
#[inline(always)]
unsafe fn in_place<A: Ahead, const R: usize>(
    set: Avx512,
    table: [__m512i; 2],
    w_rows: [&[[u8; 64]]; R],
    mut ahead: A,
    x: &[[[i8; 64]; 5]],
) -> [__m512i; R] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let places = [_mm512_set1_epi8(3), _mm512_set1_epi8(12)];
        let (mut first, mut once, mut fourfold) = (
            [_mm512_setzero_si512(); R],
            [_mm512_setzero_si512(); R],
            [_mm512_setzero_si512(); R],
        );
        for a in 0..w_rows[0].len() {
            let mut codes = [_mm512_setzero_si512(); R];
            let [x0, x1, x2, x3, x4] = &x[a];
            let (x0, x1, x2, x3, x4) = (load(x0), load(x1), load(x2), load(x3), load(x4));
            for r in 0..R {
                ahead.request(set, r, 64 * a);
                let mut rest = load(&w_rows[r][a]);
                first[r] = _mm512_dpbusd_epi32(first[r], take_away::<85>(&mut rest), x0);
                codes[r] = _mm512_permutex2var_epi8(table[0], rest, table[1]);
            }
            for r in 0..R {
                let low = _mm512_and_si512(codes[r], places[0]);
                once[r] = _mm512_dpbusd_epi32(once[r], low, x1);
                let high = _mm512_and_si512(codes[r], places[1]);
                fourfold[r] = _mm512_dpbusd_epi32(fourfold[r], high, x2);
                codes[r] = _mm512_srli_epi16::<4>(codes[r]);
            }
            for r in 0..R {
                let low = _mm512_and_si512(codes[r], places[0]);
                once[r] = _mm512_dpbusd_epi32(once[r], low, x3);
                let high = _mm512_and_si512(codes[r], places[1]);
                fourfold[r] = _mm512_dpbusd_epi32(fourfold[r], high, x4);
            }
        }
        let places = _mm512_set1_epi32(const { inverse(85) });
        for r in 0..R {
            let others = _mm512_add_epi32(once[r], _mm512_srai_epi32::<2>(fourfold[r]));
            first[r] = _mm512_add_epi32(_mm512_mullo_epi32(first[r], places), others);
        }
        first
    }
}
