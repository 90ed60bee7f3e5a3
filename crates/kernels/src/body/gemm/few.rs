//! A few tokens with scales per group of columns: as in [`grouped`](crate::body::grouped), to the bit, where
//! adding up each group of each row on its own would take longer than reading the weights.
//!
//! ```text
//! for each 16 rows
//!     for each atom
//!         words = the rows' atoms, interleaved               lanes are rows from here on
//!         for each plane of columns
//!             dots = sum over n of (words[n] and mask) * x[n]   four columns of 16 rows at once
//!             group += dots >> the plane's bits               exact: all are multiples
//!         for each group: y += float(group - offset) * (scale * multiplier)
//! ```
//!
//! Nothing is unpacked into memory, shifted per weight, or added across a register. The 16 rows come from 16 parts of
//! the range, so that each lane reads memory in the order of addresses.

use onebit_format::{ATOM_BYTES, Packs, Scales};

use super::panel::{Panels, UNIT};
use crate::body::grouped::{Geometry, MAX_ROW_GROUPS, Scaled, group_sums};
use crate::body::{Product, TOKENS};
use crate::tiles::TileMut;

/// Up to 16 rows, and the tokens they are multiplied with.
pub(crate) struct Few<'a, const T: usize> {
    /// The first row and all that lies between it and the end of the last.
    pub(crate) lines: &'a [[u8; ATOM_BYTES]],
    /// How many rows, at least one, how many rows after each other they are, and the atoms of one, and its lines.
    pub(crate) rows: usize,
    pub(crate) apart: usize,
    pub(crate) row_atoms: usize,
    pub(crate) row_lines: usize,
    /// Where the scales are among the lines of a row, and what they are if they are not there.
    pub(crate) packs: Packs,
    pub(crate) scale: Option<f32>,
    /// The activations of each token.
    pub(crate) x: [&'a [[i8; 64]]; T],
    /// Of each token and group, what goes off the sum of `code * x`, and what the rest is multiplied with; as many
    /// as the rows have groups.
    pub(crate) offsets: [&'a [i32]; T],
    pub(crate) multipliers: [&'a [f32]; T],
}

/// Products of fewer tokens than unpacking pays for.
#[inline(always)]
pub(super) fn product<S: Panels, X: Scaled, const BITS: usize>(
    s: S,
    job: &Product<'_, X>,
    out: &mut TileMut<'_, f32>,
) {
    for first in (0..job.x.tokens()).step_by(TOKENS) {
        let tokens = first..job.x.tokens().min(first + TOKENS);
        let out = &mut out.some_rows(tokens.clone());
        match tokens.len() {
            1 => tokens_from::<S, X, BITS, 1>(s, job, first, out),
            2 => tokens_from::<S, X, BITS, 2>(s, job, first, out),
            3 => tokens_from::<S, X, BITS, 3>(s, job, first, out),
            _ => tokens_from::<S, X, BITS, TOKENS>(s, job, first, out),
        }
    }
}

/// All rows for the `T` tokens from `first` on.
#[inline(always)]
fn tokens_from<S: Panels, X: Scaled, const BITS: usize, const T: usize>(
    s: S,
    job: &Product<'_, X>,
    first: usize,
    out: &mut TileMut<'_, f32>,
) {
    let Product { w, rows, x } = job;
    let groups = w.cols().div_ceil(64 * Geometry::<BITS>::GROUP_PLANES);
    let mut offsets = [[0; MAX_ROW_GROUPS]; T];
    let mut multipliers = [[0.0; MAX_ROW_GROUPS]; T];
    for t in 0..T {
        let planes = Geometry::<BITS>::GROUP_PLANES;
        group_sums(s, x, first + t, planes, &mut offsets[t][..groups]);
        for g in 0..groups {
            offsets[t][g] *= Geometry::<BITS>::OFFSET;
            multipliers[t][g] = x.multiplier(first + t, g);
        }
    }
    let row_atoms = w.padded_cols() / (ATOM_BYTES * Geometry::<BITS>::PLANES);
    let row_lines = w.row_bytes() / ATOM_BYTES;
    let mut few = Few::<'_, T> {
        lines: &[],
        rows: UNIT,
        apart: 1,
        row_atoms,
        row_lines,
        packs: w.packs(),
        scale: match w.scales() {
            Scales::Tensor(scale) => Some(scale),
            Scales::Groups { .. } => None,
            _ => panic!("{} has no scales by group", w.layout()),
        },
        x: [&[]; T],
        offsets: [&[]; T],
        multipliers: [&[]; T],
    };
    for t in 0..T {
        let planes = x.codes(first + t).as_chunks().0;
        few.x[t] = &planes[..row_atoms * Geometry::<BITS>::PLANES];
        few.offsets[t] = &offsets[t][..groups];
        few.multipliers[t] = &multipliers[t][..groups];
    }
    // Rows far apart, so that each lane reads memory in the order of addresses; see [`ahead`](crate::body::ahead).
    let apart = rows.len() / UNIT;
    let blocks = (rows.start..rows.start + apart).map(|row| (row, UNIT, apart));
    let left = rows.start + UNIT * apart;
    let last = (left < rows.end).then_some((left, rows.end - left, 1));
    for (start, count, apart) in blocks.chain(last) {
        let span = (count - 1) * apart + 1;
        (few.rows, few.apart) = (count, apart);
        few.lines = &w.bytes().as_chunks().0[start * row_lines..][..span * row_lines];
        let sums = s.few::<BITS, T>(&few);
        for (t, sums) in sums.iter().enumerate() {
            let factor = x.factor(first + t);
            let out = &mut out.row(t)[start - rows.start..];
            for (out, sum) in out.iter_mut().step_by(apart).zip(&sums[..count]) {
                *out = *sum * factor;
            }
        }
    }
}
