//! Exact sums of many tokens with a matrix unit: a processor that multiplies whole tiles, 16 tokens
//! by 64 columns with 64 columns by 16 rows, into 16 x 16 sums.
//!
//! Activations are tiles as they lie in memory: 64 codes of 16 tokens, `stride` apart. Weights are
//! packed into tiles (see [`pack`]) once for all tokens. A step of the unit is a block of 2 x 2
//! tiles of sums, 32 tokens and 32 rows, so that each tile it loads is used twice:
//!
//! ```text
//! for each panel of tokens                        activations that stay in the second-level cache
//!     for each panel of 32 rows
//!         for each block of columns               weights that stay in the first-level cache
//!             pack the block's weights
//!             for each 32 tokens of the panel
//!                 sums[32][32] += x[32][columns] * w[columns][32]
//!         copy the sums to the output
//! ```
//!
//! Sums stand in scratch memory between blocks of columns, not in the output, whose rows are far
//! apart. Tiles are always full: the last tile of tokens starts early enough to end with the last
//! token, and rows beyond the last repeat it. What that computes twice is written twice, or not at
//! all, and a sum never depends on its tile.

use std::ops::Range;

use super::Product;
use crate::input::I8Rows;
use crate::tiles::TileMut;

pub(crate) mod pack;
#[cfg(test)]
mod tests;

use pack::{Right, Weights};

/// Tokens of a tile of activations, and rows of a tile of weights.
pub(crate) const TILE: usize = 16;

/// Columns that a step multiplies.
pub(crate) const STEP: usize = 64;

/// Rows that are packed together.
pub(crate) const ROWS: usize = 2 * TILE;

/// Most steps of a block of columns: its tiles of 32 rows and of 32 tokens, 16 KiB each, and their
/// sums share a first-level cache of 48 KiB.
const STEPS: usize = 8;

/// Most tokens of a panel.
const TOKENS: usize = 256;

/// Activations of a panel: half of a second-level cache of 2 MiB.
const PANEL_BYTES: usize = 1 << 20;

/// Sums of 16 tokens and 32 rows.
pub(crate) type Sums = [[i32; ROWS]; TILE];

/// A matrix unit.
pub(crate) trait Unit {
    /// Word `n` of all rows side by side: 4-byte word `j` of the result's row `n` is word `n` of
    /// `rows[j]`.
    fn transpose(&self, rows: [&[u8; 64]; TILE]) -> [[u8; 64]; TILE];

    /// Adds the products of `N` tiles of activations and the columns packed in `right` to the sums,
    /// or replaces the sums by them when `fresh`. Row `m` of a tile starts `m * stride` after its
    /// first; there is at least one step.
    fn multiply<const N: usize>(
        &self,
        left: [&[i8]; N],
        stride: usize,
        right: &[[Right; 2]],
        sums: &mut [Sums; N],
        fresh: bool,
    );

    /// Asks for the cache line at `line`, which may be any address.
    fn prefetch(&self, line: *const u8);
}

/// What lies between packing, multiplying and the output. Tiles are loaded by cache lines.
#[repr(align(64))]
struct Scratch {
    right: [[Right; 2]; STEPS],
    sums: [Sums; TOKENS / TILE],
}

/// Sums of a matrix of at least one column, for at least [`TILE`] tokens.
#[inline(always)]
pub(crate) fn sums<U: Unit, L: Weights<P>, const P: usize>(
    unit: &U,
    job: &Product<'_, I8Rows<'_>>,
    out: &mut TileMut<'_, i32>,
) {
    let mut scratch = Scratch {
        right: [[[[0; 64]; TILE]; 2]; STEPS],
        sums: [[[0; ROWS]; TILE]; TOKENS / TILE],
    };
    let tokens = job.x.tokens();
    assert!(tokens >= TILE, "{tokens} tokens, a tile has {TILE}");
    let size = panel_size(tokens, job.w.padded_cols());
    for start in (0..tokens).step_by(size) {
        let panel = start..tokens.min(start + size);
        for row in job.rows.clone().step_by(ROWS) {
            panel_sums::<U, L, P>(unit, job, panel.clone(), row, &mut scratch);
            let column = row - job.rows.start;
            let width = ROWS.min(job.rows.end - row);
            let tiles = scratch.sums.iter().zip(tiles_of(panel.clone(), tokens));
            for (sums, first) in tiles {
                for (t, sums) in sums.iter().enumerate() {
                    out.row(first + t)[column..][..width].copy_from_slice(&sums[..width]);
                }
            }
        }
    }
}

/// Tokens of a panel: as many as [`PANEL_BYTES`] holds, in panels of about the same size.
fn panel_size(tokens: usize, cols: usize) -> usize {
    let most = (PANEL_BYTES / cols).clamp(2 * TILE, TOKENS) / (2 * TILE) * (2 * TILE);
    tokens
        .div_ceil(tokens.div_ceil(most))
        .next_multiple_of(2 * TILE)
}

/// The first token of each tile of a panel.
fn tiles_of(panel: Range<usize>, tokens: usize) -> impl Iterator<Item = usize> {
    panel
        .step_by(TILE)
        .map(move |token| token.min(tokens - TILE))
}

/// Leaves the sums of a panel of tokens and the 32 rows from `row` in the scratch memory.
#[inline(always)]
fn panel_sums<U: Unit, L: Weights<P>, const P: usize>(
    unit: &U,
    job: &Product<'_, I8Rows<'_>>,
    panel: Range<usize>,
    row: usize,
    scratch: &mut Scratch,
) {
    const { assert!(P <= STEPS) };
    let (w, x) = (job.w, &job.x);
    let rows = row..job.rows.end.min(row + ROWS);
    let atoms = w.band_bytes() / 64;
    for start in (0..atoms).step_by(STEPS / P) {
        let block = start..atoms.min(start + STEPS / P);
        let right = &mut scratch.right[..block.len() * P];
        L::pack(unit, w, rows.clone(), block, right);

        let left = |first: usize| &x.rows_from(first)[start * P * STEP..];
        let mut first = tiles_of(panel.clone(), x.tokens());
        let tiles = panel.len().div_ceil(TILE);
        let (pairs, last) = scratch.sums[..tiles].as_chunks_mut::<2>();
        for sums in pairs {
            let left = [(); 2].map(|()| left(first.next().expect("a tile per sums")));
            unit.multiply(left, x.stride(), right, sums, start == 0);
        }
        if let ([sums], Some(first)) = (last.as_chunks_mut::<1>().0, first.next()) {
            unit.multiply([left(first)], x.stride(), right, sums, start == 0);
        }
    }
}
