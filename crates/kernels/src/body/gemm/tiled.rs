//! Panels times many tokens with a matrix unit: a processor that multiplies whole tiles, 16 tokens by 64 columns with
//! 64 columns by 16 rows, into 16 x 16 sums.
//!
//! Activations are tiles as they lie in memory: 64 codes of 16 tokens, `stride` apart. Units of a panel are tiles too:
//! a line of four columns of 16 rows, the next line [`PAIR`] units further on. A step is a block of 2 x 2
//! tiles of sums, 32 tokens and 32 rows, so that each tile that is loaded is used twice:
//!
//! ```text
//! for each 256 tokens                                    128 of more than 4096 columns: they stay in the second-level cache
//!     for each 32 rows
//!         for each 512 columns
//!             panel = weights, once for these tokens         they stay in the first-level cache
//!             for each 32 tokens
//!                 kept += x[32 tokens][512 columns] * panel[512 columns][32 rows]
//!         out = kept
//! ```
//!
//! Meanwhile the 32 rows that follow are fetched into the second-level cache: rows are read a few lines each, which no processor
//! foresees.
//!
//! With scales by group weights are signed, so that nothing has to go off their sums. The sums of a group are stored, and then added to what is kept as every set adds them.
//!
//! Tiles are always full: the last tile of tokens starts early enough to end with the last token. Each tile keeps its own
//! sums, so what that computes twice is added once.

use std::ops::Range;

use onebit_format::Scales;

use super::Tile;
use super::engine::{Engine, Kept};
use super::grouped;
use super::later::Later;
use super::panel::{Filling, Panels, UNIT, Unit};
use super::part::{First, KEPT, PART_TOKENS, Part};
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

/// Rows that are multiplied together. No more are unpacked at once: their panel, and outputs on their way, have to stay in the
/// first-level cache.
const ROWS: usize = PAIR * UNIT;

/// Codes of the tokens that are multiplied with all rows before the next: half a second-level cache.
const CODES: usize = 1 << 20;

const _: () = assert!(ROWS / UNIT * PART_TOKENS <= KEPT);

/// `N` tiles of activations.
pub(crate) struct Left<'a, const N: usize> {
    /// From the first code of each.
    pub(crate) tiles: [&'a [i8]; N],
    /// Codes from a token to the next.
    pub(crate) stride: usize,
}

/// Two neighbouring units of a panel, line by line.
pub(crate) struct Right<'a> {
    pub(crate) lines: &'a [Unit],
    /// [`PLANE`] fours of columns each; at least one.
    pub(crate) steps: usize,
}

/// A matrix unit.
pub(crate) trait MatrixUnit {
    /// Adds the products to the sums, [`PAIR`] units for each token, or replaces the sums by them when `fresh`. Codes of the panel are
    /// signed or not. Before each step it calls `between`.
    fn multiply<const SIGNED: bool, const N: usize>(
        &self,
        left: &Left<'_, N>,
        right: &Right<'_>,
        sums: &mut [[i32; UNIT]],
        fresh: bool,
        between: impl FnMut(),
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
    /// The first token of the part.
    first: usize,
}

impl<const N: usize> Tokens<N> {
    /// Those of a part whose first token is `first`, of `all`.
    #[inline(always)]
    fn new(number: usize, first: usize, all: usize) -> Self {
        let mut starts = [0; N];
        for n in 0..N {
            starts[n] = (first + TILE * (number + n)).min(all - TILE);
        }
        Self {
            number,
            starts,
            first,
        }
    }

    /// The token in row `t` of the tiles, counted from the first of the part: none, where that is one of those before.
    #[inline(always)]
    fn place(&self, t: usize) -> Option<usize> {
        (self.starts[t / TILE] + t % TILE).checked_sub(self.first)
    }

    /// Where the sums of the tiles are kept.
    #[inline(always)]
    fn kept(&self) -> Range<usize> {
        let start = TILE * self.number * PAIR;
        start..start + N * TILE * PAIR
    }
}

/// The tokens of a part, two tiles at a time.
struct Blocks {
    tiles: usize,
    count: usize,
}

impl Blocks {
    #[inline(always)]
    fn of(tokens: usize) -> Self {
        let tiles = tokens.div_ceil(TILE);
        Self {
            tiles,
            count: tiles.div_ceil(2),
        }
    }

