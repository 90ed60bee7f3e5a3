//! Weighted sums: some heads' weights times a block of values.
//!
//! Float values are multiplied and added position by position. Int8 values are added as integers:
//!
//! ```text
//! w[j] = p[j] * value scale[j],  c[j] = round_half_even(w[j] * 32767 / max w)
//! out  = out * rescale + sum over j of c[j] v[j] as f32 * (max w / 32767)
//! ```
//!
//! The sum over a block is exact (below 2^28), so its order is free; positions that a query does not
//! see have code 0.

use std::marker::PhantomData;
use std::ops::Range;

use super::requests::Requests;
use super::scores::{WHOLE, widen};
use super::{Block, Partials, Queries, Used};
use crate::body::float::{F16, F32, Format};
use crate::body::quantize::round_i16;
use crate::kv::{KV_BLOCK, KvBlock, KvType};
use crate::sets::{Set, Vector, Work};

/// Positions whose float values are added before more is asked for.
const POSITIONS: usize = 8;

/// Largest weight code.
const LIMIT: f32 = 32767.0;

/// A block of values, the weights of `T` heads, and where their sums are.
pub(super) struct Sums<'a, 'b, 'c, const T: usize> {
    pub(super) queries: &'a Queries<'a>,
    /// Query and head of each.
    pub(super) at: [(usize, usize); T],
    pub(super) values: &'a KvBlock<'a>,
    pub(super) used: Used<T>,
    /// What the block asks for: the scores asked for the first half of it.
    pub(super) ahead: Requests,
    pub(super) p: &'a mut [Block; T],
    pub(super) codes: &'a mut [[i16; KV_BLOCK]; T],
    pub(super) found: &'a mut [Found; T],
    /// What the sums are multiplied with before the block's share is added.
    pub(super) rescale: [f32; T],
    pub(super) partials: &'a mut Partials<'b, 'c>,
}

/// Sums of int8 values.
struct Q8<'a, 'b, 'c, const T: usize>(Sums<'a, 'b, 'c, T>);

impl<S: Set, const T: usize> Work<S> for Q8<'_, '_, '_, T> {
    #[inline(always)]
    fn run(self, s: S) {
        self.0.q8(s);
    }
}

/// Sums of values in a float format.
struct Floats<'a, 'b, 'c, V, const B: usize, const T: usize>(Sums<'a, 'b, 'c, T>, PhantomData<V>);

impl<S: Set, V: Format<B>, const B: usize, const T: usize> Work<S> for Floats<'_, '_, '_, V, B, T> {
    #[inline(always)]
    fn run(self, s: S) {
        self.0.floats::<S, V, B>(s);
    }
}

