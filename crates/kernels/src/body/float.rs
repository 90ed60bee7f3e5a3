//! Float weights times float activations, in 16 virtual lanes.
//!
//! ```text
//! acc[l] = 0 for 16 lanes
//! for k in 0..padded columns:  acc[k % 16] = mul_add(w[k], x[k], acc[k % 16])      one rounding
//! y = tree_sum(acc)
//! ```
//!
//! A lane's order is the order of `k`, so registers of any width, any block of rows and tokens, and
//! any split of the rows give the same bits. Padding adds 0 * 0, which changes no sum.

use super::ahead::{Abreast, Ahead, Streams};
use super::{Block, Product, cover};
use crate::input::F32Rows;
use crate::sets::{Set, Vector};
use crate::tiles::TileMut;

/// A float format of which 16 values take `B` bytes.
pub(crate) trait Format<const B: usize> {
    fn load<S: Set>(s: S, bytes: &[u8; B]) -> S::F;

    /// Loads fewer than 16 values and zeros after them.
    #[inline(always)]
    fn load_part<S: Set>(s: S, bytes: &[u8]) -> S::F {
        let mut padded = [0; B];
        padded[..bytes.len()].copy_from_slice(bytes);
        Self::load(s, &padded)
    }
}

/// IEEE binary16.
pub(crate) struct F16;
/// bfloat16.
pub(crate) struct BF16;
/// IEEE binary32.
pub(crate) struct F32;

impl Format<32> for F16 {
    #[inline(always)]
    fn load<S: Set>(s: S, bytes: &[u8; 32]) -> S::F {
        s.load_f16(bytes)
    }
}

impl Format<32> for BF16 {
    #[inline(always)]
    fn load<S: Set>(s: S, bytes: &[u8; 32]) -> S::F {
        s.load_bf16(bytes)
    }
}

impl Format<64> for F32 {
    #[inline(always)]
    fn load<S: Set>(s: S, bytes: &[u8; 64]) -> S::F {
        s.load_f32(bytes)
    }
}

/// Products of a binary16 matrix.
#[inline(always)]
pub(crate) fn f16<S: Set>(s: S, job: &Product<'_, F32Rows<'_>>, out: &mut TileMut<'_, f32>) {
    product::<S, F16, 32>(s, job, out);
}

/// Products of a bfloat16 matrix.
#[inline(always)]
pub(crate) fn bf16<S: Set>(s: S, job: &Product<'_, F32Rows<'_>>, out: &mut TileMut<'_, f32>) {
    product::<S, BF16, 32>(s, job, out);
}

/// Products of a binary32 matrix.
#[inline(always)]
pub(crate) fn f32<S: Set>(s: S, job: &Product<'_, F32Rows<'_>>, out: &mut TileMut<'_, f32>) {
    product::<S, F32, 64>(s, job, out);
}

struct Floats<'a, S, W, const B: usize> {
    set: S,
    job: &'a Product<'a, F32Rows<'a>>,
    format: std::marker::PhantomData<W>,
}

#[inline(always)]
fn product<S: Set, W: Format<B>, const B: usize>(
    set: S,
    job: &Product<'_, F32Rows<'_>>,
    out: &mut TileMut<'_, f32>,
) {
    let block = Floats::<S, W, B> {
        set,
        job,
        format: std::marker::PhantomData,
    };
    cover(
        S::MANY_FLOATS,
        job.rows.clone(),
        job.w.row_bytes(),
        job.x.tokens(),
        &block,
        out,
    );
}

impl<S: Set, W: Format<B>, const B: usize> Block<f32> for Floats<'_, S, W, B> {
    #[inline(always)]
    fn run<const R: usize, const T: usize>(
        &self,
        rows: Abreast<R>,
        token: usize,
        out: &mut TileMut<'_, f32>,
    ) {
        let Product { w, rows: range, x } = self.job;
        let chunks = w.row_bytes() / B;
        let mut w_rows: [&[[u8; B]]; R] = [&[]; R];
        for (r, w_row) in w_rows.iter_mut().enumerate() {
            *w_row = w.row_bytes_of(rows.at[r]).as_chunks().0;
        }
        let mut x_rows: [&[[f32; 16]]; T] = [&[]; T];
        for (t, x_row) in x_rows.iter_mut().enumerate() {
            *x_row = &x.row(token + t).as_chunks().0[..chunks];
        }
        let acc =
            accumulate::<S, W, B, R, T>(self.set, chunks, Streams::of(w, &rows), w_rows, x_rows);
        for t in 0..T {
            let out = out.row(token + t);
            for r in 0..R {
                out[rows.at[r] - range.start] = acc[r][t].tree_sum();
            }
        }
    }
}

/// The loop over the columns of a block, 16 at a time.
#[inline(always)]
fn accumulate<S: Set, W: Format<B>, const B: usize, const R: usize, const T: usize>(
    s: S,
    chunks: usize,
    mut ahead: Streams<R>,
    w_rows: [&[[u8; B]]; R],
    x_rows: [&[[f32; 16]]; T],
) -> [[S::F; T]; R] {
    let mut acc = [[s.splat(0.0); T]; R];
    for c in 0..chunks {
        let mut w = [s.splat(0.0); R];
        for r in 0..R {
            w[r] = W::load(s, &w_rows[r][c]);
        }
        if (c * B).is_multiple_of(64) {
            (0..R).for_each(|r| ahead.request(s, r, c * B));
        }
        for t in 0..T {
            let x = s.load(&x_rows[t][c]);
            for r in 0..R {
                acc[r][t] = x.mul_add(w[r], acc[r][t]);
            }
        }
    }
    acc
}