    /// How many tiles a block has.
    #[inline(always)]
    fn tiles(&self, block: usize) -> usize {
        (self.tiles - 2 * block).min(2)
    }
}

/// Things spread evenly over steps.
struct Paced {
    things: Range<usize>,
    count: usize,
    steps: usize,
    /// Steps times things that are due.
    due: usize,
}

impl Paced {
    #[inline(always)]
    fn new(things: Range<usize>, steps: usize) -> Self {
        Self {
            count: things.len(),
            things,
            steps,
            due: 0,
        }
    }

    /// Those of the next step.
    #[inline(always)]
    fn next(&mut self) -> Range<usize> {
        let start = self.things.start;
        self.due += self.count;
        while self.due >= self.steps {
            self.due -= self.steps;
            self.things.start += 1;
        }
        start..self.things.start
    }
}

/// What is asked for while the tokens of a block are multiplied, a little in each step: requests that wait for memory would otherwise
/// take all the places that tiles on their way from the second-level cache need.
struct Requests<'a, 'b, S, X, const N: usize> {
    set: S,
    later: &'a mut Later,
    lines: Paced,
    /// Where outputs belong: those of a few tokens with each part.
    out: &'a mut TileMut<'b, X>,
    tokens: &'a Tokens<N>,
    outputs: Paced,
}

impl<'a, 'b, S: Panels, X, const N: usize> Requests<'a, 'b, S, X, N> {
    /// Those of a block; lines are for so many blocks as are `left`, with this one.
    #[inline(always)]
    fn new(
        set: S,
        part: &Part<'_>,
        (later, left): (&'a mut Later, usize),
        tokens: &'a Tokens<N>,
        out: &'a mut TileMut<'b, X>,
    ) -> Self {
        let steps = part.fours.len() / PLANE;
        let at = |four: usize| N * TILE * four / part.all;
        Self {
            set,
            lines: Paced::new(0..later.len() / left, steps),
            later,
            out,
            tokens,
            outputs: Paced::new(at(part.fours.start)..at(part.fours.end), steps),
        }
    }

    #[inline(always)]
    fn step(&mut self) {
        self.later.request(self.set, self.lines.next().len());
        for t in self.outputs.next() {
            if let Some(place) = self.tokens.place(t) {
                let row = self.out.row(place).as_ptr();
                self.set.prefetch_early(row.cast());
                self.set.prefetch_early(row.wrapping_add(UNIT).cast());
            }
        }
    }
}

/// Puts the outputs of a token where they belong: those of the rows of a panel from number `skip` on.
#[inline(always)]
fn put<X: Copy>(outputs: &[X; ROWS], skip: usize, row: &mut [X]) {
    match <&mut [X; ROWS]>::try_from(&mut *row) {
        Ok(row) => *row = *outputs,
        Err(_) => row.copy_from_slice(&outputs[skip..][..row.len()]),
    }
}

/// What exact sums are multiplied with.
enum Factors {
    /// Nothing: they stay what they are.
    None,
    Tensor(f32),
    Rows([f32; ROWS]),
}

impl Factors {
    /// Those of some rows, of which there may be fewer than a strip has.
    #[inline(always)]
    fn of(scales: &Scales<'_>, rows: Range<usize>) -> Self {
        match scales {
            Scales::None => Self::None,
            Scales::Tensor(scale) => Self::Tensor(*scale),
            Scales::Rows(scales) => {
                let mut factors = [0.0; ROWS];
                factors[..rows.len()].copy_from_slice(&scales[rows]);
                Self::Rows(factors)
            }
            Scales::Groups { .. } => unreachable!("exact sums of groups of columns"),
        }
    }

