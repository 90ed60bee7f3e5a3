//! A few tokens times 16 rows whose groups of columns have scales. Codes are not shifted to the bottom of
//! their bytes: `vpdpbusd` takes them where they are, and one shift of 16 sums makes up for it.

use std::arch::x86_64::*;

use super::load;
use super::shuffles::transposed;
use crate::body::gemm::few::Few;
use crate::body::gemm::panel::UNIT;
use crate::body::grouped::Geometry;

/// Groups whose scales are transposed together: two in each of 16 words.
const BATCH: usize = 2 * UNIT;

/// How far ahead of a row in use what follows it is asked for, in bytes. Less than where four rows are read at a time:
/// 16 leads share the first-level cache.
const LEAD: usize = 1024;

/// [`Panels::few`](crate::body::gemm::panel::Panels::few).
///
/// # Safety
/// The CPU must have this set's features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c")]
pub(super) unsafe fn few<const BITS: usize, const T: usize>(few: &Few<'_, T>) -> [[f32; UNIT]; T] {
    let (planes, in_atom) = (Geometry::<BITS>::PLANES, Geometry::<BITS>::GROUPS);
    let (row_atoms, groups) = (few.row_atoms, few.offsets[0].len());
    let mut x = few.x;
    for t in 0..T {
        assert!(few.offsets[t].len() == groups && few.multipliers[t].len() == groups);
        x[t] = &x[t][..row_atoms * planes];
    }
    let mut starts = [0; UNIT];
    for (r, start) in starts.iter_mut().enumerate() {
        *start = lane_row(few, r) * few.row_lines;
        assert!(
            *start + few.row_lines <= few.lines.len(),
            "rows lie in their lines"
        );
    }
    assert!(row_atoms == 0 || few.packs.line(row_atoms - 1) < few.row_lines);
    // SAFETY: this function has the features; each row has its atoms, as just asserted; sums of 16 rows are 64 bytes.
    unsafe {
        let mut y = [_mm512_setzero_ps(); T];
        let mut scales = [[0.0; UNIT]; BATCH];
        for a in 0..row_atoms {
            let first = a * in_atom;
            if first.is_multiple_of(BATCH) {
                load_scales(few, &starts, first, &mut scales);
            }
            let words = transposed(load_atoms(few.lines, &starts, few.packs.line(a)));
            let mut x_atom: [&[[i8; 64]]; T] = [&[]; T];
            for t in 0..T {
                x_atom[t] = &x[t][a * planes..][..planes];
            }
            let atom = Atom {
                few,
                words,
                x: x_atom,
                first,
                scales: &scales,
            };
            atom.add::<BITS, 0>(&mut y);
            atom.add::<BITS, 1>(&mut y);
            atom.add::<BITS, 2>(&mut y);
            atom.add::<BITS, 3>(&mut y);
        }
        let mut out = [[0.0; UNIT]; T];
        for t in 0..T {
            _mm512_storeu_ps(out[t].as_mut_ptr(), y[t]);
        }
        out
    }
}

/// Line `line` of each lane's row, which starts at `starts`. What follows it in memory is asked for.
///
/// # Safety
/// The CPU must have AVX-512F, and the lines must lie in `lines`.
#[inline(always)]
unsafe fn load_atoms(lines: &[[u8; 64]], starts: &[usize; UNIT], line: usize) -> [__m512i; UNIT] {
    // SAFETY: the caller vouches for the instructions and the places; a prefetch takes any address.
    unsafe {
        let mut words = [_mm512_setzero_si512(); UNIT];
        for r in 0..UNIT {
            let atom = lines.get_unchecked(starts[r] + line);
            words[r] = load(atom);
            _mm_prefetch::<_MM_HINT_T0>(atom.as_ptr().wrapping_add(LEAD).cast());
        }
        words
    }
}

/// The row of lane `r`, counted from the first.
#[inline(always)]
fn lane_row<const T: usize>(few: &Few<'_, T>, r: usize) -> usize {
    let row = if few.rows == UNIT {
        r
    } else {
        r.min(few.rows - 1)
    };
    row * few.apart
}

/// Does something for each word of an atom, whose number is a constant: left to the compiler, the loop stays one, and
/// its registers become memory.
macro_rules! each_word {
    ($n:ident => $block:block) => {
        each_word! { @each $n $block 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 }
    };
    (@each $n:ident $block:block $($value:literal)*) => {
        $({ const $n: usize = $value; $block })*
    };
}

