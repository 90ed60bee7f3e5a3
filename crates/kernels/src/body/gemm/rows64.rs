//! Panels of binary weights of 64 rows side by side: a unit is a nibble of 16 bytes of an atom, spread out. Few
//! tokens, and ranges that begin inside a band, are for [`lookup`].

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
use crate::body::lookup::{self, BAND};
use crate::body::scales::BandScales;
use crate::input::I8Rows;
use crate::sets::Vector;
use crate::tiles::TileMut;

/// Columns in a unit, and units of the same rows in an atom.
const FOUR: usize = 4;
const FOURS: usize = lookup::COLS / FOUR;

/// Units in a band.
const BAND_UNITS: usize = BAND / UNIT;

/// Whether unpacking into a panel pays, and is possible.
#[inline(always)]
fn worthwhile<S: Panels>(tokens: usize, rows: &Range<usize>) -> bool {
    tokens >= S::MANY_LOOKED_UP && rows.start.is_multiple_of(BAND)
}

/// Sums of a binary matrix of bands.
#[inline(always)]
pub(crate) fn b1r64<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    if !worthwhile::<S>(job.x.tokens(), &job.rows) {
        return lookup::b1r64(s, job, out);
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
        max: <int::B1 as Unpack<8>>::MAX,
        offset: <int::B1 as Unpack<8>>::OFFSET,
    };
    exact.run(e, rows.clone(), out);
}

/// Products of a binary matrix of bands with group scales, or int8 activations with multipliers by group.
#[inline(always)]
pub(super) fn grouped<S: Panels, X: Scaled>(
    s: S,
    job: &Product<'_, X>,
    out: &mut TileMut<'_, f32>,
) {
    if !worthwhile::<S>(job.x.tokens(), &job.rows) {
        return lookup::grouped(s, job, out);
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
        max: <int::B1 as Unpack<8>>::MAX,
        offset: <int::B1 as Unpack<8>>::OFFSET,
    };
    grouped.run(e, rows.clone(), w.cols(), out);
}

/// A matrix whose bands have [`BAND`] rows. Panels begin with one, or with whole units of one.
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
        let first = rows.start / UNIT;
        let units = first..first + rows.len().div_ceil(UNIT);
        for band in units.start / BAND_UNITS..units.end.div_ceil(BAND_UNITS) {
            let atoms = self.0.band_bytes_of(band);
            let atoms = &atoms.as_chunks::<64>().0[fours.start / FOURS..fours.end / FOURS];
            let m_start = units.start.saturating_sub(BAND_UNITS * band);
            let m_end = BAND_UNITS.min(units.end - BAND_UNITS * band);
            for i in 0..atoms.len() {
                let atom = &atoms[i];
                filling.prefetch(s, atom, 64 * atoms.len());
                for n in 0..FOURS {
                    for m in m_start..m_end {
                        let start = filling.start(BAND_UNITS * band + m - first, fours.len());
                        let unit = &mut panel[start + (FOURS * i + n) * filling.units];
                        let offset = <int::B1 as Unpack<8>>::OFFSET;
                        filling.store(s, s.spread(atom, m, n), offset, unit);
                    }
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
        for u in 0..rows.len().div_ceil(UNIT) {
            let unit = rows.start / UNIT + u;
            let of = BandScales::<{ BAND / UNIT }>::of(self.0, unit / BAND_UNITS);
            for g in 0..groups.len() {
                let scale = of.load(s, groups.start + g, unit % BAND_UNITS);
                scale.store(&mut scales[g][u]);
            }
        }
    }
}
