//! Attention over a ring of keys and values, by blocks and spans of positions.
//!
//! A query's softmax is taken on line: keys come in blocks of 64, and each block rescales what the
//! blocks before it left. Blocks are gathered in spans of 512; every span starts afresh, and the
//! spans' results are merged in order. Blocks and spans lie at multiples of their size in absolute
//! positions.
//!
//! ```text
//! for each span:
//!     m = -inf, l = 0, out = 0
//!     for each block of the span:
//!         p[j]  = q . k[j] * scale, -inf outside first..=last
//!         m'    = max(m, max p);  c = exp(m - m')
//!         p[j]  = exp(p[j] - m')
//!         l     = l * c + tree_sum(p in 16 lanes)
//!         out   = out * c + sum over j of p[j] v[j]
//!     the first span's (m, l, out) is (M, L, O); any other is merged:
//!         M' = max(M, m);  a = exp(M - M');  b = exp(m - M')
//!         L  = L * a + l * b;  O = O * a + out * b
//! O * (1 / L)
//! ```
//!
//! So the result is a function of the query and of the positions it sees: the same in decode and in
//! prefill, whatever shares the batch, wherever the ring wraps, and whichever thread takes which span.
//!
//! A block of keys and values is read once for all queries at hand: up to 64 heads of consecutive
//! positions. The scores are in [`scores`], the weighted sums in [`values`]. Rows of fewer than 8 bits
//! are unpacked to int8, a block at a time, by [`room`], and from there on are int8 rows.
//!
//! Sinks outside of a query's window are a block of their own, the first.

pub(crate) mod requests;
mod room;
mod scores;
mod softmax;
mod values;

use std::array::from_fn;
use std::ops::Range;

use crate::kv::{Attend, KV_BLOCK, KV_GROUP, KV_SPAN, KvBlock, KvType, MAX_HEAD_DIM};
use crate::sets::Set;
use crate::tiles::TileMut;
use requests::Requests;
use room::{Rooms, Sources};
use scores::{Codes, Dots, KEYS, Scores};
pub(crate) use softmax::{finish, merge};
use values::{Found, STRIPS};

/// Blocks per span.
const SPAN_BLOCKS: usize = KV_SPAN / KV_BLOCK;
/// Most query heads that pass a block together.
const MAX_ROWS: usize = 64;
/// Most elements of theirs that are kept as codes.
const MAX_CODES: usize = 1 << 14;
/// Enough for the heads of one query in most models.
const FEW_CODES: usize = 1 << 10;
const _: () = assert!(MAX_HEAD_DIM <= MAX_CODES);

/// Scores, then weights, of the positions of a block.
type Block = [f32; KV_BLOCK];

/// Heads that pass a block together, at most.
const HEADS: usize = 4;

/// Room for what passes compute. It is not cleared in between.
struct Scratch {
    /// Scores, then weights.
    p: [Block; HEADS],
    /// Products of codes.
    dots: [Dots; HEADS],
    /// Weights as codes.
    codes: [[i16; KV_BLOCK]; HEADS],
    /// Sums of values as codes.
    found: [Found; HEADS],
}

impl Scratch {
    #[inline(always)]
    fn new() -> Self {
        Self {
            p: [[0.0; KV_BLOCK]; HEADS],
            dots: [[[0; KEYS]; KV_BLOCK / KEYS]; HEADS],
            codes: [[0; KV_BLOCK]; HEADS],
            found: [[[0; 32]; STRIPS]; HEADS],
        }
    }
}

/// The parts for the first `T` heads.
#[inline(always)]
fn of_heads<const T: usize, A>(room: &mut [A; HEADS]) -> &mut [A; T] {
    room.first_chunk_mut()
        .expect("room for the heads of a pass")
}

/// Where the results of the query heads at hand are collected: for query `t`, at `base(t)` of row `t`,
/// first the sums of all heads, then each head's largest score and total weight.
struct Partials<'a, 'b> {
    tile: &'a mut TileMut<'b, f32>,
    /// Where the spans after a query's first one go.
    second: usize,
    heads: usize,
    head_dim: usize,
}

impl Partials<'_, '_> {
    /// The sum of head `h` of query `t`, and its largest score and total weight.
    #[inline(always)]
    fn head(&mut self, base: usize, t: usize, h: usize) -> (&mut [f32], &mut [f32; 2]) {
        let row = &mut self.tile.row(t)[base..][..self.heads * (self.head_dim + 2)];
        let (sums, states) = row.split_at_mut(self.heads * self.head_dim);
        (
            &mut sums[h * self.head_dim..][..self.head_dim],
            &mut states.as_chunks_mut().0[h],
        )
    }
}