impl<const T: usize> Sums<'_, '_, '_, T> {
    /// Adds the block's share.
    #[inline(always)]
    pub(super) fn add<S: Set>(self, s: S) {
        match self.queries.a.values.kind() {
            KvType::F32 => s.apart(Floats::<F32, 64, T>(self, PhantomData)),
            KvType::F16 => s.apart(Floats::<F16, 32, T>(self, PhantomData)),
            _ => s.apart(Q8(self)),
        }
    }

    /// The sum of head `i`.
    #[inline(always)]
    fn head(&mut self, i: usize) -> &mut [f32] {
        self.queries.sums(self.at[i], self.partials)
    }

    /// What the sums of `columns` columns from `start` on ask for: the scores asked for the first half.
    #[inline(always)]
    fn share(&self, start: usize, columns: usize) -> Requests {
        let d = self.queries.a.head_dim;
        let end = d.min(start + columns);
        self.ahead.share(d + start..d + end, 2 * d)
    }

    /// 64 columns at a time where there are registers for it, else 16.
    #[inline(always)]
    fn floats<S: Set, V: Format<B>, const B: usize>(mut self, s: S) {
        let d = self.queries.a.head_dim;
        let mut start = 0;
        while S::MANY_FLOATS && d - start >= 64 {
            self.strip::<S, V, B, 4>(s, start);
            start += 64;
        }
        while d - start >= 16 {
            self.strip::<S, V, B, 1>(s, start);
            start += 16;
        }
        if start < d {
            self.tail::<S, V, B>(s, start);
        }
    }

    /// `16 C` columns from `start`.
    #[inline(always)]
    fn strip<S: Set, V: Format<B>, const B: usize, const C: usize>(&mut self, s: S, start: usize) {
        let (values, used, ahead) = (self.values, self.used, self.share(start, 16 * C));
        // A loop that finds a head is not unrolled, and sums that are picked by a number that varies stay in memory.
        let mut sums = [[[0.0; 16]; C]; T];
        for i in 0..T {
            sums[i].copy_from_slice(&self.head(i)[start..].as_chunks().0[..C]);
        }
        let mut acc = [[s.splat(0.0); C]; T];
        for i in 0..T {
            let rescale = s.splat(self.rescale[i]);
            for c in 0..C {
                acc[i][c] = s.load(&sums[i][c]) * rescale;
            }
        }
        acc = weigh::<S, V, B, C, T>(s, values, start, used.all(), self.p, ahead, acc);
        for i in 0..T {
            for c in 0..C {
                acc[i][c].store(&mut sums[i][c]);
            }
        }
        for i in 0..T {
            self.head(i)[start..].as_chunks_mut().0[..C].copy_from_slice(&sums[i]);
        }
        for i in 0..T {
            let more = used.all().end..used.ends[i];
            if !more.is_empty() {
                self.positions::<S, V, B, C>(s, i, more, start);
            }
        }
    }

    /// Adds the share of some positions to `16 C` columns of head `i`.
    #[inline(always)]
    fn positions<S: Set, V: Format<B>, const B: usize, const C: usize>(
        &mut self,
        s: S,
        i: usize,
        positions: Range<usize>,
        start: usize,
    ) {
        let mut acc = [[s.splat(0.0); C]];
        let sums = &self.head(i)[start..].as_chunks().0[..C];
        for c in 0..C {
            acc[0][c] = s.load(&sums[c]);
        }
        let p = std::slice::from_ref(&self.p[i]);
        let p = p.first_chunk().expect("a head");
        acc = weigh::<S, V, B, C, 1>(s, self.values, start, positions, p, Requests::NONE, acc);
        let sums = &mut self.head(i)[start..].as_chunks_mut().0[..C];
        for c in 0..C {
            acc[0][c].store(&mut sums[c]);
        }
    }

    /// Fewer than 16 columns, the last ones.
    #[inline(always)]
    fn tail<S: Set, V: Format<B>, const B: usize>(&mut self, s: S, start: usize) {
        let (values, used) = (self.values, self.used);
        let mut acc = [s.splat(0.0); T];
        for i in 0..T {
            acc[i] = s.load_part(&self.head(i)[start..]) * s.splat(self.rescale[i]);
        }
        for i in 0..T {
            for j in used.of(i) {
                let row = &values.rows[j * values.stride..][..values.stride];
                let value = V::load_part(s, &row[start / 16 * B..]);
                acc[i] = s.splat(self.p[i][j]).mul_add(value, acc[i]);
            }
        }
        for i in 0..T {
            acc[i].store_part(&mut self.head(i)[start..]);
        }
    }

    #[inline(always)]
    fn q8<S: Set>(self, s: S) {
        let (values, used) = (self.values, self.used);
        let Some(scales) = values.scales else { return };
        let mut factors = [0.0; T];
        for i in 0..T {
            match used.of(i) {
                WHOLE => scale_by(&mut self.p[i], scales),
                used => {
                    self.p[i][..used.start].fill(0.0);
                    self.p[i][used.end..].fill(0.0);
                    scale_by(&mut self.p[i][used.clone()], &scales[used]);
                }
            }
            factors[i] = weight_codes(s, &self.p[i], &mut self.codes[i]);
        }
        let d = self.queries.a.head_dim;
        let mut short;
        let (rows, stride) = match d {
            0..32 => {
                short = [0; 32 * KV_BLOCK];
                (widen(values, &mut short), 32)
            }
            _ => (values.rows, values.stride),
        };
        let any = used.any();
        let pairs = any.start / 4 * 2..any.end.div_ceil(4) * 2;
        for part in (0..d).step_by(32 * STRIPS) {
            for strip in 0..STRIPS.min((d - part).div_ceil(32)) {
                let start = part + 32 * strip;
                let ahead = self.share(start, 32);
                // The last strip ends with the row; what the strip before it had is left out.
                let from = start.min(stride - 32);
                let sums = s.weighted_sums(&rows[from..], stride, pairs.clone(), self.codes, ahead);
                for i in 0..T {
                    self.found[i][strip] = sums[i];
                    if from < start {
                        self.found[i][strip].rotate_left(start - from);
                    }
                }
            }
            for i in 0..T {
                let factors = (self.rescale[i], factors[i]);
                let found = self.found[i].as_flattened();
                let out = &mut self.queries.sums(self.at[i], self.partials)[part..];
                match out.first_chunk_mut::<{ 32 * STRIPS }>() {
                    Some(out) => add_to(out, found, factors),
                    None => add_to(out, found, factors),
                }
            }
        }
    }
}

