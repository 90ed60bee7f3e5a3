//! Which weights a step reads in which order, for who decides what of them stays in memory.

use std::ops::Range;

use crate::model::Model;

/// Told where a step is, so that weights can be read before they are needed and given back after.
///
/// A step goes through all [stages](Model::stages) in order, the last one only where logits or hidden states are wanted. Calls
/// come from the thread that runs the step, between parallel regions, and should not allocate, nor wait in step after step. They
/// can change when a step is done, never what it computes.
pub trait Residency: Send + Sync {
    /// The weights of `stage` are read next.
    fn before(&self, stage: usize);

    /// The weights of `stage` have been read.
    fn after(&self, stage: usize);
}

impl Model {
    /// Where the weights of each stage are in the bytes of the file: one stage per layer, then final norm and head. Ranges of a
    /// stage are in order, and joined where less than a page is between them. A table of embeddings that is not the head
    /// belongs to no stage: steps read single rows of it.
    pub fn stages(&self) -> Vec<Vec<Range<usize>>> {
        let layers = self.weights.layers.iter().map(|layer| layer.ranges());
        let head = self.weights.head_ranges();
        layers.chain([head]).map(joined).collect()
    }
}

/// Sorts ranges and joins those that share a page or almost do.
fn joined(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    const PAGE: usize = 4096;
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end + PAGE => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn neighbours_become_one_range() {
        let ranges = vec![20_000..30_000, 0..64, 128..5000, 25_000..26_000];
        assert_eq!(joined(ranges), [0..5000, 20_000..30_000]);
        assert!(joined(Vec::new()).is_empty());
    }
}
