//! Looking up the sums of fours of activations: one `vpshufb` for 32 rows. See
//! [`lookup`](crate::body::lookup).

use std::arch::x86_64::*;

use super::half;
use crate::body::lookup::{BAND, Table};

/// 16-bit sums of the bytes of 32 rows: of all, each with 256 times its odd neighbour, and of the odd ones.
#[derive(Clone, Copy)]
struct Pairs {
    all: __m256i,
    odd: __m256i,
}

impl Pairs {
    /// Adds unsigned bytes.
    ///
    /// # Safety
    /// The CPU must have AVX2.
    #[inline(always)]
    unsafe fn add(&mut self, bytes: __m256i) {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            self.all = _mm256_add_epi16(self.all, bytes);
            self.odd = _mm256_add_epi16(self.odd, _mm256_srli_epi16::<8>(bytes));
        }
    }

    /// The sums of the even bytes, which wrap right however often `all` has.
    ///
    /// # Safety
    /// The CPU must have AVX2.
    #[inline(always)]
    unsafe fn even(self) -> __m256i {
        // SAFETY: the caller vouches for the instructions.
        unsafe { _mm256_sub_epi16(self.all, _mm256_slli_epi16::<8>(self.odd)) }
    }
}

/// [`Set::looked_up`](crate::sets::Set::looked_up), half `H` of the atoms. A function of its own: inlined into a loop over bands, the tables of a step would all be loaded before
/// the loop, into more registers than there are.
/// For the same reason it is not told how many atoms there are: it would ask for all lines at once, at the end.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn looked_up<const H: usize>(
    atoms: &[[u8; 64]],
    tables: &[Table],
    ahead: *const u8,
    sums: &mut [i32; BAND],
) {
    // SAFETY: the caller vouches for the instructions; a prefetch takes any address; eight sums are 32 bytes.
    unsafe {
        let zero = _mm256_setzero_si256();
        let none = Pairs {
            all: zero,
            odd: zero,
        };
        let (mut low, mut high) = (none, none);
        let quads = atoms
            .as_chunks::<4>()
            .0
            .iter()
            .zip(tables.as_chunks::<4>().0);
        for (i, (atoms, tables)) in quads.enumerate() {
            let mut rest = zero;
            for j in [0, 2] {
                let line = ahead.wrapping_add(512 * H + 128 * i + 32 * j);
                _mm_prefetch::<_MM_HINT_T0>(line.cast());
                let a = atom::<H>(&atoms[j], &tables[j]);
                let b = atom::<H>(&atoms[j + 1], &tables[j + 1]);
                low.add(_mm256_add_epi8(a[0], b[0]));
                rest = _mm256_add_epi8(rest, _mm256_add_epi8(a[1], b[1]));
            }
            high.add(rest);
        }
        let even = _mm256_add_epi16(low.even(), _mm256_slli_epi16::<6>(high.even()));
        let odd = _mm256_add_epi16(low.odd, _mm256_slli_epi16::<6>(high.odd));
        // Byte m of a lane is row 16 m and after.
        let rows = [
            _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(even)),
            _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(odd)),
            _mm256_srai_epi32::<16>(even),
            _mm256_srai_epi32::<16>(odd),
        ];
        for (sums, rows) in sums.as_chunks_mut::<16>().0.iter_mut().zip(rows) {
            let sums = &mut sums.as_chunks_mut::<8>().0[H];
            _mm256_storeu_si256(sums.as_mut_ptr().cast(), rows);
        }
    }
}

/// What half `H` of an atom adds to each row: low 6 bits, and the rest.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn atom<const H: usize>(atom: &[u8; 64], Table(table): &Table) -> [__m256i; 2] {
    // SAFETY: the caller vouches for the instructions; each part of a table is 16 bytes.
    unsafe {
        let bits = half::<u8, H>(atom);
        let four = _mm256_set1_epi8(15);
        let first = _mm256_and_si256(bits, four);
        let last = _mm256_and_si256(_mm256_srli_epi16::<4>(bits), four);
        let mut found = [[bits; 2]; 2];
        for (i, fours) in [first, last].into_iter().enumerate() {
            for j in 0..2 {
                let part = _mm_loadu_si128(table[2 * i + j].as_ptr().cast());
                found[i][j] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(part), fours);
            }
        }
        [
            _mm256_add_epi8(found[0][0], found[1][0]),
            _mm256_add_epi8(found[0][1], found[1][1]),
        ]
    }
}
