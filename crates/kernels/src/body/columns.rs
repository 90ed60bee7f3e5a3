//! Ternary matrices stored transposed times int8 activations, without the columns of zeros.
//!
//! Row `k` of the stored matrix holds what input `k` contributes to every output, so an input whose
//! code is 0 costs nothing: its row is not read. The outputs are cut into strips of 256, one atom
//! of each stored row.
//!
//! ```text
//! for each token:
//!     for each group of up to 16 strips:             16 KiB of sums
//!         next = the first 64 inputs that are not 0; prefetch their atoms of the group
//!         while next is not empty:
//!             now = next
//!             next = the following 64 inputs that are not 0; prefetch theirs
//!             for each strip of the group:            asking for the lines of next meanwhile
//!                 for each 4 inputs of now:           codes of 4 inputs side by side, then
//!                     sums[256] += code * x           one byte product per output and plane
//!         outputs = sums - sum(x)                     stored codes are w + 1
//! ```
//!
//! The list of a batch is complete before its weights are read, and its successor's weights are on
//! their way meanwhile: the hardware cannot guess which rows come next, the list knows. Sums are
//! exact integers, and a term of zero changes none, so skipping is exact too.
//!
//! Threads that share a product for one token take a [`Share`] of its inputs each, and all outputs: the pieces that they
//! read are whole rows, which memory delivers faster than parts of them. Their sums are then added up.

use std::ops::Range;

use onebit_format::MatrixRef;

use super::ahead::Ahead;
use crate::input::I8Rows;
use crate::sets::Set;
use crate::tiles::TileMut;

/// Outputs in a strip: the columns of one atom.
pub(crate) const STRIP: usize = 256;

/// Inputs in a batch, a multiple of 4.
pub(crate) const BATCH: usize = 64;

/// Strips whose sums are kept at once.
const GROUP: usize = 16;

/// Rows of a batch that are asked for side by side. A row is short, so there are more of them than streams of whole matrices.
const SIDE_BY_SIDE: usize = 8;

/// The inputs of a batch: which, and their codes. The tail is filled up with codes of 0.
pub(crate) struct Batch {
    pub(crate) inputs: [u32; BATCH],
    pub(crate) codes: [i8; BATCH],
    /// How many inputs are listed.
    pub(crate) len: usize,
}

/// One strip of a transposed matrix.
#[derive(Clone, Copy)]
pub(crate) struct Strip<'a> {
    atoms: &'a [[u8; 64]],
    /// Atoms in a stored row, and the strip's place among them.
    stride: usize,
    at: usize,
}

impl<'a> Strip<'a> {
    /// The codes of `input` for the 256 outputs of the strip.
    #[inline(always)]
    pub(crate) fn atom(&self, input: u32) -> &'a [u8; 64] {
        &self.atoms[input as usize * self.stride + self.at]
    }
}

/// Share `part`, below `of`, of the inputs that are not 0.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    pub(crate) part: usize,
    pub(crate) of: usize,
}

impl Share {
    pub(crate) const ALL: Self = Self { part: 0, of: 1 };

    /// The inputs from the first of this share to the first of the next.
    #[inline(always)]
    fn inputs<S: Set>(self, s: S, x: &[i8]) -> Range<usize> {
        let count = match self.of {
            1 => 0,
            _ => x.chunks(64).map(|codes| ones(s.nonzero(codes))).sum(),
        };
        let bound = |part: usize| match part {
            0 => 0,
            part if part == self.of => x.len(),
            part => nonzero_at(s, x, count * part / self.of),
        };
        bound(self.part)..bound(self.part + 1)
    }
}

/// Where the `n`-th input is, from 0 on, that is not 0: the end where there are not so many.
#[inline(always)]
fn nonzero_at<S: Set>(s: S, x: &[i8], n: usize) -> usize {
    let mut left = n;
    for (i, codes) in x.chunks(64).enumerate() {
        let mut mask = s.nonzero(codes);
        if left < ones(mask) {
            for _ in 0..left {
                mask &= mask - 1;
            }
            return 64 * i + mask.trailing_zeros() as usize;
        }
        left -= ones(mask);
    }
    x.len()
}

#[inline(always)]
fn ones(mask: u64) -> usize {
    mask.count_ones() as usize
}

/// A product with a transposed matrix: outputs `range` for every token of `x`, or, for one token, what a share of the inputs adds
/// to them.
pub(crate) struct Columns<'a> {
    pub(crate) w: &'a MatrixRef<'a>,
    pub(crate) range: Range<usize>,
    pub(crate) x: I8Rows<'a>,
    pub(crate) share: Share,
}

/// Exact sums of a ternary matrix stored transposed.
#[inline(always)]
pub(crate) fn t2_columns<S: Set>(s: S, job: &Columns<'_>, out: &mut TileMut<'_, i32>) {
    let atoms = job.w.bytes().as_chunks::<64>().0;
    let stride = job.w.row_bytes() / 64;
    for token in 0..job.x.tokens() {
        let x = &job.x.row(token)[..job.w.rows()];
        let inputs = job.share.inputs(s, x);
        let x_sum = match job.share.of {
            1 => job.x.sum(token),
            _ => x[inputs.clone()].iter().map(|x| i32::from(*x)).sum(),
        };
        let mut start = job.range.start;
        while start < job.range.end {
            let first = start / STRIP;
            let end = job.range.end.min((first + GROUP) * STRIP);
            let count = (end - 1) / STRIP + 1 - first;
            let mut sums = [[0i32; STRIP]; GROUP];
            let strips = first..first + count;
            let (x, from) = (&x[..inputs.end], inputs.start);
            sum_strips(s, (atoms, stride), strips, (x, from), &mut sums);
            let skip = start - first * STRIP;
            let out = &mut out.row(token)[start - job.range.start..end - job.range.start];
            for (out, sum) in out.iter_mut().zip(&sums.as_flattened()[skip..]) {
                *out = sum.wrapping_sub(x_sum);
            }
            start = end;
        }
    }
}

