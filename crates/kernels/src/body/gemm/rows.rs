//! Panels of matrices stored row by row. Atoms are interleaved while they are still packed, so that one transposition
//! serves all their planes.

use std::marker::PhantomData;
use std::ops::Range;

use onebit_format::MatrixRef;

use super::later::Later;
use super::panel::{Filling, Panels, UNIT, Unit, Unpack};
use super::part::Source;

/// Units of the same rows in a plane of 64 columns.
pub(crate) const PLANE: usize = 64 / 4;

/// A matrix of rows with `P` planes in an atom.
pub(super) struct ByRow<'a, L, const P: usize> {
    w: &'a MatrixRef<'a>,
    layout: PhantomData<L>,
}

impl<'a, L, const P: usize> ByRow<'a, L, P> {
    pub(super) fn new(w: &'a MatrixRef<'a>) -> Self {
        Self {
            w,
            layout: PhantomData,
        }
    }

    pub(super) fn matrix(&self) -> &'a MatrixRef<'a> {
        self.w
    }
}

impl<L: Unpack<P>, const P: usize> Source for ByRow<'_, L, P> {
    fn fours(&self) -> usize {
        self.w.padded_cols() / 4
    }

    fn atom() -> usize {
        P * PLANE
    }

    fn later(&self, [_, rows]: [Range<usize>; 2], fours: Range<usize>) -> Later {
        let row_bytes = self.w.row_bytes();
        let row = (self.w.bytes().as_ptr()).wrapping_add(rows.start * row_bytes);
        Later::part(row, rows.len() * row_bytes, fours, self.fours())
    }

    /// Rows that are lacking repeat the last one.
    #[inline(always)]
    fn unpack<S: Panels>(
        &self,
        s: S,
        filling: Filling,
        rows: Range<usize>,
        fours: Range<usize>,
        panel: &mut [Unit],
    ) {
        let atoms = fours.start / (P * PLANE)..fours.end / (P * PLANE);
        let (bytes, row_bytes) = (self.w.bytes(), self.w.row_bytes());
        // They are all of one pack, if there are scales by group.
        let first = 64 * self.w.packs().line(atoms.start);
        for u in 0..rows.len().div_ceil(UNIT) {
            let start = filling.start(u, fours.len());
            let tile = &mut panel[start..][..filling.units * (fours.len() - 1) + 1];
            let mut w_rows: [&[[u8; 64]]; UNIT] = [&[]; UNIT];
            for i in 0..UNIT {
                let row = (rows.start + UNIT * u + i).min(rows.end - 1);
                let start = row * row_bytes + first;
                w_rows[i] = bytes[start..][..64 * atoms.len()].as_chunks().0;
            }
            for i in 0..atoms.len() {
                let mut lines = [&[0; 64]; UNIT];
                for r in 0..UNIT {
                    lines[r] = &w_rows[r][i];
                    filling.prefetch(s, lines[r], 64 * atoms.len());
                }
                let packed = s.interleaved(lines);
                let units = &mut tile[i * P * PLANE * filling.units..]
                    [..(P * PLANE - 1) * filling.units + 1];
                for c in 0..PLANE {
                    let planes = L::planes(s, packed[c]);
                    for p in 0..P {
                        let unit = &mut units[(PLANE * p + c) * filling.units];
                        filling.store(s, planes[p], L::OFFSET, unit);
                    }
                }
            }
        }
    }
}
