//! Queries and what they attend to.

use super::{KV_BLOCK, KV_GROUP, KV_SPAN, KvType, KvView, MAX_PACKED_HEAD_DIM};
use crate::tiles::TileMut;

/// Consecutive query positions of the query heads that share a kv head, and what they attend to.
#[derive(Clone, Copy, Debug)]
pub struct Attend<'a> {
    /// The queries: per position `heads * head_dim` values, one head after the other.
    pub q: &'a [f32],
    /// Elements from one position's queries to the next.
    pub q_stride: usize,
    /// Query positions, at least 1.
    pub tokens: usize,
    /// Query heads.
    pub heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
    /// The keys of the kv head.
    pub keys: KvSide<'a>,
    /// The values of the kv head; as many slots as there are keys is usual but not required.
    pub values: KvSide<'a>,
    /// The first query position; the others follow.
    pub position: usize,
    /// Most positions that a query attends to, its own, the last one, included; at least 1.
    pub window: usize,
    /// Positions from 0 on that every later query attends to, although they are outside of its window;
    /// at most [`KV_BLOCK`], and none unless the rings [keep](KvView::pinned) them.
    pub sinks: usize,
    /// Multiplier of the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
}

/// Most elements of a head.
pub(crate) const MAX_HEAD_DIM: usize = 1 << 13;

impl<'a> Attend<'a> {
    /// Floats that one query position's share of a span takes: the weighted sum of each head, then
    /// each head's largest score and total weight.
    pub fn partial_len(&self) -> usize {
        self.heads * (self.head_dim + 2)
    }

    /// How many spans there are that query `t` sees some position of.
    pub fn spans(&self, t: usize) -> usize {
        let (first, last) = (self.first(t) / KV_SPAN, self.last(t) / KV_SPAN);
        last - first + 1 + usize::from(self.has_sinks_before(first))
    }

    /// The `i`-th of these spans.
    pub fn span(&self, t: usize, i: usize) -> usize {
        let first = self.first(t) / KV_SPAN;
        match (self.has_sinks_before(first), i) {
            (true, 0) => 0,
            (true, _) => first + i - 1,
            (false, _) => first + i,
        }
    }

    /// Whether query `t` sees some position of `span`.
    #[inline(always)]
    pub(crate) fn sees(&self, t: usize, span: usize) -> bool {
        (self.first(t) / KV_SPAN..=self.last(t) / KV_SPAN).contains(&span)
            || span == 0 && self.sinks > 0
    }

    /// Whether the sinks are in a span of their own, before span `first` of the window.
    #[inline(always)]
    fn has_sinks_before(&self, first: usize) -> bool {
        first > 0 && self.sinks > 0
    }

    /// Sinks that query `t` sees outside of its window.
    #[inline(always)]
    pub(crate) fn sinks_before(&self, t: usize) -> usize {
        self.sinks.min(self.first(t))
    }

    /// The first position of the window of query `t`.
    #[inline(always)]
    pub(crate) fn first(&self, t: usize) -> usize {
        (self.position + t + 1).saturating_sub(self.window)
    }

    /// The last position that query `t` sees: its own.
    #[inline(always)]
    pub(crate) fn last(&self, t: usize) -> usize {
        self.position + t
    }

    /// Head `h` of query `t`.
    #[inline(always)]
    pub(crate) fn query(&self, t: usize, h: usize) -> &'a [f32] {
        &self.q[t * self.q_stride + h * self.head_dim..][..self.head_dim]
    }

    /// Elements of a query head in whole chunks of 32.
    pub(crate) fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(32)
    }

    /// # Panics
    /// When sizes do not fit each other or the positions do not fit the rings.
    pub(crate) fn check(&self, out: &TileMut<'_, f32>, width: usize) {
        let d = self.head_dim;
        assert!(self.tokens > 0 && self.heads > 0 && d > 0, "empty queries");
        assert!(d <= MAX_HEAD_DIM, "heads of {d} elements");
        assert!(
            (self.tokens - 1) * self.q_stride + self.heads * d <= self.q.len(),
            "{} query elements for {} positions of {} heads of {d}",
            self.q.len(),
            self.tokens,
            self.heads
        );
        assert_eq!(out.rows(), self.tokens, "rows for query positions");
        assert!(
            width <= out.width(),
            "attention needs {width} elements a position, got {}",
            out.width()
        );
        assert!(self.window > 0, "a window of no positions");
        assert!(self.sinks <= KV_BLOCK, "{} sinks", self.sinks);
        for side in [&self.keys, &self.values] {
            side.check(self);
        }
    }
}

/// The keys, or the values, of one kv head.
#[derive(Clone, Copy, Debug)]
pub struct KvSide<'a> {
    pub(crate) rows: KvView<'a>,
    pub(crate) exact: Option<KvExact<'a>>,
}

/// Int8 rows that stand in for some of those of fewer bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvExact<'a> {
    pub(crate) first: Option<KvView<'a>>,
    pub(crate) recent: KvView<'a>,
    reach: usize,
}

impl<'a> From<KvView<'a>> for KvSide<'a> {
    fn from(rows: KvView<'a>) -> Self {
        Self { rows, exact: None }
    }
}

impl<'a> KvSide<'a> {
    /// Reads some rows at 8 bits instead of those of `rows`, which have fewer: those of the first
    /// positions, `first`, and the last ones. For a query at position `p` these are the positions from
    /// `p / KV_GROUP * KV_GROUP - reach` on.
    ///
    /// # Panics
    /// When the rows here are not [`packed`](KvType::is_packed), or the others are no int8 rows.
    pub fn with_exact(self, first: Option<KvView<'a>>, recent: KvView<'a>, reach: usize) -> Self {
        assert!(self.rows.kind.is_packed(), "rows of fewer than 8 bits");
        for view in first.iter().chain([&recent]) {
            assert_eq!(view.kind, KvType::Q8, "exact rows");
        }
        let exact = KvExact {
            first,
            recent,
            reach,
        };
        Self {
            exact: Some(exact),
            ..self
        }
    }

    /// How the rows are stored.
    pub(crate) fn kind(&self) -> KvType {
        self.rows.kind
    }

    fn check(&self, a: &Attend<'_>) {
        let (d, kind) = (a.head_dim, self.kind());
        assert!(
            !kind.is_packed() || d <= MAX_PACKED_HEAD_DIM,
            "heads of {d} elements as {}",
            kind.name()
        );
        let (first, last) = (a.first(0), a.last(a.tokens - 1));
        let fits = |view: &KvView<'_>, first: usize| {
            assert_eq!(
                view.stride,
                view.kind.stride(d),
                "cache rows of another head size"
            );
            assert!(last - first < view.span(), "more positions than slots");
        };
        fits(&self.rows, first);
        assert!(
            a.sinks == 0 || self.rows.is_pinned() || last < self.rows.slots(),
            "sinks in a ring that does not keep them"
        );
        if let Some(exact) = &self.exact {
            fits(&exact.recent, first.max(exact.from(a.position)));
            if let Some(rows) = &exact.first {
                assert_eq!(rows.stride, d, "first rows of another head size");
            }
        }
    }
}

impl KvExact<'_> {
    /// The first of the last positions that the query at `position` reads at 8 bits.
    #[inline(always)]
    pub(crate) fn from(&self, position: usize) -> usize {
        (position / KV_GROUP * KV_GROUP).saturating_sub(self.reach)
    }
}
