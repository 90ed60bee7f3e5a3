//! Panels: the unpacked weights of some rows and columns, on the stack.
//!
//! A *unit* is four columns of 16 rows, each row's four codes beside each other: what one byte-product
//! instruction adds up in each of 16 lanes of 32 bits. Atoms are interleaved while they are still packed,
//! so that one transposition serves all their planes.

use std::ops::Range;

use onebit_format::MatrixRef;

use super::few::Few;
use crate::aligned::LINE;
use crate::body::{atoms_of, int};
use crate::sets::Set;
use crate::tiles::TileMut;

/// Rows of a unit: the 32-bit lanes of 64 bytes.
pub(crate) const UNIT: usize = 16;

/// Rows unpacked at once.
pub(super) const ROWS: usize = 128;

/// Columns unpacked at once, at most.
pub(super) const COLS: usize = 512;

/// Most units in a tile, whatever the set.
pub(crate) const MAX_UNITS: usize = 4;

/// Most tokens in a tile, whatever the set.
pub(crate) const MAX_TOKENS: usize = 6;

/// Four columns of 16 rows.
pub(crate) type Unit = [u8; 64];

/// The outputs of a tile: of each token, so many units as the set takes.
pub(crate) type Outputs<'a, X, const T: usize> = [&'a mut [[X; UNIT]]; T];

/// Most groups of columns in a panel.
pub(crate) const GROUPS: usize = COLS / 64;

/// The scales of a panel: `[group][unit][row]`.
pub(crate) type PanelScales = [[[f32; UNIT]; ROWS / UNIT]; GROUPS];

