//! Scores: a block of keys times some query heads.
//!
//! Float keys are multiplied in 16 lanes, as float weights are. Int8 keys are multiplied as integers
//! with queries of 16 bits:
//!
//! ```text
//! limit = min(32767, (2^31 - 1) / (128 head_dim))       32767 up to heads of 512
//! c[k]  = round_half_even(q[k] * limit / absmax q)      once per span
//! score = sum(c k) as f32 * (key scale * (absmax q / limit * scale))
//! ```
//!
//! The sum is exact, so its order is free.

use std::marker::PhantomData;
use std::ops::Range;

use super::requests::Requests;
use super::{Block, Used};
use crate::body::float::{F16, F32, Format};
use crate::body::quantize;
use crate::kv::{Attend, KV_BLOCK, KvBlock, KvType};
use crate::sets::{Set, Vector, Work};

/// Keys that are multiplied with several queries at once, where there are registers for it.
pub(super) const KEYS: usize = 4;

/// Products of the keys of a block with a head, as codes.
pub(super) type Dots = [[i32; KEYS]; KV_BLOCK / KEYS];

/// Query heads as 16-bit codes.
pub(super) struct Codes<'a> {
    codes: &'a [i16],
    factors: [f32; super::MAX_ROWS],
    tokens: usize,
    heads: Range<usize>,
    head_dim: usize,
}

impl<'a> Codes<'a> {
    /// Quantizes the queries into `room`, where there is any.
    #[inline(always)]
    pub(super) fn new<S: Set>(
        s: S,
        a: &Attend<'_>,
        tokens: &Range<usize>,
        heads: &Range<usize>,
        room: &'a mut [i16],
    ) -> Self {
        let mut factors = [0.0; super::MAX_ROWS];
        let limit = (i32::MAX as usize / (128 * a.head_dim)).min(32767) as f32;
        let mut rows = room.chunks_exact_mut(a.padded_dim());
        for (i, t) in tokens.clone().enumerate() {
            for (j, h) in heads.clone().enumerate() {
                if let Some(row) = rows.next() {
                    let factor = quantize::quantize_i16(s, a.query(t, h), limit, row);
                    align_tail(a.head_dim, row);
                    factors[i * heads.len() + j] = factor * a.scale;
                }
            }
        }
        Self {
            codes: room,
            factors,
            tokens: tokens.start,
            heads: heads.clone(),
            head_dim: a.head_dim,
        }
    }

    /// The codes of a query head, and what its products with keys are multiplied by.
    #[inline(always)]
    fn head(&self, (t, h): (usize, usize)) -> (&[[i16; 32]], f32) {
        let row = (t - self.tokens) * self.heads.len() + h - self.heads.start;
        let chunks = self.head_dim.div_ceil(32);
        let codes = &self.codes.as_chunks().0[row * chunks..][..chunks];
        (codes, self.factors[row])
    }
}

/// Moves the last codes to the end of their chunk of 32: they meet the last 32 bytes of a key, those
/// of which belong to the chunk before it meet zeros.
#[inline(always)]
fn align_tail(head_dim: usize, row: &mut [i16]) {
    let tail = head_dim % 32;
    if head_dim > 32 && tail > 0 {
        row[head_dim - tail..].rotate_right(32 - tail);
    }
}

/// A block of keys and `T` heads.
pub(super) struct Scores<'a, const T: usize> {
    pub(super) a: &'a Attend<'a>,
    /// The heads as codes, for int8 keys.
    pub(super) codes: &'a Codes<'a>,
    /// Query and head of each.
    pub(super) at: [(usize, usize); T],
    pub(super) keys: &'a KvBlock<'a>,
    pub(super) used: Used<T>,
    /// What is asked for meanwhile.
    pub(super) ahead: Requests,
    pub(super) p: &'a mut [Block; T],
    pub(super) dots: &'a mut [Dots; T],
}

impl<const T: usize> Scores<'_, T> {
    /// Puts the scores with the keys that each head sees into `p`.
    #[inline(always)]
    pub(super) fn take<S: Set>(self, s: S) {
        match self.a.keys.kind() {
            KvType::F32 => s.apart(Floats::<F32, 64, T>(self, PhantomData)),
            KvType::F16 => s.apart(Floats::<F16, 32, T>(self, PhantomData)),
            _ => s.apart(Q8(self)),
        }
    }
}

/// Scores with int8 keys.
struct Q8<'a, const T: usize>(Scores<'a, T>);

impl<S: Set, const T: usize> Work<S> for Q8<'_, T> {
    #[inline(always)]
    fn run(self, s: S) {
        q8(s, self.0);
    }
}

