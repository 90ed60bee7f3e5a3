//! Binary weights of 64 rows side by side times int8 activations: sums are looked up, not added.
//!
//! A byte of an atom is eight columns of one row, two *fours*. Four activations have 16 subsets, and the four bits
//! of a row say whose sum it adds. So the sums of all subsets go into a table, and one shuffle of bytes looks up
//! a four of as many rows as a register has bytes:
//!
//! ```text
//! for each 2048 columns
//!     tables[four][subset] = sum of the activations of the subset    once for all rows
//!     for each band of 64 rows
//!         for each 128 columns
//!             for each atom, for each of its two fours
//!                 low += tables.low[bits], high += tables.high[bits]  8-bit lanes, a row to a lane
//!             dots = 2 * (low + 64 * high) - offset
//! ```
//!
//! A sum of four activations has 10 bits, -512 to 508; the table holds its low 6 bits and, in another 16 bytes, the
//! rest plus 8. Four of the first and 16 of the second fit a byte without overflow, then pairs of bytes are added up
//! in 16 bits. All of it is exact. Rows are lanes from the start, so nothing is transposed or added across
//! a register, and the scales of a group are 64 neighbours.

use std::ops::Range;

use half::f16;
use onebit_format::{MatrixRef, Scales};

use super::Product;
use super::grouped::Scaled;
use crate::input::I8Rows;
use crate::sets::{Set, Vector};
use crate::tiles::TileMut;

/// Rows of a band.
pub(crate) const BAND: usize = 64;

/// Columns of an atom.
pub(crate) const COLS: usize = 8;

/// Atoms that are added up in 16 bits: 128 columns, a group.
pub(crate) const STEP: usize = 16;

const STEP_BYTES: usize = 64 * STEP;

/// Steps whose tables are made at once, 16 KiB of them.
const CHUNK: usize = 16;

/// The activations of a step.
type Group = [[i8; 64]; 2];

/// How far ahead of the weights in use the next ones are asked for, in bytes.
const LEAD: usize = 4096;

/// What all sums of the 32 fours of a step are too large by: 8 times 64 each.
pub(crate) const BIAS: i32 = 32 * 8 * 64;

/// The sums of the subsets of an atom's activations: of the first four columns the low 6 bits, then the rest plus 8,
/// and the same of the last four. Bit `c` of the index is column `c` of the four.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Table(pub(crate) [[u8; 16]; 4]);

impl Table {
    /// That of activations of zero.
    const ZERO: Self = Self([[0; 16], [8; 16], [0; 16], [8; 16]]);
}

/// Those of some steps.
struct Tables([[Table; STEP]; CHUNK]);

impl Tables {
    /// Those of the activations `x`.
    #[inline(always)]
    fn fill<S: Set>(&mut self, s: S, x: &[Group]) {
        let tables = self.0.as_flattened_mut().as_chunks_mut().0;
        for (tables, plane) in tables.iter_mut().zip(x.as_flattened()) {
            s.subset_sums(plane, tables);
        }
    }
}

/// The atoms of some columns of a band, and what is read after them.
#[derive(Clone, Copy)]
struct Piece<'a> {
    /// By steps.
    atoms: &'a [[[u8; 64]; STEP]],
    next: *const u8,
}

impl<'a> Piece<'a> {
    /// Those of band `band`, with more of the same columns in the next band.
    #[inline(always)]
    fn of(w: &MatrixRef<'a>, band: usize, steps: Range<usize>) -> Self {
        let atoms = w.band_bytes_of(band).as_chunks::<64>().0;
        let atoms = &atoms.as_chunks().0[steps];
        Self {
            atoms,
            next: atoms.as_ptr().cast::<u8>().wrapping_add(w.band_bytes()),
        }
    }

    #[inline(always)]
    fn steps(&self) -> usize {
        self.atoms.len()
    }

    /// The sums of `bit * x` of step `step`, plus [`BIAS`].
    #[inline(always)]
    fn sums<S: Set>(&self, s: S, tables: &Tables, step: usize) -> [i32; BAND] {
        let (at, len) = (STEP_BYTES * step + LEAD, STEP_BYTES * self.atoms.len());
        let ahead = match at < len {
            true => self.atoms.as_ptr().cast::<u8>().wrapping_add(at),
            false => self.next.wrapping_add(at - len),
        };
        s.looked_up(&self.atoms[step], &tables.0[step], ahead)
    }
}

/// A token's activations by steps.
#[inline(always)]
fn groups_of(x: &[i8]) -> &[Group] {
    x.as_chunks().0.as_chunks().0
}

/// The bands that hold `rows`.
#[inline(always)]
fn bands_of(rows: &Range<usize>) -> Range<usize> {
    match rows.is_empty() {
        true => 0..0,
        false => rows.start / BAND..rows.end.div_ceil(BAND),
    }
}

/// The part of a tile that is a band: outputs, and the place of the first of them in the band.
#[inline(always)]
fn in_band<'a, O>(rows: &Range<usize>, band: usize, out: &'a mut [O]) -> (&'a mut [O], usize) {
    let start = rows.start.max(band * BAND);
    let end = rows.end.min((band + 1) * BAND);
    let out = &mut out[start - rows.start..end - rows.start];
    (out, start - band * BAND)
}

