//! Panels of weights whose atoms hold five rows: each atom is taken apart into rows of codes, which are
//! interleaved as those of other layouts are while they are packed. So a panel may begin with any row.

use std::ops::Range;

use onebit_format::MatrixRef;

use super::panel::{COLS, Panel, Panels, ROWS, UNIT, Unit};
use super::{Add, Product};
use crate::body::bands::{self, BAND, bands_of};
use crate::input::I8Rows;
use crate::tiles::TileMut;

/// Most bands that hold rows of a panel.
const BANDS: usize = (ROWS + BAND - 1).div_ceil(BAND);

/// Sums of a ternary matrix of bands.
#[inline(always)]
pub(crate) fn t5r5<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    if job.x.tokens() < S::MANY {
        return bands::t5r5(s, job, out);
    }
    let mut panel = Panel::EMPTY;
    let Product { w, rows, x } = job;
    let (atoms, step) = (w.band_bytes() / 64, COLS / 64);
    for start in rows.clone().step_by(ROWS) {
        let chunk = start..rows.end.min(start + ROWS);
        let mut out = out.columns(chunk.start - rows.start..chunk.end - rows.start);
        for first in (0..atoms).step_by(step) {
            let part = first..atoms.min(first + step);
            unpack(s, w, chunk.clone(), part.clone(), &mut panel.0);
            let add = Add {
                panel: &panel.0,
                x: *x,
                fours: part.start * 16..part.end * 16,
                max: 2,
                offset: 1,
                skip: 0,
            };
            add.run(s, &mut out);
        }
    }
}

/// Unpacks some atoms of up to [`ROWS`] rows, as [`super::panel::unpack`] does.
#[inline(always)]
fn unpack<S: Panels>(
    s: S,
    w: &MatrixRef<'_>,
    rows: Range<usize>,
    atoms: Range<usize>,
    panel: &mut [Unit],
) {
    let fours = atoms.len() * 16;
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
            let atom = &w.band_bytes_of(band).as_chunks::<64>().0[a];
            s.prefetch(atom.as_ptr().wrapping_add(64 * atoms.len()));
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
            let tile = &mut panel[u / S::UNITS * S::UNITS * fours..][..S::UNITS * fours];
            for c in 0..16 {
                s.store(units[c], &mut tile[(16 * i + c) * S::UNITS + u % S::UNITS]);
            }
        }
    }
}
