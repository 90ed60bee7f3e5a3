//! Many tokens times a ternary matrix stored transposed.
//!
//! Four stored rows side by side are a panel's units already: four inputs of 16 outputs. A strip,
//! four planes of 64 outputs, and 512 inputs are unpacked at a time, and then multiplied like any other
//! panel. Nothing is left out, so where most activations are zero the loop that leaves them out is faster.

use std::ops::Range;

use onebit_format::{MatrixRef, Scales};

use super::Exact;
use super::engine::Engine;
use super::later::Later;
use super::panel::{Filling, Panels, UNIT, Unit, Unpack};
use super::part::Source;
use crate::body::columns::{self, Columns, STRIP};
use crate::body::int;
use crate::input::I8Rows;
use crate::tiles::TileMut;

/// Of 100 activations, how many must not be zero for a panel to be faster.
const NONZERO: usize = 40;

/// Units in a plane, which has 64 outputs.
const UNITS: usize = 64 / UNIT;

/// Exact sums of a ternary matrix stored transposed.
#[inline(always)]
pub(crate) fn t2_columns<S: Panels>(s: S, job: &Columns<'_>, out: &mut TileMut<'_, i32>) {
    let (inputs, tokens) = (job.w.rows(), job.x.tokens());
    if tokens < S::MANY_GROUPED
        || inputs < 4
        || nonzero(s, &job.x, inputs) < tokens * inputs * NONZERO / 100
    {
        return columns::t2_columns(s, job, out);
    }
    sums(s, job, out);
}

/// The same by panels.
#[inline(always)]
pub(crate) fn sums<E: Engine>(e: E, job: &Columns<'_>, out: &mut TileMut<'_, i32>) {
    let inputs = job.w.rows();
    let exact = Exact {
        source: Transposed(job.w),
        x: job.x,
        scales: Scales::None,
        max: <int::T2 as Unpack<4>>::MAX,
        offset: <int::T2 as Unpack<4>>::OFFSET,
    };
    exact.run(e, job.range.clone(), out);
    let range = &job.range;
    for strip in (range.start / STRIP * STRIP..range.end).step_by(STRIP) {
        let outputs = strip.max(range.start)..range.end.min(strip + STRIP);
        let out = &mut out.columns(outputs.start - range.start..outputs.end - range.start);
        for input in inputs / 4 * 4..inputs {
            add_input(job, input, outputs.start, u8::from(E::EXACT.signed), out);
        }
    }
}

/// How many activations of all tokens are not zero.
#[inline(always)]
fn nonzero<S: Panels>(s: S, x: &I8Rows<'_>, inputs: usize) -> usize {
    let mut count = 0;
    for token in 0..x.tokens() {
        for codes in x.row(token)[..inputs].chunks(64) {
            count += s.nonzero(codes).count_ones() as usize;
        }
    }
    count
}

/// The codes of an input for the strip that `output` is in.
#[inline(always)]
fn atom<'a>(w: &MatrixRef<'a>, output: usize, input: usize) -> &'a [u8; 64] {
    &w.row_bytes_of(input).as_chunks().0[output / STRIP]
}

/// A matrix whose stored rows are inputs; up to three that do not make a four are left out.
struct Transposed<'a>(&'a MatrixRef<'a>);

impl Source for Transposed<'_> {
    const ALIGNED: bool = true;
    /// Those of a strip: what is shuffled for one unit serves all.
    const ROWS: usize = STRIP;

    fn fours(&self) -> usize {
        self.0.rows() / 4
    }

    /// The inputs that follow, then the first ones of the next strip.
    fn later(&self, [rows, next]: [Range<usize>; 2], fours: Range<usize>) -> Later {
        let (all, row_bytes) = (self.fours(), self.0.row_bytes());
        let (rows, fours) = match fours.end < all {
            true => (rows, fours.end..all.min(fours.end + fours.len())),
            false => (next, 0..fours.len()),
        };
        let first = 4 * fours.start * row_bytes + 64 * (rows.start / STRIP);
        let input = self.0.bytes().as_ptr().wrapping_add(first);
        Later::new(input, 4 * fours.len(), row_bytes)
    }

    /// Outputs are unpacked by numbers that divide a strip.
    #[inline(always)]
    fn unpack<S: Panels>(
        &self,
        s: S,
        filling: Filling,
        rows: Range<usize>,
        fours: Range<usize>,
        panel: &mut [Unit],
    ) {
        let first = rows.start % STRIP / UNIT;
        let units = first..first + rows.len().div_ceil(UNIT);
        let (lines, stride) = (self.0.bytes().as_chunks::<64>().0, self.0.row_bytes() / 64);
        let strip = rows.start / STRIP;
        for i in 0..fours.len() {
            let mut atoms = [&[0; 64]; 4];
            for n in 0..4 {
                atoms[n] = &lines[(4 * (fours.start + i) + n) * stride + strip];
                filling.prefetch(s, atoms[n], S::COLS * self.0.row_bytes());
            }
            let packed = s.side_by_side(atoms);
            for p in 0..STRIP / 64 {
                for n in 0..UNITS {
                    let u = UNITS * p + n;
                    if units.contains(&u) {
                        let start = filling.start(u - units.start, fours.len());
                        let unit = &mut panel[start + i * filling.units];
                        let codes = s.field::<2>(packed[n], p);
                        filling.store(s, codes, <int::T2 as Unpack<4>>::OFFSET, unit);
                    }
                }
            }
        }
    }
}

/// Adds one input, whose codes are taken `less` something, to the outputs from `first` on, all of one strip.
#[inline(always)]
fn add_input(job: &Columns<'_>, input: usize, first: usize, less: u8, out: &mut TileMut<'_, i32>) {
    let atom = atom(job.w, first, input);
    for token in 0..job.x.tokens() {
        let x = i32::from(job.x.row(token)[input]);
        for (i, out) in out.row(token).iter_mut().enumerate() {
            let (j, p) = ((first + i) % 64, (first + i) % STRIP / 64);
            let code = (atom[j] >> (2 * p)) & 3;
            *out = out.wrapping_add((i32::from(code) - i32::from(less)) * x);
        }
    }
}
