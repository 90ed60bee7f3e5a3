//! Ternary and binary weights times int8 activations, where either side has a scale per 128 columns.
//!
//! As in [`int4`](super::int4): exact within a group, `f32` between groups, lane `l` of 16 owning
//! bytes `4l..4l + 4` of the group's two planes:
//!
//! ```text
//! for each group g, in order:
//!     acc[l] += float(exact dot of the lane's eight columns) * (weight scale[g] * multiplier[g])
//! y = tree_sum(acc) * (1 / s)
//! ```
//!
//! Activations with one scale `s` per token have multipliers of 1; those with a multiplier per group
//! have `s` = 1. A matrix with one scale has it in every group.

use half::f16;
use onebit_format::{ATOM_BYTES, Layout, MatrixRef, SIGN_GROUP, Scales};

use super::ahead::{Ahead, Streams};
use super::{Block, Product, Rows, atoms_of, cover};
use crate::input::{I8GroupRows, I8Rows};
use crate::sets::{Set, Vector};
use crate::tiles::TileMut;

/// Group scales that are converted together.
pub(super) const BATCH: usize = 16;

/// The two planes of a group.
type Planes = [[i8; ATOM_BYTES]; SIGN_GROUP / ATOM_BYTES];

/// Int8 activations with scales of either kind.
trait Scaled: Rows {
    fn codes(&self, token: usize) -> &[i8];
    /// What the dots of a group are multiplied by.
    fn multiplier(&self, token: usize, group: usize) -> f32;
    /// What the sum over the groups is multiplied by.
    fn factor(&self, token: usize) -> f32;
}

impl Scaled for I8Rows<'_> {
    #[inline(always)]
    fn codes(&self, token: usize) -> &[i8] {
        self.row(token)
    }
    #[inline(always)]
    fn multiplier(&self, _token: usize, _group: usize) -> f32 {
        1.0
    }
    #[inline(always)]
    fn factor(&self, token: usize) -> f32 {
        1.0 / self.scale(token)
    }
}

impl Scaled for I8GroupRows<'_> {
    #[inline(always)]
    fn codes(&self, token: usize) -> &[i8] {
        self.row(token)
    }
    #[inline(always)]
    fn multiplier(&self, token: usize, group: usize) -> f32 {
        self.multipliers(token)[group]
    }
    #[inline(always)]
    fn factor(&self, _token: usize) -> f32 {
        1.0
    }
}

/// The weight scales of a matrix by group.
#[derive(Clone, Copy)]
pub(super) enum GroupScales<'a> {
    Same(f32),
    Each { values: &'a [f16], per_row: usize },
}

impl<'a> GroupScales<'a> {
    pub(super) fn of(w: &MatrixRef<'a>) -> Self {
        match w.scales() {
            Scales::Tensor(scale) => Self::Same(scale),
            Scales::Groups { size, values } => Self::Each {
                values,
                per_row: w.cols().div_ceil(size),
            },
            _ => panic!("{} has no scales by group", w.layout()),
        }
    }

    /// Those of a row from group `first` on; zeros past the end.
    #[inline(always)]
    pub(super) fn batch<S: Set>(self, s: S, row: usize, first: usize) -> [f32; BATCH] {
        match self {
            Self::Same(scale) => [scale; BATCH],
            Self::Each { values, per_row } => {
                let left = &values[row * per_row..][first..per_row];
                let left = &left[..left.len().min(BATCH)];
                let mut bytes = [0; 2 * BATCH];
                bytes[..2 * left.len()].copy_from_slice(bytemuck::cast_slice(left));
                let mut lanes = [0.0; BATCH];
                s.load_f16(&bytes).store(&mut lanes);
                lanes
            }
        }
    }
}

/// Products of a ternary or binary matrix with group scales, int8 activations scaled per token.
#[inline(always)]
pub(crate) fn grouped<S: Set>(set: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, f32>) {
    product(set, job, out);
}