/// The sums of `code * x` over plane `P` of an atom's columns, a row to a lane.
///
/// # Safety
/// The CPU must have this set's features.
#[inline(always)]
unsafe fn plane<const BITS: usize, const P: usize, const T: usize>(
    words: &[__m512i; UNIT],
    x: &[&[[i8; 64]]; T],
) -> [__m512i; T] {
    // A token alone adds up even and odd words apart, so that sums wait less for each other.
    let chains = if T == 1 { 2 } else { 1 };
    // SAFETY: the caller vouches for the features.
    unsafe {
        let mask = _mm512_set1_epi8((((1u32 << BITS) - 1) << (BITS * P)) as i8);
        let mut fours: [&[[i8; 4]; UNIT]; T] = [&[[0; 4]; UNIT]; T];
        for t in 0..T {
            fours[t] = bytemuck::cast_ref(&x[t][P]);
        }
        let mut acc = [[_mm512_setzero_si512(); 2]; T];
        each_word! { N => {
            let codes = _mm512_and_si512(words[N], mask);
            for t in 0..T {
                let four = _mm512_set1_epi32(bytemuck::cast(fours[t][N]));
                acc[t][N % chains] = _mm512_dpbusd_epi32(acc[t][N % chains], codes, four);
            }
        } }
        // The sums are multiples of the field's place.
        let place = _mm_cvtsi32_si128((BITS * P) as i32);
        let mut sums = [_mm512_setzero_si512(); T];
        for t in 0..T {
            sums[t] = _mm512_sra_epi32(_mm512_add_epi32(acc[t][0], acc[t][1]), place);
        }
        sums
    }
}

/// An atom of 16 rows, whose groups are added one by one.
struct Atom<'a, const T: usize> {
    few: &'a Few<'a, T>,
    words: [__m512i; UNIT],
    x: [&'a [[i8; 64]]; T],
    /// The number of its first group.
    first: usize,
    scales: &'a [[f32; UNIT]; BATCH],
}

impl<const T: usize> Atom<'_, T> {
    /// Adds its group `G` to the rows' results, if it has one. The number is a constant, because in a loop over groups the
    /// compiler would take all fields out of the words before the first.
    ///
    /// # Safety
    /// The CPU must have this set's features.
    #[inline(always)]
    unsafe fn add<const BITS: usize, const G: usize>(&self, y: &mut [__m512; T]) {
        let number = self.first + G;
        if G >= Geometry::<BITS>::GROUPS || number >= self.few.offsets[0].len() {
            return;
        }
        // SAFETY: the caller vouches for the features; scales of 16 rows are 64 bytes.
        unsafe {
            let sums = self.sums::<BITS, G>();
            let scale = _mm512_loadu_ps(self.scales[number % BATCH].as_ptr());
            for t in 0..T {
                let offset = _mm512_set1_epi32(self.few.offsets[t][number]);
                let multiplier = _mm512_set1_ps(self.few.multipliers[t][number]);
                let dots = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[t], offset));
                y[t] = _mm512_fmadd_ps(dots, _mm512_mul_ps(scale, multiplier), y[t]);
            }
        }
    }

    /// `STEP` times the sums of `code * x` over group `G`, a row to a lane.
    ///
    /// # Safety
    /// The CPU must have this set's features.
    #[inline(always)]
    unsafe fn sums<const BITS: usize, const G: usize>(&self) -> [__m512i; T] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let [low, high] = match (BITS, G) {
                (4, 0) => return plane::<BITS, 0, T>(&self.words, &self.x),
                (4, _) => return plane::<BITS, 1, T>(&self.words, &self.x),
                (_, 0) => [
                    plane::<BITS, 0, T>(&self.words, &self.x),
                    plane::<BITS, 1, T>(&self.words, &self.x),
                ],
                (_, 1) => [
                    plane::<BITS, 2, T>(&self.words, &self.x),
                    plane::<BITS, 3, T>(&self.words, &self.x),
                ],
                (_, 2) => [
                    plane::<BITS, 4, T>(&self.words, &self.x),
                    plane::<BITS, 5, T>(&self.words, &self.x),
                ],
                _ => [
                    plane::<BITS, 6, T>(&self.words, &self.x),
                    plane::<BITS, 7, T>(&self.words, &self.x),
                ],
            };
            let mut sums = low;
            for t in 0..T {
                sums[t] = _mm512_add_epi32(low[t], high[t]);
                if Geometry::<BITS>::STEP == 2 {
                    sums[t] = _mm512_add_epi32(sums[t], sums[t]);
                }
            }
            sums
        }
    }
}

/// The scales for [`BATCH`] groups from `first` on, a whole line: a group to a register, a row to a lane.
///
/// # Safety
/// The CPU must have AVX-512 F and BW, and rows that start at `starts` must lie in their lines.
#[inline(always)]
unsafe fn load_scales<const T: usize>(
    few: &Few<'_, T>,
    starts: &[usize; UNIT],
    first: usize,
    out: &mut [[f32; UNIT]; BATCH],
) {
    if let Some(scale) = few.scale {
        return *out = [[scale; UNIT]; BATCH];
    }
    // SAFETY: the caller vouches for the instructions and the places; 16 scales are 64 bytes.
    unsafe {
        let line = few.packs.scales(first) / 64;
        // Each lane of a word has the scales of two groups.
        let words = transposed(load_atoms(few.lines, starts, line));
        for (word, [even, odd]) in words.iter().zip(out.as_chunks_mut::<2>().0) {
            let low = _mm512_cvtepi32_epi16(*word);
            let high = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(*word));
            _mm512_storeu_ps(even.as_mut_ptr(), _mm512_cvtph_ps(low));
            _mm512_storeu_ps(odd.as_mut_ptr(), _mm512_cvtph_ps(high));
        }
    }
}
