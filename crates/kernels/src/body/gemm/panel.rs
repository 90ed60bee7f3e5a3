//! Panels: the unpacked weights of some rows and columns, on the stack.
//!
//! A *unit* is four columns of 16 rows, each row's four codes beside each other: what one byte-product
//! instruction adds up in each of 16 lanes of 32 bits. Atoms are interleaved while they are still packed,
//! so that one transposition serves all their planes.

use std::marker::PhantomData;

use super::few::Few;
use crate::body::int;
use crate::sets::Set;
use crate::tiles::TileMut;

/// Rows of a unit: the 32-bit lanes of 64 bytes.
pub(crate) const UNIT: usize = 16;

/// Codes that are unpacked at once, a byte each: those of a strip of a matrix stored transposed.
pub(super) const PANEL: usize = 1 << 17;

/// Most rows unpacked at once, whatever the set, of matrices that are not stored transposed.
pub(super) const MAX_ROWS: usize = 128;

/// Most columns unpacked at once, whatever the set.
pub(super) const MAX_COLS: usize = 1024;

/// Most units in a tile, whatever the set.
pub(crate) const MAX_UNITS: usize = 4;

/// Most tokens in a tile, whatever the set.
pub(crate) const MAX_TOKENS: usize = 6;

/// Four columns of 16 rows.
pub(crate) type Unit = [u8; 64];

/// The outputs of a tile: of each of `T` tokens so many units as the set takes, beside each other. Addresses, because what
/// a tile begins with may stand where it ends.
pub(crate) struct Outputs<'a, X, const T: usize> {
    first: *mut X,
    /// Elements from a token's outputs to those of the next.
    stride: usize,
    borrow: PhantomData<&'a mut [X]>,
}

impl<'a, X, const T: usize> Outputs<'a, X, T> {
    /// In `out`, `width` of each token.
    ///
    /// # Panics
    /// When they are not all there.
    #[inline(always)]
    pub(super) fn beside(out: &'a mut [X], width: usize) -> Self {
        assert!(out.len() >= T * width);
        Self {
            first: out.as_mut_ptr(),
            stride: width,
            borrow: PhantomData,
        }
    }

    /// The first `width` columns of the rows of `out` from `token` on.
    ///
    /// # Panics
    /// When they are not all there.
    #[inline(always)]
    pub(super) fn rows(out: &'a mut TileMut<'_, X>, token: usize, width: usize) -> Self {
        assert!(out.width() >= width);
        let (first, stride) = out.rows_at(token, T);
        Self {
            first,
            stride,
            borrow: PhantomData,
        }
    }

    /// Where those of token `t`, below `T`, begin: nothing else is borrowed there.
    #[inline(always)]
    pub(crate) fn token(&self, t: usize) -> *mut X {
        self.first.wrapping_add(t * self.stride)
    }
}

/// What exact sums begin with.
#[derive(Clone, Copy)]
pub(crate) enum Begin<'a, const T: usize> {
    /// Minus these, of each token.
    Less(&'a [i32; T]),
    /// The sums of other columns.
    With(&'a Outputs<'a, i32, T>),
}

/// How a panel is filled.
#[derive(Clone, Copy)]
pub(crate) struct Filling {
    /// Units of the same columns beside each other.
    pub(crate) units: usize,
    /// Whether codes become the weights that they stand for, which are signed.
    pub(crate) signed: bool,
    /// Whether the columns that follow are fetched meanwhile. An engine that multiplies all rows before the next tokens fetches
    /// [rows](super::part::Source::later) itself.
    pub(crate) fetches: bool,
}

impl Filling {
    /// Where the unit `u` rows of units down stands with the first columns of a panel of so many fours.
    #[inline(always)]
    pub(super) fn start(self, u: usize, fours: usize) -> usize {
        u / self.units * self.units * fours + u % self.units
    }

    /// Stores codes that are `offset` too large.
    #[inline(always)]
    pub(super) fn store<S: Panels>(self, s: S, codes: S::Unit, offset: i32, out: &mut Unit) {
        match self.signed {
            true => s.store(s.less(codes, offset as u8), out),
            false => s.store(codes, out),
        }
    }

