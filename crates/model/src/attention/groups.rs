//! Which rows of a step are stored before they attend.
//!
//! In a ring, later rows replace those that earlier queries see. A ring has room for the positions of a group beside those that
//! the group's first query sees, so rows are taken a group at a time.

use crate::kv_cache::{KvCache, STORE_GROUP};
use crate::layer::LayerCall;
use crate::step::Row;

/// The end of the rows from `start` on that can be stored together.
pub(super) fn end(call: &LayerCall<'_>, caches: &[&mut KvCache], start: usize) -> usize {
    let wraps = |row: &Row| {
        let cache = &caches[row.sequence];
        cache.layer(call.index).wraps(cache.capacity())
    };
    let leaves = |&end: &usize| {
        let row = &call.rows[end];
        let earlier = &call.rows[start..end];
        let first = earlier.iter().find(|other| other.sequence == row.sequence);
        let group = |row: &Row| row.position / STORE_GROUP;
        first.is_some_and(|first| group(first) != group(row)) && wraps(row)
    };
    let all = call.rows.len();
    (start + 1..all).find(leaves).unwrap_or(all)
}
