//! Caches whose layers share one place for their rows.

use super::KvCache;
use super::options::{KvOptions, LayerShape};
use crate::error::ModelError;
use crate::spec::ModelSpec;

impl KvCache {
    /// A cache that lasts for one step, to score a text with: the whole sequence comes as the rows of one step, from position 0
    /// on, and each layer writes its keys and values over those of the layer before. It takes the memory of one layer; of two,
    /// where some of the model's layers have a window and others have none.
    ///
    /// Results are those of a cache that [`new`](Self::new) makes. A second step is refused
    /// ([`ModelError::OneStep`]) until the cache has been [truncated](Self::truncate) to nothing, and so is a saved state.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn for_one_step(
        spec: &ModelSpec,
        options: impl Into<KvOptions>,
        capacity: usize,
    ) -> Result<Self, ModelError> {
        Self::build(spec, options.into(), capacity, true)
    }

    /// Bytes that [`for_one_step`](Self::for_one_step) would reserve, as [`bytes`](Self::bytes) says those of
    /// [`new`](Self::new).
    pub fn one_step_bytes(
        spec: &ModelSpec,
        options: impl Into<KvOptions>,
        capacity: usize,
    ) -> Option<usize> {
        Self::bytes_of(spec, options.into(), capacity, true)
    }

    /// Whether the cache lasts for one step.
    pub fn is_for_one_step(&self) -> bool {
        self.shares.is_some()
    }
}

/// Leaves one of each kind of shape; which of them each layer has.
pub(super) fn share(shapes: &mut Vec<LayerShape>) -> Box<[usize]> {
    let mut kinds: Vec<LayerShape> = Vec::new();
    let place = |shape: &LayerShape| {
        let known = kinds.iter().position(|kind| kind == shape);
        known.unwrap_or_else(|| {
            kinds.push(*shape);
            kinds.len() - 1
        })
    };
    let places = shapes.iter().map(place).collect();
    *shapes = kinds;
    places
}