    /// Fetches what is so many bytes behind a line.
    #[inline(always)]
    pub(super) fn prefetch<S: Panels>(self, s: S, line: &[u8; 64], bytes: usize) {
        if self.fetches {
            s.prefetch(line.as_ptr().wrapping_add(bytes));
        }
    }
}

/// Most groups of columns in a panel.
pub(crate) const GROUPS: usize = MAX_COLS / 64;

/// The scales of a panel: `[group][unit][row]`.
pub(crate) type PanelScales = [[[f32; UNIT]; MAX_ROWS / UNIT]; GROUPS];

/// A token's activations.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) x: &'a [[i8; 4]],
    /// Of each group of columns what its dots are multiplied with, and the sum of the activations.
    pub(crate) multipliers: &'a [f32],
    pub(crate) sums: &'a [i32],
    /// What the outputs are multiplied with at the end.
    pub(crate) factor: f32,
}

impl Line<'_> {
    pub(super) const EMPTY: Self = Self {
        x: &[],
        multipliers: &[],
        sums: &[],
        factor: 1.0,
    };
}

/// What the sums of groups of columns are scaled with.
pub(crate) struct Groups<'a, const T: usize> {
    /// How many there are, and the fours of columns in each.
    pub(crate) count: usize,
    pub(crate) fours: usize,
    /// The first four of the panel's columns, and where its first group is among the multipliers and sums of a token.
    pub(crate) first_four: usize,
    pub(crate) first_group: usize,
    pub(crate) scales: &'a PanelScales,
    /// Where they are added up, one after the other, in whole lines of memory: the registers are taken.
    pub(crate) kept: &'a Outputs<'a, f32, T>,
    /// Whether they are the first: what stands there is overwritten.
    pub(crate) first: bool,
    /// The tile's first unit.
    pub(crate) unit: usize,
    /// How often the sum of the activations is taken off the sum of `code * x`.
    pub(crate) offset: i32,
}

/// A set that multiplies panels.
pub(crate) trait Panels: Set {
    /// A unit in registers.
    type Unit: Copy;
    /// Units side by side in a tile, which lie beside each other in a panel.
    const UNITS: usize;
    /// Most tokens in a tile.
    const TOKENS: usize;
    /// Columns unpacked at once: with the activations of a tile those of its rows stay in the first-level cache.
    const COLS: usize;
    /// Rows unpacked at once.
    const ROWS: usize = PANEL / 2 / Self::COLS;
    /// Tokens from which unpacking into a panel pays.
    const MANY: usize;
    /// The same where groups of columns have scales, and for matrices stored transposed.
    const MANY_GROUPED: usize;
    /// Tokens from which unpacking ternary weights of 16 rows side by side pays.
    const MANY_IN_LANES: usize;
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
    /// Every byte less `offset`.
    fn less(self, bytes: Self::Unit, offset: u8) -> Self::Unit;
    /// The five codes, 0 to 2, of every byte of a [`Layout::T5`](onebit_format::Layout::T5).
    fn dense(self, bytes: Self::Unit) -> [Self::Unit; 5];
    /// Of an atom of [`Layout::B1R64`](onebit_format::Layout::B1R64) the columns `4n..4n + 4` of rows `16m..16m + 16`:
    /// a unit of codes 0 and 2.
    fn spread(self, atom: &[u8; 64], m: usize, n: usize) -> Self::Unit;
    fn store(self, unit: Self::Unit, out: &mut Unit);

    /// What the sums begin with plus the sums of `code * x` over the columns of a panel of [`UNITS`](Panels::UNITS) units,
    /// with codes up to `max`, for `T` tokens.
    fn tile<const T: usize>(
        self,
        max: u8,
        panel: &[Unit],
        x: &[&[[i8; 4]]; T],
        begin: Begin<'_, T>,
        out: &Outputs<'_, i32, T>,
    );

    /// Adds to what is kept, one after the other, `(sum of code * x - offset * sum of x) * (scale * multiplier)`. Where there
    /// are outputs, they become that times each token's factor.
    fn grouped_tile<const T: usize>(
        self,
        max: u8,
        panel: &[Unit],
        lines: &[Line<'_>; T],
        groups: &Groups<'_, T>,
        out: Option<&Outputs<'_, f32, T>>,
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
