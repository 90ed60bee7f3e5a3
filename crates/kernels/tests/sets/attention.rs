//! Attention: all sets agree to the bit, and come close to an exact softmax.

use onebit_kernels::{
    AlignedVec, Attend, KV_BLOCK, KV_SPAN, Kernels, KvType, KvView, KvViewMut, TileMut, oracle,
};
use proptest::prelude::*;

use crate::common::{Random, agreed, assert_same, sets};

#[derive(Clone)]
struct Case {
    tokens: usize,
    heads: usize,
    head_dim: usize,
    kinds: (KvType, KvType),
    slots: usize,
    position: usize,
    window: usize,
    /// Multiplies the queries: large makes the softmax sharp.
    sharpness: f32,
}

impl Case {
    fn first(&self, t: usize) -> usize {
        (self.position + t + 1).saturating_sub(self.window)
    }

    /// Positions that any query sees.
    fn seen(&self) -> std::ops::Range<usize> {
        self.first(0)..self.position + self.tokens
    }

    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Row `position` of keys (0) or values (1).
    fn row(&self, which: u64, position: usize) -> Vec<f32> {
        Random(2 * position as u64 + which).floats(self.head_dim)
    }

    /// A ring of rows of one kind, filled at the positions attended to; every other byte is 0xff: NaN, or
    /// a code with a scale of NaN.
    fn ring(&self, set: &Kernels, kind: KvType, which: u64) -> AlignedVec<u8> {
        let size = self.slots * kind.row_bytes(self.head_dim);
        let mut data = AlignedVec::from_slice(&vec![0xff; size]);
        let mut view = KvViewMut::new(kind, &mut data, self.slots, self.head_dim);
        for position in self.seen() {
            set.store_kv(&mut view, position, &self.row(which, position));
        }
        data
    }

