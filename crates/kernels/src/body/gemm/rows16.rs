//! Panels of ternary weights of 16 rows side by side: a unit is a field of an atom. Few tokens, and ranges that begin inside
//! a band, are for [`rows16`](crate::body::rows16).

use std::ops::Range;

use onebit_format::{MatrixRef, Scales};

use super::engine::Engine;
use super::grouped::{GroupSource, Grouped};
use super::later::Later;
use super::panel::{Filling, PanelScales, Panels, UNIT, Unit, Unpack};
use super::part::Source;
use super::rows::PLANE;
use super::{Exact, Product};
use crate::body::grouped::Scaled;
use crate::body::int;
use crate::body::rows16::{self, BAND};
use crate::body::scales::BandScales;
use crate::input::I8Rows;
use crate::sets::Vector;
use crate::tiles::TileMut;

/// Columns in a unit, and units in an atom.
const FOUR: usize = 4;
const FOURS: usize = 4;

const _: () = assert!(BAND == UNIT);

/// Whether unpacking into a panel pays, and is possible.
#[inline(always)]
fn worthwhile<S: Panels>(tokens: usize, rows: &Range<usize>) -> bool {
    tokens >= S::MANY_IN_LANES && rows.start.is_multiple_of(BAND)
}

/// Sums of a ternary matrix of bands.
#[inline(always)]
pub(crate) fn t2r16<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    if !worthwhile::<S>(job.x.tokens(), &job.rows) {
        return rows16::t2r16(s, job, out);
    }
    sums(s, job, Scales::None, out);
}

/// The same by panels; the rows begin with a band.
#[inline(always)]
pub(crate) fn sums<E: Engine>(
    e: E,
    job: &Product<'_, I8Rows<'_>>,
    scales: Scales<'_>,
    out: &mut TileMut<'_, i32>,
) {
    let Product { w, rows, x } = job;
    let exact = Exact {
        source: Bands(w),
        x: *x,
        scales,
        max: <int::T2 as Unpack<4>>::MAX,
        offset: <int::T2 as Unpack<4>>::OFFSET,
    };
    exact.run(e, rows.clone(), out);
}

/// Products of a ternary matrix of bands with group scales, or int8 activations with multipliers by group.
#[inline(always)]
pub(super) fn grouped<S: Panels, X: Scaled>(
    s: S,
    job: &Product<'_, X>,
    out: &mut TileMut<'_, f32>,
) {
    if !worthwhile::<S>(job.x.tokens(), &job.rows) {
        return rows16::grouped(s, job, out);
    }
    products(s, job, out);
}

/// The same by panels; the rows begin with a band.
#[inline(always)]
pub(crate) fn products<E: Engine, X: Scaled>(
    e: E,
    job: &Product<'_, X>,
    out: &mut TileMut<'_, f32>,
) {
    let Product { w, rows, x } = job;
    let grouped = Grouped {
        source: Bands(w),
        x: *x,
        group_fours: 2 * PLANE,
        max: <int::T2 as Unpack<4>>::MAX,
        offset: <int::T2 as Unpack<4>>::OFFSET,
    };
    grouped.run(e, rows.clone(), w.cols(), out);
}

/// A matrix whose bands have [`BAND`] rows. Panels begin with one.
struct Bands<'a>(&'a MatrixRef<'a>);

impl Source for Bands<'_> {
    fn fours(&self) -> usize {
        self.0.padded_cols() / FOUR
    }

    /// As if the bytes of a band were those of one row after the other.
    fn later(&self, [_, rows]: [Range<usize>; 2], fours: Range<usize>) -> Later {
        let band_bytes = self.0.band_bytes();
        let at = |row: usize| row * band_bytes / BAND;
        let first = (self.0.bytes().as_ptr()).wrapping_add(at(rows.start));
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
        for (u, band) in (rows.start / BAND..rows.end.div_ceil(BAND)).enumerate() {
            let atoms = self.0.band_bytes_of(band);
            let atoms = &atoms.as_chunks::<64>().0[fours.start / FOURS..fours.end / FOURS];
            let start = filling.start(u, fours.len());
            let units = &mut panel[start..][..filling.units * (fours.len() - 1) + 1];
            for i in 0..atoms.len() {
                filling.prefetch(s, &atoms[i], 64 * atoms.len());
                let fields = <int::T2 as Unpack<4>>::planes(s, s.loaded(&atoms[i]));
                for p in 0..FOURS {
                    let unit = &mut units[(FOURS * i + p) * filling.units];
                    filling.store(s, fields[p], <int::T2 as Unpack<4>>::OFFSET, unit);
                }
            }
        }
    }
}

impl GroupSource for Bands<'_> {
    #[inline(always)]
    fn scales<S: Panels>(
        &self,
        s: S,
        rows: Range<usize>,
        groups: Range<usize>,
        scales: &mut PanelScales,
    ) {
        for (u, band) in (rows.start / BAND..rows.end.div_ceil(BAND)).enumerate() {
            let of = BandScales::<{ BAND / UNIT }>::of(self.0, band);
            for g in 0..groups.len() {
                of.load(s, groups.start + g, 0).store(&mut scales[g][u]);
            }
        }
    }
}
