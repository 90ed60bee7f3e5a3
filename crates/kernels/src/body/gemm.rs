//! Integer weights times int8 activations of many tokens: weights unpacked once, into panels.
//!
//! The weights of some rows and columns are unpacked into a panel on the stack, interleaved so that
//! one register holds four columns of 16 rows, which is what a byte-product instruction adds up in
//! each of 16 lanes. The panel is then used for all tokens:
//!
//! ```text
//! for each 128 rows
//!     for each 512 columns
//!         panel[column / 4][row][column % 4] = code         once for all tokens
//!         for each U units of 16 rows, for each T tokens
//!             acc[u][t] = sum over the columns of panel * x  one activation load, four columns,
//!             out[t][u] += acc[u][t]                          for all rows of the tile
//! ```
//!
//! Lanes are outputs, so nothing is added across a register, and the sums of a group of columns
//! stand ready for their scales. Integer sums are exact, so they do not depend on how columns are
//! cut; where groups have scales, the groups of a row follow each other in their order.

use std::ops::Range;

use onebit_format::MatrixRef;

use super::{Product, atoms_of};
use crate::body::int;
use crate::input::I8Rows;
use crate::sets::Set;
use crate::tiles::TileMut;

/// Rows of a unit: the 32-bit lanes of 64 bytes.
pub(crate) const UNIT: usize = 16;

/// Rows unpacked at once.
const ROWS: usize = 128;

/// Columns unpacked at once, at most.
const COLS: usize = 512;

/// Most units in a tile, whatever the set.
pub(crate) const MAX_UNITS: usize = 4;

/// Most tokens in a tile, whatever the set.
const MAX_TOKENS: usize = 6;

/// Four columns of 16 rows.
pub(crate) type Unit = [u8; 64];

/// The sums of a tile: `[token][unit][row]`.
pub(crate) type Sums<const T: usize> = [[[i32; UNIT]; MAX_UNITS]; T];

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
    /// Whether a tile takes codes up to 255.
    const WIDE_CODES: bool;

    /// The atoms of 16 rows, four bytes of each row beside each other: unit `c` has bytes
    /// `4c..4c + 4`.
    fn interleaved(self, rows: [&[u8; 64]; UNIT]) -> [Self::Unit; UNIT];
    /// Field `p` of `BITS` bits of every byte.
    fn field<const BITS: usize>(self, packed: Self::Unit, p: usize) -> Self::Unit;
    /// Every byte with its top bit flipped.
    fn flipped(self, bytes: Self::Unit) -> Self::Unit;
    /// Every byte added to itself.
    fn doubled(self, bytes: Self::Unit) -> Self::Unit;
    fn store(self, unit: Self::Unit, out: &mut Unit);
    /// The sums of `code * x` over the columns of a panel of [`UNITS`](Panels::UNITS) units with
    /// codes up to `max`, of `T` tokens.
    fn tile<const T: usize>(self, max: u8, panel: &[Unit], x: [&[[i8; 4]]; T], sums: &mut Sums<T>);
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

/// Bits are stored as 0 and 2, so that the offset is that of ternary weights.
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

#[inline(always)]
fn fields<S: Panels, const BITS: usize, const P: usize>(s: S, packed: S::Unit) -> [S::Unit; P] {
    let mut planes = [packed; P];
    for p in 0..P {
        planes[p] = s.field::<BITS>(packed, p);
    }
    planes
}

/// Unpacked weights: the units of [`Panels::UNITS`] neighbours beside each other for every four
/// columns.
#[repr(align(64))]
struct Panel([Unit; ROWS * COLS / 64]);

