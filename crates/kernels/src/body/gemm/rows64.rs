//! Panels of binary weights of 64 rows side by side: a unit is a nibble of 16 bytes of an atom, spread out. Few
//! tokens, and ranges that begin inside a band, are for [`lookup`].

use std::ops::Range;

use onebit_format::MatrixRef;

use super::grouped::Add as GroupedAdd;
use super::panel::{COLS, GROUPS, Panel, PanelScales, Panels, ROWS, UNIT, Unit};
use super::{Add, Product, Unpack};
use crate::body::grouped::Scaled;
use crate::body::int;
use crate::body::lookup::{self, BAND, BandScales};
use crate::input::I8Rows;
use crate::sets::Vector;
use crate::tiles::TileMut;

/// Planes of 64 columns that are unpacked at once.
const STEP: usize = COLS / 64;

/// Planes in a group of columns.
const GROUP_PLANES: usize = 2;

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
    let Product { w, rows, x } = job;
    if !worthwhile::<S>(x.tokens(), rows) {
        return lookup::b1r64(s, job, out);
    }
    let mut panel = Panel::EMPTY;
    let planes = w.padded_cols() / 64;
    for start in rows.clone().step_by(ROWS) {
        let chunk = start..rows.end.min(start + ROWS);
        let mut out = out.columns(chunk.start - rows.start..chunk.end - rows.start);
        for first in (0..planes).step_by(STEP) {
            let part = first..planes.min(first + STEP);
            unpack(s, w, chunk.clone(), part.clone(), &mut panel.0);
            let add = Add {
                panel: &panel.0,
                x: *x,
                fours: part.start * 16..part.end * 16,
                max: int::B1::MAX,
                offset: int::B1::OFFSET,
                skip: 0,
            };
            add.run(s, &mut out);
        }
    }
}

/// Products of a binary matrix of bands with group scales, or int8 activations with multipliers by group.
#[inline(always)]
pub(super) fn grouped<S: Panels, X: Scaled>(
    s: S,
    job: &Product<'_, X>,
    out: &mut TileMut<'_, f32>,
) {
    let Product { w, rows, x } = job;
    if !worthwhile::<S>(x.tokens(), rows) {
        return lookup::grouped(s, job, out);
    }
    let mut panel = Panel::EMPTY;
    let mut scales: PanelScales = [[[0.0; UNIT]; ROWS / UNIT]; GROUPS];
    let planes = w.padded_cols() / 64;
    for start in rows.clone().step_by(ROWS) {
        let chunk = start..rows.end.min(start + ROWS);
        let mut out = out.columns(chunk.start - rows.start..chunk.end - rows.start);
        for first in (0..planes).step_by(STEP) {
            let part = first..planes.min(first + STEP);
            let groups = part.start / GROUP_PLANES..part.end / GROUP_PLANES;
            unpack(s, w, chunk.clone(), part.clone(), &mut panel.0);
            load_scales(s, w, chunk.clone(), groups.clone(), &mut scales);
            let add = GroupedAdd::<X, int::B1, 8> {
                panel: &panel.0,
                x: *x,
                planes: part.clone(),
                group_planes: GROUP_PLANES,
                groups,
                scales: &scales,
                last: part.end == planes,
                layout: std::marker::PhantomData,
            };
            add.run(s, &mut out);
        }
    }
}

/// Unpacks some planes of up to [`ROWS`] rows, the first of which begins a band, as [`super::panel::unpack`] does.
#[inline(always)]
fn unpack<S: Panels>(
    s: S,
    w: &MatrixRef<'_>,
    rows: Range<usize>,
    planes: Range<usize>,
    panel: &mut [Unit],
) {
    let fours = planes.len() * 16;
    for u in 0..rows.len().div_ceil(UNIT) {
        let band = rows.start / BAND + u / BAND_UNITS;
        let atoms = w.band_bytes_of(band).as_chunks::<64>().0;
        let atoms = &atoms[planes.start * lookup::COLS..];
        let tile = &mut panel[u / S::UNITS * S::UNITS * fours..][..S::UNITS * fours];
        for (atom, units) in atoms.iter().zip(tile.chunks_exact_mut(FOURS * S::UNITS)) {
            if u.is_multiple_of(BAND_UNITS) {
                s.prefetch(atom.as_ptr().wrapping_add(64 * lookup::COLS * planes.len()));
            }
            for n in 0..FOURS {
                let unit = s.spread(atom, u % BAND_UNITS, n);
                s.store(unit, &mut units[n * S::UNITS + u % S::UNITS]);
            }
        }
    }
}

/// The scales of some groups, a unit of rows beside the next.
#[inline(always)]
fn load_scales<S: Panels>(
    s: S,
    w: &MatrixRef<'_>,
    rows: Range<usize>,
    groups: Range<usize>,
    scales: &mut PanelScales,
) {
    for u in 0..rows.len().div_ceil(UNIT) {
        let of = BandScales::of(w, rows.start / BAND + u / BAND_UNITS);
        for (scales, group) in scales.iter_mut().zip(groups.clone()) {
            of.load(s, group, u % BAND_UNITS).store(&mut scales[u]);
        }
    }
}
