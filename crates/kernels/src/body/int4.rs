//! 4-bit weights with a scale per 64 columns, times int8 activations.
//!
//! Within a group sums are exact integers; between groups they are `f32`, so here the order counts.
//! Lane `l` of 16 owns bytes `4l..4l + 4` of every group, which is what one byte-product instruction
//! leaves in an `i32` lane:
//!
//! ```text
//! for each group g, in order:
//!     acc[l] += float(exact dot of the lane's four columns) * scale[g]
//! y = tree_sum(acc) * (1 / s)        s: the token's activation scale
//! ```
//!
//! An odd last group has no columns in its second plane; its scale is taken as 0.

use half::f16;
use onebit_format::Scales;

use super::ahead::{Ahead, Streams};
use super::{Block, Product, atoms_of, cover, planes_of};
use crate::input::I8Rows;
use crate::sets::{Set, Vector};
use crate::tiles::TileMut;

/// Products of a 4-bit matrix, scaled.
#[inline(always)]
pub(crate) fn i4<S: Set>(set: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, f32>) {
    let Scales::Groups { values, .. } = job.w.scales() else {
        panic!("4-bit matrices have group scales");
    };
    let groups = job.w.cols().div_ceil(64);
    let block = Grouped {
        set,
        job,
        scales: values,
        groups,
    };
    cover(
        S::MANY_FLOATS,
        job.rows.clone(),
        job.x.tokens(),
        &block,
        out,
    );
}

/// Atoms whose scales are converted together: 16 of them.
const BATCH: usize = 8;

struct Grouped<'a, S> {
    set: S,
    job: &'a Product<'a, I8Rows<'a>>,
    scales: &'a [f16],
    groups: usize,
}

impl<S: Set> Block<f32> for Grouped<'_, S> {
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
            let factor = 1.0 / x.scale(token + t);
            let out = out.row(token + t);
            for r in 0..R {
                out[rows[r] - range.start] = acc[r][t].tree_sum() * factor;
            }
        }
    }
}

impl<S: Set> Grouped<'_, S> {
    /// The loop over the atoms of a block.
    #[inline(always)]
    fn accumulate<const R: usize, const T: usize>(
        &self,
        rows: [usize; R],
        token: usize,
    ) -> [[S::F; T]; R] {
        let Product { w, x, .. } = self.job;
        let atoms = w.row_bytes() / 64;
        let mut acc = [[self.set.splat(0.0); T]; R];
        let mut w_rows: [&[[u8; 64]]; R] = [&[]; R];
        let mut scale_rows: [&[f16]; R] = [&[]; R];
        for r in 0..R {
            w_rows[r] = atoms_of(w, rows[r]);
            scale_rows[r] = &self.scales[rows[r] * self.groups..][..self.groups];
        }
        let mut x_rows: [&[[[i8; 64]; 2]]; T] = [&[]; T];
        for (t, x_row) in x_rows.iter_mut().enumerate() {
            *x_row = planes_of(x.row(token + t), atoms);
        }
        let mut batch = [[[0.0; 2]; BATCH]; R];
        let mut ahead = Streams::new(w_rows);
        for a in 0..atoms {
            if a % BATCH == 0 {
                for r in 0..R {
                    batch[r] = scales_from(self.set, &scale_rows[r][2 * a..]);
                }
            }
            let mut atom = [&[0; 64]; R];
            let mut scales = [[0.0; 2]; R];
            for r in 0..R {
                atom[r] = &w_rows[r][a];
                scales[r] = batch[r][a % BATCH];
            }
            (0..R).for_each(|r| ahead.request(self.set, r, 64 * a));
            let mut planes = [&[[0; 64]; 2]; T];
            for t in 0..T {
                planes[t] = &x_rows[t][a];
            }
            self.set.i4(&mut acc, atom, scales, planes);
        }
        acc
    }
}

/// The scales of the next atoms, zeros past the end.
#[inline(always)]
fn scales_from<S: Set>(s: S, scales: &[f16]) -> [[f32; 2]; BATCH] {
    let mut bytes = [0; 4 * BATCH];
    let len = scales.len().min(2 * BATCH);
    bytes[..2 * len].copy_from_slice(bytemuck::cast_slice(&scales[..len]));
    let mut lanes = [0.0; 2 * BATCH];
    s.load_f16(&bytes).store(&mut lanes);
    let mut pairs = [[0.0; 2]; BATCH];
    pairs.copy_from_slice(lanes.as_chunks::<2>().0);
    pairs
}
