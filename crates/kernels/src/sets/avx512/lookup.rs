//! Looking up the sums of fours of activations: one `vpshufb` for 64 rows. See
//! [`lookup`](crate::body::lookup).

use std::arch::x86_64::*;

use super::load;
use crate::body::ahead::Lines;
use crate::body::lookup::{BAND, STEP, Step, Table};

/// How far ahead of the weights in use the next ones are asked for, in bytes: little into the first level, which has room for few
/// requests, and more into the second.
pub(super) const LEADS: [usize; 2] = [1024, 3072];

/// Steps that are added up before they are widened. The low parts of one come to 32 times 63 at most, so that of 32 would
/// still fit 16 bits.
pub(super) const MOST: usize = 16;

/// 16-bit sums of the bytes of 64 rows: of all, each with 256 times its odd neighbour, and of the odd ones.
#[derive(Clone, Copy)]
struct Pairs {
    all: __m512i,
    odd: __m512i,
}

impl Pairs {
    /// Adds unsigned bytes.
    ///
    /// # Safety
    /// The CPU must have AVX-512 F and BW.
    #[inline(always)]
    unsafe fn add(&mut self, bytes: __m512i) {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            self.all = _mm512_add_epi16(self.all, bytes);
            self.odd = _mm512_add_epi16(self.odd, _mm512_srli_epi16::<8>(bytes));
        }
    }

    /// The sums of the even bytes, which wrap right however often `all` has.
    ///
    /// # Safety
    /// The CPU must have AVX-512 F and BW.
    #[inline(always)]
    unsafe fn even(self) -> __m512i {
        // SAFETY: the caller vouches for the instructions.
        unsafe { _mm512_sub_epi16(self.all, _mm512_slli_epi16::<8>(self.odd)) }
    }
}

/// [`Set::looked_up`](crate::sets::Set::looked_up), for bands that take turns with each table. A function of its own: unrolled by the
/// compiler, it would load many tables, or ask for many lines, at once.
///
/// # Safety
/// The CPU must have AVX-512 F and BW.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn looked_up<const R: usize>(
    steps: [&[Step]; R],
    tables: &[[Table; STEP]],
    (ahead, scale_lines): ([Lines; R], usize),
    sums: &mut [[i32; BAND]; R],
) {
    let mut atoms: [&[[u8; 64]]; R] = [&[]; R];
    for r in 0..R {
        atoms[r] = steps[r][..tables.len()].as_flattened();
    }
    // SAFETY: the caller vouches for the instructions; a prefetch takes any address.
    unsafe {
        let zero = _mm512_setzero_si512();
        let none = Pairs {
            all: zero,
            odd: zero,
        };
        let (mut low, mut high, mut rest) = ([none; R], [none; R], [zero; R]);
        for (i, tables) in tables.as_flattened().as_chunks::<2>().0.iter().enumerate() {
            let mut small = [zero; R];
            for (j, table) in tables.iter().enumerate() {
                let table = Looked::new(table);
                for r in 0..R {
                    let [near, far] = ahead[r];
                    let at = 128 * i + 64 * j;
                    _mm_prefetch::<_MM_HINT_T0>(near.wrapping_add(at).cast());
                    _mm_prefetch::<_MM_HINT_T1>(far.wrapping_add(at).cast());
                    let found = table.atom(&atoms[r][2 * i + j]);
                    small[r] = _mm512_add_epi8(small[r], found[0]);
                    rest[r] = _mm512_add_epi8(rest[r], found[1]);
                }
            }
            for r in 0..R {
                low[r].add(small[r]);
            }
            if i % 4 == 3 {
                // Scales, one line at a time like the atoms.
                if i / 4 < scale_lines {
                    for [near, far] in ahead {
                        let before = 64 * (i / 4 + 1);
                        _mm_prefetch::<_MM_HINT_T0>(near.wrapping_sub(before).cast());
                        _mm_prefetch::<_MM_HINT_T1>(far.wrapping_sub(before).cast());
                    }
                }
                for r in 0..R {
                    high[r].add(rest[r]);
                    rest[r] = zero;
                }
            }
        }
        for r in 0..R {
            match tables.len() {
                1 => put(low[r], high[r], &mut sums[r]),
                _ => put_wide(low[r], high[r], &mut sums[r]),
            }
        }
    }
}

/// Puts `low + 64 high` where the rows are. Those of a step fit 16 bits.
///
/// # Safety
/// The CPU must have AVX-512 F and BW.
#[inline(always)]
unsafe fn put(low: Pairs, high: Pairs, sums: &mut [i32; BAND]) {
    // SAFETY: the caller vouches for the instructions; 16 sums are 64 bytes.
    unsafe {
        let even = _mm512_add_epi16(low.even(), _mm512_slli_epi16::<6>(high.even()));
        let odd = _mm512_add_epi16(low.odd, _mm512_slli_epi16::<6>(high.odd));
        // Byte m of a lane is row 16 m and after.
        let rows = [
            _mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(even)),
            _mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(odd)),
            _mm512_srai_epi32::<16>(even),
            _mm512_srai_epi32::<16>(odd),
        ];
        put_rows(rows, sums);
    }
}

