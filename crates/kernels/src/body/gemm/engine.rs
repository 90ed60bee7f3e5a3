//! Who multiplies a panel with tokens: a set, tile by tile in its registers, or a matrix unit ([`tiled`](super::tiled)).

use super::Tile;
use super::grouped;
use super::panel::{Panels, UNIT};
use super::part::{Part, TOKENS};
use crate::body::grouped::Scaled;
use crate::tiles::TileMut;

/// Outputs on their way, 16 rows of a token at a time; see [`part`](super::part).
pub(crate) type Kept = [[u32; UNIT]];

/// What multiplies panels that a set unpacks.
pub(crate) trait Engine: Copy {
    type Set: Panels;
    /// Rows unpacked at once, and tokens that they are multiplied with.
    const ROWS: usize;
    const TOKENS: usize;

    fn set(self) -> Self::Set;

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
    const ROWS: usize = S::ROWS;
    const TOKENS: usize = TOKENS;

    #[inline(always)]
    fn set(self) -> S {
        self
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
