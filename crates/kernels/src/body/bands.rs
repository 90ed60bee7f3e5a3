//! Ternary weights whose atoms hold five rows: exact `i32` sums, as [`int`](super::int) has of others.
//!
//! The five codes of a byte belong to five rows of a *band* and to one column, so an atom has one
//! piece of activations, 64 columns of each token, and five sums:
//!
//! ```text
//! for each 16 atoms of the bands of a block
//!     for each band r
//!         for each atom
//!             ask for a later line of the band's stream
//!             codes[0..5] = the five codes of each byte
//!             for each token t
//!                 for each row p of the band: acc[r][p][t] += codes[p] * x[t]
//! ```
//!
//! Sums of one band stay in registers for 16 atoms, whatever the block; several bands make several
//! streams through memory (see [`ahead`](super::ahead)). A range of rows may begin and end inside a
//! band: the rows outside are computed and dropped.

use std::ops::Range;

use super::ahead::{Abreast, Ahead, Streams};
use super::{Block, Product, cover, planes_of};
use crate::input::I8Rows;
use crate::sets::{Set, portable};
use crate::tiles::TileMut;

/// Rows of a band.
pub(crate) const BAND: usize = 5;

/// Atoms of a band that are multiplied before those of the next band.
pub(crate) const CHUNK: usize = 16;

/// The sums of the rows of some bands: `[band][row][token]`.
pub(crate) type BandSums<I, const R: usize, const T: usize> = [[[I; T]; BAND]; R];

/// The bands that hold `rows`.
#[inline(always)]
pub(crate) fn bands_of(rows: &Range<usize>) -> Range<usize> {
    match rows.is_empty() {
        true => 0..0,
        false => rows.start / BAND..rows.end.div_ceil(BAND),
    }
}

/// Sums of a ternary matrix of bands.
#[inline(always)]
pub(crate) fn t5r5<S: Set>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    let bands = bands_of(&job.rows);
    let block = Sums { set: s, job };
    let (bytes, tokens) = (job.w.band_bytes(), job.x.tokens());
    cover(S::MANY_REGISTERS, bands, bytes, tokens, &block, out);
}

struct Sums<'a, S> {
    set: S,
    job: &'a Product<'a, I8Rows<'a>>,
}

impl<S: Set> Block<i32> for Sums<'_, S> {
    #[inline(always)]
    fn run<const R: usize, const T: usize>(
        &self,
        bands: Abreast<R>,
        token: usize,
        out: &mut TileMut<'_, i32>,
    ) {
        let Product { w, rows, x } = self.job;
        let mut atoms: [&[[u8; 64]]; R] = [&[]; R];
        for r in 0..R {
            atoms[r] = w.band_bytes_of(bands.at[r]).as_chunks::<64>().0;
        }
        let mut pieces: [&[[[i8; 64]; 1]]; T] = [&[]; T];
        for t in 0..T {
            pieces[t] = planes_of(x.row(token + t), atoms[0].len());
        }
        let sums = self.set.band_sums(atoms, Streams::of(w, &bands), pieces);
        for t in 0..T {
            let (out, x_sum) = (out.row(token + t), x.sum(token + t));
            for r in 0..R {
                for (p, sum) in sums[r].iter().enumerate() {
                    // Wraps to past the end before the first row.
                    let at = (BAND * bands.at[r] + p).wrapping_sub(rows.start);
                    if let Some(out) = out.get_mut(at) {
                        *out = sum[t].wrapping_sub(x_sum);
                    }
                }
            }
        }
    }
}

/// The sums of `code * x` of a block, by the set's product of bytes: [`Set::band_sums`] until a set
/// brings its own.
#[inline(always)]
pub(crate) fn by_bytes<S: Set, A: Ahead, const R: usize, const T: usize>(
    s: S,
    w: [&[[u8; 64]]; R],
    mut ahead: A,
    x: [&[[[i8; 64]; 1]]; T],
) -> BandSums<i32, R, T> {
    // `i8` adds no more than the product.
    const { assert!(S::I8_BIAS == 0) };
    let mut acc = [[[s.zero_sums(); T]; BAND]; R];
    let atoms = w[0].len();
    for start in (0..atoms).step_by(CHUNK) {
        for r in 0..R {
            let mut sums = acc[r];
            for a in start..atoms.min(start + CHUNK) {
                ahead.request(s, r, 64 * a);
                let codes = portable::t5_planes(&w[r][a]);
                let mut rows = [&[0; 64]; BAND];
                for p in 0..BAND {
                    rows[p] = &codes[p];
                }
                let mut pieces = [&[[0; 64]; 1]; T];
                for t in 0..T {
                    pieces[t] = &x[t][a];
                }
                s.i8(&mut sums, rows, pieces);
            }
            acc[r] = sums;
        }
    }
    let mut sums = [[[0; T]; BAND]; R];
    for r in 0..R {
        sums[r] = s.block_sums(acc[r]);
    }
    sums
}
