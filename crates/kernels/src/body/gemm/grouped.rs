//! Many tokens, with scales per group of columns: as in [`grouped`](crate::body::grouped), to the bit.
//!
//! ```text
//! for each 128 rows
//!     for each 128 tokens
//!         for each 512 columns                               groups of 128 or 64
//!             panel = codes, scales = those of the panel's groups, transposed
//!             for each tile
//!                 acc = kept
//!                 for each group: acc += float(panel * x - offset * sum of x) * (scale * multiplier)
//!                 kept = acc
//!         out = kept * factor
//! ```

use std::ops::Range;

use onebit_format::Layout;

use super::engine::Engine;
use super::later::Later;
use super::panel::{GROUPS, Groups, I4, Line, Outputs, PanelScales, Panels, UNIT, Unit, Unpack};
use super::part::{First, Multiply, PART_TOKENS, Part, Plan, Room, Source, pieces};
use super::rows::{ByRow, PLANE};
use super::rows16::T2R16;
use super::rows64::B1R64;
use super::{few, side};
use crate::body::grouped::{self, BATCH, Geometry, GroupScales, Scaled};
use crate::body::{Product, int};
use crate::input::{I8GroupRows, I8Rows};
use crate::tiles::TileMut;

/// Products of a ternary or binary matrix with group scales, int8 activations scaled per token.
#[inline(always)]
pub(crate) fn grouped<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, f32>) {
    match (job.x.tokens() < S::MANY_GROUPED, job.w.layout()) {
        (_, Layout::T2R16) => side::grouped::<T2R16, S, _>(s, job, out),
        (_, Layout::B1R64) => side::grouped::<B1R64, S, _>(s, job, out),
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
        (_, Layout::T2R16) => side::grouped::<T2R16, S, _>(s, job, out),
        (_, Layout::B1R64) => side::grouped::<B1R64, S, _>(s, job, out),
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

/// Products of a matrix stored row by row.
#[inline(always)]
pub(crate) fn product<E: Engine, X: Scaled, L: Unpack<P>, const BITS: usize, const P: usize>(
    e: E,
    job: &Product<'_, X>,
    out: &mut TileMut<'_, f32>,
) {
    let Product { w, rows, x } = job;
    let grouped = Grouped {
        source: ByRow::<L, P>::new(w),
        x: *x,
        group_fours: Geometry::<BITS>::GROUP_PLANES * PLANE,
        max: L::MAX,
        offset: L::OFFSET,
    };
    grouped.run(e, rows.clone(), w.cols(), out);
}

/// A matrix with scales by group.
pub(crate) trait GroupSource: Source {
    /// The scales of some groups of up to [`ROWS`](super::panel::Panels::ROWS) rows.
    fn scales<S: Panels>(
        &self,
        s: S,
        rows: Range<usize>,
        groups: Range<usize>,
        scales: &mut PanelScales,
    );
}

impl<L: Unpack<P>, const P: usize> GroupSource for ByRow<'_, L, P> {
    #[inline(always)]
    fn scales<S: Panels>(
        &self,
        s: S,
        rows: Range<usize>,
        groups: Range<usize>,
        scales: &mut PanelScales,
    ) {
        const { assert!(GROUPS <= BATCH) };
        let of = GroupScales::of(self.matrix());
        for (i, row) in rows.enumerate() {
            let batch = of.batch(s, row, groups.start);
            for g in 0..GROUPS {
                scales[g][i / UNIT][i % UNIT] = batch[g];
            }
        }
    }
}

/// Products of rows of a matrix with scales by group.
pub(crate) struct Grouped<W, X> {
    pub(super) source: W,
    pub(super) x: X,
    /// Fours of columns in a group.
    pub(super) group_fours: usize,
    /// The largest code, and what all are too large by.
    pub(super) max: u8,
    pub(super) offset: i32,
}

impl<W: GroupSource, X: Scaled> Grouped<W, X> {
    #[inline(always)]
    pub(super) fn run<E: Engine>(
        &self,
        e: E,
        rows: Range<usize>,
        cols: usize,
        out: &mut TileMut<'_, f32>,
    ) {
        let s = e.set();
        let room = &mut *Room::of_thread();
        let mut lines = [Line::EMPTY; PART_TOKENS];
        let mut sums = [[0; GROUPS]; PART_TOKENS];
        let plan = Plan::of::<E, W>(rows.clone(), &self.x);
        for i in 0..plan.blocks() {
            let (chunk, _, tokens) = plan.block(i);
            let mut out = out.columns(chunk.start - rows.start..chunk.end - rows.start);
            let mut out = out.some_rows(tokens.clone());
            let lines = &mut lines[..tokens.len()];
            let by_token = self.lines(tokens.start, lines);
            let step = <E::Set as Panels>::COLS / 4 / W::atom() * W::atom();
            for fours in pieces(self.source.fours(), step, step) {
                let groups = self.groups(&fours, cols);
                let (rows, panel) = (chunk.clone(), &mut room.panel);
                (self.source).unpack(s, E::GROUPED, rows.clone(), fours.clone(), panel);
                (self.source).scales(s, rows, groups.clone(), &mut room.scales);
                if by_token && !E::GROUPED.signed {
                    self.sums(s, lines, &fours, &mut sums);
                }
                let part = Part {
                    panel: &room.panel,
                    fours: fours.clone(),
                    all: self.source.fours(),
                    later: match E::GROUPED.fetches {
                        true => Later::NONE,
                        false => self
                            .source
                            .later([chunk.clone(), plan.next(i)], fours.clone()),
                    },
                    skip: 0,
                };
                let tile = Tile {
                    of: self,
                    lines,
                    sums: by_token.then_some(&sums),
                    first: tokens.start,
                    fours,
                    groups,
                    scales: &room.scales,
                };
                e.grouped(&part, &tile, &mut room.outputs, &mut out);
            }
        }
    }

    /// The groups of some columns, the last of which may be padding that belongs to none.
    #[inline(always)]
    fn groups(&self, fours: &Range<usize>, cols: usize) -> Range<usize> {
        let end = cols.div_ceil(4 * self.group_fours);
        fours.start / self.group_fours..end.min(fours.end.div_ceil(self.group_fours))
    }

    /// The tokens from `first` on. Returns whether they have no scales by group of their own.
    #[inline(always)]
    fn lines<'a>(&'a self, first: usize, lines: &mut [Line<'a>]) -> bool {
        let mut by_token = false;
        for (i, line) in lines.iter_mut().enumerate() {
            line.x = self.x.codes(first + i).as_chunks().0;
            line.factor = self.x.factor(first + i);
            match self.x.groups(first + i) {
                Some((multipliers, sums)) => (line.multipliers, line.sums) = (multipliers, sums),
                None => (line.multipliers, by_token) = (&ONES, true),
            }
        }
        by_token
    }

    /// Of each token and group of some columns, the sum of the activations.
    #[inline(always)]
    fn sums<S: Panels>(&self, s: S, lines: &[Line<'_>], fours: &Range<usize>, sums: &mut Sums) {
        for (line, sums) in lines.iter().zip(sums) {
            let planes = line.x[fours.clone()].as_flattened().as_chunks::<64>().0;
            let groups = planes.chunks_exact(self.group_fours / PLANE);
            for (sum, group) in sums.iter_mut().zip(groups) {
                *sum = s.group_sum(group);
            }
        }
    }
}

/// Of each token and group, the sum of the activations.
type Sums = [[i32; GROUPS]; PART_TOKENS];

/// Some columns of tokens from `first` on.
pub(crate) struct Tile<'a, W, X> {
    pub(super) of: &'a Grouped<W, X>,
    lines: &'a [Line<'a>],
    /// Where these do not come with the activations.
    sums: Option<&'a Sums>,
    pub(super) first: usize,
    fours: Range<usize>,
    pub(super) groups: Range<usize>,
    pub(super) scales: &'a PanelScales,
}

