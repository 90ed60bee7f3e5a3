//! Attention of one query position over a ring of keys and values, by blocks.
//!
//! The softmax is taken on line: keys come in blocks of 64 that lie at multiples of 64 in absolute
//! positions, and each block rescales what the blocks before it left.
//!
//! ```text
//! m = -inf, l = 0, out = 0
//! for each block:
//!     p[j]  = tree_sum(q . k[j]) * scale, -inf outside first..=last
//!     m'    = max(m, max p);  c = exp(m - m')
//!     p[j]  = exp(p[j] - m')
//!     l     = l * c + tree_sum(p in 16 lanes)
//!     out   = out * c + sum over j, in order, of p[j] v[j]
//! out = out * (1 / l)
//! ```
//!
//! Blocks are tied to positions, so the result is a function of the query and the positions alone:
//! the same in decode and in prefill, whatever shares the batch and wherever the ring wraps. Up to
//! eight query heads pass together, so that a row is read and converted once for all of them.

use std::ops::RangeInclusive;

use super::float::{F16, F32, Format};
use super::math::exp;
use crate::kv::{Attend, KV_BLOCK, KvType, KvView};
use crate::sets::{Set, Vector};

/// Scores, then weights, of the positions of a block.
type Block = [f32; KV_BLOCK];

/// All heads of `a`.
#[inline(always)]
pub(crate) fn attend<S: Set>(s: S, a: &Attend<'_>, out: &mut [f32]) {
    let heads = a.heads();
    let mut done = 0;
    while done < heads {
        let part = done * a.head_dim..;
        let (q, out) = (&a.q[part.clone()], &mut out[part]);
        done += match heads - done {
            8.. => some_heads::<S, 8>(s, a, q, out),
            4.. => some_heads::<S, 4>(s, a, q, out),
            2.. => some_heads::<S, 2>(s, a, q, out),
            _ => some_heads::<S, 1>(s, a, q, out),
        };
    }
}

/// The first `H` heads of `q`; returns `H`.
#[inline(always)]
fn some_heads<S: Set, const H: usize>(s: S, a: &Attend<'_>, q: &[f32], out: &mut [f32]) -> usize {
    let (q, out) = (&q[..H * a.head_dim], &mut out[..H * a.head_dim]);
    out.fill(0.0);
    let mut max = [f32::NEG_INFINITY; H];
    let mut total = [0.0; H];
    for block in a.first / KV_BLOCK..=a.last / KV_BLOCK {
        let start = block * KV_BLOCK;
        let used = a.first.max(start)..=a.last.min(start + (KV_BLOCK - 1));
        let mut p = [[f32::NEG_INFINITY; KV_BLOCK]; H];
        match a.keys.kind {
            KvType::F32 => scores::<S, F32, 64, H>(s, a, q, used.clone(), &mut p),
            KvType::F16 => scores::<S, F16, 32, H>(s, a, q, used.clone(), &mut p),
        }
        let mut rescale = [0.0; H];
        for h in 0..H {
            rescale[h] = soften(s, &mut p[h], &mut max[h], &mut total[h]);
        }
        match a.values.kind {
            KvType::F32 => mix::<S, F32, 64, H>(s, a, used, &p, rescale, out),
            KvType::F16 => mix::<S, F16, 32, H>(s, a, used, &p, rescale, out),
        }
    }
    for (out, total) in out.chunks_exact_mut(a.head_dim).zip(total) {
        let factor = 1.0 / total;
        for x in out {
            *x *= factor;
        }
    }
    H
}