/// The same of several steps, in 32 bits.
///
/// # Safety
/// The CPU must have AVX-512 F and BW.
#[inline(always)]
unsafe fn put_wide(low: Pairs, high: Pairs, sums: &mut [i32; BAND]) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let first = _mm512_set1_epi32(0xffff);
        let pairs = [(low.even(), high.even()), (low.odd, high.odd)];
        let mut rows = [first; 4];
        for (i, (low, high)) in pairs.into_iter().enumerate() {
            let rest = _mm512_slli_epi32::<6>(_mm512_and_si512(high, first));
            rows[i] = _mm512_add_epi32(_mm512_and_si512(low, first), rest);
            let rest = _mm512_slli_epi32::<6>(_mm512_srli_epi32::<16>(high));
            rows[2 + i] = _mm512_add_epi32(_mm512_srli_epi32::<16>(low), rest);
        }
        put_rows(rows, sums);
    }
}

/// Puts rows in their order.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn put_rows(rows: [__m512i; 4], sums: &mut [i32; BAND]) {
    for (sums, rows) in sums.as_chunks_mut::<16>().0.iter_mut().zip(rows) {
        // SAFETY: the caller vouches for the instructions; 16 sums are 64 bytes.
        unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), rows) }
    }
}

/// A table in registers, as often as it takes to look up 64 rows.
struct Looked([__m512i; 4]);

impl Looked {
    /// # Safety
    /// The CPU must have AVX-512F.
    #[inline(always)]
    unsafe fn new(Table(table): &Table) -> Self {
        // SAFETY: the caller vouches for the instructions; each part of a table is 16 bytes.
        unsafe {
            let mut all = [_mm512_setzero_si512(); 4];
            for i in 0..4 {
                all[i] = _mm512_broadcast_i32x4(_mm_loadu_si128(table[i].as_ptr().cast()));
            }
            Self(all)
        }
    }

    /// What an atom adds to each row: low 6 bits, and the rest.
    ///
    /// # Safety
    /// The CPU must have AVX-512 F and BW.
    #[inline(always)]
    unsafe fn atom(&self, atom: &[u8; 64]) -> [__m512i; 2] {
        let Self(table) = self;
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let bits = load(atom);
            let four = _mm512_set1_epi8(15);
            let first = _mm512_and_si512(bits, four);
            let last = _mm512_and_si512(_mm512_srli_epi16::<4>(bits), four);
            let low = _mm512_shuffle_epi8(table[0], first);
            let rest = _mm512_shuffle_epi8(table[1], first);
            [
                _mm512_add_epi8(low, _mm512_shuffle_epi8(table[2], last)),
                _mm512_add_epi8(rest, _mm512_shuffle_epi8(table[3], last)),
            ]
        }
    }
}

/// [`Set::subset_sums`](crate::sets::Set::subset_sums). A lane is a subset, and `vpdpbusd` multiplies its members by
/// 1 and the others by 0.
///
/// # Safety
/// The CPU must have AVX-512 F, BW, VL and VNNI.
#[inline(always)]
pub(super) unsafe fn subset_sums(x: &[i8; 64], tables: &mut [Table; 8]) {
    // SAFETY: the caller vouches for the instructions; a table is 64 bytes.
    unsafe {
        let numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let members = bits_to_bytes(numbers);
        let bias = _mm512_set1_epi32(8 * 64);
        // Byte b of a lane goes to its place among those of four lanes, and these to quarter b.
        let by_bytes = _mm512_set4_epi32(0x0f0b_0703, 0x0e0a_0602, 0x0d09_0501, 0x0c08_0400);
        let by_quarters = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        for (table, x) in tables.iter_mut().zip(x.as_chunks::<8>().0) {
            let [first, last] = [four(x, 0), four(x, 4)];
            let first = _mm512_dpbusd_epi32(bias, members, first);
            let last = _mm512_dpbusd_epi32(bias, members, last);
            // Sums have 10 bits: those of both fours fit a lane, and in each half 6 bits stay low.
            let both = _mm512_or_si512(first, _mm512_slli_epi32::<16>(last));
            let low = _mm512_and_si512(both, _mm512_set1_epi32(0x003f_003f));
            let high = _mm512_slli_epi32::<2>(both);
            let high = _mm512_and_si512(high, _mm512_set1_epi32(0x0f00_0f00));
            let bytes = _mm512_shuffle_epi8(_mm512_or_si512(low, high), by_bytes);
            let quarters = _mm512_permutexvar_epi32(by_quarters, bytes);
            _mm512_storeu_si512(table.0.as_mut_ptr().cast(), quarters);
        }
    }
}

/// Four activations in every lane.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn four(x: &[i8; 8], at: usize) -> __m512i {
    let four = [x[at], x[at + 1], x[at + 2], x[at + 3]];
    // SAFETY: the caller vouches for the instructions.
    unsafe { _mm512_set1_epi32(bytemuck::cast(four)) }
}

/// Bit `c` of the low four bits of each lane as byte `c` of 0 or 1.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn bits_to_bytes(numbers: __m512i) -> __m512i {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let spread = _mm512_mullo_epi32(numbers, _mm512_set1_epi32(0x0020_4081));
        _mm512_and_si512(spread, _mm512_set1_epi32(0x0101_0101))
    }
}
