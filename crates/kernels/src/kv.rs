//! What attention reads: queries, and views of the key and value cache.

use crate::tiles::TileMut;

/// Positions per block of [`Kernels::attend`](crate::Kernels::attend). Blocks lie at multiples of
/// this in absolute positions.
pub const KV_BLOCK: usize = 64;

/// Positions per span: what [`Kernels::attend_span`](crate::Kernels::attend_span) computes on its
/// own. Spans lie at multiples of this in absolute positions.
pub const KV_SPAN: usize = 512;

/// How keys or values are stored.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16; larger values are stored as +-65504.
    F16,
    /// Int8 with one `f32` scale per row: `x = code * scale`, `|code| <= 127`.
    Q8,
}

impl KvType {
    /// Every type this version knows.
    pub const ALL: &'static [KvType] = &[KvType::F32, KvType::F16, KvType::Q8];

    /// The name people type on a command line.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8 => "q8",
        }
    }

    /// The type with this [`name`](KvType::name).
    pub fn from_name(name: &str) -> Option<KvType> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Bytes of one key or value of `head_dim` elements, its scale included.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        self.stride(head_dim)
            + if self.has_scales() {
                size_of::<f32>()
            } else {
                0
            }
    }

    /// Bytes from one row to the next: those of its elements, without a scale.
    pub fn stride(self, head_dim: usize) -> usize {
        match self {
            KvType::F32 => 4 * head_dim,
            KvType::F16 => 2 * head_dim,
            KvType::Q8 => head_dim,
        }
    }

    fn has_scales(self) -> bool {
        match self {
            KvType::F32 | KvType::F16 => false,
            KvType::Q8 => true,
        }
    }
}

/// The keys, or the values, of one kv head: a ring of slots, position `p` in slot `p % slots`.
///
/// In memory the rows of all slots come first and then, for types that have them, the scales of all
/// slots as `f32`: rows stay aligned, and the scales of a block are adjacent.
#[derive(Clone, Copy, Debug)]
pub struct KvView<'a> {
    pub(crate) kind: KvType,
    rows: &'a [u8],
    scales: &'a [f32],
    slots: usize,
    pub(crate) stride: usize,
}

impl<'a> KvView<'a> {
    /// Views `slots` rows, together `slots * kind.row_bytes(head_dim)` bytes, as
    /// [`Kernels::store_kv`](crate::Kernels::store_kv) wrote them.
    ///
    /// # Panics
    /// When `data` is shorter than that or not aligned for `f32`, or `slots` is not a multiple of
    /// [`KV_BLOCK`] or 0.
    pub fn new(kind: KvType, data: &'a [u8], slots: usize, head_dim: usize) -> Self {
        let (rows, used) = sizes(kind, data.len(), slots, head_dim);
        let (rows, scales) = data[..used].split_at(rows);
        Self {
            kind,
            rows,
            scales: bytemuck::cast_slice(scales),
            slots,
            stride: kind.stride(head_dim),
        }
    }

    /// How the rows are stored.
    pub fn kind(&self) -> KvType {
        self.kind
    }

    /// Rows in the ring.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The rows of block `block`, which starts at position `block * KV_BLOCK`.
    #[inline(always)]
    pub(crate) fn block(&self, block: usize) -> KvBlock<'a> {
        let slot = block % (self.slots / KV_BLOCK) * KV_BLOCK;
        KvBlock {
            rows: &self.rows[slot * self.stride..][..KV_BLOCK * self.stride],
            stride: self.stride,
            scales: self.scales[slot.min(self.scales.len())..].first_chunk(),
        }
    }
}

/// A place for rows: what a [`KvView`] is made of.
#[derive(Debug)]
pub struct KvViewMut<'a> {
    pub(crate) kind: KvType,
    rows: &'a mut [u8],
    scales: &'a mut [f32],
    slots: usize,
    stride: usize,
    head_dim: usize,
}

impl<'a> KvViewMut<'a> {
    /// Room for `slots` rows; see [`KvView::new`].
    ///
    /// # Panics
    /// As [`KvView::new`] does.
    pub fn new(kind: KvType, data: &'a mut [u8], slots: usize, head_dim: usize) -> Self {
        let (rows, used) = sizes(kind, data.len(), slots, head_dim);
        let (rows, scales) = data[..used].split_at_mut(rows);
        Self {
            kind,
            rows,
            scales: bytemuck::cast_slice_mut(scales),
            slots,
            stride: kind.stride(head_dim),
            head_dim,
        }
    }

    /// Elements of a row.
    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The row of `position`, and its scale.
    pub(crate) fn row(&mut self, position: usize) -> (&mut [u8], Option<&mut f32>) {
        let slot = position % self.slots;
        let row = &mut self.rows[slot * self.stride..][..self.stride];
        (row, self.scales.get_mut(slot))
    }
}

/// Bytes of the rows, and of rows and scales.
fn sizes(kind: KvType, len: usize, slots: usize, head_dim: usize) -> (usize, usize) {
    assert!(
        slots > 0 && slots.is_multiple_of(KV_BLOCK),
        "{slots} slots are not whole blocks of {KV_BLOCK}"
    );
    let size = |row| slots.checked_mul(row).expect("cache size overflows");
    let (rows, used) = (size(kind.stride(head_dim)), size(kind.row_bytes(head_dim)));
    assert!(used <= len, "{slots} slots take {used} bytes, got {len}");
    (rows, used)
}

/// The rows of one block, one after the other.
#[derive(Clone, Copy)]
pub(crate) struct KvBlock<'a> {
    pub(crate) rows: &'a [u8],
    pub(crate) stride: usize,
    pub(crate) scales: Option<&'a [f32; KV_BLOCK]>,
}

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
    pub keys: KvView<'a>,
    /// The values of the kv head; as many slots as there are keys is usual but not required.
    pub values: KvView<'a>,
    /// The first query position; the others follow.
    pub position: usize,
    /// Most positions that a query attends to, its own, the last one, included; at least 1.
    pub window: usize,
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

    /// The spans that query `t` sees some position of.
    pub fn spans(&self, t: usize) -> std::ops::RangeInclusive<usize> {
        self.first(t) / KV_SPAN..=self.last(t) / KV_SPAN
    }

    /// The first position that query `t` sees.
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
        for view in [&self.keys, &self.values] {
            assert_eq!(
                view.stride,
                view.kind.stride(d),
                "cache rows of another head size"
            );
            assert!(
                self.last(self.tokens - 1) - self.first(0) < view.slots,
                "more positions than slots"
            );
        }
    }
}
