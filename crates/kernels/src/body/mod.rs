//! The algorithms, each written once over [`Set`](crate::sets::Set).
//!
//! Everything here is `#[inline(always)]`, because a function compiled on its own would lack the
//! set's instructions; for the same reason vectors do not cross closures.

use std::ops::Range;

use onebit_format::MatrixRef;

use self::ahead::{Abreast, Course, STREAMS};
use crate::input::{BitRows, F32Rows, I8GroupRows, I8Rows};
use crate::tiles::TileMut;

pub(crate) mod ahead;
pub(crate) mod attend;
pub(crate) mod bands;
pub(crate) mod bits;
pub(crate) mod columns;
pub(crate) mod decoded;
pub(crate) mod elementwise;
pub(crate) mod float;
#[cfg(target_arch = "x86_64")]
pub(crate) mod gemm;
pub(crate) mod grouped;
pub(crate) mod int;
pub(crate) mod limits;
pub(crate) mod lookup;
pub(crate) mod math;
pub(crate) mod packed;
pub(crate) mod quantize;
pub(crate) mod rotate;
pub(crate) mod rows16;
pub(crate) mod scales;

#[cfg(target_arch = "x86_64")]
pub(crate) use gemm::{columns as gemm_columns, grouped as gemm_grouped};

/// A matrix product to be done: `rows` of `w` times every token of `x`, whose rows reach to the
/// layout's padded columns.
pub(crate) struct Product<'a, X> {
    pub(crate) w: &'a MatrixRef<'a>,
    pub(crate) rows: Range<usize>,
    pub(crate) x: X,
}

/// Activations as far as shape checks go.
pub(crate) trait Rows {
    fn tokens(&self) -> usize;
    fn stride(&self) -> usize;
}

impl Rows for I8Rows<'_> {
    fn tokens(&self) -> usize {
        self.tokens()
    }
    fn stride(&self) -> usize {
        self.stride()
    }
}

impl Rows for I8GroupRows<'_> {
    fn tokens(&self) -> usize {
        self.tokens()
    }
    fn stride(&self) -> usize {
        self.stride()
    }
}

impl Rows for BitRows<'_> {
    fn tokens(&self) -> usize {
        self.tokens()
    }
    fn stride(&self) -> usize {
        self.stride() * 8
    }
}

impl Rows for F32Rows<'_> {
    fn tokens(&self) -> usize {
        self.tokens()
    }
    fn stride(&self) -> usize {
        self.stride()
    }
}

impl<'a, X: Rows> Product<'a, X> {
    /// # Panics
    /// When the shapes of weights, activations and output do not fit.
    pub(crate) fn new<O>(
        w: &'a MatrixRef<'a>,
        rows: Range<usize>,
        x: X,
        out: &TileMut<'_, O>,
    ) -> Self {
        let (tokens, stride, cols) = (x.tokens(), x.stride(), w.padded_cols());
        assert!(
            rows.start <= rows.end && rows.end <= w.rows(),
            "rows {rows:?} of {}",
            w.rows()
        );
        assert!(
            cols <= stride,
            "{cols} padded columns, activations {stride} apart"
        );
        assert_eq!(out.rows(), tokens, "output rows and tokens");
        assert_eq!(out.width(), rows.len(), "output columns and weight rows");
        Self { w, rows, x }
    }
}

/// Tokens that pass a group of rows before the next group starts, so that their activations are
/// still in the second-level cache when it does.
const PANEL: usize = 64;

/// Rows that pass a few tokens before the next tokens start, so that the activations of those few
/// are still in the first-level cache when the next rows come.
const GROUP: usize = 16;

/// Most tokens whose sums are kept in registers at once.
const TOKENS: usize = 4;

/// A product in parts.
trait Block<O> {
    /// Computes `R` rows of the matrix for `T` tokens from `token`.
    fn run<const R: usize, const T: usize>(
        &self,
        rows: Abreast<R>,
        token: usize,
        out: &mut TileMut<'_, O>,
    );
}

/// Covers a product with blocks of 4 x 4 rows and tokens, and smaller ones at the edges:
///
/// ```text
/// for each panel of 64 tokens
///     for each group of 16 rows
///         for each 4 tokens of the panel
///             for each 4 rows of the group
/// ```
///
/// One, two or four tokens read each row once, so there the rows of a block come from four streams.
/// A single token takes 4 rows at a time whatever the set; with several, a set of few
/// registers takes rows one by one. A row takes `row_bytes`; it may be a band of rows.
#[inline(always)]
fn cover<O, B: Block<O>>(
    many_registers: bool,
    rows: Range<usize>,
    row_bytes: usize,
    tokens: usize,
    block: &B,
    out: &mut TileMut<'_, O>,
) {
    let four_rows = many_registers || tokens == 1;
    let course = Course::of(rows.clone(), row_bytes);
    match tokens {
        1 => return streams::<O, B, 1>(block, &course, out),
        2 if four_rows => return streams::<O, B, 2>(block, &course, out),
        TOKENS if four_rows => return streams::<O, B, TOKENS>(block, &course, out),
        _ => {}
    }
    for panel in (0..tokens).step_by(PANEL) {
        let end = tokens.min(panel + PANEL);
        for group in rows.clone().step_by(GROUP) {
            let group = group..rows.end.min(group + GROUP);
            let mut token = panel;
            while end - token >= TOKENS {
                row_blocks::<O, B, TOKENS>(four_rows, block, group.clone(), token, out);
                token += TOKENS;
            }
            if end - token >= 2 {
                row_blocks::<O, B, 2>(four_rows, block, group.clone(), token, out);
                token += 2;
            }
            if token < end {
                row_blocks::<O, B, 1>(four_rows, block, group, token, out);
            }
        }
    }
}

/// All rows for `T` tokens, one of each stream at a time.
#[inline(always)]
fn streams<O, B: Block<O>, const T: usize>(block: &B, course: &Course, out: &mut TileMut<'_, O>) {
    let mut now = course.first();
    while course.has(&now) {
        let next = course.after(&now);
        for round in 0..now.rounds {
            block.run::<STREAMS, T>(now.round(round, 0, &next), 0, out);
        }
        for i in 0..now.left {
            block.run::<1, T>(now.round(now.rounds, i, &next), 0, out);
        }
        now = next;
    }
}

/// A group of rows for `T` tokens.
#[inline(always)]
fn row_blocks<O, B: Block<O>, const T: usize>(
    four_rows: bool,
    block: &B,
    rows: Range<usize>,
    token: usize,
    out: &mut TileMut<'_, O>,
) {
    let mut row = rows.start;
    while four_rows && rows.end - row >= 4 {
        let rows = [row, row + 1, row + 2, row + 3];
        block.run::<4, T>(Abreast::apart(rows), token, out);
        row += 4;
    }
    while row < rows.end {
        block.run::<1, T>(Abreast::apart([row]), token, out);
        row += 1;
    }
}

/// The first `atoms * 64 * P` activations of a row, in atoms of `P` planes.
#[inline(always)]
fn planes_of<const P: usize>(x: &[i8], atoms: usize) -> &[[[i8; 64]; P]] {
    &x.as_chunks::<64>().0.as_chunks::<P>().0[..atoms]
}

/// The atoms of a row.
#[inline(always)]
fn atoms_of<'a>(w: &MatrixRef<'a>, row: usize) -> &'a [[u8; 64]] {
    w.row_bytes_of(row).as_chunks::<64>().0
}
