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

use super::scores::{prefetch, widen};
use super::{Block, Partials, Queries, Used};
use crate::body::float::{F16, F32, Format};
use crate::body::quantize::round_i16;
use crate::kv::{KV_BLOCK, KvBlock};
use crate::sets::{Set, Vector};

/// Largest weight code.
const LIMIT: f32 = 32767.0;

/// The sums of `T` heads, and what they are multiplied with before a block's share is added.
pub(super) struct Sums<'a, 'b, 'c, const T: usize> {
    pub(super) queries: &'a Queries<'a>,
    pub(super) at: [(usize, usize); T],
    pub(super) rescale: [f32; T],
    pub(super) partials: &'a mut Partials<'b, 'c>,
}

impl<const T: usize> Sums<'_, '_, '_, T> {
    /// The sum of head `i`.
    #[inline(always)]
    fn head(&mut self, i: usize) -> &mut [f32] {
        let (t, h) = self.at[i];
        let base = self.queries.base(t, self.partials);
        self.partials.head(base, t, h).0
    }

    #[inline(always)]
    pub(super) fn f32<S: Set>(
        self,
        s: S,
        values: &KvBlock<'_>,
        used: Used<T>,
        ahead: &[u8],
        p: &[Block; T],
    ) {
        self.floats::<S, F32, 64>(s, values, used, ahead, p);
    }

    #[inline(always)]
    pub(super) fn f16<S: Set>(
        self,
        s: S,
        values: &KvBlock<'_>,
        used: Used<T>,
        ahead: &[u8],
        p: &[Block; T],
    ) {
        self.floats::<S, F16, 32>(s, values, used, ahead, p);
    }

    /// 64 columns at a time where there are registers for it, else 16.
    #[inline(always)]
    fn floats<S: Set, V: Format<B>, const B: usize>(
        mut self,
        s: S,
        values: &KvBlock<'_>,
        used: Used<T>,
        ahead: &[u8],
        p: &[Block; T],
    ) {
        let d = self.queries.a.head_dim;
        let ask = |columns: usize| (ahead.len() * columns / d).div_ceil(KV_BLOCK * 64) * 64;
        let mut start = 0;
        while S::MANY_FLOATS && d - start >= 64 {
            let ahead = (&ahead[ahead.len() * start / d..], ask(64));
            self.strip::<S, V, B, 4>(s, values, used, ahead, p, start);
            start += 64;
        }
        while d - start >= 16 {
            let ahead = (&ahead[ahead.len() * start / d..], ask(16));
            self.strip::<S, V, B, 1>(s, values, used, ahead, p, start);
            start += 16;
        }
        if start < d {
            self.tail::<S, V, B>(s, values, used, p, start);
        }
    }

    /// `16 C` columns from `start`.
    #[inline(always)]
    fn strip<S: Set, V: Format<B>, const B: usize, const C: usize>(
        &mut self,
        s: S,
        values: &KvBlock<'_>,
        used: Used<T>,
        (ahead, ask): (&[u8], usize),
        p: &[Block; T],
        start: usize,
    ) {
        let mut acc = [[s.splat(0.0); C]; T];
        for i in 0..T {
            let rescale = s.splat(self.rescale[i]);
            let sums = &self.head(i)[start..].as_chunks().0[..C];
            for c in 0..C {
                acc[i][c] = s.load(&sums[c]) * rescale;
            }
        }
        for j in used.all() {
            prefetch(s, ahead, j * ask, if ahead.is_empty() { 0 } else { ask });
            let value = strip_of::<S, V, B, C>(s, values, j, start);
            for i in 0..T {
                let weight = s.splat(p[i][j]);
                for c in 0..C {
                    acc[i][c] = weight.mul_add(value[c], acc[i][c]);
                }
            }
        }
        for i in 0..T {
            for j in used.all().end..used.ends[i] {
                let value = strip_of::<S, V, B, C>(s, values, j, start);
                let weight = s.splat(p[i][j]);
                for c in 0..C {
                    acc[i][c] = weight.mul_add(value[c], acc[i][c]);
                }
            }
        }
        for i in 0..T {
            let sums = &mut self.head(i)[start..].as_chunks_mut().0[..C];
            for c in 0..C {
                acc[i][c].store(&mut sums[c]);
            }
        }
    }

    /// Fewer than 16 columns, the last ones.
    #[inline(always)]
    fn tail<S: Set, V: Format<B>, const B: usize>(
        &mut self,
        s: S,
        values: &KvBlock<'_>,
        used: Used<T>,
        p: &[Block; T],
        start: usize,
    ) {
        let mut acc = [s.splat(0.0); T];
        for i in 0..T {
            acc[i] = s.load_part(&self.head(i)[start..]) * s.splat(self.rescale[i]);
        }
        for i in 0..T {
            for j in used.of(i) {
                let row = &values.rows[j * values.stride..][..values.stride];
                let value = V::load_part(s, &row[start / 16 * B..]);
                acc[i] = s.splat(p[i][j]).mul_add(value, acc[i]);
            }
        }
        for i in 0..T {
            acc[i].store_part(&mut self.head(i)[start..]);
        }
    }

    #[inline(always)]
    pub(super) fn q8<S: Set>(
        mut self,
        s: S,
        values: &KvBlock<'_>,
        used: Used<T>,
        ahead: &[u8],
        p: &mut [Block; T],
    ) {
        let Some(scales) = values.scales else { return };
        let mut codes = [[0i16; KV_BLOCK]; T];
        let mut factors = [0.0; T];
        for i in 0..T {
            let weights = p[i][used.of(i)].iter_mut();
            for (weight, scale) in weights.zip(&scales[used.of(i)]) {
                *weight *= scale;
            }
            factors[i] = weight_codes(s, &p[i], &mut codes[i]);
        }
        let d = self.queries.a.head_dim;
        let mut short = [0; 32 * KV_BLOCK];
        let (rows, stride) = match d {
            0..32 => (widen(values, &mut short), 32),
            _ => (values.rows, values.stride),
        };
        let any = used.any();
        let pairs = any.start / 2..any.end.div_ceil(2);
        let ask = ahead.len().div_ceil(d.div_ceil(32) * KV_BLOCK / 2 * 64);
        for start in (0..d).step_by(32) {
            let ahead = match ahead.is_empty() {
                true => (ahead.as_ptr(), 0),
                false => (ahead.as_ptr().wrapping_add(ahead.len() / d * start), ask),
            };
            // The last strip ends with the row; what the strip before it had is left out.
            let from = start.min(stride - 32);
            let found = s.weighted_sums(&rows[from..], stride, pairs.clone(), &codes, ahead);
            for i in 0..T {
                let rescale = self.rescale[i];
                let end = d.min(start + 32);
                let out = &mut self.head(i)[start..end];
                for (x, sum) in out.iter_mut().zip(&found[i][start - from..]) {
                    *x = (*sum as f32).mul_add(factors[i], *x * rescale);
                }
            }
        }
    }
}

/// Columns `start..start + 16 C` of a row of values.
#[inline(always)]
fn strip_of<S: Set, V: Format<B>, const B: usize, const C: usize>(
    s: S,
    values: &KvBlock<'_>,
    j: usize,
    start: usize,
) -> [S::F; C] {
    let row = &values.rows[j * values.stride..][..values.stride];
    let row = &row[start / 16 * B..].as_chunks::<B>().0[..C];
    let mut value = [s.splat(0.0); C];
    for c in 0..C {
        value[c] = V::load(s, &row[c]);
    }
    value
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
    let scale = if max > f32::MIN_POSITIVE {
        LIMIT / max
    } else {
        0.0
    };
    for (weights, codes) in chunks.iter().zip(codes.as_chunks_mut::<16>().0) {
        round_i16(s, s.load(weights) * s.splat(scale), codes);
    }
    max / LIMIT
}
