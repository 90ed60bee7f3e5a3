//! Panels times many tokens with a matrix unit: a processor that multiplies whole tiles, 16 tokens by 64 columns with
//! 64 columns by 16 rows, into 16 x 16 sums.
//!
//! Activations are tiles as they lie in memory: 64 codes of 16 tokens, `stride` apart. Units of a panel are tiles too:
//! a line of four columns of 16 rows, the next line [`Panels::UNITS`] units further on. A step is a block of 2 x 2 tiles of
//! sums, 32 tokens and 32 rows, so that each tile that is loaded is used twice:
//!
//! ```text
//! for each 64 rows
//!     for each 256 tokens
//!         for each 512 columns
//!             panel = codes, once for all tokens
//!             for each 32 tokens, for each 32 rows
//!                 kept += x[32 tokens][512 columns] * panel[512 columns][32 rows]
//!         out = kept - offset * sum of x
//! ```
//!
//! With scales by group the sums of a group are stored, and then added to what is kept as every set adds them.
//!
//! Tiles are always full: the last tile of tokens starts early enough to end with the last token. Each tile keeps its own
//! sums, so what that computes twice is added once.

use super::Tile;
use super::engine::{Engine, Kept};
use super::grouped;
use super::panel::{MAX_UNITS, Panels, UNIT, Unit};
use super::part::{First, PART_TOKENS, Part};
use super::rows::PLANE;
use crate::body::grouped::Scaled;
use crate::sets::Vector;
use crate::tiles::TileMut;

/// Tokens of a tile of activations.
pub(crate) const TILE: usize = 16;

/// Codes that a step multiplies.
pub(crate) const STEP: usize = 64;

/// Units that are multiplied together.
pub(crate) const PAIR: usize = 2;

/// `N` tiles of activations.
pub(crate) struct Left<'a, const N: usize> {
    /// From the first code of each.
    pub(crate) tiles: [&'a [i8]; N],
    /// Codes from a token to the next.
    pub(crate) stride: usize,
}

/// Two neighbouring units of a panel.
pub(crate) struct Right<'a> {
    /// From the first line of the first.
    pub(crate) lines: &'a [Unit],
    /// How many lines further on the next columns are.
    pub(crate) units: usize,
    /// [`PLANE`] fours of columns each; at least one.
    pub(crate) steps: usize,
}

/// A matrix unit.
pub(crate) trait MatrixUnit {
    /// Adds the products to the sums, or replaces the sums by them when `fresh`. Sums of a token to those of the next are
    /// as many apart as lines of the units.
    fn multiply<const N: usize>(
        &self,
        left: &Left<'_, N>,
        right: &Right<'_>,
        sums: &mut [[i32; UNIT]],
        fresh: bool,
    );
}

/// A set and its matrix unit.
pub(crate) struct Tiles<'a, S, U> {
    pub(crate) set: S,
    pub(crate) unit: &'a U,
}

impl<S: Copy, U> Clone for Tiles<'_, S, U> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Copy, U> Copy for Tiles<'_, S, U> {}

/// The tokens of up to two tiles, which are the tiles from `number` on of a part.
#[derive(Clone, Copy)]
struct Tokens<const N: usize> {
    number: usize,
    /// The first token of each tile, of all.
    starts: [usize; N],
}

impl<const N: usize> Tokens<N> {
    /// Those of a part whose first token is `first`, of `all`.
    #[inline(always)]
    fn new(number: usize, first: usize, all: usize) -> Self {
        let mut starts = [0; N];
        for n in 0..N {
            starts[n] = (first + TILE * (number + n)).min(all - TILE);
        }
        Self { number, starts }
    }

    /// Row `t` of the tiles.
    #[inline(always)]
    fn token(&self, t: usize) -> usize {
        self.starts[t / TILE] + t % TILE
    }

    /// Where the sums of row `t` are kept, with `units` for each.
    #[inline(always)]
    fn place(&self, t: usize, units: usize) -> usize {
        (TILE * self.number + t) * units
    }
}

/// Sums of a group of columns.
#[repr(align(64))]
struct Sums([[i32; UNIT]; 2 * TILE * MAX_UNITS]);

