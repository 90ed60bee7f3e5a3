//! Panels of weights whose atoms hold five rows: each atom is taken apart into rows of codes, which are
//! interleaved as those of other layouts are while they are packed. So a panel may begin with any row.

use std::ops::Range;

use onebit_format::{MatrixRef, Scales};

use super::engine::Engine;
use super::later::Later;
use super::panel::{Filling, MAX_ROWS, Panels, UNIT, Unit};
use super::part::Source;
use super::rows::PLANE;
use super::{Exact, Product};
use crate::body::bands::{self, BAND, bands_of};
use crate::input::I8Rows;
use crate::tiles::TileMut;

/// Most bands that hold rows of a panel.
const BANDS: usize = (MAX_ROWS + BAND - 1).div_ceil(BAND);

/// What codes are too large by.
const OFFSET: i32 = 1;

/// Sums of a ternary matrix of bands.
#[inline(always)]
pub(crate) fn t5r5<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    match job.x.tokens() < S::MANY {
        true => bands::t5r5(s, job, out),
        false => sums(s, job, Scales::None, out),
    }
}

/// The same by panels.
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
        max: 2,
        offset: OFFSET,
    };
    exact.run(e, rows.clone(), out);
}

/// A matrix whose bands have [`BAND`] rows.
struct Bands<'a>(&'a MatrixRef<'a>);

impl Source for Bands<'_> {
    fn fours(&self) -> usize {
        self.0.band_bytes() / 64 * PLANE
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
        let atoms = fours.start / PLANE..fours.end / PLANE;
        let bands = bands_of(&rows);
        let first = BAND * bands.start;
        let mut codes = [[0; 64]; BANDS * BAND];
        for (i, a) in atoms.clone().enumerate() {
            for (codes, band) in codes
                .as_chunks_mut::<BAND>()
                .0
                .iter_mut()
                .zip(bands.clone())
            {
                let atom = &self.0.band_bytes_of(band).as_chunks::<64>().0[a];
                filling.prefetch(s, atom, 64 * atoms.len());
                let planes = s.dense(s.loaded(atom));
                for p in 0..BAND {
                    s.store(planes[p], &mut codes[p]);
                }
            }
            for u in 0..rows.len().div_ceil(UNIT) {
                let mut lines = [&[0; 64]; UNIT];
                for (r, line) in lines.iter_mut().enumerate() {
                    *line = &codes[(rows.start + UNIT * u + r).min(rows.end - 1) - first];
                }
                let units = s.interleaved(lines);
                let tile = &mut panel[filling.start(u, fours.len())..];
                for c in 0..PLANE {
                    let unit = &mut tile[(PLANE * i + c) * filling.units];
                    filling.store(s, units[c], OFFSET, unit);
                }
            }
        }
    }
}
