//! How a cache stores keys and values, and what each layer keeps.

use onebit_kernels::{KV_BLOCK, KV_GROUP, KvType, MAX_PACKED_HEAD_DIM};

use crate::error::ModelError;
use crate::spec::ModelSpec;

/// Positions whose keys and values are stored before any of their queries attends: what a ring holds
/// beyond the positions that one query sees. A multiple of [`KV_GROUP`](onebit_kernels::KV_GROUP).
pub(crate) const STORE_GROUP: usize = 32;
const _: () = assert!(STORE_GROUP.is_multiple_of(KV_GROUP) && KV_BLOCK.is_multiple_of(STORE_GROUP));

/// How a [`KvCache`](crate::KvCache) stores keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvOptions {
    /// How keys are stored.
    pub keys: KvType,
    /// How values are stored.
    pub values: KvType,
    /// First positions to keep, at most [`MAX_SINKS`](Self::MAX_SINKS). In caches of fewer than 8 bits they have 8, in whole fours of
    /// positions; with [`window`](Self::window) every query sees them.
    pub sinks: usize,
    /// Last positions that have 8 bits in caches of fewer: a query at position `p` reads those from
    /// `p / 16 * 16 - recent` on at 8 bits, whatever steps the sequence was cut into.
    pub recent: usize,
    /// Most positions that a query sees, its own included, in layers that would see more.
    pub window: Option<usize>,
}

impl KvOptions {
    /// Most positions that [`sinks`](Self::sinks) can be.
    pub const MAX_SINKS: usize = KV_BLOCK;

    /// Keys and values of these types, four sinks, 32 recent positions, no window.
    pub fn new(keys: KvType, values: KvType) -> Self {
        Self {
            keys,
            values,
            sinks: 4,
            recent: 32,
            window: None,
        }
    }

    /// The same with keys and values of other types.
    pub fn with_types(self, keys: KvType, values: KvType) -> Self {
        Self {
            keys,
            values,
            ..self
        }
    }

    /// # Errors
    /// [`ModelError::KvOption`] for an option that no cache of a model of this shape can have.
    pub(crate) fn check(&self, spec: &ModelSpec) -> Result<(), ModelError> {
        let error = |what, value, expected| {
            Err(ModelError::KvOption {
                what,
                value,
                expected,
            })
        };
        for kind in [self.keys, self.values] {
            if kind.is_packed() && spec.head_dim > MAX_PACKED_HEAD_DIM {
                return Err(ModelError::KvHead {
                    kind,
                    head_dim: spec.head_dim,
                    max: MAX_PACKED_HEAD_DIM,
                });
            }
        }
        if self.sinks > Self::MAX_SINKS {
            return error("sinks", self.sinks, "at most 64");
        }
        if self.window == Some(0) {
            return error("window", 0, "at least 1");
        }
        Ok(())
    }
}

impl From<KvType> for KvOptions {
    /// Keys and values of the same type; see [`KvOptions::new`].
    fn from(kind: KvType) -> Self {
        Self::new(kind, kind)
    }
}

/// What one layer keeps of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerShape {
    /// Most positions that a query sees, beside the sinks.
    pub(crate) window: Option<usize>,
    /// First positions that every query sees.
    pub(crate) sinks: usize,
    /// Slots of the ring of all positions.
    pub(crate) slots: usize,
    /// Whether the first block keeps its place in the ring.
    pub(crate) pinned: bool,
    /// How far back rows are read at 8 bits in caches of fewer; see [`KvOptions::recent`].
    pub(crate) reach: usize,
    /// Slots of the ring of these rows.
    pub(crate) recent: usize,
    /// Rows of the first positions at 8 bits.
    pub(crate) first: usize,
}

impl LayerShape {
    /// What `layer` keeps, with room for `capacity` tokens. `None` on overflow.
    pub(crate) fn new(
        spec: &ModelSpec,
        options: &KvOptions,
        layer: usize,
        capacity: usize,
    ) -> Option<Self> {
        let all = capacity.checked_next_multiple_of(KV_BLOCK)?;
        let trained = spec.window(layer);
        let narrowed = options
            .window
            .filter(|window| trained.is_none_or(|trained| *window < trained));
        let window = narrowed.or(trained);
        let sinks = narrowed.map_or(0, |_| options.sinks);
        let ring = |seen: usize| {
            Some(
                seen.checked_add(STORE_GROUP - 1)?
                    .next_multiple_of(KV_BLOCK),
            )
        };
        let kept = if sinks > 0 { KV_BLOCK } else { 0 };
        let slots = match window {
            Some(window) => ring(window.min(all))? + kept,
            None => all,
        };
        let reach = options.recent.min(all);
        Some(Self {
            window,
            sinks,
            slots: slots.min(all),
            pinned: kept > 0 && slots < all,
            reach,
            recent: ring(reach + 1)?.min(all),
            first: options.sinks.next_multiple_of(4),
        })
    }

    /// What every layer keeps. `None` on overflow.
    pub(crate) fn all(spec: &ModelSpec, options: &KvOptions, capacity: usize) -> Option<Vec<Self>> {
        let layer = |layer| Self::new(spec, options, layer, capacity);
        (0..spec.layers).map(layer).collect()
    }

    /// Whether a row that an earlier query needs can be replaced by one of a later query, with `packed`
    /// keys or values.
    pub(crate) fn wraps(&self, capacity: usize, packed: bool) -> bool {
        self.slots < capacity || packed && self.recent < capacity
    }

    /// Whether nothing that the query at `position` sees has been replaced, when rows up to `top` have
    /// been stored.
    pub(crate) fn holds(&self, position: usize, top: usize, packed: bool) -> bool {
        let intact = |first: usize, slots: usize| first + slots >= top;
        let seen = self
            .window
            .map_or(0, |window| (position + 1).saturating_sub(window));
        let ring = self.slots - if self.pinned { KV_BLOCK } else { 0 };
        let recent = (position / KV_GROUP * KV_GROUP).saturating_sub(self.reach);
        intact(seen, ring) && (!packed || intact(recent.max(seen), self.recent))
    }
}
