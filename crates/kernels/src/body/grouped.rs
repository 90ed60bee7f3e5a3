//! Integer weights times int8 activations, where either side has a scale per group of columns:
//! ternary and binary weights per 128, 4-bit weights per 64.
//!
//! Within a group sums are exact integers; between groups they are `f32`, in the order of the groups:
//!
//! ```text
//! y = 0
//! for each group g, in order:
//!     y += float(exact dot of the group) * (weight scale[g] * multiplier[g])
//! y *= 1 / s
//! ```
//!
//! Activations with one scale `s` per token have multipliers of 1; those with a multiplier per group
//! have `s` = 1. A matrix with one scale has it in every group.

use onebit_format::{ATOM_BYTES, Band, Layout, MatrixRef, SIGN_GROUP, Scales};

use super::ahead::{Abreast, Ahead, Streams};
use super::{Block, Product, Rows, cover, lookup, rows16};
use crate::input::{I8GroupRows, I8Rows, Id};
use crate::sets::{Set, Vector};
use crate::tiles::TileMut;

/// Group scales that are converted together.
pub(crate) const BATCH: usize = 16;

/// Most groups in an atom.
pub(crate) const MAX_GROUPS: usize = 4;

/// Most groups in a row: a row has at most 65,536 columns.
pub(super) const MAX_ROW_GROUPS: usize = 65_536 / 64;

/// Int8 activations with scales of either kind.
pub(crate) trait Scaled: Rows + Copy {
    fn id(&self) -> Id;
    fn codes(&self, token: usize) -> &[i8];
    /// The codes from those of a token to the end.
    #[cfg(target_arch = "x86_64")]
    fn codes_from(&self, token: usize) -> &[i8];
    /// What the dots of a group are multiplied by.
    fn multiplier(&self, token: usize, group: usize) -> f32;
    /// The multipliers of all groups, and the sums of their codes, where each has its own.
    fn groups(&self, token: usize) -> Option<(&[f32], &[i32])>;
    /// What the sum over the groups is multiplied by.
    fn factor(&self, token: usize) -> f32;
}

impl Scaled for I8Rows<'_> {
    #[inline(always)]
    fn id(&self) -> Id {
        I8Rows::id(self)
    }
    #[inline(always)]
    fn codes(&self, token: usize) -> &[i8] {
        self.row(token)
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn codes_from(&self, token: usize) -> &[i8] {
        self.rows_from(token)
    }
    #[inline(always)]
    fn multiplier(&self, _token: usize, _group: usize) -> f32 {
        1.0
    }
    #[inline(always)]
    fn groups(&self, _token: usize) -> Option<(&[f32], &[i32])> {
        None
    }
    #[inline(always)]
    fn factor(&self, token: usize) -> f32 {
        1.0 / self.scale(token)
    }
}

impl Scaled for I8GroupRows<'_> {
    #[inline(always)]
    fn id(&self) -> Id {
        I8GroupRows::id(self)
    }
    #[inline(always)]
    fn codes(&self, token: usize) -> &[i8] {
        self.row(token)
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn codes_from(&self, token: usize) -> &[i8] {
        self.rows_from(token)
    }
    #[inline(always)]
    fn multiplier(&self, token: usize, group: usize) -> f32 {
        self.multipliers(token)[group]
    }
    #[inline(always)]
    fn groups(&self, token: usize) -> Option<(&[f32], &[i32])> {
        Some((self.multipliers(token), self.sums(token)))
    }
    #[inline(always)]
    fn factor(&self, _token: usize) -> f32 {
        1.0
    }
}

/// The weight scales of the rows of a matrix by group.
#[derive(Clone, Copy)]
pub(super) enum GroupScales<'a> {
    Same(f32),
    /// Among the atoms.
    Each(&'a MatrixRef<'a>),
}

impl<'a> GroupScales<'a> {
    pub(super) fn of(w: &'a MatrixRef<'a>) -> Self {
        match w.scales() {
            Scales::Tensor(scale) => Self::Same(scale),
            Scales::Groups { .. } => Self::Each(w),
            _ => panic!("{} has no scales by group", w.layout()),
        }
    }

