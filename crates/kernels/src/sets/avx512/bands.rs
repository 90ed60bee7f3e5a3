//! Ternary codes of five rows to a byte.
//!
//! What belongs to one row is summed up alone, so codes need not be brought to the same place first: a
//! sum of `code * factor * x` is divided by the factor once, after the loop. What the first code takes
//! off a byte is 85 times the code. The rest is looked up in the table of 128 bytes, which gives
//! `c1 + 4 c2 + 16 c3 + 64 c4`; of that the last three are masked out, and their sums are taken off the
//! sum of the whole to leave that of `c1`. Without the table (VBMI) the second and third code are taken
//! as the first is, 29 and 9 times the code, and the last two looked up in 16 bytes each.
//!
//! Odd factors are divided by in arithmetic modulo 2^32, which is exact even where the sum has wrapped.
//! Powers of two are shifted out: `64 * 2 * 128` a column fits 32 bits for fewer than 2^17 columns.

use std::arch::x86_64::*;

use super::dense::{FOUR_CODES, last_two, take_away};
use super::shuffles::four_sums;
use super::{Avx512, Sums, load};
use crate::body::ahead::Ahead;
use crate::body::bands::{BAND, BandSums, CHUNK};
use crate::sets::Set;

/// The number that gives 1 when multiplied by `odd` modulo 2^32.
pub(super) const fn inverse(odd: u32) -> i32 {
    let (mut inverse, mut round) = (odd, 0);
    // Each round doubles the bits that are right, three at first.
    while round < 4 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(inverse)));
        round += 1;
    }
    assert!(odd.wrapping_mul(inverse) == 1);
    inverse as i32
}

/// What takes bytes apart: the codes of each row, times what the whole sum is divided by.
trait Unpack: Copy {
    /// # Safety
    /// The CPU must have the features of the function that makes the value.
    unsafe fn planes(self, bytes: __m512i) -> [__m512i; BAND];
}

/// The table of 128 bytes, and the masks of the last three codes in it.
#[derive(Clone, Copy)]
struct ByTable {
    table: [__m512i; 2],
    masks: [__m512i; 3],
}

impl Unpack for ByTable {
    #[inline(always)]
    unsafe fn planes(self, bytes: __m512i) -> [__m512i; BAND] {
        let mut rest = bytes;
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let first = take_away::<85>(&mut rest);
            let four = _mm512_permutex2var_epi8(self.table[0], rest, self.table[1]);
            [
                first,
                four,
                _mm512_and_si512(four, self.masks[0]),
                _mm512_and_si512(four, self.masks[1]),
                _mm512_and_si512(four, self.masks[2]),
            ]
        }
    }
}

/// No table.
#[derive(Clone, Copy)]
struct BySteps;

impl Unpack for BySteps {
    #[inline(always)]
    unsafe fn planes(self, bytes: __m512i) -> [__m512i; BAND] {
        let mut rest = bytes;
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let first = take_away::<85>(&mut rest);
            let second = take_away::<29>(&mut rest);
            let third = take_away::<9>(&mut rest);
            let [fourth, fifth] = last_two(rest);
            [first, second, third, fourth, fifth]
        }
    }
}

/// [`Set::band_sums`] with the table of 128 bytes.
///
/// # Safety
/// The CPU must have AVX-512 F, BW, VL, VNNI and VBMI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
pub(super) unsafe fn by_table<A: Ahead, const R: usize, const T: usize>(
    set: Avx512,
    w: [&[[u8; 64]]; R],
    ahead: A,
    x: [&[[[i8; 64]; 1]]; T],
) -> BandSums<i32, R, T> {
    // SAFETY: the caller vouches for the instructions.
    let mut sums = unsafe {
        let unpack = ByTable {
            table: [load(&FOUR_CODES[0]), load(&FOUR_CODES[1])],
            masks: [
                _mm512_set1_epi8(0x0c),
                _mm512_set1_epi8(0x30),
                _mm512_set1_epi8(0xc0u8 as i8),
            ],
        };
        reduced(set, multiplied(set, unpack, w, ahead, x))
    };
    for [c0, c1, c2, c3, c4] in &mut sums {
        for t in 0..T {
            c1[t] = c1[t]
                .wrapping_sub(c2[t])
                .wrapping_sub(c3[t])
                .wrapping_sub(c4[t]);
            c0[t] = c0[t].wrapping_mul(const { inverse(85) });
            c2[t] >>= 2;
            c3[t] >>= 4;
            c4[t] >>= 6;
        }
    }
    sums
}

/// [`Set::band_sums`] without it.
///
/// # Safety
/// The CPU must have AVX-512 F, BW, VL and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn by_steps<A: Ahead, const R: usize, const T: usize>(
    set: Avx512,
    w: [&[[u8; 64]]; R],
    ahead: A,
    x: [&[[[i8; 64]; 1]]; T],
) -> BandSums<i32, R, T> {
    // SAFETY: the caller vouches for the instructions.
    let mut sums = unsafe { reduced(set, multiplied(set, BySteps, w, ahead, x)) };
    for [c0, c1, c2, ..] in &mut sums {
        for t in 0..T {
            c0[t] = c0[t].wrapping_mul(const { inverse(85) });
            c1[t] = c1[t].wrapping_mul(const { inverse(29) });
            c2[t] = c2[t].wrapping_mul(const { inverse(9) });
        }
    }
    sums
}

/// The sums of `planes * x`. The bands of one token take turns atom by atom, so that memory is read evenly, and keep all their sums in
/// registers; those of several tokens take turns by [`CHUNK`].
///
/// # Safety
/// The CPU must have AVX-512 F, BW and VNNI, and what `unpack` needs.
#[inline(always)]
unsafe fn multiplied<U: Unpack, A: Ahead, const R: usize, const T: usize>(
    set: Avx512,
    unpack: U,
    w: [&[[u8; 64]]; R],
    mut ahead: A,
    x: [&[[[i8; 64]; 1]]; T],
) -> BandSums<Sums, R, T> {
    let atoms = w[0].len();
    let chunk = if T == 1 { 1 } else { CHUNK };
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut acc = [[[Sums(_mm512_setzero_si512()); T]; BAND]; R];
        for start in (0..atoms).step_by(chunk) {
            for r in 0..R {
                let mut sums = acc[r];
                let mut a = start;
                while a < atoms.min(start + chunk) {
                    ahead.request(set, r, 64 * a);
                    let planes = unpack.planes(load(&w[r][a]));
                    for t in 0..T {
                        let x = load(&x[t][a][0]);
                        for p in 0..BAND {
                            sums[p][t].0 = _mm512_dpbusd_epi32(sums[p][t].0, planes[p], x);
                        }
                    }
                    a += 1;
                    if T == 1 {
                        break;
                    }
                }
                acc[r] = sums;
            }
        }
        acc
    }
}

/// The lanes added, four bands at a time where there are four.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn reduced<const R: usize, const T: usize>(
    set: Avx512,
    acc: BandSums<Sums, R, T>,
) -> BandSums<i32, R, T> {
    let mut sums = [[[0; T]; BAND]; R];
    for p in 0..BAND {
        for t in 0..T {
            if R == 4 {
                let mut bands = [acc[0][p][t].0; 4];
                for r in 0..R {
                    bands[r] = acc[r][p][t].0;
                }
                // SAFETY: the caller vouches for the instructions.
                let four = unsafe { four_sums(bands) };
                for r in 0..R {
                    sums[r][p][t] = four[r];
                }
            } else {
                for r in 0..R {
                    sums[r][p][t] = set.sum(acc[r][p][t]);
                }
            }
        }
    }
    sums
}