/// One span of the queries that see it: row `t` of `tile` takes what query `t` finds, at `second` where
/// the query has seen spans before.
#[inline(always)]
pub(crate) fn attend_span<S: Set>(
    s: S,
    a: &Attend<'_>,
    span: usize,
    second: usize,
    tile: &mut TileMut<'_, f32>,
) {
    let mut partials = Partials {
        tile,
        second,
        heads: a.heads,
        head_dim: a.head_dim,
    };
    let heads_at_once = (MAX_CODES / a.padded_dim()).min(MAX_ROWS).min(a.heads);
    let at_once = (MAX_CODES / (a.padded_dim() * heads_at_once))
        .min(MAX_ROWS / heads_at_once)
        .max(1);
    let Some(start) = (0..a.tokens).find(|t| a.sees(*t, span)) else {
        return;
    };
    let end = (start..a.tokens).find(|t| !a.sees(*t, span));
    let end = end.unwrap_or(a.tokens);
    let mut rooms = Rooms::NONE;
    rooms.open(a);
    let mut first = start;
    while first < end {
        let last = end.min(first + at_once).min(same_rows(a, first));
        for head in (0..a.heads).step_by(heads_at_once) {
            let queries = Queries {
                a,
                tokens: first..last,
                heads: head..a.heads.min(head + heads_at_once),
                span,
            };
            // Clearing room for many queries would take long for a single one.
            let (mut few, mut many);
            let room: &mut [i16] = match (a.keys.kind(), queries.codes()) {
                (KvType::F32 | KvType::F16, _) => &mut [],
                (_, 0..=FEW_CODES) => {
                    few = [0; FEW_CODES];
                    &mut few
                }
                _ => {
                    many = [0; MAX_CODES];
                    &mut many
                }
            };
            queries.run(s, room, &mut rooms, &mut partials);
        }
        first = last;
    }
}

/// The end of the queries from `first` on that read the same rows of a cache of fewer than 8 bits: those
/// of a group.
#[inline(always)]
fn same_rows(a: &Attend<'_>, first: usize) -> usize {
    match a.keys.kind().is_packed() || a.values.kind().is_packed() {
        true => first + KV_GROUP - a.last(first) % KV_GROUP,
        false => usize::MAX,
    }
}

/// A block that queries see some of.
#[derive(Clone, Copy)]
enum Seen {
    /// The first one, outside of the window.
    Sinks,
    /// This one, inside.
    Window(usize),
}

/// What all blocks of a span are multiplied with, and where they are.
struct Inputs<'a> {
    codes: Codes<'a>,
    sources: Sources<'a>,
}

/// Some heads of some consecutive queries, all of which see the span.
struct Queries<'a> {
    a: &'a Attend<'a>,
    tokens: Range<usize>,
    heads: Range<usize>,
    span: usize,
}

impl Queries<'_> {
    /// Elements of all of them, padded.
    fn codes(&self) -> usize {
        self.tokens.len() * self.heads.len() * self.a.padded_dim()
    }

    /// The positions of a block that query `t` sees, counted from its start.
    #[inline(always)]
    fn used(&self, t: usize, seen: Seen) -> Range<usize> {
        let start = match seen {
            Seen::Sinks => return 0..self.a.sinks_before(t),
            Seen::Window(block) => block * KV_BLOCK,
        };
        let first = self.a.first(t).saturating_sub(start);
        first..(self.a.last(t) + 1).saturating_sub(start).min(KV_BLOCK)
    }

    /// The sums of a head of a query.
    #[inline(always)]
    fn sums<'p>(
        &self,
        (t, h): (usize, usize),
        partials: &'p mut Partials<'_, '_>,
    ) -> &'p mut [f32] {
        let base = self.base(t, partials);
        partials.head(base, t, h).0
    }

    /// Where query `t` collects this span.
    #[inline(always)]
    fn base(&self, t: usize, partials: &Partials<'_, '_>) -> usize {
        match self.a.span(t, 0) == self.span {
            true => 0,
            false => partials.second,
        }
    }

    #[inline(always)]
    fn run<S: Set>(
        &self,
        s: S,
        room: &mut [i16],
        rooms: &mut Rooms,
        partials: &mut Partials<'_, '_>,
    ) {
        for t in self.tokens.clone() {
            let base = self.base(t, partials);
            for h in self.heads.clone() {
                let (sums, state) = partials.head(base, t, h);
                sums.fill(0.0);
                *state = [f32::NEG_INFINITY, 0.0];
            }
        }
        let last = self.a.last(self.tokens.end - 1) / KV_BLOCK;
        let first = self.a.first(self.tokens.start) / KV_BLOCK;
        let span = self.span * SPAN_BLOCKS;
        let inputs = Inputs {
            codes: Codes::new(s, self.a, &self.tokens, &self.heads, room),
            sources: Sources {
                a: self.a,
                query: self.a.last(self.tokens.start),
                end: self.a.last(self.tokens.end - 1) + 1,
            },
        };
        let mut scratch = Scratch::new();
        // One loop, since its body is compiled into it: the sinks, where there are any, then the window.
        let sinks = span == 0 && self.a.sinks_before(self.tokens.end - 1) > 0;
        let window = first.max(span)..last.min(span + SPAN_BLOCKS - 1) + 1;
        for i in 0..usize::from(sinks) + window.len() {
            let seen = match (sinks, i) {
                (true, 0) => Seen::Sinks,
                _ => Seen::Window(window.start + i - usize::from(sinks)),
            };
            self.block(s, seen, &inputs, rooms, &mut scratch, partials);
        }
    }

    /// One block: queries that see it from the same position on pass together.
    #[inline(always)]
    fn block<S: Set>(
        &self,
        s: S,
        seen: Seen,
        inputs: &Inputs<'_>,
        rooms: &mut Rooms,
        scratch: &mut Scratch,
        partials: &mut Partials<'_, '_>,
    ) {
        let block = match seen {
            Seen::Sinks => 0,
            Seen::Window(block) => block,
        };
        let rows = inputs.sources.blocks(block, rooms);
        let ahead = inputs.sources.ahead(block);
        let mut t = self.tokens.start;
        let mut fresh = true;
        while t < self.tokens.end {
            let used = self.used(t, seen);
            let mut end = t + 1;
            if !used.is_empty() {
                // Later queries see no less.
                while end < self.tokens.end && self.used(end, seen).start == used.start {
                    end += 1;
                }
                let pass = Pass {
                    queries: self,
                    rows,
                    ahead,
                    codes: &inputs.codes,
                    seen,
                    start: used.start,
                };
                pass.rows(s, t..end, &mut fresh, scratch, partials);
            }
            t = end;
        }
    }
}