    /// Those of a row from group `first` on, a multiple of [`BATCH`]. What comes past the row's end is nothing to be used.
    #[inline(always)]
    pub(super) fn batch<S: Set>(self, s: S, row: usize, first: usize) -> [f32; BATCH] {
        match self {
            Self::Same(scale) => [scale; BATCH],
            Self::Each(w) => {
                let mut lanes = [0.0; BATCH];
                s.load_f16(w.band(row).scales(first, 0)).store(&mut lanes);
                lanes
            }
        }
    }

    /// The same of some rows, a group's side by side.
    #[inline(always)]
    fn batches<S: Set, const R: usize>(
        self,
        s: S,
        rows: &[Band<'_>; R],
        first: usize,
    ) -> [[f32; R]; BATCH] {
        match self {
            Self::Same(scale) => [[scale; R]; BATCH],
            Self::Each(_) => {
                let mut stored = [[0; 2 * BATCH]; R];
                for r in 0..R {
                    stored[r] = *rows[r].scales(first, 0);
                }
                s.scales_by_group(&stored)
            }
        }
    }
}

/// A layout of `BITS` bits per code as groups: the weight is `STEP * code - OFFSET`.
pub(crate) struct Geometry<const BITS: usize>;

impl<const BITS: usize> Geometry<BITS> {
    pub(crate) const PLANES: usize = 8 / BITS;
    /// Planes of 64 columns in a group.
    pub(crate) const GROUP_PLANES: usize = if BITS == 4 {
        1
    } else {
        SIGN_GROUP / ATOM_BYTES
    };
    /// Groups in an atom.
    pub(crate) const GROUPS: usize = Self::PLANES / Self::GROUP_PLANES;
    pub(crate) const STEP: i32 = if BITS == 1 { 2 } else { 1 };
    pub(super) const OFFSET: i32 = if BITS == 4 { 8 } else { 1 };
}

/// Products of a ternary or binary matrix with group scales, int8 activations scaled per token.
#[inline(always)]
pub(crate) fn grouped<S: Set>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, f32>) {
    match job.w.layout() {
        Layout::T2 => product::<S, _, 2>(s, job, out),
        Layout::T2R16 => rows16::grouped(s, job, out),
        Layout::B1R64 => lookup::grouped(s, job, out),
        _ => product::<S, _, 1>(s, job, out),
    }
}

/// Products of a ternary or binary matrix, int8 activations scaled per group.
#[inline(always)]
pub(crate) fn by_group<S: Set>(
    s: S,
    job: &Product<'_, I8GroupRows<'_>>,
    out: &mut TileMut<'_, f32>,
) {
    match job.w.layout() {
        Layout::T2 => product::<S, _, 2>(s, job, out),
        Layout::T2R16 => rows16::grouped(s, job, out),
        Layout::B1R64 => lookup::grouped(s, job, out),
        _ => product::<S, _, 1>(s, job, out),
    }
}

/// Products of a 4-bit matrix, int8 activations scaled per token.
#[inline(always)]
pub(crate) fn i4<S: Set>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, f32>) {
    product::<S, _, 4>(s, job, out);
}

/// The sums of a token's activations by groups of so many planes of 64: those that come with them, or found.
#[inline(always)]
pub(super) fn group_sums<S: Set, X: Scaled>(
    s: S,
    x: &X,
    token: usize,
    planes: usize,
    sums: &mut [i32],
) {
    if let Some((_, found)) = x.groups(token) {
        return sums.copy_from_slice(&found[..sums.len()]);
    }
    let groups = x.codes(token).as_chunks::<64>().0.chunks(planes);
    for (sum, group) in sums.iter_mut().zip(groups) {
        *sum = s.group_sum(group);
    }
}

#[inline(always)]
pub(super) fn product<S: Set, X: Scaled, const BITS: usize>(
    set: S,
    job: &Product<'_, X>,
    out: &mut TileMut<'_, f32>,
) {
    let scales = GroupScales::of(job.w);
    let groups = job.w.cols().div_ceil(64 * Geometry::<BITS>::GROUP_PLANES);
    let mut sums = [[0; MAX_ROW_GROUPS]; super::TOKENS];
    for first in (0..job.x.tokens()).step_by(super::TOKENS) {
        let tokens = super::TOKENS.min(job.x.tokens() - first);
        for t in 0..tokens {
            let planes = Geometry::<BITS>::GROUP_PLANES;
            group_sums(set, &job.x, first + t, planes, &mut sums[t][..groups]);
        }
        let block = Groups::<S, X, BITS> {
            set,
            job,
            scales,
            groups,
            sums: &sums,
            first,
        };
        // Tokens are counted from the first of the four whose sums stand ready.
        let mut out = out.some_rows(first..first + tokens);
        cover(
            S::MANY_REGISTERS,
            job.rows.clone(),
            job.w.row_bytes(),
            tokens,
            &block,
            &mut out,
        );
    }
}