/// Scores with keys in a float format.
struct Floats<'a, K, const B: usize, const T: usize>(Scores<'a, T>, PhantomData<K>);

impl<S: Set, K: Format<B>, const B: usize, const T: usize> Work<S> for Floats<'_, K, B, T> {
    #[inline(always)]
    fn run(self, s: S) {
        floats::<S, K, B, T>(s, self.0);
    }
}

#[inline(always)]
fn q8<S: Set, const T: usize>(s: S, scores: Scores<'_, T>) {
    let Scores {
        codes: queries,
        at,
        keys,
        used,
        ahead,
        p,
        dots,
        ..
    } = scores;
    let Some(scales) = keys.scales else { return };
    let mut codes: [&[[i16; 32]]; T] = [&[]; T];
    let mut factors = [0.0; T];
    for i in 0..T {
        (codes[i], factors[i]) = queries.head(at[i]);
    }
    let mut short;
    let (rows, stride) = match queries.head_dim {
        0..32 => {
            short = [0; 32 * KV_BLOCK];
            (widen(keys, &mut short), 32)
        }
        _ => (keys.rows, keys.stride),
    };
    let any = used.any();
    let mut ahead = ahead.steps(KV_BLOCK / KEYS);
    for four in any.start / KEYS..any.end.div_ceil(KEYS) {
        ahead.ask(s);
        let rows = &rows[four * KEYS * stride..][..KEYS * stride];
        four_keys(s, rows, stride, codes, four, dots);
    }
    for i in 0..T {
        let (p, dots) = (&mut p[i], dots[i].as_flattened());
        match used.of(i) {
            // The length is known, so there is nothing left over for a loop of its own.
            WHOLE => to_scores(p, dots, scales, factors[i]),
            used => {
                p.fill(f32::NEG_INFINITY);
                to_scores(
                    &mut p[used.clone()],
                    &dots[used.clone()],
                    &scales[used],
                    factors[i],
                );
            }
        }
    }
}

/// All positions of a block.
pub(super) const WHOLE: Range<usize> = 0..KV_BLOCK;

#[inline(always)]
fn scale_by(scores: &mut [f32], scale: f32) {
    for score in scores {
        *score *= scale;
    }
}

/// Products of codes as scores.
#[inline(always)]
fn to_scores(p: &mut [f32], dots: &[i32], scales: &[f32], factor: f32) {
    let (dots, scales) = (&dots[..p.len()], &scales[..p.len()]);
    for i in 0..p.len() {
        p[i] = dots[i] as f32 * (scales[i] * factor);
    }
}

/// Copies rows of fewer than 32 bytes to rows of 32.
#[inline(always)]
pub(super) fn widen<'a>(block: &KvBlock<'_>, room: &'a mut [u8; 32 * KV_BLOCK]) -> &'a [u8] {
    let rows = block.rows.chunks_exact(block.stride);
    for (wide, row) in room.chunks_exact_mut(32).zip(rows) {
        wide[..row.len()].copy_from_slice(row);
    }
    room
}

/// Exact products of [`KEYS`] keys with `T` queries, as many at once as there are registers for. They are the `four`-th of
/// `dots`.
#[inline(always)]
fn four_keys<S: Set, const T: usize>(
    s: S,
    rows: &[u8],
    stride: usize,
    codes: [&[[i16; 32]]; T],
    four: usize,
    dots: &mut [Dots; T],
) {
    if S::MANY_REGISTERS {
        let found = code_dots::<S, KEYS, T>(s, rows, stride, codes);
        for i in 0..T {
            dots[i][four] = found[i];
        }
    } else if S::HEAD_PAIRS {
        let (pairs, one) = codes.as_chunks::<2>();
        for (i, pair) in pairs.iter().enumerate() {
            let found = code_dots::<S, KEYS, 2>(s, rows, stride, *pair);
            dots[2 * i][four] = found[0];
            dots[2 * i + 1][four] = found[1];
        }
        if let [one] = one {
            [dots[T - 1][four]] = code_dots::<S, KEYS, 1>(s, rows, stride, [*one]);
        }
    } else {
        for r in 0..KEYS {
            let found = code_dots::<S, 1, T>(s, &rows[r * stride..], stride, codes);
            for i in 0..T {
                dots[i][four][r] = found[i][0];
            }
        }
    }
}