    /// The sums of a token, less `offset`, scaled: then these are the bits of `f32`.
    #[inline(always)]
    fn scaled(&self, sums: &[i32; ROWS], offset: i32, x_scale: f32) -> [i32; ROWS] {
        let mut outputs = *sums;
        for sum in &mut outputs {
            *sum = sum.wrapping_sub(offset);
        }
        match self {
            Self::None => {}
            Self::Tensor(scale) => {
                let factor = scale / x_scale;
                for i in 0..ROWS {
                    outputs[i] = (outputs[i] as f32 * factor).to_bits() as i32;
                }
            }
            Self::Rows(scales) => {
                for i in 0..ROWS {
                    outputs[i] = (outputs[i] as f32 * (scales[i] / x_scale)).to_bits() as i32;
                }
            }
        }
        outputs
    }
}

/// Sums of a group of columns.
#[repr(align(64))]
struct Sums([[i32; UNIT]; 2 * TILE * PAIR]);

impl<S: Panels, U: MatrixUnit> Tiles<'_, S, U> {
    /// The sums of some fours of columns, of which `panel` has two units.
    #[inline(always)]
    fn multiply<X: Scaled, const SIGNED: bool, const N: usize>(
        self,
        x: &X,
        tokens: &Tokens<N>,
        first_four: usize,
        panel: &[Unit],
        (sums, fresh): (&mut [[i32; UNIT]], bool),
        between: impl FnMut(),
    ) {
        let mut left = Left {
            tiles: [&[]; N],
            stride: x.stride(),
        };
        for n in 0..N {
            left.tiles[n] = &x.codes_from(tokens.starts[n])[4 * first_four..];
        }
        let right = Right {
            lines: panel,
            steps: panel.len() / PAIR / PLANE,
        };
        self.unit
            .multiply::<SIGNED, N>(&left, &right, sums, fresh, between);
    }

    /// Some columns of the tokens of `N` tiles.
    #[inline(always)]
    fn exact_tokens<const N: usize>(
        self,
        part: &Part<'_>,
        tile: &Tile<'_>,
        factors: &Factors,
        (tokens, later): (&Tokens<N>, (&mut Later, usize)),
        kept: &mut [[i32; UNIT]],
        out: &mut TileMut<'_, i32>,
    ) {
        let sums = &mut kept[tokens.kept()];
        let (four, panel) = (part.fours.start, &part.panel[..PAIR * part.fours.len()]);
        let fresh = part.is_first();
        let mut requests = Requests::new(self.set, part, later, tokens, out);
        let between = || requests.step();
        self.multiply::<_, false, N>(&tile.x, tokens, four, panel, (sums, fresh), between);
        if !part.is_last() {
            return;
        }
        let sums = sums.as_flattened().as_chunks().0;
        for t in 0..N * TILE {
            if let Some(place) = tokens.place(t) {
                let token = tile.first + place;
                let offset = tile.offset.wrapping_mul(tile.x.sum(token));
                let outputs = factors.scaled(&sums[t], offset, tile.x.scale(token));
                put(&outputs, part.skip, out.row(place));
            }
        }
    }

    /// The same with scales by group of columns.
    #[inline(always)]
    fn grouped_tokens<W, X: Scaled, const N: usize>(
        self,
        part: &Part<'_>,
        tile: &grouped::Tile<'_, W, X>,
        (tokens, later): (&Tokens<N>, (&mut Later, usize)),
        (sums, kept): (&mut Sums, &mut [[f32; UNIT]]),
        out: &mut TileMut<'_, f32>,
    ) {
        let kept = &mut kept[tokens.kept()];
        let mut requests = Requests::new(self.set, part, later, tokens, out);
        for g in 0..tile.groups.len() {
            let fours = tile.fours_of(g);
            let panel = &part.panel[PAIR * fours.start..PAIR * fours.end];
            let four = part.fours.start + fours.start;
            let between = || requests.step();
            self.multiply::<_, true, N>(
                &tile.of.x,
                tokens,
                four,
                panel,
                (&mut sums.0, true),
                between,
            );
            let first = First(part.is_first() && g == 0);
            self.add_group(tile, tokens, g, first, sums, kept);
        }
        if !part.is_last() {
            return;
        }
        for t in 0..N * TILE {
            let Some(place) = tokens.place(t) else {
                continue;
            };
            let factor = self.set.splat(tile.line(place).factor);
            let mut outputs = [[0.0; UNIT]; PAIR];
            for u in 0..PAIR {
                (self.set.load(&kept[t * PAIR + u]) * factor).store(&mut outputs[u]);
            }
            put(
                &outputs.as_flattened().as_chunks().0[0],
                part.skip,
                out.row(place),
            );
        }
    }