/// Adds up `strips` over all inputs from `from` on whose code is not 0.
#[inline(always)]
fn sum_strips<S: Set>(
    s: S,
    (atoms, stride): (&[[u8; 64]], usize),
    strips: Range<usize>,
    (x, mut from): (&[i8], usize),
    sums: &mut [[i32; STRIP]; GROUP],
) {
    let (mut now, mut next) = (Batch::EMPTY, Batch::EMPTY);
    from = next.fill(s, x, from);
    // While the first batch is added up, as much of the second is asked for. Nothing comes before the first.
    Pieces::new(&atoms[strips.start..], stride, strips.len(), &next).request_all(s);
    while next.len > 0 {
        std::mem::swap(&mut now, &mut next);
        from = next.fill(s, x, from);
        let mut ahead = Pieces::new(&atoms[strips.start..], stride, strips.len(), &next);
        for (at, sums) in strips.clone().zip(sums.iter_mut()) {
            s.t2_columns(Strip { atoms, stride, at }, &now, sums, &mut ahead);
        }
    }
}

/// The lines of a group of strips in the rows of a batch: of [`SIDE_BY_SIDE`] rows at a time, from as many parts of the list.
pub(crate) struct Pieces<'a> {
    first: *const u8,
    row_bytes: usize,
    piece_bytes: usize,
    rows: &'a [u32],
    /// Rows of a part.
    part: usize,
    /// Which part is next, which of its rows, and where in that.
    stream: usize,
    row: usize,
    at: usize,
}

impl<'a> Pieces<'a> {
    #[inline(always)]
    fn new(atoms: &[[u8; 64]], stride: usize, strips: usize, batch: &'a Batch) -> Self {
        Self {
            first: atoms.as_ptr().cast(),
            row_bytes: 64 * stride,
            piece_bytes: 64 * strips,
            rows: &batch.inputs[..batch.len],
            part: batch.len.div_ceil(SIDE_BY_SIDE),
            stream: 0,
            row: 0,
            at: 0,
        }
    }

    /// Asks for all lines.
    #[inline(always)]
    fn request_all<S: Set>(mut self, s: S) {
        for _ in 0..SIDE_BY_SIDE * self.part * self.piece_bytes / 64 {
            self.request(s, 0, 0);
        }
    }
}

impl Ahead for Pieces<'_> {
    #[inline(always)]
    fn request<S: Set>(&mut self, s: S, _row: usize, _offset: usize) {
        if let Some(row) = self.rows.get(self.stream * self.part + self.row) {
            let offset = *row as usize * self.row_bytes + self.at;
            s.prefetch_early(self.first.wrapping_add(offset));
        }
        self.stream += 1;
        if self.stream == SIDE_BY_SIDE {
            self.stream = 0;
            self.at += 64;
            if self.at == self.piece_bytes {
                self.at = 0;
                self.row += 1;
            }
        }
    }
}

impl Batch {
    const EMPTY: Self = Self {
        inputs: [0; BATCH],
        codes: [0; BATCH],
        len: 0,
    };

    /// Lists the first inputs from `from` on whose code is not 0, and returns where to go on.
    #[inline(always)]
    fn fill<S: Set>(&mut self, s: S, x: &[i8], from: usize) -> usize {
        let mut from = from;
        self.len = 0;
        while self.len < BATCH && from < x.len() {
            let chunk = &x[from..x.len().min(from + 64)];
            let mut mask = s.nonzero(chunk);
            while mask != 0 && self.len < BATCH {
                let bit = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                self.inputs[self.len] = (from + bit) as u32;
                self.codes[self.len] = chunk[bit];
                self.len += 1;
            }
            from += match mask {
                0 => chunk.len(),
                rest => rest.trailing_zeros() as usize,
            };
        }
        let last = self.len.checked_sub(1).map_or(0, |last| self.inputs[last]);
        let end = self.len.next_multiple_of(4);
        self.inputs[self.len..end].fill(last);
        self.codes[self.len..end].fill(0);
        from
    }

    /// The inputs in fours, with their codes.
    #[inline(always)]
    pub(crate) fn fours(&self) -> impl Iterator<Item = (&[u32; 4], &[i8; 4])> {
        let end = self.len.next_multiple_of(4);
        let inputs = self.inputs[..end].as_chunks::<4>().0;
        inputs.iter().zip(self.codes[..end].as_chunks::<4>().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::scalar::Scalar;

    #[test]
    fn shares_cover_all_inputs_and_have_as_many_that_are_not_zero() {
        // SAFETY: the set needs no features.
        let s = unsafe { Scalar::assume() };
        let zeros = |n: usize| (0..n).map(|i| i8::from(i * i % 7 > 3)).collect();
        let inputs: [Vec<i8>; 5] = [zeros(700), zeros(64), vec![0; 300], vec![5; 129], vec![]];
        for x in inputs {
            let all = x.iter().filter(|x| **x != 0).count();
            for of in [1, 2, 3, 16, 200] {
                let mut end = 0;
                for part in 0..of {
                    let inputs = Share { part, of }.inputs(s, &x);
                    assert_eq!(inputs.start, end);
                    end = inputs.end;
                    let count = x[inputs].iter().filter(|x| **x != 0).count();
                    assert!(
                        (all / of..=all.div_ceil(of)).contains(&count),
                        "{count} of {all}"
                    );
                }
                assert_eq!(end, x.len());
            }
        }
    }
}
