//! Keys and values of one sequence.

mod one_step;
mod options;
mod plane;
mod state;

use onebit_kernels::{KV_BLOCK, Kernels};

use crate::error::ModelError;
use crate::spec::{MAX_POSITIONS, ModelSpec};
pub use options::KvOptions;
use options::LayerShape;
pub(crate) use options::STORE_GROUP;
use plane::Side;
pub use state::KvMark;

/// Keys and values of the tokens of one sequence, for every layer.
///
/// Per layer and kv head the rows of consecutive positions lie next to each other, in a ring where a
/// window hides older ones. Memory comes zeroed from the operating system, so pages become resident
/// only as the sequence grows.
pub struct KvCache {
    layers: Box<[LayerKv]>,
    /// Which of `layers` each layer of the model uses, where they share: in a cache for one step.
    shares: Option<Box<[usize]>>,
    options: KvOptions,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    len: usize,
    /// Positions announced by the step in progress; they count once the step is complete.
    pending: usize,
    /// Tokens that the sequence will have when the prompt in progress is complete.
    expected: usize,
    /// One past the last position ever stored since the cache was empty.
    top: usize,
}

/// Keys and values of one layer.
#[derive(Clone)]
pub(crate) struct LayerKv {
    pub(crate) shape: LayerShape,
    pub(crate) keys: Side,
    pub(crate) values: Side,
}

impl KvCache {
    /// An empty cache for `capacity` tokens (rounded up to whole blocks of [`KV_BLOCK`]) of a model of shape `spec`.
    ///
    /// # Errors
    /// [`ModelError::Spec`] when `spec` is not valid, [`ModelError::Capacity`] when `capacity` is 0 or beyond
    /// [`MAX_POSITIONS`](crate::MAX_POSITIONS), [`ModelError::KvOption`] and [`ModelError::KvHead`] for options that
    /// no cache of this shape can have, [`ModelError::Memory`] when memory does not suffice.
    pub fn new(
        spec: &ModelSpec,
        options: impl Into<KvOptions>,
        capacity: usize,
    ) -> Result<Self, ModelError> {
        Self::build(spec, options.into(), capacity, false)
    }

    fn build(
        spec: &ModelSpec,
        options: KvOptions,
        capacity: usize,
        one_step: bool,
    ) -> Result<Self, ModelError> {
        spec.validate()?;
        options.check(spec)?;
        if !(1..=MAX_POSITIONS).contains(&capacity) {
            return Err(ModelError::Capacity {
                capacity,
                max: MAX_POSITIONS,
            });
        }
        let memory = || ModelError::Memory { what: "KV cache" };
        Self::bytes_of(spec, options, capacity, one_step).ok_or_else(memory)?;
        let capacity = capacity.next_multiple_of(KV_BLOCK);
        let mut shapes = LayerShape::all(spec, &options, capacity).ok_or_else(memory)?;
        let shares = one_step.then(|| one_step::share(&mut shapes));
        let layer = |shape: LayerShape| {
            let side = |kind| Side::new(kind, spec.kv_heads, spec.head_dim, &shape);
            Some(LayerKv {
                keys: side(options.keys)?,
                values: side(options.values)?,
                shape,
            })
        };
        let layers = shapes.into_iter().map(layer).collect::<Option<_>>();
        Ok(Self {
            layers: layers.ok_or_else(memory)?,
            shares,
            options,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            capacity,
            len: 0,
            pending: 0,
            expected: 0,
            top: 0,
        })
    }

    /// Bytes that [`new`](Self::new) would reserve, `None` on overflow and where `spec` or an option is not valid.
    /// Resident are only those of positions in use.
    pub fn bytes(
        spec: &ModelSpec,
        options: impl Into<KvOptions>,
        capacity: usize,
    ) -> Option<usize> {
        Self::bytes_of(spec, options.into(), capacity, false)
    }

    fn bytes_of(
        spec: &ModelSpec,
        options: KvOptions,
        capacity: usize,
        one_step: bool,
    ) -> Option<usize> {
        spec.validate().ok()?;
        options.check(spec).ok()?;
        let mut shapes = LayerShape::all(spec, &options, capacity)?;
        if one_step {
            one_step::share(&mut shapes);
        }
        let mut bytes = 0usize;
        for shape in shapes {
            for kind in [options.keys, options.values] {
                let side = Side::bytes(kind, spec.kv_heads, spec.head_dim, &shape)?;
                bytes = bytes.checked_add(side)?;
            }
        }
        Some(bytes).filter(|&bytes| isize::try_from(bytes).is_ok())
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

    /// How keys and values are stored.
    pub fn options(&self) -> &KvOptions {
        &self.options
    }

    /// Forgets the tokens from position `len` on, and returns how many are left: `len`, all where there are fewer, or none where rows
    /// that the next query needs have been replaced since: in rings, old tokens cannot be gone back to, nor in a cache
    /// [for one step](Self::for_one_step).
    pub fn truncate(&mut self, len: usize) -> usize {
        let holds = |layer: &LayerKv| layer.shape.holds(len, self.top, layer.is_packed());
        if len < self.len {
            self.len = if !self.is_for_one_step() && self.layers.iter().all(holds) {
                len
            } else {
                0
            };
        }
        if self.len == 0 {
            self.top = 0;
        }
        self.expected = self.expected.min(self.len);
        self.len
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
            shape: layer.shape,
            keys: layer.keys.fork(self.top),
            values: layer.values.fork(self.top),
        });
        Self {
            layers: layers.collect(),
            shares: self.shares.clone(),
            pending: 0,
            ..*self
        }
    }

    /// Elements of one head.
    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Whether the cache was made for the shape of `spec`.
    pub(crate) fn fits(&self, spec: &ModelSpec) -> bool {
        let layers = self.shares.as_ref().map_or(self.layers.len(), |s| s.len());
        (layers, self.kv_heads, self.head_dim) == (spec.layers, spec.kv_heads, spec.head_dim)
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
        self.top = self.top.max(self.len);
    }

    /// Which of `layers` holds the rows of `layer`.
    fn place(&self, layer: usize) -> usize {
        self.shares.as_ref().map_or(layer, |shares| shares[layer])
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerKv {
        &self.layers[self.place(layer)]
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
        let place = self.place(layer);
        let layer = &mut self.layers[place];
        layer.keys.store(kernels, position, keys);
        layer.values.store(kernels, position, values);
    }
}

impl LayerKv {
    fn is_packed(&self) -> bool {
        self.keys.kind().is_packed() || self.values.kind().is_packed()
    }

    /// Whether rows must be stored, and attended from, [`STORE_GROUP`] positions at a time.
    pub(crate) fn wraps(&self, capacity: usize) -> bool {
        self.shape.wraps(capacity, self.is_packed())
    }
}

impl std::fmt::Debug for KvCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvCache")
            .field("options", &self.options)
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
