//! The rows in use as bytes, and back.

use std::io::{Read, Write};

use onebit_kernels::KV_BLOCK;

use super::KvCache;
use super::options::LayerShape;
use super::plane::Plane;
use crate::error::ModelError;
use crate::spec::{MAX_POSITIONS, ModelSpec};

/// Where a cache stands, beside its rows: what must be known to read rows again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvMark {
    /// [`KvCache::capacity`].
    pub capacity: usize,
    /// [`KvCache::len`].
    pub len: usize,
    /// One past the last position ever stored since the cache was empty.
    pub top: usize,
    /// What [`KvCache::expect`] announced last.
    pub expected: usize,
}

impl KvCache {
    /// Where the cache stands.
    pub fn mark(&self) -> KvMark {
        KvMark {
            capacity: self.capacity,
            len: self.len,
            top: self.top,
            expected: self.expected,
        }
    }

    /// Bytes of the rows that a cache like this one has at a mark: what [`write_rows`](Self::write_rows) writes.
    pub fn rows_bytes(&self, top: usize) -> u64 {
        let bytes = |plane: &Plane| plane.used_bytes(top) as u64;
        self.planes().map(bytes).sum()
    }

    /// Writes the rows in use: layer by layer the keys, then the values. Of each, all rows, then those that have 8 bits in a cache of
    /// fewer: the first positions', then the last ones'. Of each of these, head by head, the codes of the slots in use, then their scales.
    ///
    /// # Errors
    /// Those of `out`; [`std::io::ErrorKind::Unsupported`] for a cache [for one step](Self::for_one_step).
    pub fn write_rows(&self, out: &mut impl Write) -> std::io::Result<()> {
        if self.is_for_one_step() {
            return Err(std::io::ErrorKind::Unsupported.into());
        }
        self.planes()
            .try_for_each(|plane| plane.write(self.top, out))
    }

    /// Whether rows written at `mark`, by a cache of these options for a model of shape `spec`, can be read into this one: slots mean
    /// the same positions in both where both have the same number of them, or where no slot has had a second position yet.
    ///
    /// # Errors
    /// [`ModelError::StateMark`] for a mark that no cache can have, [`ModelError::StateCapacity`] where slots would mean other positions,
    /// [`ModelError::OneStep`] for a cache [for one step](Self::for_one_step).
    pub fn check_mark(&self, spec: &ModelSpec, mark: &KvMark) -> Result<(), ModelError> {
        if self.is_for_one_step() {
            return Err(ModelError::OneStep);
        }
        let bad = |what| Err(ModelError::StateMark { what });
        let most = MAX_POSITIONS.next_multiple_of(KV_BLOCK);
        if mark.capacity == 0 || mark.capacity > most || !mark.capacity.is_multiple_of(KV_BLOCK) {
            return bad("capacity");
        }
        if mark.len > mark.top || mark.top > mark.capacity || (mark.len == 0) != (mark.top == 0) {
            return bad("number of positions");
        }
        if mark.expected > most {
            return bad("number of expected positions");
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let saved = LayerShape::new(spec, &self.options, index, mark.capacity);
            let Some(saved) = saved else {
                return bad("capacity");
            };
            let (here, packed) = (&layer.shape, layer.is_packed());
            let agree = |a: usize, b: usize| a == b || mark.top <= a.min(b);
            if !agree(saved.slots, here.slots) || packed && !agree(saved.recent, here.recent) {
                return Err(ModelError::StateCapacity {
                    top: mark.top,
                    saved: mark.capacity,
                    capacity: self.capacity,
                });
            }
            if !saved.holds(mark.len, mark.top, packed) {
                return bad("number of positions");
            }
        }
        Ok(())
    }

    /// Replaces all rows with those that [`write_rows`](Self::write_rows) wrote at `mark`. What is read is not judged: a checksum
    /// must say that it is what was written. After an error the cache is empty.
    ///
    /// # Errors
    /// As [`check_mark`](Self::check_mark); those of `input`, as [`ModelError::StateRead`].
    pub fn read_rows(
        &mut self,
        spec: &ModelSpec,
        mark: &KvMark,
        input: &mut impl Read,
    ) -> Result<(), ModelError> {
        self.truncate(0);
        self.check_mark(spec, mark)?;
        for layer in &mut self.layers {
            for side in [&mut layer.keys, &mut layer.values] {
                for plane in side.planes_mut() {
                    plane.read(mark.top, input).map_err(ModelError::StateRead)?;
                }
            }
        }
        (self.len, self.top, self.expected) = (mark.len, mark.top, mark.expected);
        Ok(())
    }

    fn planes(&self) -> impl Iterator<Item = &Plane> {
        let sides = self.layers.iter().flat_map(|l| [&l.keys, &l.values]);
        sides.flat_map(|side| side.planes())
    }
}
