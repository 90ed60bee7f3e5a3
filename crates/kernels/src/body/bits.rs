//! Binary weights times the signs of activations: XNOR and population count.
//!
//! Both sides have 1 for +1 and 0 for -1 in the same bit order, so a product is -1 exactly where the
//! bits differ:
//!
//! ```text
//! dot = columns - 2 popcount(w xor x)
//! ```
//!
//! The last atom of a row goes through a mask, so padding takes no part whatever it holds. With group
//! scales the exact sums of groups are added as in [`grouped`](super::grouped), so that the result has
//! the same bits as that of the same signs as int8 codes.

use onebit_format::{ATOM_BYTES, Layout, SIGN_GROUP, Scales};

use super::ahead::{Abreast, Streams};
use super::grouped::{BATCH, GroupScales, MAX_GROUPS};
use super::{Block, Product, atoms_of, cover};
use crate::input::BitRows;
use crate::sets::Set;
use crate::sets::portable::differing_by_group;
use crate::tiles::TileMut;

/// The bits of an atom that are columns, where it holds `cols` of them: bit `p` of byte `j` is column
/// `64p + j`.
fn mask(cols: usize) -> [u8; ATOM_BYTES] {
    std::array::from_fn(|j| {
        let planes = (cols + ATOM_BYTES - 1).saturating_sub(j) / ATOM_BYTES;
        ((1u16 << planes.min(8)) - 1) as u8
    })
}

/// Columns in the last atom of a row.
fn last_cols(cols: usize) -> usize {
    cols - (cols.div_ceil(Layout::B1.atom_cols()) - 1) * Layout::B1.atom_cols()
}

/// Exact sums of a binary matrix with signs.
#[inline(always)]
pub(crate) fn bits<S: Set>(set: S, job: &Product<'_, BitRows<'_>>, out: &mut TileMut<'_, i32>) {
    let mask = mask(last_cols(job.w.cols()));
    let block = Xnor { set, job, mask };
    let (rows, tokens) = (job.rows.clone(), job.x.tokens());
    cover(
        S::MANY_REGISTERS,
        rows,
        job.w.row_bytes(),
        tokens,
        &block,
        out,
    );
}

struct Xnor<'a, S> {
    set: S,
    job: &'a Product<'a, BitRows<'a>>,
    mask: [u8; ATOM_BYTES],
}

impl<S: Set> Block<i32> for Xnor<'_, S> {
    #[inline(always)]
    fn run<const R: usize, const T: usize>(
        &self,
        rows: Abreast<R>,
        token: usize,
        out: &mut TileMut<'_, i32>,
    ) {
        let Product { w, rows: range, x } = self.job;
        let atoms = w.row_bytes() / ATOM_BYTES;
        let mut w_rows: [&[[u8; 64]]; R] = [&[]; R];
        for (r, w_row) in w_rows.iter_mut().enumerate() {
            *w_row = atoms_of(w, rows.at[r]);
        }
        let mut x_rows: [&[[u8; 64]]; T] = [&[]; T];
        for (t, x_row) in x_rows.iter_mut().enumerate() {
            *x_row = &x.row(token + t).as_chunks().0[..atoms];
        }
        let differing = self
            .set
            .differing(w_rows, Streams::of(w, &rows), x_rows, &self.mask);
        for t in 0..T {
            let out = out.row(token + t);
            for r in 0..R {
                out[rows.at[r] - range.start] = w.cols() as i32 - 2 * differing[r][t] as i32;
            }
        }
    }
}

/// Products of a binary matrix with group scales and signs, scaled. One row and token at a time; not
/// tuned.
#[inline(always)]
pub(crate) fn bits_grouped<S: Set>(
    s: S,
    job: &Product<'_, BitRows<'_>>,
    out: &mut TileMut<'_, f32>,
) {
    let Product { w, rows, x } = job;
    assert!(
        matches!(w.scales(), Scales::Groups { .. }),
        "{w:?} has no group scales"
    );
    let scales = GroupScales::of(w);
    let groups = w.cols().div_ceil(SIGN_GROUP);
    let (full, last) = ([0xff; ATOM_BYTES], mask(last_cols(w.cols())));
    for row in rows.clone() {
        let (band, atoms) = (w.band(row), w.padded_cols() / 512);
        for token in 0..x.tokens() {
            let x_row = x.row(token).as_chunks::<ATOM_BYTES>().0;
            let mut y = 0.0;
            let mut batch = [0.0; BATCH];
            for (a, x) in x_row[..atoms].iter().enumerate() {
                let first = a * MAX_GROUPS;
                if first.is_multiple_of(BATCH) {
                    batch = scales.batch(s, row, first);
                }
                let mask = if a + 1 == atoms { &last } else { &full };
                let differing = differing_by_group(band.atom(a), x, mask);
                for g in first..groups.min(first + MAX_GROUPS) {
                    let cols = SIGN_GROUP.min(w.cols() - g * SIGN_GROUP) as i32;
                    let dot = cols - 2 * differing[g - first] as i32;
                    y = (dot as f32).mul_add(batch[g % BATCH], y);
                }
            }
            out.row(token)[row - rows.start] = y * (1.0 / x.scale(token));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_the_columns() {
        for cols in 1..=512 {
            let mask = mask(cols);
            for k in 0..512 {
                assert_eq!(mask[k % 64] >> (k / 64) & 1 == 1, k < cols, "{cols} {k}");
            }
        }
        assert_eq!((last_cols(1), last_cols(512), last_cols(513)), (1, 512, 1));
    }
}
