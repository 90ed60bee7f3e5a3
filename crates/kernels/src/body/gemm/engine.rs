//! Who multiplies a panel with tokens: a set, tile by tile in its registers, or a matrix unit ([`tiled`](super::tiled)).

use super::Tile;
use super::grouped;
use super::panel::{Filling, Panels, UNIT};
use super::part::{Part, TOKENS};
use crate::body::grouped::Scaled;
use crate::tiles::TileMut;

/// Outputs on their way, 16 rows of a token at a time; see [`part`](super::part).
pub(crate) type Kept = [[u32; UNIT]];

/// What multiplies panels that a set unpacks.
pub(crate) trait Engine: Copy {
    type Set: Panels;
    /// How its panels are filled for exact sums, and for those of groups of columns.
    const EXACT: Filling;
    const GROUPED: Filling;
    /// Whether it takes activations token by token.
    const BY_TOKEN: bool;
    /// Rows unpacked at once.
    const ROWS: usize;
    /// Whether all rows are multiplied with some tokens before the next tokens, in place of all tokens with some rows.
    const ROWS_FIRST: bool;

    fn set(self) -> Self::Set;

    /// Tokens that a panel is multiplied with, where codes of a token are `stride` from those of the next: up to
    /// [`PART_TOKENS`](super::part::PART_TOKENS), and no more outputs than [`KEPT`](super::part::KEPT).
    fn tokens(stride: usize) -> usize;

    /// Adds the products of some columns to what is kept, which the first columns overwrite. With the last ones the sums go
    /// where they belong: `out` has a row for each token.
    fn exact(self, part: &Part<'_>, tile: &Tile<'_>, kept: &mut Kept, out: &mut TileMut<'_, i32>);

    /// The same of products that are scaled by group of columns.
    fn grouped<W, X: Scaled>(
        self,
        part: &Part<'_>,
        tile: &grouped::Tile<'_, W, X>,
        kept: &mut Kept,
        out: &mut TileMut<'_, f32>,
    );
}

impl<S: Panels> Engine for S {
    type Set = S;
    const EXACT: Filling = Filling {
        units: S::UNITS,
        signed: false,
        fetches: true,
    };
    const GROUPED: Filling = Self::EXACT;
    const BY_TOKEN: bool = true;
    const ROWS: usize = S::ROWS;
    const ROWS_FIRST: bool = false;

    #[inline(always)]
    fn set(self) -> S {
        self
    }

    fn tokens(_stride: usize) -> usize {
        TOKENS
    }

    #[inline(always)]
    fn exact(self, part: &Part<'_>, tile: &Tile<'_>, kept: &mut Kept, out: &mut TileMut<'_, i32>) {
        part.run(self, tile, kept, out);
    }

    #[inline(always)]
    fn grouped<W, X: Scaled>(
        self,
        part: &Part<'_>,
        tile: &grouped::Tile<'_, W, X>,
        kept: &mut Kept,
        out: &mut TileMut<'_, f32>,
    ) {
        part.run(self, tile, kept, out);
    }
}