/// Sums of a binary matrix of bands.
#[inline(always)]
pub(crate) fn b1r64<S: Set>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    let Product { w, rows, x } = job;
    let steps = w.band_bytes() / STEP_BYTES;
    let mut tables = Tables([[Table::ZERO; STEP]; CHUNK]);
    for token in 0..x.tokens() {
        let out = out.row(token);
        out.fill(0i32.wrapping_sub(x.sum(token)));
        for start in (0..steps).step_by(CHUNK) {
            let part = start..steps.min(start + CHUNK);
            tables.fill(s, &groups_of(x.row(token))[part.clone()]);
            for band in bands_of(rows) {
                let piece = Piece::of(w, band, part.clone());
                let mut acc = [0i32; BAND];
                for step in 0..piece.steps() {
                    let sums = piece.sums(s, &tables, step);
                    for r in 0..BAND {
                        acc[r] = acc[r].wrapping_add(sums[r] - BIAS);
                    }
                }
                let (out, skip) = in_band(rows, band, out);
                for (out, sum) in out.iter_mut().zip(&acc[skip..]) {
                    *out = out.wrapping_add(sum.wrapping_mul(2));
                }
            }
        }
    }
}

/// Products of a binary matrix of bands with group scales, or int8 activations with multipliers by group.
#[inline(always)]
pub(super) fn grouped<S: Set, X: Scaled>(s: S, job: &Product<'_, X>, out: &mut TileMut<'_, f32>) {
    let Product { w, rows, x } = job;
    let steps = w.band_bytes() / STEP_BYTES;
    let mut tables = Tables([[Table::ZERO; STEP]; CHUNK]);
    for token in 0..x.tokens() {
        let out = out.row(token);
        for start in (0..steps).step_by(CHUNK) {
            let part = start..steps.min(start + CHUNK);
            tables.fill(s, &groups_of(x.codes(token))[part.clone()]);
            let groups = Groups::of(s, x, token, part.clone());
            let last = part.end == steps;
            for band in bands_of(rows) {
                let (out, skip) = in_band(rows, band, out);
                let mut y = [0.0; BAND];
                if start > 0 {
                    y[skip..][..out.len()].copy_from_slice(out);
                }
                let piece = Piece::of(w, band, part.clone());
                groups.add(s, &piece, &tables, BandScales::of(w, band), &mut y);
                let factor = if last { x.factor(token) } else { 1.0 };
                for (out, y) in out.iter_mut().zip(&y[skip..]) {
                    *out = *y * factor;
                }
            }
        }
    }
}

/// The weight scales of a band.
#[derive(Clone, Copy)]
pub(super) enum BandScales<'a> {
    Same(f32),
    /// Group after group, those of the rows.
    Each(&'a [[f16; BAND]]),
}

impl<'a> BandScales<'a> {
    #[inline(always)]
    pub(super) fn of(w: &MatrixRef<'a>, band: usize) -> Self {
        match w.scales() {
            Scales::Tensor(scale) => Self::Same(scale),
            Scales::Groups { size, values } => {
                let groups = w.cols().div_ceil(size);
                Self::Each(&values.as_chunks().0[band * groups..][..groups])
            }
            _ => panic!("{} has no scales by group", w.layout()),
        }
    }

    /// Those of group `group` for rows `16 m..16 m + 16`.
    #[inline(always)]
    pub(super) fn load<S: Set>(self, s: S, group: usize, m: usize) -> S::F {
        match self {
            Self::Same(scale) => s.splat(scale),
            Self::Each(values) => {
                let rows = &values[group].as_chunks::<16>().0[m];
                s.load_f16(bytemuck::cast_ref::<[f16; 16], [u8; 32]>(rows))
            }
        }
    }

    /// Asks for those of a later group.
    #[inline(always)]
    fn request<S: Set>(self, s: S, group: usize) {
        if let Self::Each(values) = self {
            let later = values
                .as_ptr()
                .wrapping_add(group + LEAD / STEP_BYTES)
                .cast::<u8>();
            s.prefetch(later);
            s.prefetch(later.wrapping_add(64));
        }
    }
}

/// Of some groups of a token, what goes off the sums and what the rest is multiplied with.
struct Groups {
    first: usize,
    offsets: [i32; CHUNK],
    multipliers: [f32; CHUNK],
}

impl Groups {
    #[inline(always)]
    fn of<S: Set, X: Scaled>(s: S, x: &X, token: usize, part: Range<usize>) -> Self {
        let mut groups = Self {
            first: part.start,
            offsets: [0; CHUNK],
            multipliers: [0.0; CHUNK],
        };
        for (i, g) in part.enumerate() {
            let sum = s.group_sum(&groups_of(x.codes(token))[g]);
            groups.offsets[i] = sum + 2 * BIAS;
            groups.multipliers[i] = x.multiplier(token, g);
        }
        groups
    }

    /// Adds the products of a piece to the results of its band.
    #[inline(always)]
    fn add<S: Set>(
        &self,
        s: S,
        piece: &Piece<'_>,
        tables: &Tables,
        scales: BandScales<'_>,
        y: &mut [f32; BAND],
    ) {
        let lanes = y.as_chunks_mut::<16>().0;
        let mut acc = [
            s.load(&lanes[0]),
            s.load(&lanes[1]),
            s.load(&lanes[2]),
            s.load(&lanes[3]),
        ];
        for step in 0..piece.steps() {
            let sums = piece.sums(s, tables, step);
            let (offset, group) = (self.offsets[step], self.first + step);
            let multiplier = s.splat(self.multipliers[step]);
            scales.request(s, group);
            for m in 0..4 {
                let mut dots = [0.0; 16];
                for (dot, sum) in dots.iter_mut().zip(&sums[16 * m..]) {
                    *dot = (2 * sum - offset) as f32;
                }
                let scale = scales.load(s, group, m) * multiplier;
                acc[m] = acc[m] + s.load(&dots) * scale;
            }
        }
        for (lanes, acc) in lanes.iter_mut().zip(acc) {
            acc.store(lanes);
        }
    }
}