/// What the sums of groups of columns are scaled with, for the tokens of a tile.
#[derive(Clone, Copy)]
pub(crate) struct Groups<'a, const T: usize> {
    /// How many there are, and the fours of columns in each.
    pub(crate) count: usize,
    pub(crate) fours: usize,
    pub(crate) scales: &'a PanelScales,
    /// Whether they are the first: what stands in the outputs is overwritten.
    pub(crate) first: bool,
    /// The tile's first unit.
    pub(crate) unit: usize,
    /// Of each token, what is taken off the sums of `code * x` of a group, and what the rest is
    /// multiplied with.
    pub(crate) offsets: [&'a [i32; GROUPS]; T],
    pub(crate) multipliers: [&'a [f32; GROUPS]; T],
    /// What the outputs of each token are multiplied with at the end.
    pub(crate) factors: [f32; T],
}

/// A set that multiplies panels.
pub(crate) trait Panels: Set {
    /// A unit in registers.
    type Unit: Copy;
    /// Units side by side in a tile, which lie beside each other in a panel.
    const UNITS: usize;
    /// Most tokens in a tile.
    const TOKENS: usize;
    /// Tokens from which unpacking into a panel pays.
    const MANY: usize;
    /// The same where groups of columns have scales, and for matrices stored transposed.
    const MANY_GROUPED: usize;
    /// Tokens from which unpacking binary weights of 64 rows side by side pays.
    const MANY_LOOKED_UP: usize;
    /// Whether a tile takes codes up to 255.
    const WIDE_CODES: bool;
    /// Whether fewer tokens than [`MANY_GROUPED`](Panels::MANY_GROUPED) are for [`few`](Panels::few).
    const FEW: bool;

    /// 64 bytes in order.
    fn loaded(self, bytes: &[u8; 64]) -> Self::Unit;
    /// The atoms of 16 rows, interleaved: unit `c` has bytes `4c..4c + 4` of each.
    fn interleaved(self, rows: [&[u8; 64]; UNIT]) -> [Self::Unit; UNIT];
    /// The bytes of four atoms: unit `n` has byte `16 n + i` of each in its row `i`.
    fn side_by_side(self, atoms: [&[u8; 64]; 4]) -> [Self::Unit; 4];
    /// Field `p` of `BITS` bits of every byte.
    fn field<const BITS: usize>(self, packed: Self::Unit, p: usize) -> Self::Unit;
    /// Every byte with its top bit flipped.
    fn flipped(self, bytes: Self::Unit) -> Self::Unit;
    /// Every byte added to itself.
    fn doubled(self, bytes: Self::Unit) -> Self::Unit;
    /// The five codes, 0 to 2, of every byte of a [`Layout::T5`](onebit_format::Layout::T5).
    fn dense(self, bytes: Self::Unit) -> [Self::Unit; 5];
    /// Of an atom of [`Layout::B1R64`](onebit_format::Layout::B1R64) the columns `4n..4n + 4` of rows `16m..16m + 16`:
    /// a unit of codes 0 and 2.
    fn spread(self, atom: &[u8; 64], m: usize, n: usize) -> Self::Unit;
    fn store(self, unit: Self::Unit, out: &mut Unit);

    /// Adds to the outputs the sums of `code * x` over the columns of a panel of [`UNITS`](Panels::UNITS) units, with
    /// codes up to `max`, for `T` tokens. With `offsets`, of each token what its sums are too large by, what stands in
    /// the outputs is overwritten.
    fn tile<const T: usize>(
        self,
        max: u8,
        panel: &[Unit],
        x: [&[[i8; 4]]; T],
        offsets: Option<[i32; T]>,
        out: Outputs<'_, i32, T>,
    );

    /// Adds to the outputs, or to zero for the first groups, one after the other `(sum of code * x - offset) * (scale *
    /// multiplier)`.
    fn grouped_tile<const T: usize>(
        self,
        max: u8,
        panel: &[Unit],
        x: [&[[i8; 4]]; T],
        groups: Groups<'_, T>,
        out: Outputs<'_, f32, T>,
    );

    /// For each token and row the sum, group after group, of `(sum of STEP * code * x - offset) * (scale *
    /// multiplier)`, with codes of `BITS` bits; called only where [`FEW`](Panels::FEW).
    fn few<const BITS: usize, const T: usize>(self, _few: &Few<'_, T>) -> [[f32; UNIT]; T] {
        unreachable!("the set has no kernel for a few tokens")
    }
}

/// A layout of unsigned codes that panels are made of. The weight is `code - OFFSET`.
pub(crate) trait Unpack<const P: usize> {
    const MAX: u8;
    const OFFSET: i32;
    /// The planes of an atom's interleaved bytes.
    fn planes<S: Panels>(s: S, packed: S::Unit) -> [S::Unit; P];
}

impl Unpack<4> for int::T2 {
    const MAX: u8 = 3;
    const OFFSET: i32 = 1;
    #[inline(always)]
    fn planes<S: Panels>(s: S, packed: S::Unit) -> [S::Unit; 4] {
        fields::<S, 2, 4>(s, packed)
    }
}

impl Unpack<5> for int::T5 {
    const MAX: u8 = 2;
    const OFFSET: i32 = 1;
    #[inline(always)]
    fn planes<S: Panels>(s: S, packed: S::Unit) -> [S::Unit; 5] {
        s.dense(packed)
    }
}

/// Bits become 0 and 2, so that the offset is that of ternary weights.
impl Unpack<8> for int::B1 {
    const MAX: u8 = 2;
    const OFFSET: i32 = 1;
    #[inline(always)]
    fn planes<S: Panels>(s: S, packed: S::Unit) -> [S::Unit; 8] {
        let mut planes = fields::<S, 1, 8>(s, packed);
        for plane in &mut planes {
            *plane = s.doubled(*plane);
        }
        planes
    }
}

impl Unpack<1> for int::I8 {
    const MAX: u8 = 255;
    const OFFSET: i32 = 128;
    #[inline(always)]
    fn planes<S: Panels>(s: S, packed: S::Unit) -> [S::Unit; 1] {
        [s.flipped(packed)]
    }
}

/// 4-bit weights.
pub(crate) struct I4;

impl Unpack<2> for I4 {
    const MAX: u8 = 15;
    const OFFSET: i32 = 8;
    #[inline(always)]
    fn planes<S: Panels>(s: S, packed: S::Unit) -> [S::Unit; 2] {
        fields::<S, 4, 2>(s, packed)
    }
}

#[inline(always)]
pub(super) fn fields<S: Panels, const BITS: usize, const P: usize>(
    s: S,
    packed: S::Unit,
) -> [S::Unit; P] {
    let mut planes = [packed; P];
    for p in 0..P {
        planes[p] = s.field::<BITS>(packed, p);
    }
    planes
}

/// Unpacked weights. Of each [`Panels::UNITS`] neighbours, the units of the same columns lie beside each
/// other; these follow each other column by column.
#[repr(align(64))]
pub(super) struct Panel(pub(super) [Unit; ROWS * COLS / 64]);

impl Panel {
    pub(super) const EMPTY: Self = Self([[0; 64]; ROWS * COLS / 64]);
}

/// Unpacks some atoms of up to [`ROWS`] rows. Rows that are lacking in the last unit repeat the last
/// row.
#[inline(always)]
pub(super) fn unpack<S: Panels, L: Unpack<P>, const P: usize>(
    s: S,
    w: &MatrixRef<'_>,
    rows: Range<usize>,
    atoms: Range<usize>,
    panel: &mut [Unit],
) {
    let fours = atoms.len() * P * 16;
    for u in 0..rows.len().div_ceil(UNIT) {
        let tile = &mut panel[u / S::UNITS * S::UNITS * fours..][..S::UNITS * fours];
        let mut w_rows: [&[[u8; 64]]; UNIT] = [&[]; UNIT];
        for (i, row) in w_rows.iter_mut().enumerate() {
            *row = atoms_of(w, (rows.start + UNIT * u + i).min(rows.end - 1));
        }
        for (i, a) in atoms.clone().enumerate() {
            let mut bytes = [&[0; 64]; UNIT];
            for r in 0..UNIT {
                bytes[r] = &w_rows[r][a];
                s.prefetch(bytes[r].as_ptr().wrapping_add(64 * atoms.len()));
            }
            let packed = s.interleaved(bytes);
            let units = &mut tile[i * P * 16 * S::UNITS..][..P * 16 * S::UNITS];
            for c in 0..16 {
                let planes = L::planes(s, packed[c]);
                for p in 0..P {
                    s.store(
                        planes[p],
                        &mut units[(16 * p + c) * S::UNITS + u % S::UNITS],
                    );
                }
            }
        }
    }
}

/// Asks for the outputs of the next tile, `T` tokens further on. They are a row of the matrix apart, so the CPU does not
/// see them coming.
#[inline(always)]
pub(super) fn ask_ahead<S: Panels, X, const T: usize>(s: S, out: &TileMut<'_, X>, token: usize) {
    for t in 0..T {
        let next = out.address(token + T + t).cast::<u8>();
        for line in 0..(out.width() * size_of::<X>()).div_ceil(LINE) {
            s.prefetch(next.wrapping_add(LINE * line));
        }
    }
}

/// The outputs of a whole tile, from row `token` on, where they stand.
#[inline(always)]
pub(super) fn outputs<'a, X, const T: usize>(
    out: &'a mut TileMut<'_, X>,
    token: usize,
) -> Outputs<'a, X, T> {
    out.rows_from(token).map(|row| row.as_chunks_mut().0)
}

