//! Many tokens, with scales per group of columns: as in [`grouped`](crate::body::grouped), to the bit.
//!
//! ```text
//! for each 128 rows
//!     for each 512 columns                               groups of 128 or 64
//!         panel = codes, scales = those of the panel's groups, transposed
//!         for each 48 tokens
//!             offsets = sums of the activations of each group
//!             for each tile
//!                 acc = out
//!                 for each group: acc += float(panel * x - offset) * (scale * multiplier)
//!                 out = acc, or acc * factor at the end
//! ```

use onebit_format::{Layout, MatrixRef};

use super::panel::{
    COLS, Edge, GROUPS, Groups, I4, Panel, PanelScales, Panels, ROWS, UNIT, Unit, Unpack,
    ask_ahead, outputs, per_tile, unpack,
};
use super::{few, rows64};
use crate::body::grouped::{self, BATCH, Geometry, GroupScales, Scaled};
use crate::body::{Product, int};
use crate::input::{I8GroupRows, I8Rows};
use crate::tiles::TileMut;

/// Tokens whose activations are added up at once.
const TOKENS: usize = 48;

/// Products of a ternary or binary matrix with group scales, int8 activations scaled per token.
#[inline(always)]
pub(crate) fn grouped<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, f32>) {
    match (job.x.tokens() < S::MANY_GROUPED, job.w.layout()) {
        (_, Layout::B1R64) => rows64::grouped(s, job, out),
        (true, Layout::T2) => a_few::<S, _, 2>(s, job, out),
        (true, _) => a_few::<S, _, 1>(s, job, out),
        (_, Layout::T2) => product::<S, _, int::T2, 2, 4>(s, job, out),
        _ => product::<S, _, int::B1, 1, 8>(s, job, out),
    }
}

/// Products of a ternary or binary matrix, int8 activations scaled per group.
#[inline(always)]
pub(crate) fn by_group<S: Panels>(
    s: S,
    job: &Product<'_, I8GroupRows<'_>>,
    out: &mut TileMut<'_, f32>,
) {
    match (job.x.tokens() < S::MANY_GROUPED, job.w.layout()) {
        (_, Layout::B1R64) => rows64::grouped(s, job, out),
        (true, Layout::T2) => a_few::<S, _, 2>(s, job, out),
        (true, _) => a_few::<S, _, 1>(s, job, out),
        (_, Layout::T2) => product::<S, _, int::T2, 2, 4>(s, job, out),
        _ => product::<S, _, int::B1, 1, 8>(s, job, out),
    }
}

/// Products of a 4-bit matrix, int8 activations scaled per token.
#[inline(always)]
pub(crate) fn i4<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, f32>) {
    match job.x.tokens() < S::MANY_GROUPED {
        true => a_few::<S, _, 4>(s, job, out),
        false => product::<S, _, I4, 4, 2>(s, job, out),
    }
}

/// Products of fewer tokens than unpacking pays for.
#[inline(always)]
fn a_few<S: Panels, X: Scaled, const BITS: usize>(
    s: S,
    job: &Product<'_, X>,
    out: &mut TileMut<'_, f32>,
) {
    match S::FEW {
        true => few::product::<S, X, BITS>(s, job, out),
        false => grouped::product::<S, X, BITS>(s, job, out),
    }
}

#[inline(always)]
fn product<S: Panels, X: Scaled, L: Unpack<P>, const BITS: usize, const P: usize>(
    s: S,
    job: &Product<'_, X>,
    out: &mut TileMut<'_, f32>,
) {
    let Product { w, rows, x } = job;
    let mut panel = Panel::EMPTY;
    let mut scales: PanelScales = [[[0.0; UNIT]; ROWS / UNIT]; GROUPS];
    let (atoms, step) = (w.row_bytes() / 64, COLS / (64 * P));
    let groups = w.cols().div_ceil(64 * Geometry::<BITS>::GROUP_PLANES);
    for start in rows.clone().step_by(ROWS) {
        let chunk = start..rows.end.min(start + ROWS);
        let mut out = out.columns(chunk.start - rows.start..chunk.end - rows.start);
        for first in (0..atoms).step_by(step) {
            let part = first..atoms.min(first + step);
            let first_group = first * Geometry::<BITS>::GROUPS;
            unpack::<S, L, P>(s, w, chunk.clone(), part.clone(), &mut panel.0);
            transpose_scales(s, w, start, chunk.len(), first_group, &mut scales);
            let add = Add::<X, L, P> {
                panel: &panel.0,
                x: *x,
                planes: part.start * P..part.end * P,
                group_planes: Geometry::<BITS>::GROUP_PLANES,
                groups: first_group..groups.min(part.end * Geometry::<BITS>::GROUPS),
                scales: &scales,
                last: part.end == atoms,
                layout: std::marker::PhantomData,
            };
            add.run(s, &mut out);
        }
    }
}

