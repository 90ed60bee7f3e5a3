//! Integer weights times int8 activations of many tokens: weights unpacked once, into panels.
//!
//! Exact sums here, those of bands of rows in [`bands`]; [`grouped`] has those with scales per group of columns, [`columns`] matrices
//! stored transposed, [`panel`] what they share.
//!
//! ```text
//! for each 128 rows
//!     for each 512 columns
//!         panel[column / 4][row][column % 4] = code         once for all tokens
//!         for each U units of 16 rows, for each T tokens
//!             acc[t][u] = sum over the columns of panel * x  one activation load, four columns,
//!             out[t][u] += acc[t][u]                          for all rows of the tile
//! ```
//!
//! Lanes are outputs, so nothing is added across a register. The sums are exact, so they do not
//! depend on how columns are cut.

use std::ops::Range;

use super::{Product, int};
use crate::input::I8Rows;
use crate::tiles::TileMut;

mod bands;
pub(crate) mod columns;
pub(crate) mod few;
pub(crate) mod grouped;
pub(crate) mod panel;
mod rows64;

pub(crate) use bands::t5r5;
use panel::{
    COLS, Edge, Panel, Panels, ROWS, UNIT, Unit, Unpack, ask_ahead, outputs, per_tile, unpack,
};
pub(crate) use rows64::b1r64;

/// Sums of a ternary matrix.
#[inline(always)]
pub(crate) fn t2<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    match job.x.tokens() < S::MANY {
        true => int::t2(s, job, out),
        false => sums::<S, int::T2, 4>(s, job, out),
    }
}

/// Sums of a ternary matrix with five codes to a byte.
#[inline(always)]
pub(crate) fn t5<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    match job.x.tokens() < S::MANY {
        true => int::t5(s, job, out),
        false => sums::<S, int::T5, 5>(s, job, out),
    }
}

/// Sums of a binary matrix.
#[inline(always)]
pub(crate) fn b1<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    match job.x.tokens() < S::MANY {
        true => int::b1(s, job, out),
        false => sums::<S, int::B1, 8>(s, job, out),
    }
}

/// Sums of an int8 matrix.
#[inline(always)]
pub(crate) fn i8<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    match job.x.tokens() < S::MANY || !S::WIDE_CODES {
        true => int::i8(s, job, out),
        false => sums::<S, int::I8, 1>(s, job, out),
    }
}

#[inline(always)]
fn sums<S: Panels, L: Unpack<P>, const P: usize>(
    s: S,
    job: &Product<'_, I8Rows<'_>>,
    out: &mut TileMut<'_, i32>,
) {
    let mut panel = Panel::EMPTY;
    let Product { w, rows, x } = job;
    let atoms = w.row_bytes() / 64;
    let step = COLS / (64 * P);
    for start in rows.clone().step_by(ROWS) {
        let chunk = start..rows.end.min(start + ROWS);
        let mut out = out.columns(chunk.start - rows.start..chunk.end - rows.start);
        for first in (0..atoms).step_by(step) {
            let part = first..atoms.min(first + step);
            unpack::<S, L, P>(s, w, chunk.clone(), part.clone(), &mut panel.0);
            let add = Add {
                panel: &panel.0,
                x: *x,
                fours: part.start * P * 16..part.end * P * 16,
                max: L::MAX,
                offset: L::OFFSET,
                skip: 0,
            };
            add.run(s, &mut out);
        }
    }
}

/// A panel to be multiplied with some columns of all tokens.
struct Add<'a> {
    panel: &'a [Unit],
    x: I8Rows<'a>,
    /// Which fours of columns. With the first, what stands in the output is overwritten.
    fours: Range<usize>,
    /// The largest code, and what all are too large by.
    max: u8,
    offset: i32,
    /// Rows of the panel before that of the first output.
    skip: usize,
}

impl Add<'_> {
    #[inline(always)]
    fn run<S: Panels>(&self, s: S, out: &mut TileMut<'_, i32>) {
        let (tokens, end) = (self.x.tokens(), self.skip + out.width());
        let tile_rows = S::UNITS * UNIT;
        for start in (self.skip / tile_rows * tile_rows..end).step_by(tile_rows) {
            let panel = &self.panel[start / UNIT * self.fours.len()..];
            let panel = &panel[..S::UNITS * self.fours.len()];
            let rows = start.max(self.skip)..end.min(start + tile_rows);
            let mut out = out.columns(rows.start - self.skip..rows.end - self.skip);
            let before = rows.start - start;
            per_tile!(S, token in 0..tokens, T => {
                self.tile::<S, T>(s, panel, token, before, &mut out)
            });
        }
    }

    /// Adds one tile, without its first rows `before`.
    #[inline(always)]
    fn tile<S: Panels, const T: usize>(
        &self,
        s: S,
        panel: &[Unit],
        token: usize,
        before: usize,
        out: &mut TileMut<'_, i32>,
    ) {
        let mut x: [&[[i8; 4]]; T] = [&[]; T];
        let mut offsets = [0; T];
        for t in 0..T {
            x[t] = &self.x.row(token + t).as_chunks().0[self.fours.clone()];
            offsets[t] = self.offset.wrapping_mul(self.x.sum(token + t));
        }
        let offsets = (self.fours.start == 0).then_some(offsets);
        ask_ahead::<S, _, T>(s, out, token);
        if out.width() == S::UNITS * UNIT {
            return s.tile::<T>(self.max, panel, x, offsets, outputs(out, token));
        }
        let mut edge = Edge::of(out, token, before);
        s.tile::<T>(self.max, panel, x, offsets, edge.outputs());
        edge.put(out, token);
    }
}