/// The scaled dot products of `H` queries with the keys at positions `used`.
#[inline(always)]
fn scores<S: Set, K: Format<B>, const B: usize, const H: usize>(
    s: S,
    a: &Attend<'_>,
    q: &[f32],
    used: RangeInclusive<usize>,
    p: &mut [Block; H],
) {
    let mut heads: [&[f32]; H] = [&[]; H];
    for (h, head) in heads.iter_mut().enumerate() {
        *head = &q[h * a.head_dim..][..a.head_dim];
    }
    for position in used {
        let (key, key_tail) = a.keys.row(position).as_chunks::<B>();
        let mut acc = [s.splat(0.0); H];
        for (c, key) in key.iter().enumerate() {
            let key = K::load(s, key);
            for h in 0..H {
                acc[h] = acc[h] + s.load(&heads[h].as_chunks().0[c]) * key;
            }
        }
        if !key_tail.is_empty() {
            let key = K::load_part(s, key_tail);
            for h in 0..H {
                acc[h] = acc[h] + s.load_part(heads[h].as_chunks::<16>().1) * key;
            }
        }
        for h in 0..H {
            p[h][position % KV_BLOCK] = acc[h].tree_sum() * a.scale;
        }
    }
}

/// Turns the scores of a block into weights relative to the new maximum, updates maximum and total,
/// and returns the factor for what the earlier blocks left.
#[inline(always)]
fn soften<S: Set>(s: S, p: &mut Block, max: &mut f32, total: &mut f32) -> f32 {
    let p = p.as_chunks_mut::<16>().0;
    let mut lanes = s.splat(*max);
    for chunk in p.iter() {
        lanes = s.load(chunk).max(lanes);
    }
    let mut maxima = [0.0; 16];
    lanes.store(&mut maxima);
    let mut new_max = maxima[0];
    for &m in &maxima[1..] {
        new_max = if m > new_max { m } else { new_max };
    }
    let mut sum = s.splat(0.0);
    for chunk in p {
        let weight = exp(s, s.load(chunk) - s.splat(new_max));
        weight.store(chunk);
        sum = sum + weight;
    }
    let mut factor = [0.0; 16];
    exp(s, s.splat(*max - new_max)).store(&mut factor);
    *max = new_max;
    *total = *total * factor[0] + sum.tree_sum();
    factor[0]
}

/// `out = out * rescale + sum of p * v` for `H` heads, 16 elements of all of them at a time.
#[inline(always)]
fn mix<S: Set, V: Format<B>, const B: usize, const H: usize>(
    s: S,
    a: &Attend<'_>,
    used: RangeInclusive<usize>,
    p: &[Block; H],
    rescale: [f32; H],
    out: &mut [f32],
) {
    let rows = Rows::new(&a.values, used);
    for start in (0..a.head_dim).step_by(16) {
        let len = 16.min(a.head_dim - start);
        let mut acc = [s.splat(0.0); H];
        for h in 0..H {
            acc[h] = s.load_part(&out[h * a.head_dim + start..][..len]) * s.splat(rescale[h]);
        }
        for (j, row) in rows.iter() {
            let row = &row[start / 16 * B..];
            let value = match row.first_chunk::<B>() {
                Some(bytes) => V::load(s, bytes),
                None => V::load_part(s, row),
            };
            for h in 0..H {
                acc[h] = acc[h] + s.splat(p[h][j]) * value;
            }
        }
        for h in 0..H {
            acc[h].store_part(&mut out[h * a.head_dim + start..][..len]);
        }
    }
}

/// The rows of a block, found in the ring once.
struct Rows<'a> {
    first: usize,
    count: usize,
    rows: [&'a [u8]; KV_BLOCK],
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn new(view: &KvView<'a>, used: RangeInclusive<usize>) -> Self {
        let first = *used.start() % KV_BLOCK;
        let mut rows: [&[u8]; KV_BLOCK] = [&[]; KV_BLOCK];
        let mut count = 0;
        for position in used {
            rows[count] = view.row(position);
            count += 1;
        }
        Self { first, count, rows }
    }

    /// Each row with its index in the block.
    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = (usize, &'a [u8])> {
        (self.first..KV_BLOCK).zip(self.rows[..self.count].iter().copied())
    }
}