/// Puts the scales of `rows` rows for the groups from `first` on beside each other.
#[inline(always)]
fn transpose_scales<S: Panels>(
    s: S,
    w: &MatrixRef<'_>,
    start: usize,
    rows: usize,
    first: usize,
    scales: &mut PanelScales,
) {
    const { assert!(GROUPS <= BATCH) };
    let of = GroupScales::of(w);
    for row in 0..rows {
        let batch = of.batch(s, start + row, first);
        for g in 0..GROUPS {
            scales[g][row / UNIT][row % UNIT] = batch[g];
        }
    }
}

/// A panel to be multiplied with some columns of all tokens.
pub(super) struct Add<'a, X, L, const P: usize> {
    pub(super) panel: &'a [Unit],
    pub(super) x: X,
    /// Which planes of 64 columns, and how many of them make a group.
    pub(super) planes: std::ops::Range<usize>,
    pub(super) group_planes: usize,
    /// Which groups; the panel may end in padding that belongs to none.
    pub(super) groups: std::ops::Range<usize>,
    pub(super) scales: &'a PanelScales,
    /// Whether these are the last columns.
    pub(super) last: bool,
    pub(super) layout: std::marker::PhantomData<L>,
}

/// Of some tokens and the groups of a panel, what goes off and what the rest is multiplied with.
struct Activations {
    offsets: [[i32; GROUPS]; TOKENS],
    multipliers: [[f32; GROUPS]; TOKENS],
}

impl<X: Scaled, L: Unpack<P>, const P: usize> Add<'_, X, L, P> {
    #[inline(always)]
    pub(super) fn run<S: Panels>(&self, s: S, out: &mut TileMut<'_, f32>) {
        let (tile_rows, fours) = (S::UNITS * UNIT, self.planes.len() * 16);
        let mut activations = Activations {
            offsets: [[0; GROUPS]; TOKENS],
            multipliers: [[0.0; GROUPS]; TOKENS],
        };
        for first in (0..self.x.tokens()).step_by(TOKENS) {
            let tokens = first..self.x.tokens().min(first + TOKENS);
            for token in tokens.clone() {
                self.prepare(s, token, token - first, &mut activations);
            }
            for start in (0..out.width()).step_by(tile_rows) {
                let panel = &self.panel[start / UNIT * fours..][..S::UNITS * fours];
                let mut out = out.columns(start..out.width().min(start + tile_rows));
                per_tile!(S, token in tokens.clone(), T => {
                    let groups = self.groups_of::<T>(&activations, token, token - first, start / UNIT);
                    self.tile::<S, T>(s, panel, token, groups, &mut out)
                });
            }
        }
    }

    /// Adds up a token's activations by group.
    #[inline(always)]
    fn prepare<S: Panels>(&self, s: S, token: usize, t: usize, activations: &mut Activations) {
        let planes = &self.x.codes(token).as_chunks::<64>().0[self.planes.clone()];
        for (i, g) in self.groups.clone().enumerate() {
            let sum = s.group_sum(&planes[i * self.group_planes..][..self.group_planes]);
            activations.offsets[t][i] = L::OFFSET * sum;
            activations.multipliers[t][i] = self.x.multiplier(token, g);
        }
    }

    /// The factors of `T` tokens, from `token` on, which are in place `t`, and of the units from `unit` on.
    #[inline(always)]
    fn groups_of<'a, const T: usize>(
        &'a self,
        activations: &'a Activations,
        token: usize,
        t: usize,
        unit: usize,
    ) -> Groups<'a, T> {
        let mut factors = [1.0; T];
        if self.last {
            for (i, factor) in factors.iter_mut().enumerate() {
                *factor = self.x.factor(token + i);
            }
        }
        Groups {
            factors,
            count: self.groups.len(),
            fours: self.group_planes * 16,
            first: self.groups.start == 0,
            scales: self.scales,
            unit,
            offsets: std::array::from_fn(|i| &activations.offsets[t + i]),
            multipliers: std::array::from_fn(|i| &activations.multipliers[t + i]),
        }
    }

    #[inline(always)]
    fn tile<S: Panels, const T: usize>(
        &self,
        s: S,
        panel: &[Unit],
        token: usize,
        groups: Groups<'_, T>,
        out: &mut TileMut<'_, f32>,
    ) {
        let mut x: [&[[i8; 4]]; T] = [&[]; T];
        for t in 0..T {
            let planes = &self.x.codes(token + t).as_chunks::<64>().0[self.planes.clone()];
            x[t] = planes.as_flattened().as_chunks().0;
        }
        ask_ahead::<S, _, T>(s, out, token);
        if out.width() == S::UNITS * UNIT {
            return s.grouped_tile::<T>(L::MAX, panel, x, groups, outputs(out, token));
        }
        let mut edge = Edge::of(out, token, 0);
        s.grouped_tile::<T>(L::MAX, panel, x, groups, edge.outputs());
        edge.put(out, token);
    }
}