struct Groups<'a, S, X, const BITS: usize> {
    set: S,
    job: &'a Product<'a, X>,
    scales: GroupScales<'a>,
    /// Groups in a row.
    groups: usize,
    /// The sum of the activations of each group, for the tokens from `first` on.
    sums: &'a [[i32; MAX_ROW_GROUPS]; super::TOKENS],
    first: usize,
}

impl<S: Set, X: Scaled, const BITS: usize> Block<f32> for Groups<'_, S, X, BITS> {
    #[inline(always)]
    fn run<const R: usize, const T: usize>(
        &self,
        rows: Abreast<R>,
        token: usize,
        out: &mut TileMut<'_, f32>,
    ) {
        let Product { rows: range, x, .. } = self.job;
        let acc = self.accumulate::<R, T>(rows, token);
        for t in 0..T {
            let factor = x.factor(self.first + token + t);
            let out = out.row(token + t);
            for r in 0..R {
                out[rows.at[r] - range.start] = acc[t][r] * factor;
            }
        }
    }
}

impl<S: Set, X: Scaled, const BITS: usize> Groups<'_, S, X, BITS> {
    /// The loop over the atoms of a block.
    #[inline(always)]
    fn accumulate<const R: usize, const T: usize>(
        &self,
        rows: Abreast<R>,
        token: usize,
    ) -> [[f32; R]; T] {
        let Product { w, x, .. } = self.job;
        let mut acc = [[0.0; R]; T];
        let mut bands = [w.band(rows.at[0]); R];
        let mut w_rows: [&[[u8; 64]]; R] = [&[]; R];
        for r in 0..R {
            bands[r] = w.band(rows.at[r]);
            w_rows[r] = bands[r].lines();
        }
        let (packs, atoms) = (w.packs(), w.padded_cols() / (64 * Geometry::<BITS>::PLANES));
        let mut x_rows: [&[[i8; 64]]; T] = [&[]; T];
        for (t, x_row) in x_rows.iter_mut().enumerate() {
            *x_row = x.codes(self.first + token + t).as_chunks().0;
        }
        let mut scales = [[0.0; R]; BATCH];
        let mut ahead = Streams::of(w, &rows);
        for a in 0..atoms {
            let line = packs.line(a);
            let first = a * Geometry::<BITS>::GROUPS;
            if first.is_multiple_of(BATCH) {
                scales = self.scales.batches(self.set, &bands, first);
            }
            let mut atoms = [&[0; 64]; R];
            for r in 0..R {
                atoms[r] = &w_rows[r][line];
                ahead.request(self.set, r, 64 * line);
            }
            if a.is_multiple_of(packs.atoms) {
                for r in 0..R {
                    for scale_line in line - packs.scale_lines..line {
                        ahead.request(self.set, r, 64 * scale_line);
                    }
                }
            }
            let planes = Geometry::<BITS>::PLANES;
            let mut x_atoms: [&[[i8; 64]]; T] = [&[]; T];
            for t in 0..T {
                x_atoms[t] = &x_rows[t][a * planes..][..planes];
            }
            let dots = self.set.group_dots::<BITS, R, T>(atoms, x_atoms);
            for g in first..self.groups.min(first + Geometry::<BITS>::GROUPS) {
                for t in 0..T {
                    let offset = Geometry::<BITS>::OFFSET * self.sums[token + t][g];
                    let multiplier = x.multiplier(self.first + token + t, g);
                    for r in 0..R {
                        let dot = Geometry::<BITS>::STEP * dots[t][g - first][r] - offset;
                        let factor = scales[g % BATCH][r] * multiplier;
                        acc[t][r] = (dot as f32).mul_add(factor, acc[t][r]);
                    }
                }
            }
        }
        acc
    }
}