/// Exact products of `R` keys with `T` queries.
#[inline(always)]
fn code_dots<S: Set, const R: usize, const T: usize>(
    s: S,
    rows: &[u8],
    stride: usize,
    codes: [&[[i16; 32]]; T],
) -> [[i32; R]; T] {
    let whole = stride / 32;
    let mut keys: [&[u8]; R] = [&[]; R];
    for r in 0..R {
        keys[r] = &rows[r * stride..][..stride];
    }
    let mut key_chunks: [&[[u8; 32]]; R] = [&[]; R];
    for r in 0..R {
        key_chunks[r] = &keys[r].as_chunks().0[..whole];
    }
    let mut code_chunks: [&[[i16; 32]]; T] = [&[]; T];
    for t in 0..T {
        code_chunks[t] = &codes[t][..whole];
    }
    let mut acc = [[s.zero_sums(); T]; R];
    for c in 0..whole {
        let mut chunk = [&[0; 32]; R];
        let mut x = [&[0; 32]; T];
        for r in 0..R {
            chunk[r] = &key_chunks[r][c];
        }
        for t in 0..T {
            x[t] = &code_chunks[t][c];
        }
        s.i8_i16(&mut acc, chunk, x);
    }
    if !stride.is_multiple_of(32) {
        let mut chunk = [&[0; 32]; R];
        let mut x = [&[0; 32]; T];
        for r in 0..R {
            chunk[r] = keys[r].last_chunk().expect("rows of at least 32 bytes");
        }
        for t in 0..T {
            x[t] = &codes[t][whole];
        }
        s.i8_i16(&mut acc, chunk, x);
    }
    s.sums(acc)
}

#[inline(always)]
fn floats<S: Set, K: Format<B>, const B: usize, const T: usize>(s: S, scores: Scores<'_, T>) {
    let Scores {
        a,
        at,
        keys,
        used,
        ahead,
        p,
        ..
    } = scores;
    let mut queries: [&[f32]; T] = [&[]; T];
    for i in 0..T {
        queries[i] = a.query(at[i].0, at[i].1);
    }
    let any = used.any();
    let at_once = if S::MANY_FLOATS { KEYS } else { 1 };
    let mut ahead = ahead.steps(KV_BLOCK / at_once);
    let mut j = any.start;
    while S::MANY_FLOATS && any.end - j >= KEYS {
        ahead.ask(s);
        let rows = &keys.rows[j * keys.stride..];
        let found = float_dots::<S, K, B, KEYS, T>(s, rows, keys.stride, queries);
        for i in 0..T {
            p[i][j..][..KEYS].copy_from_slice(&found[i]);
        }
        j += KEYS;
    }
    while j < any.end {
        ahead.ask(s);
        let rows = &keys.rows[j * keys.stride..];
        let found = float_dots::<S, K, B, 1, T>(s, rows, keys.stride, queries);
        for i in 0..T {
            p[i][j] = found[i][0];
        }
        j += 1;
    }
    for i in 0..T {
        match any {
            WHOLE => scale_by(&mut p[i], a.scale),
            _ => {
                scale_by(&mut p[i][any.clone()], a.scale);
                p[i][..any.start].fill(f32::NEG_INFINITY);
            }
        }
        p[i][used.ends[i]..].fill(f32::NEG_INFINITY);
    }
}

/// Products of `R` keys with `T` queries, each in 16 lanes.
#[inline(always)]
fn float_dots<S: Set, K: Format<B>, const B: usize, const R: usize, const T: usize>(
    s: S,
    rows: &[u8],
    stride: usize,
    queries: [&[f32]; T],
) -> [[f32; R]; T] {
    let whole = queries[0].len() / 16;
    let mut keys: [&[[u8; B]]; R] = [&[]; R];
    for r in 0..R {
        keys[r] = &rows[r * stride..][..stride].as_chunks().0[..whole];
    }
    let mut chunks: [&[[f32; 16]]; T] = [&[]; T];
    for t in 0..T {
        chunks[t] = &queries[t].as_chunks().0[..whole];
    }
    let mut acc = [[s.splat(0.0); T]; R];
    for c in 0..whole {
        let mut key = [s.splat(0.0); R];
        for r in 0..R {
            key[r] = K::load(s, &keys[r][c]);
        }
        for t in 0..T {
            let x = s.load(&chunks[t][c]);
            for r in 0..R {
                acc[r][t] = x.mul_add(key[r], acc[r][t]);
            }
        }
    }
    if !queries[0].len().is_multiple_of(16) {
        for r in 0..R {
            let key = K::load_part(s, &rows[r * stride..][whole * B..stride]);
            for t in 0..T {
                let x = s.load_part(&queries[t][16 * whole..]);
                acc[r][t] = x.mul_add(key, acc[r][t]);
            }
        }
    }
    s.tree_sums(acc)
}