    /// Adds the sums of a group of columns, scaled, to what is kept.
    #[inline(always)]
    fn add_group<W, X: Scaled, const N: usize>(
        self,
        tile: &grouped::Tile<'_, W, X>,
        tokens: &Tokens<N>,
        g: usize,
        First(first): First,
        sums: &Sums,
        kept: &mut [[f32; UNIT]],
    ) {
        let mut scales = [self.set.splat(0.0); PAIR];
        for u in 0..PAIR {
            scales[u] = self.set.load(&tile.scales[g][u]);
        }
        for t in 0..N * TILE {
            let Some(place) = tokens.place(t) else {
                continue;
            };
            let multiplier = self.set.splat(tile.multiplier(place, g));
            for u in 0..PAIR {
                let at = t * PAIR + u;
                let mut dots = [0.0; UNIT];
                for i in 0..UNIT {
                    dots[i] = sums.0[at][i] as f32;
                }
                let y = match first {
                    true => self.set.splat(0.0),
                    false => self.set.load(&kept[at]),
                };
                let y = self.set.load(&dots).mul_add(scales[u] * multiplier, y);
                y.store(&mut kept[at]);
            }
        }
    }
}

impl<S: Panels, U: MatrixUnit> Engine for Tiles<'_, S, U> {
    type Set = S;
    const EXACT: Filling = Filling {
        units: PAIR,
        signed: false,
        fetches: false,
    };
    /// Weights: there are more sums of groups that something would have to go off than codes.
    const GROUPED: Filling = Filling {
        signed: true,
        ..Self::EXACT
    };
    const BY_TOKEN: bool = false;
    const ROWS: usize = ROWS;
    const ROWS_FIRST: bool = true;

    #[inline(always)]
    fn set(self) -> S {
        self.set
    }

    fn tokens(stride: usize) -> usize {
        match PART_TOKENS * stride <= CODES {
            true => PART_TOKENS,
            false => PART_TOKENS / 2,
        }
    }

    #[inline(always)]
    fn exact(self, part: &Part<'_>, tile: &Tile<'_>, kept: &mut Kept, out: &mut TileMut<'_, i32>) {
        let kept = bytemuck::cast_slice_mut(kept);
        let factors = &Factors::of(&tile.scales, tile.rows.clone());
        let (first, all) = (tile.first, tile.x.tokens());
        let blocks = Blocks::of(out.rows());
        let mut later = part.later;
        for block in 0..blocks.count {
            let later = (&mut later, blocks.count - block);
            match blocks.tiles(block) {
                1 => {
                    let tokens = &Tokens::<1>::new(2 * block, first, all);
                    self.exact_tokens(part, tile, factors, (tokens, later), kept, out);
                }
                _ => {
                    let tokens = &Tokens::<2>::new(2 * block, first, all);
                    self.exact_tokens(part, tile, factors, (tokens, later), kept, out);
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
        let sums = &mut Sums([[0; UNIT]; 2 * TILE * PAIR]);
        let (first, all) = (tile.first, tile.of.x.tokens());
        let blocks = Blocks::of(out.rows());
        let mut later = part.later;
        for block in 0..blocks.count {
            let later = (&mut later, blocks.count - block);
            match blocks.tiles(block) {
                1 => {
                    let tokens = &Tokens::<1>::new(2 * block, first, all);
                    self.grouped_tokens(part, tile, (tokens, later), (sums, kept), out);
                }
                _ => {
                    let tokens = &Tokens::<2>::new(2 * block, first, all);
                    self.grouped_tokens(part, tile, (tokens, later), (sums, kept), out);
                }
            }
        }
    }
}
