//! Rows of keys or values in memory.

use super::{KV_BLOCK, KvType};

/// The keys, or the values, of one kv head: a ring of slots, position `p` in slot `p % slots`.
///
/// In memory the rows of all slots come first and then, for types that have them, the scales of all
/// slots: rows stay aligned, and the scales of a block are adjacent.
///
/// Rows of fewer than 8 bits hold element `i` in byte `i % n` from bit `bits * (i / n)` on, with `n`
/// the bytes of a row.
#[derive(Clone, Copy, Debug)]
pub struct KvView<'a> {
    pub(crate) kind: KvType,
    rows: &'a [u8],
    scales: &'a [u8],
    slots: usize,
    pub(crate) stride: usize,
    ring: Ring,
}

/// Where the blocks of a ring lie.
#[derive(Clone, Copy, Debug)]
struct Ring {
    blocks: usize,
    /// The first block of positions keeps its place; the others share what is left.
    pinned: bool,
}

impl Ring {
    fn new(slots: usize) -> Self {
        Self {
            blocks: slots / KV_BLOCK,
            pinned: false,
        }
    }

    fn pinned(self) -> Self {
        assert!(self.blocks > 1, "no room beside the first block");
        Self {
            pinned: true,
            ..self
        }
    }

    /// The place of block `block` of positions.
    #[inline(always)]
    fn place(self, block: usize) -> usize {
        match (self.pinned, block) {
            (false, _) => block % self.blocks,
            (true, 0) => 0,
            (true, _) => 1 + (block - 1) % (self.blocks - 1),
        }
    }

    fn slot(self, position: usize) -> usize {
        self.place(position / KV_BLOCK) * KV_BLOCK + position % KV_BLOCK
    }
}

impl<'a> KvView<'a> {
    /// Views `slots` rows, together `slots * kind.row_bytes(head_dim)` bytes, as
    /// [`Kernels::store_kv`](crate::Kernels::store_kv) wrote them.
    ///
    /// # Panics
    /// When `data` is shorter than that or not aligned for `f32`, or `slots` is not a multiple of
    /// [`KV_BLOCK`] or 0.
    pub fn new(kind: KvType, data: &'a [u8], slots: usize, head_dim: usize) -> Self {
        check_ring(slots);
        Self::rows(kind, data, slots, head_dim)
    }

    /// Views the rows of the first `slots` positions.
    ///
    /// # Panics
    /// When `data` is too short, or `slots` is 0, no multiple of 4 or more than [`KV_BLOCK`].
    pub fn first_rows(kind: KvType, data: &'a [u8], slots: usize, head_dim: usize) -> Self {
        check_first(slots);
        Self::rows(kind, data, slots, head_dim)
    }

    fn rows(kind: KvType, data: &'a [u8], slots: usize, head_dim: usize) -> Self {
        let (rows, used) = sizes(kind, data.len(), slots, head_dim);
        let (rows, scales) = data[..used].split_at(rows);
        Self {
            kind,
            rows,
            scales,
            slots,
            stride: kind.stride(head_dim),
            ring: Ring::new(slots),
        }
    }

    /// The same ring, in which the first [`KV_BLOCK`] positions are never replaced.
    ///
    /// # Panics
    /// When there is room for one block only.
    pub fn pinned(self) -> Self {
        Self {
            ring: self.ring.pinned(),
            ..self
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

    /// How many consecutive positions it can hold, wherever they lie.
    pub(crate) fn span(&self) -> usize {
        self.slots - if self.ring.pinned { KV_BLOCK } else { 0 }
    }

    /// Whether the first block is kept.
    pub(crate) fn is_pinned(&self) -> bool {
        self.ring.pinned
    }

    /// The rows of block `block`, which starts at position `block * KV_BLOCK`.
    #[inline(always)]
    pub(crate) fn block(&self, block: usize) -> KvBlock<'a> {
        let slot = match self.ring.blocks {
            0 => 0,
            _ => self.ring.place(block) * KV_BLOCK,
        };
        let rows = KV_BLOCK.min(self.slots - slot);
        let scales = match self.kind {
            KvType::Q8 => bytemuck::cast_slice::<_, f32>(self.scales)[slot..].first_chunk(),
            _ => None,
        };
        let scale_bytes = self.kind.scale_bytes();
        KvBlock {
            rows: &self.rows[slot * self.stride..][..rows * self.stride],
            stride: self.stride,
            scales,
            raw_scales: &self.scales[slot * scale_bytes..][..rows * scale_bytes],
        }
    }
}

/// A place for rows: what a [`KvView`] is made of.
#[derive(Debug)]
pub struct KvViewMut<'a> {
    pub(crate) kind: KvType,
    rows: &'a mut [u8],
    scales: &'a mut [u8],
    stride: usize,
    head_dim: usize,
    ring: Option<Ring>,
}

impl<'a> KvViewMut<'a> {
    /// Room for `slots` rows; see [`KvView::new`].
    ///
    /// # Panics
    /// As [`KvView::new`] does.
    pub fn new(kind: KvType, data: &'a mut [u8], slots: usize, head_dim: usize) -> Self {
        check_ring(slots);
        let ring = Some(Ring::new(slots));
        Self {
            ring,
            ..Self::rows(kind, data, slots, head_dim)
        }
    }

    /// Room for the rows of the first `slots` positions; see [`KvView::first_rows`].
    ///
    /// # Panics
    /// As [`KvView::first_rows`] does.
    pub fn first_rows(kind: KvType, data: &'a mut [u8], slots: usize, head_dim: usize) -> Self {
        check_first(slots);
        Self::rows(kind, data, slots, head_dim)
    }

    fn rows(kind: KvType, data: &'a mut [u8], slots: usize, head_dim: usize) -> Self {
        let (rows, used) = sizes(kind, data.len(), slots, head_dim);
        let (rows, scales) = data[..used].split_at_mut(rows);
        Self {
            kind,
            rows,
            scales,
            stride: kind.stride(head_dim),
            head_dim,
            ring: None,
        }
    }

    /// See [`KvView::pinned`].
    ///
    /// # Panics
    /// When there is room for one block only.
    pub fn pinned(self) -> Self {
        Self {
            ring: self.ring.map(Ring::pinned),
            ..self
        }
    }

    /// Elements of a row.
    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The row of `position`, and the bytes of its scale.
    pub(crate) fn row(&mut self, position: usize) -> (&mut [u8], &mut [u8]) {
        let slot = self.ring.map_or(position, |ring| ring.slot(position));
        let scale_bytes = self.kind.scale_bytes();
        (
            &mut self.rows[slot * self.stride..][..self.stride],
            &mut self.scales[slot * scale_bytes..][..scale_bytes],
        )
    }
}

#[track_caller]
fn check_ring(slots: usize) {
    assert!(
        slots > 0 && slots.is_multiple_of(KV_BLOCK),
        "{slots} slots are not whole blocks of {KV_BLOCK}"
    );
}

#[track_caller]
fn check_first(slots: usize) {
    assert!(
        (1..=KV_BLOCK).contains(&slots) && slots.is_multiple_of(4),
        "{slots} first rows"
    );
}

/// Bytes of the rows, and of rows and scales.
fn sizes(kind: KvType, len: usize, slots: usize, head_dim: usize) -> (usize, usize) {
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
    /// The scales of int8 rows.
    pub(crate) scales: Option<&'a [f32; KV_BLOCK]>,
    /// The scales as stored.
    pub(crate) raw_scales: &'a [u8],
}
