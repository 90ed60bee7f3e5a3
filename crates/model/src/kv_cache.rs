//! Keys and values of one sequence.

use onebit_kernels::{AlignedVec, KV_BLOCK, Kernels, KvType, KvView, KvViewMut};

use crate::error::ModelError;
use crate::spec::{MAX_POSITIONS, ModelSpec};

/// Keys and values of the tokens of one sequence, for every layer.
///
/// Per layer and kv head the rows of consecutive positions lie next to each other. Memory comes zeroed from the operating
/// system, so pages become resident only as the sequence grows.
pub struct KvCache {
    layers: Box<[LayerKv]>,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    len: usize,
    /// Positions announced by the step in progress; they count once the step is complete.
    pending: usize,
    /// Tokens that the sequence will have when the prompt in progress is complete.
    expected: usize,
}

/// Keys and values of one layer.
#[derive(Clone)]
pub(crate) struct LayerKv {
    pub(crate) keys: Plane,
    pub(crate) values: Plane,
}

/// The rows of all kv heads of one layer: per kv head a [`KvView`], where position `p` lives in slot `p % slots`.
#[derive(Clone)]
pub(crate) struct Plane {
    kind: KvType,
    head_dim: usize,
    slots: usize,
    data: AlignedVec<u8>,
}

impl KvCache {
    /// An empty cache for `capacity` tokens (rounded up to whole blocks of [`KV_BLOCK`]) of a model of shape `spec`.
    ///
    /// # Errors
    /// [`ModelError::Spec`] when `spec` is not valid, [`ModelError::Capacity`] when `capacity` is 0 or beyond
    /// [`MAX_POSITIONS`](crate::MAX_POSITIONS), [`ModelError::Memory`] when memory does not suffice.
    pub fn new(
        spec: &ModelSpec,
        keys: KvType,
        values: KvType,
        capacity: usize,
    ) -> Result<Self, ModelError> {
        spec.validate()?;
        if !(1..=MAX_POSITIONS).contains(&capacity) {
            return Err(ModelError::Capacity {
                capacity,
                max: MAX_POSITIONS,
            });
        }
        if Self::bytes(spec, keys, values, capacity).is_none() {
            return Err(ModelError::Memory { what: "KV cache" });
        }
        let capacity = capacity.next_multiple_of(KV_BLOCK);
        let plane = |kind| Plane::new(kind, spec.kv_heads, spec.head_dim, capacity);
        let layer = |_| {
            Some(LayerKv {
                keys: plane(keys)?,
                values: plane(values)?,
            })
        };
        let layers = (0..spec.layers).map(layer).collect::<Option<_>>();
        Ok(Self {
            layers: layers.ok_or(ModelError::Memory { what: "KV cache" })?,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            capacity,
            len: 0,
            pending: 0,
            expected: 0,
        })
    }

    /// Bytes that [`new`](Self::new) would reserve, `None` on overflow and where `spec` is not valid. Resident are only those of positions in use.
    pub fn bytes(spec: &ModelSpec, keys: KvType, values: KvType, capacity: usize) -> Option<usize> {
        spec.validate().ok()?;
        let rows = spec
            .layers
            .checked_mul(spec.kv_heads)?
            .checked_mul(capacity.checked_next_multiple_of(KV_BLOCK)?)?;
        let row = keys
            .row_bytes(spec.head_dim)
            .checked_add(values.row_bytes(spec.head_dim))?;
        rows.checked_mul(row)
            .filter(|&bytes| isize::try_from(bytes).is_ok())
    }

    /// Tokens stored; the next row of the sequence has this position.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is stored.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Storage type of the keys.
    pub fn key_type(&self) -> KvType {
        self.layers[0].keys.kind
    }

    /// Storage type of the values.
    pub fn value_type(&self) -> KvType {
        self.layers[0].values.kind
    }

