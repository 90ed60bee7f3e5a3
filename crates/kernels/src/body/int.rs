//! Ternary, binary and int8 weights times int8 activations: exact `i32` sums.
//!
//! Codes are stored unsigned, so that the byte product of every instruction set applies, and the
//! offset is taken back with the sum of the activations, known once per token:
//!
//! ```text
//! ternary   w = code - 1       sum(w x) = sum(code x) - sum(x)
//! binary    w = 2 bit - 1      sum(w x) = 2 sum(bit x) - sum(x)
//! int8      w = code - BIAS    sum(w x) = sum(code x) - BIAS sum(x)
//! ```
//!
//! The loop, for a block of R rows and T tokens:
//!
//! ```text
//! for each atom (64 bytes of each row):
//!     ask for a later line of each row's stream
//!     for each bit plane p of the atom:           64 columns
//!         codes[r] = (w[r] >> bits p) & mask      unpacked once, used for T tokens
//!         acc[r][t] += codes[r] * x[t][plane]     16 lanes of i32
//! sum[r][t] = lanes of acc[r][t] added, offset taken back
//! ```
//!
//! Nothing rounds, and wrapping addition is associative, so the result does not depend on the order
//! or on R and T. Sums stay below 2^31 for every matrix of fewer than 2^17 columns.

use super::ahead::{Abreast, Ahead, Listed, Streams, request_row};
pub(crate) use super::bands::t5r5;
pub(crate) use super::lookup::b1r64;
pub(crate) use super::rows16::t2r16;
use super::{Block, Product, atoms_of, cover, planes_of};
use crate::input::I8Rows;
use crate::sets::Set;
use crate::tiles::TileMut;

/// A layout of integer codes with `P` planes of 64 columns in an atom.
pub(crate) trait Codes<const P: usize>: Sized {
    fn dot<S: Set, const R: usize, const T: usize>(
        s: S,
        acc: &mut [[S::I; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; P]; T],
    );
    /// The sums of `code * x` over whole rows; see [`Set::row_sums`].
    #[inline(always)]
    fn rows<S: Set, A: Ahead, const R: usize, const T: usize>(
        s: S,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[[i8; 64]; P]]; T],
    ) -> [[i32; T]; R] {
        s.row_sums::<Self, A, P, R, T>(w, ahead, x)
    }

    /// The sum of `w * x` from the sum of `code * x` and the sum of `x`.
    fn finish<S: Set>(sum: i32, x_sum: i32) -> i32;
}

pub(crate) struct T2;
pub(crate) struct T5;
pub(crate) struct B1;
pub(crate) struct I8;

impl Codes<4> for T2 {
    #[inline(always)]
    fn dot<S: Set, const R: usize, const T: usize>(
        s: S,
        acc: &mut [[S::I; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 4]; T],
    ) {
        s.t2(acc, w, x);
    }

    #[inline(always)]
    fn rows<S: Set, A: Ahead, const R: usize, const T: usize>(
        s: S,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[[i8; 64]; 4]]; T],
    ) -> [[i32; T]; R] {
        s.t2_rows(w, ahead, x)
    }

    #[inline(always)]
    fn finish<S: Set>(sum: i32, x_sum: i32) -> i32 {
        sum.wrapping_sub(x_sum)
    }
}

impl Codes<5> for T5 {
    #[inline(always)]
    fn dot<S: Set, const R: usize, const T: usize>(
        s: S,
        acc: &mut [[S::I; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 5]; T],
    ) {
        s.t5(acc, w, x);
    }

    #[inline(always)]
    fn rows<S: Set, A: Ahead, const R: usize, const T: usize>(
        s: S,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[[i8; 64]; 5]]; T],
    ) -> [[i32; T]; R] {
        s.t5_rows(w, ahead, x)
    }

    #[inline(always)]
    fn finish<S: Set>(sum: i32, x_sum: i32) -> i32 {
        sum.wrapping_sub(x_sum)
    }
}

impl Codes<8> for B1 {
    #[inline(always)]
    fn dot<S: Set, const R: usize, const T: usize>(
        s: S,
        acc: &mut [[S::I; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 8]; T],
    ) {
        s.b1(acc, w, x);
    }

    #[inline(always)]
    fn finish<S: Set>(sum: i32, x_sum: i32) -> i32 {
        sum.wrapping_mul(2).wrapping_sub(x_sum)
    }
}

impl Codes<1> for I8 {
    #[inline(always)]
    fn dot<S: Set, const R: usize, const T: usize>(
        s: S,
        acc: &mut [[S::I; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 1]; T],
    ) {
        s.i8(acc, w, x);
    }

    #[inline(always)]
    fn finish<S: Set>(sum: i32, x_sum: i32) -> i32 {
        sum.wrapping_sub(S::I8_BIAS.wrapping_mul(x_sum))
    }
}

/// Sums of a ternary matrix.
#[inline(always)]
pub(crate) fn t2<S: Set>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    sums::<S, T2, 4>(s, job, out);
}

/// Sums of a ternary matrix with five codes to a byte.
#[inline(always)]
pub(crate) fn t5<S: Set>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    sums::<S, T5, 5>(s, job, out);
}

/// Sums of a binary matrix.
#[inline(always)]
pub(crate) fn b1<S: Set>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    sums::<S, B1, 8>(s, job, out);
}

/// Sums of an int8 matrix.
#[inline(always)]
pub(crate) fn i8<S: Set>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    sums::<S, I8, 1>(s, job, out);
}

/// Blocks of four listed rows between the row in use and the row prefetched.
const BLOCKS_AHEAD: usize = 4;