/// Sums of a ternary matrix.
#[inline(always)]
pub(crate) fn t2<S: Panels>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    match job.x.tokens() < S::MANY {
        true => int::t2(s, job, out),
        false => sums::<S, int::T2, 4>(s, job, out),
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
    let mut panel = Panel([[0; 64]; ROWS * COLS / 64]);
    let Product { w, rows, x } = job;
    let atoms = w.row_bytes() / 64;
    let step = COLS / (64 * P);
    for start in rows.clone().step_by(ROWS) {
        let chunk = start..rows.end.min(start + ROWS);
        let mut out = out.columns(chunk.start - rows.start..chunk.end - rows.start);
        for first in (0..atoms).step_by(step) {
            let part = first..atoms.min(first + step);
            let fours = part.len() * P * 16;
            unpack::<S, L, P>(s, w, chunk.clone(), part, &mut panel.0);
            let add = Add {
                panel: &panel.0[..],
                x: *x,
                fours: first * P * 16..first * P * 16 + fours,
                max: L::MAX,
                offset: if first == 0 { L::OFFSET } else { 0 },
                first: first == 0,
            };
            add.run(s, &mut out);
        }
    }
}

/// Unpacks some atoms of up to [`ROWS`] rows. Rows that are lacking in the last unit repeat the last
/// row.
#[inline(always)]
fn unpack<S: Panels, L: Unpack<P>, const P: usize>(
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
            for (c, packed) in s.interleaved(bytes).into_iter().enumerate() {
                for (p, plane) in L::planes(s, packed).into_iter().enumerate() {
                    let four = (i * P + p) * 16 + c;
                    s.store(plane, &mut tile[four * S::UNITS + u % S::UNITS]);
                }
            }
        }
    }
}

/// A panel to be multiplied with some columns of all tokens.
struct Add<'a> {
    panel: &'a [Unit],
    x: I8Rows<'a>,
    /// Which fours of columns.
    fours: Range<usize>,
    max: u8,
    /// How often the sum of a token's activations is taken off.
    offset: i32,
    /// Whether nothing stands in the output yet.
    first: bool,
}

impl Add<'_> {
    #[inline(always)]
    fn run<S: Panels>(&self, s: S, out: &mut TileMut<'_, i32>) {
        let tile_rows = S::UNITS * UNIT;
        let tokens = self.x.tokens();
        for start in (0..out.width()).step_by(tile_rows) {
            let panel = &self.panel[start / UNIT * self.fours.len()..];
            let panel = &panel[..S::UNITS * self.fours.len()];
            let mut out = out.columns(start..out.width().min(start + tile_rows));
            let mut token = 0;
            for left in (1..=tokens.div_ceil(S::TOKENS)).rev() {
                match (tokens - token).div_ceil(left) {
                    1 => self.tile::<S, 1>(s, panel, token, &mut out),
                    2 => self.tile::<S, 2>(s, panel, token, &mut out),
                    3 => self.tile::<S, 3>(s, panel, token, &mut out),
                    4 => self.tile::<S, 4>(s, panel, token, &mut out),
                    5 => self.tile::<S, 5>(s, panel, token, &mut out),
                    _ => self.tile::<S, MAX_TOKENS>(s, panel, token, &mut out),
                }
                token += (tokens - token).div_ceil(left);
            }
        }
    }

    #[inline(always)]
    fn tile<S: Panels, const T: usize>(
        &self,
        s: S,
        panel: &[Unit],
        token: usize,
        out: &mut TileMut<'_, i32>,
    ) {
        let mut sums = [[[0; UNIT]; MAX_UNITS]; T];
        let mut x: [&[[i8; 4]]; T] = [&[]; T];
        for (t, x) in x.iter_mut().enumerate() {
            *x = &self.x.row(token + t).as_chunks().0[self.fours.clone()];
        }
        s.tile::<T>(self.max, panel, x, &mut sums);
        for (t, sums) in sums.iter().enumerate() {
            let offset = self.offset.wrapping_mul(self.x.sum(token + t));
            let out = out.row(token + t);
            let sums = &sums.as_flattened()[..out.len()];
            for (out, sum) in out.iter_mut().zip(sums) {
                let old = if self.first { 0 } else { *out };
                *out = old.wrapping_add(sum.wrapping_sub(offset));
            }
        }
    }
}
