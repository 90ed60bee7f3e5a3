//! Integer weights times int8 activations of many tokens: weights unpacked once, into panels.
//!
//! Exact sums here, sums with scales per group of columns in [`grouped`]. Panels are made from matrices stored by [`rows`],
//! by bands of rows ([`bands`], and [`side`] by side), and transposed ([`columns`]); [`part`] has the loop over tiles, [`panel`] what a set does,
//! [`tiled`] what a matrix unit does instead.
//!
//! ```text
//! for each 128 rows
//!     for each 128 tokens
//!         for each 512 columns
//!             panel[column / 4][row][column % 4] = code          once for all tokens
//!             for each U units of 16 rows, for each T tokens
//!                 acc[t][u] = sum over the columns of panel * x   one activation load, four columns,
//!                 kept[t][u] += acc[t][u]                         for all rows of the tile
//!         out = kept
//! ```
//!
//! Lanes are outputs, so nothing is added across a register. The sums are exact, so they do not
//! depend on how columns are cut.

use std::ops::Range;

use onebit_format::Scales;

use super::{Product, int};
use crate::input::I8Rows;
use crate::tiles::TileMut;

pub(crate) mod bands;
pub(crate) mod columns;
mod engine;
pub(crate) mod few;
pub(crate) mod grouped;
mod later;
pub(crate) mod panel;
mod part;
pub(crate) mod rows;
pub(crate) mod rows16;
pub(crate) mod rows64;
pub(crate) mod side;
pub(crate) mod tiled;

pub(crate) use bands::t5r5;
use engine::Engine;
use later::Later;
use panel::{Begin, Outputs, PANEL, Panels, UNIT, Unit, Unpack};
use part::{First, Multiply, PART_TOKENS, Part, Plan, Room, Source, pieces};
use rows::ByRow;
use rows16::T2R16;
use rows64::B1R64;

/// Sums of a ternary matrix.
#[inline(always)]
pub(crate) fn t2<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    match job.x.tokens() < S::MANY {
        true => int::t2(s, job, out),
        false => sums::<S, int::T2, 4>(s, job, Scales::None, out),
    }
}

/// Sums of a ternary matrix with five codes to a byte.
#[inline(always)]
pub(crate) fn t5<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    match job.x.tokens() < S::MANY {
        true => int::t5(s, job, out),
        false => sums::<S, int::T5, 5>(s, job, Scales::None, out),
    }
}

/// Sums of a binary matrix.
#[inline(always)]
pub(crate) fn b1<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    match job.x.tokens() < S::MANY {
        true => int::b1(s, job, out),
        false => sums::<S, int::B1, 8>(s, job, Scales::None, out),
    }
}

/// Sums of a ternary matrix of 16 rows side by side.
#[inline(always)]
pub(crate) fn t2r16<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    side::exact::<T2R16, S>(s, job, out);
}

/// Sums of a binary matrix of 64 rows side by side.
#[inline(always)]
pub(crate) fn b1r64<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    side::exact::<B1R64, S>(s, job, out);
}

/// Sums of an int8 matrix.
#[inline(always)]
pub(crate) fn i8<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    match job.x.tokens() < S::MANY || !S::WIDE_CODES {
        true => int::i8(s, job, out),
        false => sums::<S, int::I8, 1>(s, job, Scales::None, out),
    }
}

/// Sums of a matrix stored row by row.
#[inline(always)]
pub(crate) fn sums<E: Engine, L: Unpack<P>, const P: usize>(
    e: E,
    job: &Product<'_, I8Rows<'_>>,
    scales: Scales<'_>,
    out: &mut TileMut<'_, i32>,
) {
    let Product { w, rows, x } = job;
    let exact = Exact {
        source: ByRow::<L, P>::new(w),
        x: *x,
        scales,
        max: L::MAX,
        offset: L::OFFSET,
    };
    exact.run(e, rows.clone(), out);
}

/// Exact sums of rows of a matrix.
struct Exact<'a, W> {
    source: W,
    x: I8Rows<'a>,
    /// Those of the rows, where the engine is to leave bits of `f32` in place of the sums: these, scaled.
    scales: Scales<'a>,
    /// The largest code, and what all are too large by.
    max: u8,
    offset: i32,
}