/// Sums of the rows of a ternary matrix that `list` names, side by side in `out`.
#[inline(always)]
pub(crate) fn t2_listed<S: Set>(
    s: S,
    job: &Product<'_, I8Rows<'_>>,
    list: &[u32],
    out: &mut TileMut<'_, i32>,
) {
    listed::<S, T2, 4>(s, job, list, out);
}

/// The same of a matrix with five codes to a byte.
#[inline(always)]
pub(crate) fn t5_listed<S: Set>(
    s: S,
    job: &Product<'_, I8Rows<'_>>,
    list: &[u32],
    out: &mut TileMut<'_, i32>,
) {
    listed::<S, T5, 5>(s, job, list, out);
}

/// Sums of listed rows. The list says which rows come next, so they are prefetched however far away
/// they lie.
#[inline(always)]
fn listed<S: Set, L: Codes<P>, const P: usize>(
    s: S,
    job: &Product<'_, I8Rows<'_>>,
    list: &[u32],
    out: &mut TileMut<'_, i32>,
) {
    let (fours, rest) = list.as_chunks::<4>();
    for token in 0..job.x.tokens() {
        for row in list.iter().take(4 * BLOCKS_AHEAD) {
            request_row(s, job.w.row_bytes_of(*row as usize));
        }
        for (block, rows) in fours.iter().enumerate() {
            let ahead = fours.get(block + BLOCKS_AHEAD).unwrap_or(rows);
            let out = &mut out.row(token)[4 * block..][..4];
            some_listed::<S, L, P, 4>(s, job, token, *rows, *ahead, out);
        }
        for (i, row) in rest.iter().enumerate() {
            let out = &mut out.row(token)[4 * fours.len() + i..][..1];
            some_listed::<S, L, P, 1>(s, job, token, [*row], [*row], out);
        }
    }
}

/// The sums of `R` rows for one token.
#[inline(always)]
fn some_listed<S: Set, L: Codes<P>, const P: usize, const R: usize>(
    s: S,
    job: &Product<'_, I8Rows<'_>>,
    token: usize,
    rows: [u32; R],
    ahead: [u32; R],
    out: &mut [i32],
) {
    let atoms = job.w.row_bytes() / 64;
    let mut w_rows: [&[[u8; 64]]; R] = [&[]; R];
    let mut next = [std::ptr::null(); R];
    for r in 0..R {
        w_rows[r] = atoms_of(job.w, rows[r] as usize);
        next[r] = job.w.row_bytes_of(ahead[r] as usize).as_ptr();
    }
    let x = [planes_of::<P>(job.x.row(token), atoms)];
    let ahead = Listed::new(next, job.w.row_bytes());
    let sums = L::rows(s, w_rows, ahead, x);
    for (out, [sum]) in out.iter_mut().zip(sums) {
        *out = L::finish::<S>(sum, job.x.sum(token));
    }
}

struct Sums<'a, S, L, const P: usize> {
    set: S,
    job: &'a Product<'a, I8Rows<'a>>,
    layout: std::marker::PhantomData<L>,
}

#[inline(always)]
fn sums<S: Set, L: Codes<P>, const P: usize>(
    set: S,
    job: &Product<'_, I8Rows<'_>>,
    out: &mut TileMut<'_, i32>,
) {
    let block = Sums::<S, L, P> {
        set,
        job,
        layout: std::marker::PhantomData,
    };
    cover(
        S::MANY_REGISTERS,
        job.rows.clone(),
        job.w.row_bytes(),
        job.x.tokens(),
        &block,
        out,
    );
}

impl<S: Set, L: Codes<P>, const P: usize> Block<i32> for Sums<'_, S, L, P> {
    #[inline(always)]
    fn run<const R: usize, const T: usize>(
        &self,
        rows: Abreast<R>,
        token: usize,
        out: &mut TileMut<'_, i32>,
    ) {
        let Product { w, rows: range, x } = self.job;
        let atoms = w.row_bytes() / 64;
        let mut w_rows: [&[[u8; 64]]; R] = [&[]; R];
        for (r, w_row) in w_rows.iter_mut().enumerate() {
            *w_row = atoms_of(w, rows.at[r]);
        }
        let mut x_rows: [&[[[i8; 64]; P]]; T] = [&[]; T];
        for (t, x_row) in x_rows.iter_mut().enumerate() {
            *x_row = planes_of(x.row(token + t), atoms);
        }
        let ahead = Streams::of(w, &rows);
        let sums = L::rows(self.set, w_rows, ahead, x_rows);
        for t in 0..T {
            let out = out.row(token + t);
            for r in 0..R {
                out[rows.at[r] - range.start] = L::finish::<S>(sums[r][t], x.sum(token + t));
            }
        }
    }
}

/// The loop over the atoms of a block, of which every row has as many.
#[inline(always)]
pub(crate) fn accumulate<
    S: Set,
    L: Codes<P>,
    A: Ahead,
    const P: usize,
    const R: usize,
    const T: usize,
>(
    s: S,
    w_rows: [&[[u8; 64]]; R],
    mut ahead: A,
    x_rows: [&[[[i8; 64]; P]]; T],
) -> [[S::I; T]; R] {
    let mut acc = [[s.zero_sums(); T]; R];
    for a in 0..w_rows[0].len() {
        let mut x = [&[[0; 64]; P]; T];
        for t in 0..T {
            x[t] = &x_rows[t][a];
        }
        let mut w = [&[0; 64]; R];
        for r in 0..R {
            w[r] = &w_rows[r][a];
            ahead.request(s, r, 64 * a);
        }
        L::dot(s, &mut acc, w, x);
    }
    acc
}