/// The outputs of a tile at an edge of the matrix, of which some are not there: a copy to be multiplied in.
pub(super) struct Edge<X, const T: usize> {
    units: [[[X; UNIT]; MAX_UNITS]; T],
    /// Rows of the tile before that of the first output.
    before: usize,
}

impl<X: Copy + Default, const T: usize> Edge<X, T> {
    /// What stands in the rows of `out` from `token` on.
    pub(super) fn of(out: &mut TileMut<'_, X>, token: usize, before: usize) -> Self {
        let mut units = [[[X::default(); UNIT]; MAX_UNITS]; T];
        for (t, units) in units.iter_mut().enumerate() {
            let out = out.row(token + t);
            units.as_flattened_mut()[before..][..out.len()].copy_from_slice(out);
        }
        Self { units, before }
    }

    #[inline(always)]
    pub(super) fn outputs(&mut self) -> Outputs<'_, X, T> {
        self.units.each_mut().map(|units| units.as_mut_slice())
    }

    /// The way back.
    pub(super) fn put(&self, out: &mut TileMut<'_, X>, token: usize) {
        for (t, units) in self.units.iter().enumerate() {
            let out = out.row(token + t);
            out.copy_from_slice(&units.as_flattened()[self.before..][..out.len()]);
        }
    }
}

/// Runs a block for tiles of `$count` tokens, a constant, from token `$token` on: as many as the set
/// takes, and as evenly as they divide.
macro_rules! per_tile {
    ($set:ident, $token:ident in $tokens:expr, $count:ident => $block:block) => {
        let tokens: std::ops::Range<usize> = $tokens;
        let mut $token = tokens.start;
        for left in (1..=tokens.len().div_ceil($set::TOKENS)).rev() {
            let count = (tokens.end - $token).div_ceil(left);
            match count {
                1 => $crate::body::gemm::panel::per_tile!(@count $count, 1, $block),
                2 => $crate::body::gemm::panel::per_tile!(@count $count, 2, $block),
                3 => $crate::body::gemm::panel::per_tile!(@count $count, 3, $block),
                4 => $crate::body::gemm::panel::per_tile!(@count $count, 4, $block),
                5 => $crate::body::gemm::panel::per_tile!(@count $count, 5, $block),
                _ => $crate::body::gemm::panel::per_tile!(
                    @count $count, $crate::body::gemm::panel::MAX_TOKENS, $block
                ),
            }
            $token += count;
        }
    };
    (@count $count:ident, $value:expr, $block:block) => {{
        const $count: usize = $value;
        $block
    }};
}
pub(super) use per_tile;