impl<S: Panels, U: MatrixUnit> Tiles<'_, S, U> {
    /// The sums of some fours of columns for all units of a panel, `panel` being what it has of these.
    #[inline(always)]
    fn multiply<X: Scaled, const N: usize>(
        self,
        x: &X,
        tokens: Tokens<N>,
        first_four: usize,
        panel: &[Unit],
        sums: &mut [[i32; UNIT]],
        fresh: bool,
    ) {
        const { assert!(S::UNITS.is_multiple_of(PAIR)) };
        let mut left = Left {
            tiles: [&[]; N],
            stride: x.stride(),
        };
        for n in 0..N {
            left.tiles[n] = &x.codes_from(tokens.starts[n])[4 * first_four..];
        }
        for u in (0..S::UNITS).step_by(PAIR) {
            let right = Right {
                lines: &panel[u..],
                units: S::UNITS,
                steps: panel.len() / S::UNITS / PLANE,
            };
            self.unit.multiply(&left, &right, &mut sums[u..], fresh);
        }
    }

    /// Some columns of the tokens of `N` tiles.
    #[inline(always)]
    fn exact_tokens<const N: usize>(
        self,
        part: &Part<'_>,
        tile: &Tile<'_>,
        tokens: Tokens<N>,
        kept: &mut [[i32; UNIT]],
        out: &mut TileMut<'_, i32>,
    ) {
        let panel = &part.panel[..S::UNITS * part.fours.len()];
        let (four, fresh) = (part.fours.start, part.is_first());
        let sums = &mut kept[tokens.place(0, S::UNITS)..];
        self.multiply(&tile.x, tokens, four, panel, sums, fresh);
        if !part.last {
            return;
        }
        for t in 0..N * TILE {
            let token = tokens.token(t);
            if token < tile.first {
                continue;
            }
            let offset = tile.lines.offsets[token - tile.first];
            let sums = &sums[t * S::UNITS..][..S::UNITS];
            let row = out.row(token - tile.first);
            let sums = &sums.as_flattened()[part.skip..][..row.len()];
            for (out, sum) in row.iter_mut().zip(sums) {
                *out = sum.wrapping_sub(offset);
            }
        }
    }

    /// The same with scales by group of columns.
    #[inline(always)]
    fn grouped_tokens<W, X: Scaled, const N: usize>(
        self,
        part: &Part<'_>,
        tile: &grouped::Tile<'_, W, X>,
        tokens: Tokens<N>,
        (sums, kept): (&mut Sums, &mut [[f32; UNIT]]),
        out: &mut TileMut<'_, f32>,
    ) {
        let kept = &mut kept[tokens.place(0, S::UNITS)..][..N * TILE * S::UNITS];
        for g in 0..tile.groups.len() {
            let fours = tile.fours_of(g);
            let panel = &part.panel[S::UNITS * fours.start..S::UNITS * fours.end];
            let four = part.fours.start + fours.start;
            self.multiply(&tile.of.x, tokens, four, panel, &mut sums.0, true);
            let first = First(part.is_first() && g == 0);
            self.add_group(tile, tokens, g, first, sums, kept);
        }
        if !part.last {
            return;
        }
        for t in 0..N * TILE {
            let token = tokens.token(t);
            if token < tile.first {
                continue;
            }
            let factor = self.set.splat(tile.line(token - tile.first).factor);
            let kept = &kept[t * S::UNITS..][..S::UNITS];
            let row = out.row(token - tile.first);
            if row.len() == S::UNITS * UNIT {
                let row = row.as_chunks_mut().0;
                for u in 0..S::UNITS {
                    (self.set.load(&kept[u]) * factor).store(&mut row[u]);
                }
            } else {
                let mut edge = [[0.0; UNIT]; MAX_UNITS];
                for u in 0..S::UNITS {
                    (self.set.load(&kept[u]) * factor).store(&mut edge[u]);
                }
                row.copy_from_slice(&edge.as_flattened()[part.skip..][..row.len()]);
            }
        }
    }

    /// Adds the sums of a group of columns, scaled, to what is kept.
    #[inline(always)]
    fn add_group<W, X: Scaled, const N: usize>(
        self,
        tile: &grouped::Tile<'_, W, X>,
        tokens: Tokens<N>,
        g: usize,
        First(first): First,
        sums: &Sums,
        kept: &mut [[f32; UNIT]],
    ) {
        let mut scales = [self.set.splat(0.0); MAX_UNITS];
        for u in 0..S::UNITS {
            scales[u] = self.set.load(&tile.scales[g][u]);
        }
        for t in 0..N * TILE {
            let token = tokens.token(t);
            if token < tile.first {
                continue;
            }
            let (line, group) = (tile.line(token - tile.first), tile.first_group() + g);
            let multiplier = self.set.splat(line.multipliers[group]);
            let offset = tile.of.offset * line.sums[group];
            for u in 0..S::UNITS {
                let at = t * S::UNITS + u;
                let mut dots = [0.0; UNIT];
                for (dot, sum) in dots.iter_mut().zip(&sums.0[at]) {
                    *dot = (sum - offset) as f32;
                }
                let kept = &mut kept[at];
                let y = match first {
                    true => self.set.splat(0.0),
                    false => self.set.load(kept),
                };
                let y = self.set.load(&dots).mul_add(scales[u] * multiplier, y);
                y.store(kept);
            }
        }
    }
}

impl<S: Panels, U: MatrixUnit> Engine for Tiles<'_, S, U> {
    type Set = S;
    const ROWS: usize = S::UNITS * UNIT;
    const TOKENS: usize = PART_TOKENS;

    #[inline(always)]
    fn set(self) -> S {
        self.set
    }

    #[inline(always)]
    fn exact(self, part: &Part<'_>, tile: &Tile<'_>, kept: &mut Kept, out: &mut TileMut<'_, i32>) {
        let kept = bytemuck::cast_slice_mut(kept);
        let tiles = out.rows().div_ceil(TILE);
        for number in (0..tiles).step_by(2) {
            let (first, all) = (tile.first, tile.x.tokens());
            match tiles - number {
                1 => {
                    let tokens = Tokens::<1>::new(number, first, all);
                    self.exact_tokens(part, tile, tokens, kept, out);
                }
                _ => {
                    let tokens = Tokens::<2>::new(number, first, all);
                    self.exact_tokens(part, tile, tokens, kept, out);
                }
            }
        }
    }

    #[inline(always)]
    fn grouped<W, X: Scaled>(
        self,
        part: &Part<'_>,
        tile: &grouped::Tile<'_, W, X>,
        kept: &mut Kept,
        out: &mut TileMut<'_, f32>,
    ) {
        let kept = bytemuck::cast_slice_mut(kept);
        let sums = &mut Sums([[0; UNIT]; 2 * TILE * MAX_UNITS]);
        let tiles = out.rows().div_ceil(TILE);
        for number in (0..tiles).step_by(2) {
            let (first, all) = (tile.first, tile.of.x.tokens());
            match tiles - number {
                1 => {
                    let tokens = Tokens::<1>::new(number, first, all);
                    self.grouped_tokens(part, tile, tokens, (sums, kept), out);
                }
                _ => {
                    let tokens = Tokens::<2>::new(number, first, all);
                    self.grouped_tokens(part, tile, tokens, (sums, kept), out);
                }
            }
        }
    }
}
