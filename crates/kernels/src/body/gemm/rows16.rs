//! Ternary weights of 16 rows side by side: a unit is a field of an atom. Few tokens are for
//! [`rows16`](crate::body::rows16).

use std::ops::Range;

use onebit_format::MatrixRef;

use super::Product;
use super::panel::{Filling, PanelScales, Panels, UNIT, Unit, Unpack};
use super::side::Side;
use crate::body::grouped::Scaled;
use crate::body::int;
use crate::body::rows16::{self, BAND};
use crate::body::scales::BandScales;
use crate::input::I8Rows;
use crate::sets::Vector;
use crate::tiles::TileMut;

/// Units in an atom.
const FOURS: usize = 4;

const _: () = assert!(BAND == UNIT);

/// [`Layout::T2R16`](onebit_format::Layout::T2R16).
pub(crate) struct T2R16;

impl Side for T2R16 {
    const BAND: usize = BAND;
    const MAX: u8 = <int::T2 as Unpack<4>>::MAX;
    const OFFSET: i32 = <int::T2 as Unpack<4>>::OFFSET;

    fn many<S: Panels>() -> usize {
        S::MANY_IN_LANES
    }

    #[inline(always)]
    fn few<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
        rows16::t2r16(s, job, out);
    }

    #[inline(always)]
    fn few_grouped<S: Panels, X: Scaled>(s: S, job: &Product<'_, X>, out: &mut TileMut<'_, f32>) {
        rows16::grouped(s, job, out);
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
        for (u, band) in (rows.start / BAND..rows.end.div_ceil(BAND)).enumerate() {
            let (atoms, first_atom) = (w.band(band), fours.start / FOURS);
            let count = fours.end / FOURS - first_atom;
            let start = filling.start(u, fours.len());
            let units = &mut panel[start..][..filling.units * (fours.len() - 1) + 1];
            for i in 0..count {
                let atom = atoms.atom(first_atom + i);
                filling.prefetch(s, atom, 64 * count);
                let fields = <int::T2 as Unpack<4>>::planes(s, s.loaded(atom));
                for p in 0..FOURS {
                    let unit = &mut units[(FOURS * i + p) * filling.units];
                    filling.store(s, fields[p], Self::OFFSET, unit);
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
        let of = BandScales::of(w, unit);
        for g in 0..groups.len() {
            let at = w.packs().scales(groups.start + g);
            of.load_at(s, at, 0).store(&mut scales[g][u]);
        }
    }
}
