//! Binary weights of 64 rows side by side: a unit is a nibble of 16 bytes of an atom, spread out. Few tokens are for
//! [`lookup`].

use std::ops::Range;

use onebit_format::MatrixRef;

use super::Product;
use super::panel::{Filling, PanelScales, Panels, UNIT, Unit, Unpack};
use super::side::Side;
use crate::body::grouped::Scaled;
use crate::body::int;
use crate::body::lookup::{self, BAND};
use crate::body::scales::BandScales;
use crate::input::I8Rows;
use crate::sets::Vector;
use crate::tiles::TileMut;

/// Units of the same rows in an atom, of four columns each.
const FOURS: usize = lookup::COLS / 4;

/// Units in a band.
const BAND_UNITS: usize = BAND / UNIT;

/// [`Layout::B1R64`](onebit_format::Layout::B1R64).
pub(crate) struct B1R64;

impl Side for B1R64 {
    const BAND: usize = BAND;
    const MAX: u8 = <int::B1 as Unpack<8>>::MAX;
    const OFFSET: i32 = <int::B1 as Unpack<8>>::OFFSET;

    fn many<S: Panels>() -> usize {
        S::MANY_LOOKED_UP
    }

    #[inline(always)]
    fn few<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
        lookup::b1r64(s, job, out);
    }

    #[inline(always)]
    fn few_grouped<S: Panels, X: Scaled>(s: S, job: &Product<'_, X>, out: &mut TileMut<'_, f32>) {
        lookup::grouped(s, job, out);
    }

    #[inline(always)]
    fn unpack<S: Panels>(
        w: &MatrixRef<'_>,
        s: S,
        filling: Filling,
        rows: Range<usize>,
        fours: Range<usize>,
        panel: &mut [Unit],
    ) {
        let first = rows.start / UNIT;
        let units = first..first + rows.len().div_ceil(UNIT);
        for band in units.start / BAND_UNITS..units.end.div_ceil(BAND_UNITS) {
            let (atoms, first_atom) = (w.band(band), fours.start / FOURS);
            let count = fours.end / FOURS - first_atom;
            let m_start = units.start.saturating_sub(BAND_UNITS * band);
            let m_end = BAND_UNITS.min(units.end - BAND_UNITS * band);
            for i in 0..count {
                let atom = atoms.atom(first_atom + i);
                filling.prefetch(s, atom, 64 * count);
                for n in 0..FOURS {
                    for m in m_start..m_end {
                        let start = filling.start(BAND_UNITS * band + m - first, fours.len());
                        let unit = &mut panel[start + (FOURS * i + n) * filling.units];
                        filling.store(s, s.spread(atom, m, n), Self::OFFSET, unit);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn scales<S: Panels>(
        w: &MatrixRef<'_>,
        s: S,
        unit: usize,
        groups: Range<usize>,
        u: usize,
        scales: &mut PanelScales,
    ) {
        let of = BandScales::of(w, unit / BAND_UNITS);
        for g in 0..groups.len() {
            let at = w.packs().scales(groups.start + g);
            of.load_at(s, at, unit % BAND_UNITS)
                .store(&mut scales[g][u]);
        }
    }
}
