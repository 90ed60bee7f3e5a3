//! Positions that a query does not see count for nothing, however little those count that it sees.

use onebit_kernels::{Attend, KV_BLOCK, Kernels, KvType, KvView, KvViewMut};

use crate::attention::attend;
use crate::chosen::sets;
use crate::common::assert_same;
use crate::memory::Bytes;

const HEAD_DIM: usize = 32;
const SLOTS: usize = 2 * KV_BLOCK;
/// The first position of the second block, the only one there that the query sees.
const POSITION: usize = KV_BLOCK;

/// A ring whose rows are multiples of one.
fn ring(set: &Kernels, kind: KvType, row: impl Fn(usize) -> f32) -> Bytes {
    let mut data = Bytes::zeroed(SLOTS * kind.row_bytes(HEAD_DIM));
    let mut view = KvViewMut::new(kind, &mut data, SLOTS, HEAD_DIM);
    for position in 0..SLOTS {
        set.store_kv(&mut view, position, &[row(position); HEAD_DIM]);
    }
    data
}

#[test]
fn what_is_not_seen_has_no_weight_beside_tiny_ones() {
    for &kind in KvType::ALL {
        for (set, gap) in sets()
            .iter()
            .flat_map(|set| [60.0, 73.0, 85.0, 200.0].map(|gap| (set, gap)))
        {
            // All weight is on the first position, whose value is 0.
            let keys = ring(set, kind, |p| if p == 0 { 1.0 } else { -1.0 });
            let found = [0.0, 100.0].map(|unseen| {
                let values = ring(set, kind, |p| match p {
                    POSITION => 1.0,
                    0..POSITION => 0.0,
                    _ => unseen,
                });
                let view = |data| KvView::new(kind, data, SLOTS, HEAD_DIM).into();
                let queries = Attend {
                    q: &[gap / (2 * HEAD_DIM) as f32; HEAD_DIM],
                    q_stride: HEAD_DIM,
                    tokens: 1,
                    heads: 1,
                    head_dim: HEAD_DIM,
                    keys: view(&keys),
                    values: view(&values),
                    position: POSITION,
                    window: usize::MAX,
                    sinks: 0,
                    scale: 1.0,
                };
                attend(set, &queries)
            });
            let what = format!("{} over {} at {gap}", set.name(), kind.name());
            assert_same(&found[1], &found[0], what);
        }
    }
}