    /// Forgets all tokens from position `len` on; nothing happens when there are none.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.expected = self.expected.min(len);
    }

    /// Announces that a prompt up to `len` tokens (those stored already included) follows, in one step or several.
    ///
    /// Only [`RopeScaling::Dynamic`](crate::RopeScaling::Dynamic) cares: the base of its angles grows with the length of the
    /// sequence. A token's query and key are turned for `max(len, position + 1)` tokens, and keys stay as they were stored. That
    /// is what `transformers` computes in one forward pass over a prompt and in generation with a cache after it. Without an
    /// announcement every token counts as generated, whatever the steps are.
    pub fn expect(&mut self, len: usize) {
        self.expected = len;
    }

    /// The number of tokens that the rotary angles at `position` are for.
    pub(crate) fn rope_length(&self, position: usize) -> usize {
        self.expected.max(position + 1)
    }

    /// An independent copy that continues from the same tokens. Only rows in use are copied.
    ///
    /// # Panics
    /// When memory does not suffice for another cache of this capacity.
    pub fn fork(&self) -> Self {
        let layers = self.layers.iter().map(|layer| LayerKv {
            keys: layer.keys.fork(self.len),
            values: layer.values.fork(self.len),
        });
        Self {
            layers: layers.collect(),
            pending: 0,
            ..*self
        }
    }

    /// Whether the cache was made for the shape of `spec`.
    pub(crate) fn fits(&self, spec: &ModelSpec) -> bool {
        (self.layers.len(), self.kv_heads, self.head_dim)
            == (spec.layers, spec.kv_heads, spec.head_dim)
    }

    /// The position after the last one stored or announced.
    pub(crate) fn next(&self) -> usize {
        self.len + self.pending
    }

    /// Announces one more position.
    pub(crate) fn announce(&mut self) {
        self.pending += 1;
    }

    /// Takes back all announcements.
    pub(crate) fn retract(&mut self) {
        self.pending = 0;
    }

    /// Makes the announced positions count.
    pub(crate) fn commit(&mut self) {
        self.len += std::mem::take(&mut self.pending);
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerKv {
        &self.layers[layer]
    }

    /// Stores the keys and values (`kv_heads * head_dim` numbers each) of one position of one layer.
    pub(crate) fn store(
        &mut self,
        kernels: &Kernels,
        layer: usize,
        position: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        let layer = &mut self.layers[layer];
        layer.keys.store(kernels, position, keys);
        layer.values.store(kernels, position, values);
    }
}

impl Plane {
    fn new(kind: KvType, kv_heads: usize, head_dim: usize, slots: usize) -> Option<Self> {
        let data = AlignedVec::try_zeroed(kv_heads * slots * kind.row_bytes(head_dim))?;
        Some(Self {
            kind,
            head_dim,
            slots,
            data,
        })
    }

    fn head_bytes(&self) -> usize {
        self.slots * self.kind.row_bytes(self.head_dim)
    }

    /// What the kernels see of one kv head.
    pub(crate) fn head(&self, kv_head: usize) -> KvView<'_> {
        let bytes = self.head_bytes();
        KvView::new(
            self.kind,
            &self.data[kv_head * bytes..][..bytes],
            self.slots,
            self.head_dim,
        )
    }

    fn store(&mut self, kernels: &Kernels, position: usize, row: &[f32]) {
        let head_bytes = self.head_bytes();
        let heads = self.data.chunks_exact_mut(head_bytes);
        for (head, x) in heads.zip(row.chunks_exact(self.head_dim)) {
            let mut view = KvViewMut::new(self.kind, head, self.slots, self.head_dim);
            kernels.store_kv(&mut view, position, x);
        }
    }

    fn fork(&self, len: usize) -> Self {
        let mut data = AlignedVec::zeroed(self.data.len());
        let (head_bytes, used) = (self.head_bytes(), len.min(self.slots));
        let (row, all) = (
            self.kind.stride(self.head_dim),
            self.kind.row_bytes(self.head_dim),
        );
        for (to, from) in data
            .chunks_exact_mut(head_bytes)
            .zip(self.data.chunks_exact(head_bytes))
        {
            let (to_rows, to_scales) = to.split_at_mut(self.slots * row);
            let (rows, scales) = from.split_at(self.slots * row);
            to_rows[..used * row].copy_from_slice(&rows[..used * row]);
            let scales = &scales[..used * (all - row)];
            to_scales[..scales.len()].copy_from_slice(scales);
        }
        Self { data, ..*self }
    }
}

impl std::fmt::Debug for KvCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvCache")
            .field("keys", &self.key_type())
            .field("values", &self.value_type())
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