/// Queries that see a block from the same position on.
struct Pass<'a> {
    queries: &'a Queries<'a>,
    /// Keys and values.
    rows: [KvBlock<'a>; 2],
    /// What the first heads ask for.
    ahead: Requests,
    codes: &'a Codes<'a>,
    seen: Seen,
    start: usize,
}

/// The positions of a block that `T` heads see, from the same one on.
#[derive(Clone, Copy)]
struct Used<const T: usize> {
    start: usize,
    ends: [usize; T],
}

impl<const T: usize> Used<T> {
    /// Those that some head sees.
    #[inline(always)]
    fn any(&self) -> Range<usize> {
        let mut end = self.ends[0];
        for i in 1..T {
            end = end.max(self.ends[i]);
        }
        self.start..end
    }

    /// Those that all heads see.
    #[inline(always)]
    fn all(&self) -> Range<usize> {
        let mut end = self.ends[0];
        for i in 1..T {
            end = end.min(self.ends[i]);
        }
        self.start..end
    }

    /// Those that head `i` sees.
    #[inline(always)]
    fn of(&self, i: usize) -> Range<usize> {
        self.start..self.ends[i]
    }
}

impl Pass<'_> {
    /// All heads of queries `tokens`. The first of them are `fresh`: they find the block in memory.
    #[inline(always)]
    fn rows<S: Set>(
        &self,
        s: S,
        tokens: Range<usize>,
        fresh: &mut bool,
        scratch: &mut Scratch,
        partials: &mut Partials<'_, '_>,
    ) {
        let heads = &self.queries.heads;
        let mut left = tokens.len() * heads.len();
        let mut next = (tokens.start, heads.start);
        let mut at = |_| {
            let (t, h) = next;
            next = match h + 1 < heads.end {
                true => (t, h + 1),
                false => (t + 1, heads.start),
            };
            (t, h)
        };
        while left > 0 {
            left -= match left {
                4.. => self.some::<S, 4>(s, from_fn(&mut at), *fresh, scratch, partials),
                2.. => self.some::<S, 2>(s, from_fn(&mut at), *fresh, scratch, partials),
                _ => self.some::<S, 1>(s, from_fn(&mut at), *fresh, scratch, partials),
            };
            *fresh = false;
        }
    }

    /// The block's share of `T` query heads; returns `T`.
    #[inline(always)]
    fn some<S: Set, const T: usize>(
        &self,
        s: S,
        at: [(usize, usize); T],
        fresh: bool,
        scratch: &mut Scratch,
        partials: &mut Partials<'_, '_>,
    ) -> usize {
        let [keys, values] = &self.rows;
        let ahead = match fresh {
            true => self.ahead,
            false => Requests::NONE,
        };
        let p = of_heads(&mut scratch.p);
        let a = self.queries.a;
        let mut ends = [0; T];
        for i in 0..T {
            ends[i] = self.queries.used(at[i].0, self.seen).end;
        }
        let used = Used {
            start: self.start,
            ends,
        };
        let scores = Scores {
            a,
            codes: self.codes,
            at,
            keys,
            used,
            ahead: ahead.share(0..1, 2),
            p,
            dots: of_heads(&mut scratch.dots),
        };
        scores.take(s);
        let mut states = [[0.0; 2]; T];
        for i in 0..T {
            let base = self.queries.base(at[i].0, partials);
            states[i] = *partials.head(base, at[i].0, at[i].1).1;
        }
        let rescale = softmax::soften(s, p, &mut states);
        for i in 0..T {
            let base = self.queries.base(at[i].0, partials);
            *partials.head(base, at[i].0, at[i].1).1 = states[i];
        }
        let sums = values::Sums {
            queries: self.queries,
            at,
            values,
            used,
            ahead,
            p,
            codes: of_heads(&mut scratch.codes),
            found: of_heads(&mut scratch.found),
            rescale,
            partials,
        };
        sums.add(s);
        T
    }
}