impl<W: Source> Exact<'_, W> {
    #[inline(always)]
    fn run<E: Engine>(&self, e: E, rows: Range<usize>, out: &mut TileMut<'_, i32>) {
        let room = &mut *Room::of_thread();
        let mut lines = Lines {
            x: [&[]; PART_TOKENS],
            offsets: [0; PART_TOKENS],
        };
        let plan = Plan::of::<E, W>(rows.clone(), &self.x);
        let tokens_kept = plan.tokens_step();
        for i in 0..plan.blocks() {
            let (chunk, skip, tokens) = plan.block(i);
            let mut out = out.some_rows(tokens.clone());
            let first = chunk.start - skip;
            let most = <E::Set as Panels>::COLS.min(PANEL / plan.step()) / 4;
            for fours in pieces(self.source.fours(), most, W::atom()) {
                let (set, panel) = (e.set(), &mut room.panel);
                (self.source).unpack(set, E::EXACT, first..chunk.end, fours.clone(), panel);
                if E::BY_TOKEN {
                    self.lines(&tokens, &fours, &mut lines);
                }
                let mut later = match E::EXACT.fetches {
                    true => Later::NONE,
                    false => self
                        .source
                        .later([first..chunk.end, plan.next(i)], fours.clone()),
                };
                // The engine's panels of which the unpacked one consists, from that of the first output on.
                for start in (first + skip / E::ROWS * E::ROWS..chunk.end).step_by(E::ROWS) {
                    let end = chunk.end.min(start + E::ROWS);
                    let part = Part {
                        panel: &room.panel[(start - first) / UNIT * fours.len()..],
                        fours: fours.clone(),
                        all: self.source.fours(),
                        later: std::mem::replace(&mut later, Later::NONE),
                        skip: chunk.start.saturating_sub(start),
                    };
                    let tile = Tile {
                        x: self.x,
                        first: tokens.start,
                        scales: self.scales,
                        rows: start..end,
                        lines: &lines,
                        max: self.max,
                        offset: match E::EXACT.signed {
                            true => 0,
                            false => self.offset,
                        },
                    };
                    let outputs = start.max(chunk.start) - rows.start..end - rows.start;
                    let kept = &mut room.outputs[(start - first) / UNIT * tokens_kept..];
                    e.exact(&part, &tile, kept, &mut out.columns(outputs));
                }
            }
        }
    }

    /// Some columns of some tokens, and what goes off the sums of these.
    #[inline(always)]
    fn lines<'a>(&'a self, tokens: &Range<usize>, fours: &Range<usize>, lines: &mut Lines<'a>) {
        for i in 0..tokens.len() {
            let token = tokens.start + i;
            lines.x[i] = &self.x.row(token).as_chunks().0[fours.clone()];
            lines.offsets[i] = self.offset.wrapping_mul(self.x.sum(token));
        }
    }
}

/// Some columns of tokens from `first` on.
pub(crate) struct Tile<'a> {
    x: I8Rows<'a>,
    first: usize,
    scales: Scales<'a>,
    /// The rows of the panel.
    rows: Range<usize>,
    lines: &'a Lines<'a>,
    /// The largest code, and what all in the panel are too large by.
    max: u8,
    offset: i32,
}

/// Of each token of a part its activations, and what goes off its sums.
struct Lines<'a> {
    x: [&'a [[i8; 4]]; PART_TOKENS],
    offsets: [i32; PART_TOKENS],
}

impl Multiply<i32> for Tile<'_> {
    #[inline(always)]
    fn tile<S: Panels, const T: usize>(
        &self,
        s: S,
        panel: &[Unit],
        token: usize,
        _unit: usize,
        (kept, First(first)): (&Outputs<'_, i32, T>, First),
        out: Option<&Outputs<'_, i32, T>>,
    ) {
        let x = self.lines.x[token..].first_chunk().expect("tokens");
        let offsets = self.lines.offsets[token..].first_chunk().expect("tokens");
        let begin = match first {
            true => Begin::Less(offsets),
            false => Begin::With(kept),
        };
        s.tile::<T>(self.max, panel, x, begin, out.unwrap_or(kept));
    }
}
