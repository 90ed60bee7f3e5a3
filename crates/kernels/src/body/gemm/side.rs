//! Panels of matrices whose rows lie side by side in bands of whole units. Few tokens, and ranges that begin inside a band, are
//! for kernels of their own, which multiply bands as they lie.

use std::marker::PhantomData;
use std::ops::Range;

use onebit_format::{MatrixRef, Scales};

use super::engine::Engine;
use super::grouped::{GroupSource, Grouped};
use super::later::Later;
use super::panel::{Filling, PanelScales, Panels, UNIT, Unit};
use super::part::Source;
use super::rows::PLANE;
use super::{Exact, Product};
use crate::body::grouped::Scaled;
use crate::input::I8Rows;
use crate::tiles::TileMut;

/// Columns in a unit.
const FOUR: usize = 4;

/// A layout of such bands, with groups of two planes.
pub(crate) trait Side {
    /// Rows of a band, a multiple of [`UNIT`].
    const BAND: usize;
    /// The largest code, and what all are too large by.
    const MAX: u8;
    const OFFSET: i32;

    /// Tokens from which unpacking into a panel pays.
    fn many<S: Panels>() -> usize;
    /// Sums of fewer tokens.
    fn few<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>);
    /// Products of fewer tokens with scales by group.
    fn few_grouped<S: Panels, X: Scaled>(s: S, job: &Product<'_, X>, out: &mut TileMut<'_, f32>);
    /// [`Source::unpack`].
    fn unpack<S: Panels>(
        w: &MatrixRef<'_>,
        s: S,
        filling: Filling,
        rows: Range<usize>,
        fours: Range<usize>,
        panel: &mut [Unit],
    );
    /// Puts the scales of some groups of unit `unit` of the matrix where those of unit `u` of the panel are.
    fn scales<S: Panels>(
        w: &MatrixRef<'_>,
        s: S,
        unit: usize,
        groups: Range<usize>,
        u: usize,
        scales: &mut PanelScales,
    );
}

/// Whether unpacking into a panel pays, and is possible.
#[inline(always)]
fn worthwhile<L: Side, S: Panels>(tokens: usize, rows: &Range<usize>) -> bool {
    tokens >= L::many::<S>() && rows.start.is_multiple_of(L::BAND)
}

/// Sums of a matrix of bands.
#[inline(always)]
pub(super) fn exact<L: Side, S: Panels>(
    s: S,
    job: &Product<'_, I8Rows<'_>>,
    out: &mut TileMut<'_, i32>,
) {
    match worthwhile::<L, S>(job.x.tokens(), &job.rows) {
        true => sums::<L, S>(s, job, Scales::None, out),
        false => L::few(s, job, out),
    }
}

/// The same by panels; the rows begin with a band.
#[inline(always)]
pub(crate) fn sums<L: Side, E: Engine>(
    e: E,
    job: &Product<'_, I8Rows<'_>>,
    scales: Scales<'_>,
    out: &mut TileMut<'_, i32>,
) {
    let Product { w, rows, x } = job;
    let exact = Exact {
        source: Bands::<L>::new(w),
        x: *x,
        scales,
        max: L::MAX,
        offset: L::OFFSET,
    };
    exact.run(e, rows.clone(), out);
}

/// Products of a matrix of bands with group scales, or int8 activations with multipliers by group.
#[inline(always)]
pub(super) fn grouped<L: Side, S: Panels, X: Scaled>(
    s: S,
    job: &Product<'_, X>,
    out: &mut TileMut<'_, f32>,
) {
    match worthwhile::<L, S>(job.x.tokens(), &job.rows) {
        true => products::<L, S, X>(s, job, out),
        false => L::few_grouped(s, job, out),
    }
}

/// The same by panels; the rows begin with a band.
#[inline(always)]
pub(crate) fn products<L: Side, E: Engine, X: Scaled>(
    e: E,
    job: &Product<'_, X>,
    out: &mut TileMut<'_, f32>,
) {
    let Product { w, rows, x } = job;
    let grouped = Grouped {
        source: Bands::<L>::new(w),
        x: *x,
        group_fours: 2 * PLANE,
        max: L::MAX,
        offset: L::OFFSET,
    };
    grouped.run(e, rows.clone(), w.cols(), out);
}

/// A matrix of bands. Panels begin with one, or with whole units of one.
struct Bands<'a, L> {
    w: &'a MatrixRef<'a>,
    layout: PhantomData<L>,
}

impl<'a, L> Bands<'a, L> {
    fn new(w: &'a MatrixRef<'a>) -> Self {
        Self {
            w,
            layout: PhantomData,
        }
    }
}

impl<L: Side> Source for Bands<'_, L> {
    fn fours(&self) -> usize {
        self.w.padded_cols() / FOUR
    }

    /// As if the bytes of a band were those of one row after the other.
    fn later(&self, [_, rows]: [Range<usize>; 2], fours: Range<usize>) -> Later {
        let band_bytes = self.w.band_bytes();
        let at = |row: usize| row * band_bytes / L::BAND;
        let first = (self.w.bytes().as_ptr()).wrapping_add(at(rows.start));
        Later::part(first, at(rows.len()), fours, self.fours())
    }

    #[inline(always)]
    fn unpack<S: Panels>(
        &self,
        s: S,
        filling: Filling,
        rows: Range<usize>,
        fours: Range<usize>,
        panel: &mut [Unit],
    ) {
        L::unpack(self.w, s, filling, rows, fours, panel);
    }
}

impl<L: Side> GroupSource for Bands<'_, L> {
    #[inline(always)]
    fn scales<S: Panels>(
        &self,
        s: S,
        rows: Range<usize>,
        groups: Range<usize>,
        scales: &mut PanelScales,
    ) {
        for u in 0..rows.len().div_ceil(UNIT) {
            L::scales(self.w, s, rows.start / UNIT + u, groups.clone(), u, scales);
        }
    }
}