    /// Runs `f` with the queries and caches of the case.
    fn run<T>(&self, set: &Kernels, f: impl FnOnce(&Attend<'_>) -> T) -> T {
        let rings = [
            self.ring(set, self.kinds.0, 0),
            self.ring(set, self.kinds.1, 1),
        ];
        let q = self.queries();
        let view = |kind, data| KvView::new(kind, data, self.slots, self.head_dim);
        f(&Attend {
            q: &q,
            q_stride: self.width() + 3,
            tokens: self.tokens,
            heads: self.heads,
            head_dim: self.head_dim,
            keys: view(self.kinds.0, &rings[0]),
            values: view(self.kinds.1, &rings[1]),
            position: self.position,
            window: self.window,
            scale: self.scale(),
        })
    }

    fn queries(&self) -> Vec<f32> {
        let row = |t| Random(!((self.position + t) as u64)).floats(self.width() + 3);
        let rows = (0..self.tokens).flat_map(row);
        rows.map(|q| q * self.sharpness).collect()
    }

    fn attend(&self, set: &Kernels) -> Vec<f32> {
        self.run(set, |a| attend(set, a))
    }

    /// The largest distance from the exact result for the rows as stored.
    fn distance(&self, found: &[f32]) -> f64 {
        let stored = |kind, which| -> Vec<Vec<f32>> {
            let row = |position| stored(kind, &self.row(which, position));
            self.seen().map(row).collect()
        };
        let (keys, values) = (stored(self.kinds.0, 0), stored(self.kinds.1, 1));
        let (q, d) = (self.queries(), self.head_dim);
        let mut largest = 0.0f64;
        for t in 0..self.tokens {
            let used = self.first(t) - self.first(0)..self.position + t + 1 - self.first(0);
            for h in 0..self.heads {
                let q = &q[t * (self.width() + 3) + h * d..][..d];
                let (keys, values) = (&keys[used.clone()], &values[used.clone()]);
                let exact = oracle::attend(q, keys, values, self.scale());
                let found = &found[t * self.width() + h * d..][..d];
                for (x, exact) in found.iter().zip(exact) {
                    largest = largest.max((f64::from(*x) - exact).abs());
                }
            }
        }
        largest
    }
}

fn attend(set: &Kernels, a: &Attend<'_>) -> Vec<f32> {
    let width = a.heads * a.head_dim;
    let mut out = vec![f32::NAN; a.tokens * width];
    let mut scratch = vec![f32::NAN; a.tokens * 2 * a.partial_len()];
    set.attend(
        a,
        &mut TileMut::whole(&mut out, a.tokens, width),
        &mut TileMut::whole(&mut scratch, a.tokens, 2 * a.partial_len()),
    );
    out
}

/// [`attend`] for one query, span by span, the last span first.
fn by_spans(set: &Kernels, a: &Attend<'_>) -> Vec<f32> {
    let (start, end) = a.spans(0).into_inner();
    let partial = |span| {
        let mut partial = vec![f32::NAN; a.partial_len()];
        set.attend_span(
            a,
            span,
            &mut TileMut::whole(&mut partial, 1, a.partial_len()),
        );
        partial
    };
    let partials: Vec<_> = (start..=end).rev().map(partial).collect();
    let mut all = partials[partials.len() - 1].clone();
    for partial in partials.iter().rev().skip(1) {
        set.merge_spans(a.head_dim, &mut all, partial);
    }
    let mut out = vec![f32::NAN; a.heads * a.head_dim];
    set.finish_spans(a.head_dim, &all, &mut out);
    out
}

/// A row as the cache gives it back.
fn stored(kind: KvType, row: &[f32]) -> Vec<f32> {
    match kind {
        KvType::F16 => row
            .iter()
            .map(|x| half::f16::from_f32(*x).to_f32())
            .collect(),
        KvType::Q8 => {
            let (codes, quant) = oracle::quantize_i8(row);
            let multiplier = 1.0 / quant.scale;
            codes.iter().map(|q| f32::from(*q) * multiplier).collect()
        }
        _ => row.to_vec(),
    }
}

/// All sets agree, every query alone and every head alone gives the same bits, spans too, and the result
/// is close to the exact one.
fn check(case: &Case) -> Vec<f32> {
    let found = agreed("attend", |set| case.attend(set));
    let best = Kernels::best();
    for t in 0..case.tokens {
        let alone = Case {
            tokens: 1,
            position: case.position + t,
            ..case.clone()
        };
        let expected = &found[t * case.width()..][..case.width()];
        alone.run(best, |a| {
            assert_same(&attend(best, a), expected, "a query alone");
            assert_same(&by_spans(best, a), expected, "span by span");
            for (h, expected) in expected.chunks(case.head_dim).enumerate() {
                let head = Attend {
                    q: &a.q[h * case.head_dim..],
                    heads: 1,
                    ..*a
                };
                assert_same(&attend(best, &head), expected, "a head alone");
            }
        });
    }
    let quantized = case.kinds.0 == KvType::Q8 || case.kinds.1 == KvType::Q8;
    let limit = if quantized { 2e-4 } else { 2e-5 };
    let distance = case.distance(&found);
    assert!(distance < limit, "{distance} from the exact result");
    found
}

const KINDS: [(KvType, KvType); 5] = [
    (KvType::F32, KvType::F32),
    (KvType::F16, KvType::F16),
    (KvType::Q8, KvType::Q8),
    (KvType::Q8, KvType::F16),
    (KvType::F32, KvType::Q8),
];

/// One query that sees `first..=last`.
fn case(heads: usize, head_dim: usize, first: usize, last: usize) -> Case {
    Case {
        tokens: 1,
        heads,
        head_dim,
        kinds: KINDS[0],
        slots: 1024,
        position: last,
        window: last + 1 - first,
        sharpness: 3.0,
    }
}

#[test]
fn head_sizes_and_groups() {
    for head_dim in [1, 15, 16, 17, 32, 33, 64, 80, 96, 100, 128, 256] {
        for heads in [1, 2, 3, 4, 5, 8, 11] {
            for kinds in KINDS {
                check(&Case {
                    kinds,
                    ..case(heads, head_dim, 0, 70)
                });
            }
        }
    }
}

#[test]
fn more_heads_than_pass_together() {
    for kinds in KINDS {
        check(&Case {
            kinds,
            ..case(70, 32, 0, 70)
        });
        check(&Case {
            kinds,
            tokens: 3,
            ..case(5, 4096, 10, 80)
        });
    }
}

#[test]
fn windows_start_and_end_inside_blocks() {
    for first in [0, 1, 63, 64, 65, 100, 127, 128] {
        for n in [1, 2, 27, 28, 63, 64, 65, 129, 200] {
            for kinds in KINDS {
                check(&Case {
                    kinds,
                    ..case(2, 64, first, first + n - 1)
                });
            }
        }
    }
}

#[test]
fn wrapped_rings() {
    for slots in [64, 128, 192] {
        for first in [0, 1, 60, 64, 130, 191, 1000, 1_000_000_007] {
            for n in [1, 33, slots - 63, slots] {
                for kinds in [KINDS[0], KINDS[2]] {
                    let last = first + n - 1;
                    check(&Case {
                        slots,
                        kinds,
                        ..case(3, 100, first, last)
                    });
                }
            }
        }
    }
}

#[test]
fn where_the_ring_lies_does_not_matter() {
    for kinds in KINDS {
        let wide = Case {
            slots: 4096,
            kinds,
            ..case(4, 64, 700, 890)
        };
        let expected = check(&wide);
        for slots in [256, 1024] {
            let found = check(&Case {
                slots,
                ..wide.clone()
            });
            assert_eq!(found, expected, "{slots} slots");
        }
    }
}

#[test]
fn several_spans() {
    for kinds in KINDS {
        for (position, window) in [
            (KV_SPAN - 2, usize::MAX),
            (2 * KV_SPAN - 1, usize::MAX),
            (2 * KV_SPAN + 60, KV_SPAN + 3),
            (2 * KV_SPAN + 60, 70),
        ] {
            check(&Case {
                kinds,
                position,
                window,
                tokens: 5,
                slots: 2048,
                ..case(4, 32, 0, 0)
            });
        }
    }
}

#[test]
fn many_queries() {
    for kinds in KINDS {
        for (heads, tokens) in [(1, 33), (2, 20), (4, 16), (4, 40), (7, 9)] {
            check(&Case {
                kinds,
                tokens,
                position: 60,
                window: 90,
                ..case(heads, 40, 0, 0)
            });
        }
    }
}

#[test]
fn sharp_softmax() {
    for sharpness in [0.0, 1e-3, 100.0, 3e4] {
        check(&Case {
            sharpness,
            ..case(4, 64, 10, 10 + 3 * KV_BLOCK)
        });
    }
}

#[test]
fn scores_that_are_not_finite_show() {
    for &kind in KvType::ALL {
        for set in sets() {
            let rings = [(); 2].map(|()| {
                let mut data = AlignedVec::zeroed(KV_BLOCK * kind.row_bytes(16));
                let mut view = KvViewMut::new(kind, &mut data, KV_BLOCK, 16);
                set.store_kv(&mut view, 0, &[1.0; 16]);
                data
            });
            let view = |data| KvView::new(kind, data, KV_BLOCK, 16);
            let queries = Attend {
                q: &[f32::NAN; 16],
                q_stride: 16,
                tokens: 1,
                heads: 1,
                head_dim: 16,
                keys: view(&rings[0]),
                values: view(&rings[1]),
                position: 0,
                window: 1,
                scale: 1.0,
            };
            let out = attend(set, &queries);
            assert!(out.iter().all(|x| x.is_nan()), "{}", set.name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_shape(
        tokens in 1usize..20,
        heads in 1usize..10,
        head_dim in 1usize..140,
        position in 0usize..1100,
        window in 1usize..200,
        slots in 4usize..8,
        kinds in 0usize..5,
    ) {
        let (kinds, slots) = (KINDS[kinds], slots * KV_BLOCK);
        let base = case(heads, head_dim, 0, 0);
        check(&Case { kinds, slots, tokens, position, window, ..base });
    }
}