/// Products of a ternary or binary matrix, int8 activations scaled per group.
#[inline(always)]
pub(crate) fn by_group<S: Set>(
    set: S,
    job: &Product<'_, I8GroupRows<'_>>,
    out: &mut TileMut<'_, f32>,
) {
    product(set, job, out);
}

#[inline(always)]
fn product<S: Set, X: Scaled>(set: S, job: &Product<'_, X>, out: &mut TileMut<'_, f32>) {
    let scales = GroupScales::of(job.w);
    let (rows, tokens) = (job.rows.clone(), job.x.tokens());
    match job.w.layout() {
        Layout::T2 => {
            let block = Groups::<S, X, 2> { set, job, scales };
            cover(S::MANY_FLOATS, rows, tokens, &block, out);
        }
        _ => {
            let block = Groups::<S, X, 1> { set, job, scales };
            cover(S::MANY_FLOATS, rows, tokens, &block, out);
        }
    }
}

struct Groups<'a, S, X, const BITS: usize> {
    set: S,
    job: &'a Product<'a, X>,
    scales: GroupScales<'a>,
}

impl<S: Set, X: Scaled, const BITS: usize> Block<f32> for Groups<'_, S, X, BITS> {
    #[inline(always)]
    fn run<const R: usize, const T: usize>(
        &self,
        rows: [usize; R],
        token: usize,
        out: &mut TileMut<'_, f32>,
    ) {
        let Product { rows: range, x, .. } = self.job;
        let acc = self.accumulate::<R, T>(rows, token);
        for t in 0..T {
            let factor = x.factor(token + t);
            let out = out.row(token + t);
            for r in 0..R {
                out[rows[r] - range.start] = acc[r][t].tree_sum() * factor;
            }
        }
    }
}

impl<S: Set, X: Scaled, const BITS: usize> Groups<'_, S, X, BITS> {
    /// Groups in an atom.
    const GROUPS: usize = 8 * ATOM_BYTES / BITS / SIGN_GROUP;

    /// The loop over the groups of a block.
    #[inline(always)]
    fn accumulate<const R: usize, const T: usize>(
        &self,
        rows: [usize; R],
        token: usize,
    ) -> [[S::F; T]; R] {
        let Product { w, x, .. } = self.job;
        let groups = w.cols().div_ceil(SIGN_GROUP);
        let mut acc = [[self.set.splat(0.0); T]; R];
        let mut w_rows: [&[[u8; 64]]; R] = [&[]; R];
        for r in 0..R {
            w_rows[r] = atoms_of(w, rows[r]);
        }
        let mut x_rows: [&[Planes]; T] = [&[]; T];
        for (t, x_row) in x_rows.iter_mut().enumerate() {
            *x_row = &x.codes(token + t).as_chunks().0.as_chunks().0[..groups];
        }
        let mut batch = [[0.0; BATCH]; R];
        let mut ahead = Streams::new(w_rows);
        for g in 0..groups {
            if g % BATCH == 0 {
                for r in 0..R {
                    batch[r] = self.scales.batch(self.set, rows[r], g);
                }
            }
            let (a, shift) = (g / Self::GROUPS, g % Self::GROUPS * 2 * BITS);
            let mut atom = [&[0; 64]; R];
            let mut factors = [[0.0; T]; R];
            for r in 0..R {
                atom[r] = &w_rows[r][a];
                for t in 0..T {
                    factors[r][t] = batch[r][g % BATCH] * x.multiplier(token + t, g);
                }
            }
            if shift == 0 {
                (0..R).for_each(|r| ahead.request(self.set, r, 64 * a));
            }
            let mut planes = [&[[0; 64]; 2]; T];
            for t in 0..T {
                planes[t] = &x_rows[t][g];
            }
            self.set
                .signs::<BITS, R, T>(&mut acc, atom, shift, factors, planes);
        }
        acc
    }
}