/// The multipliers of tokens that have one scale.
const ONES: [f32; GROUPS] = [1.0; GROUPS];

impl<W, X> Tile<'_, W, X> {
    /// A token, counted from the first.
    #[inline(always)]
    pub(super) fn line(&self, token: usize) -> Line<'_> {
        let mut line = self.lines[token];
        if let Some(sums) = self.sums {
            line.sums = &sums[token];
        }
        line
    }

    /// Where the first group is among the multipliers and sums of a token.
    #[inline(always)]
    pub(super) fn first_group(&self) -> usize {
        match self.sums {
            Some(_) => 0,
            None => self.groups.start,
        }
    }

    /// What the sums of a token, counted from the first, are multiplied with in group `g`, counted from those of the part.
    #[inline(always)]
    pub(super) fn multiplier(&self, token: usize, g: usize) -> f32 {
        self.lines[token].multipliers[self.first_group() + g]
    }

    /// The fours of group `g`, counted from those of the part.
    #[inline(always)]
    pub(super) fn fours_of(&self, g: usize) -> Range<usize> {
        let start = g * self.of.group_fours;
        start..self.fours.len().min(start + self.of.group_fours)
    }
}

impl<W, X: Scaled> Multiply<f32> for Tile<'_, W, X> {
    #[inline(always)]
    fn tile<S: Panels, const T: usize>(
        &self,
        s: S,
        panel: &[Unit],
        token: usize,
        unit: usize,
        (kept, First(first)): (&Outputs<'_, f32, T>, First),
        out: Option<&Outputs<'_, f32, T>>,
    ) {
        let groups = Groups {
            count: self.groups.len(),
            fours: self.of.group_fours,
            first_four: self.fours.start,
            first_group: self.first_group(),
            kept,
            first,
            scales: self.scales,
            unit,
            offset: self.of.offset,
        };
        if self.sums.is_none() {
            let lines = self.lines[token..].first_chunk().expect("tokens");
            return s.grouped_tile::<T>(self.of.max, panel, lines, &groups, out);
        }
        let mut lines = [Line::EMPTY; T];
        for t in 0..T {
            lines[t] = self.line(token + t);
        }
        s.grouped_tile::<T>(self.of.max, panel, &lines, &groups, out);
    }
}