/// Strips of 32 columns whose sums are added together.
pub(super) const STRIPS: usize = 4;

/// Sums of values of a head, as codes.
pub(super) type Found = [[i32; 32]; STRIPS];

#[inline(always)]
fn scale_by(weights: &mut [f32], scales: &[f32]) {
    let scales = &scales[..weights.len()];
    for i in 0..weights.len() {
        weights[i] *= scales[i];
    }
}

/// Rescales sums and adds those of a block, as codes.
#[inline(always)]
fn add_to(out: &mut [f32], codes: &[i32], (rescale, factor): (f32, f32)) {
    let len = out.len().min(codes.len());
    let (out, codes) = (&mut out[..len], &codes[..len]);
    for i in 0..len {
        out[i] = (codes[i] as f32).mul_add(factor, out[i] * rescale);
    }
}

/// Adds the shares of some positions to columns `start..start + 16 C` of `T` heads.
#[inline(always)]
fn weigh<S: Set, V: Format<B>, const B: usize, const C: usize, const T: usize>(
    s: S,
    values: &KvBlock<'_>,
    start: usize,
    positions: Range<usize>,
    p: &[Block; T],
    ahead: Requests,
    mut acc: [[S::F; C]; T],
) -> [[S::F; C]; T] {
    let mut ahead = ahead.steps(KV_BLOCK / POSITIONS);
    for step in (0..KV_BLOCK).step_by(POSITIONS) {
        ahead.ask(s);
        for j in positions.start.max(step)..positions.end.min(step + POSITIONS) {
            let row = values.rows[j * values.stride + start / 16 * B..].as_chunks::<B>();
            let row: &[[u8; B]; C] = row.0.first_chunk().expect("columns of a row");
            let mut value = [s.splat(0.0); C];
            for c in 0..C {
                value[c] = V::load(s, &row[c]);
            }
            for t in 0..T {
                let weight = s.splat(p[t][j]);
                for c in 0..C {
                    acc[t][c] = weight.mul_add(value[c], acc[t][c]);
                }
            }
        }
    }
    acc
}

/// The codes of weights that are not negative, and what takes them back.
#[inline(always)]
fn weight_codes<S: Set>(s: S, weights: &Block, codes: &mut [i16; KV_BLOCK]) -> f32 {
    let chunks = weights.as_chunks::<16>().0;
    let mut max = s.splat(0.0);
    for chunk in chunks {
        max = s.load(chunk).max(max);
    }
    let max = max.tree_max();
    // Below that what takes the codes back is no normal number.
    let scale = if max > LIMIT * f32::MIN_POSITIVE {
        LIMIT / max
    } else {
        0.0
    };
    let codes = codes.as_chunks_mut::<16>().0;
    for i in 0..KV_BLOCK / 16 {
        round_i16(s, s.load(&chunks[i]) * s.splat(scale), &mut codes[i]);
    }
    max / LIMIT
}
