//! Attention: all sets agree to the bit, and come close to an exact softmax.

use std::collections::BTreeMap;

use onebit_kernels::{
    Attend, KV_BLOCK, KV_GROUP, KV_SPAN, Kernels, KvSide, KvType, KvView, KvViewMut, TileMut,
    oracle,
};
use proptest::prelude::*;

use crate::chosen::sets;
use crate::common::{Random, agreed, assert_same};
use crate::memory::{Bytes, assert_exact};

#[derive(Clone)]
struct Case {
    tokens: usize,
    heads: usize,
    head_dim: usize,
    kinds: (KvType, KvType),
    slots: usize,
    position: usize,
    window: usize,
    /// Positions that stay visible outside of the window.
    sinks: usize,
    /// Of rows of fewer than 8 bits: how many of the first are int8 too, and how far back the last.
    exact: Option<(usize, usize)>,
    /// Multiplies the queries: large makes the softmax sharp.
    sharpness: f32,
}

impl Case {
    fn first(&self, t: usize) -> usize {
        (self.position + t + 1).saturating_sub(self.window)
    }

    /// Positions that any query sees.
    fn seen(&self) -> impl Iterator<Item = usize> {
        let window = self.first(0);
        (0..self.sinks.min(window)).chain(window..self.position + self.tokens)
    }

    /// Positions that query `t` sees.
    fn seen_by(&self, t: usize) -> impl Iterator<Item = usize> {
        let window = self.first(t);
        (0..self.sinks.min(window)).chain(window..self.position + t + 1)
    }

    /// Whether query `t` reads `position` at 8 bits.
    fn is_exact(&self, t: usize, position: usize) -> bool {
        let group = (self.position + t) / KV_GROUP * KV_GROUP;
        self.exact
            .is_some_and(|(first, reach)| position < first || position + reach >= group)
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

    /// Room for rows, all bytes 0xff: NaN, or a code with a scale of NaN.
    fn room(&self, kind: KvType, slots: usize) -> Bytes {
        Bytes::filled(slots * kind.row_bytes(self.head_dim), 0xff)
    }

    /// A ring of rows of one kind, filled at the positions attended to.
    fn ring(&self, set: &Kernels, kind: KvType, which: u64) -> Bytes {
        let mut data = self.room(kind, self.slots);
        let mut view = KvViewMut::new(kind, &mut data, self.slots, self.head_dim);
        if self.sinks > 0 {
            view = view.pinned();
        }
        for position in self.seen() {
            set.store_kv(&mut view, position, &self.row(which, position));
        }
        data
    }

    /// The first and the last rows as int8, as many as are read.
    fn exact_rings(&self, set: &Kernels, which: u64) -> Option<[Bytes; 2]> {
        let (first, reach) = self.exact?;
        let mut rooms = [first.max(4), self.slots].map(|slots| self.room(KvType::Q8, slots));
        let [a, b] = &mut rooms;
        let mut a = KvViewMut::first_rows(KvType::Q8, a, first.max(4), self.head_dim);
        let mut b = KvViewMut::new(KvType::Q8, b, self.slots, self.head_dim);
        let recent = (self.position / KV_GROUP * KV_GROUP).saturating_sub(reach);
        for position in self.seen() {
            let row = self.row(which, position);
            if position < first {
                set.store_kv(&mut a, position, &row);
            }
            if position >= recent {
                set.store_kv(&mut b, position, &row);
            }
        }
        Some(rooms)
    }

    /// Runs `f` with the queries and caches of the case.
    fn run<T>(&self, set: &Kernels, f: impl FnOnce(&Attend<'_>) -> T) -> T {
        let kinds = [self.kinds.0, self.kinds.1];
        let rings = [0, 1].map(|i| self.ring(set, kinds[i], i as u64));
        let exact = [0, 1].map(|i| self.exact_rings(set, i));
        let q = self.exact_queries();
        let side = |i: usize| -> KvSide<'_> {
            assert_exact(&rings[i]);
            let mut view = KvView::new(kinds[i], &rings[i], self.slots, self.head_dim);
            if self.sinks > 0 {
                view = view.pinned();
            }
            let (Some((first, reach)), Some([a, b]), true) =
                (self.exact, &exact[i], kinds[i].is_packed())
            else {
                return view.into();
            };
            let rows = KvView::first_rows(KvType::Q8, a, first.max(4), self.head_dim);
            let recent = KvView::new(KvType::Q8, b, self.slots, self.head_dim);
            KvSide::from(view).with_exact((first > 0).then_some(rows), recent, reach)
        };
        f(&Attend {
            q: &q,
            q_stride: self.width() + 3,
            tokens: self.tokens,
            heads: self.heads,
            head_dim: self.head_dim,
            keys: side(0),
            values: side(1),
            position: self.position,
            window: self.window,
            sinks: self.sinks,
            scale: self.scale(),
        })
    }

    fn queries(&self) -> Vec<f32> {
        let row = |t| Random(!((self.position + t) as u64)).floats(self.width() + 3);
        let rows = (0..self.tokens).flat_map(row);
        rows.map(|q| q * self.sharpness).collect()
    }

    /// The queries, with nothing after the last.
    fn exact_queries(&self) -> Box<[f32]> {
        let len = (self.tokens - 1) * (self.width() + 3) + self.width();
        let queries = Box::<[f32]>::from(&self.queries()[..len]);
        assert_exact(&queries);
        queries
    }

    fn attend(&self, set: &Kernels) -> Vec<f32> {
        self.run(set, |a| attend(set, a))
    }

    /// The rows attended to, as stored, and as stored among the exact ones.
    fn stored(&self, kind: KvType, which: u64) -> BTreeMap<usize, [Vec<f32>; 2]> {
        let exact = match kind.is_packed() {
            true => KvType::Q8,
            false => kind,
        };
        let both = |position| {
            let row = self.row(which, position);
            (position, [stored(kind, &row), stored(exact, &row)])
        };
        self.seen().map(both).collect()
    }

    /// The largest distance from the exact result for the rows as stored.
    fn distance(&self, found: &[f32]) -> f64 {
        let (q, d) = (self.queries(), self.head_dim);
        let (keys, values) = (self.stored(self.kinds.0, 0), self.stored(self.kinds.1, 1));
        let mut largest = 0.0f64;
        for t in 0..self.tokens {
            let seen_by = |rows: &BTreeMap<usize, [Vec<f32>; 2]>| -> Vec<Vec<f32>> {
                let row =
                    |position| rows[&position][usize::from(self.is_exact(t, position))].clone();
                self.seen_by(t).map(row).collect()
            };
            let (keys, values) = (seen_by(&keys), seen_by(&values));
            for h in 0..self.heads {
                let q = &q[t * (self.width() + 3) + h * d..][..d];
                let exact = oracle::attend(q, &keys, &values, self.scale());
                let found = &found[t * self.width() + h * d..][..d];
                for (x, exact) in found.iter().zip(exact) {
                    largest = largest.max((f64::from(*x) - exact).abs());
                }
            }
        }
        largest
    }
}

pub(crate) fn attend(set: &Kernels, a: &Attend<'_>) -> Vec<f32> {
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
    let partial = |span| {
        let mut partial = vec![f32::NAN; a.partial_len()];
        set.attend_span(
            a,
            span,
            &mut TileMut::whole(&mut partial, 1, a.partial_len()),
        );
        partial
    };
    let spans = (0..a.spans(0)).map(|i| a.span(0, i));
    let partials: Vec<_> = spans.rev().map(partial).collect();
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
        KvType::Q4 | KvType::Q2 | KvType::B1 => oracle::packed_row(row, kind.bits()),
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
    let quantized = case.kinds.0.bits() <= 8 || case.kinds.1.bits() <= 8;
    let limit = if quantized { 2e-4 } else { 2e-5 };
    let distance = case.distance(&found);
    assert!(distance < limit, "{distance} from the exact result");
    found
}

const KINDS: [(KvType, KvType); 9] = [
    (KvType::F32, KvType::F32),
    (KvType::F16, KvType::F16),
    (KvType::Q8, KvType::Q8),
    (KvType::Q8, KvType::F16),
    (KvType::F32, KvType::Q8),
    (KvType::Q4, KvType::Q4),
    (KvType::B1, KvType::B1),
    (KvType::Q8, KvType::Q2),
    (KvType::Q2, KvType::F16),
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
        sinks: 0,
        exact: None,
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
    }
    for kinds in &KINDS[..5] {
        check(&Case {
            kinds: *kinds,
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
                for kinds in [KINDS[0], KINDS[2], KINDS[6]] {
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
                let mut data = Bytes::zeroed(KV_BLOCK * kind.row_bytes(16));
                let mut view = KvViewMut::new(kind, &mut data, KV_BLOCK, 16);
                set.store_kv(&mut view, 0, &[1.0; 16]);
                data
            });
            let view = |data| KvView::new(kind, data, KV_BLOCK, 16).into();
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
                sinks: 0,
                scale: 1.0,
            };
            let out = attend(set, &queries);
            assert!(out.iter().all(|x| x.is_nan()), "{}", set.name());
        }
    }
}

/// Queries of a step pass together, but none takes part in what only later ones see.
#[test]
fn what_later_queries_see_does_not_matter() {
    const TOKENS: usize = 5;
    for &kind in KvType::ALL {
        for set in sets() {
            let rings = |last: f32| {
                [(); 2].map(|()| {
                    let mut data = Bytes::zeroed(KV_BLOCK * kind.row_bytes(32));
                    let mut view = KvViewMut::new(kind, &mut data, KV_BLOCK, 32);
                    for position in 0..TOKENS {
                        let mut row = Random(position as u64 + 1).floats(32);
                        if position + 1 == TOKENS {
                            row.fill(last);
                        }
                        set.store_kv(&mut view, position, &row);
                    }
                    data
                })
            };
            let q = Random(9).floats(TOKENS * 2 * 32);
            let found = [0.5, f32::NAN].map(|last| {
                let rings = rings(last);
                let view = |data| KvView::new(kind, data, KV_BLOCK, 32).into();
                let queries = Attend {
                    q: &q,
                    q_stride: 64,
                    tokens: TOKENS,
                    heads: 2,
                    head_dim: 32,
                    keys: view(&rings[0]),
                    values: view(&rings[1]),
                    position: 0,
                    window: usize::MAX,
                    sinks: 0,
                    scale: 0.2,
                };
                attend(set, &queries)
            });
            let before = (TOKENS - 1) * 64;
            let what = format!("{} {}", set.name(), kind.name());
            assert_same(&found[1][..before], &found[0][..before], &what);
            assert!(found[1][before..].iter().all(|x| x.is_nan()), "{what}");
        }
    }
}

#[test]
fn first_and_last_rows_at_eight_bits() {
    for kinds in &KINDS[5..] {
        for exact in [(0, 0), (4, 0), (0, 16), (8, 32), (64, 100)] {
            for (tokens, position) in [(1, 0), (1, 15), (1, 130), (20, 5), (40, 60), (33, 700)] {
                check(&Case {
                    kinds: *kinds,
                    exact: Some(exact),
                    tokens,
                    position,
                    window: usize::MAX,
                    ..case(4, 64, 0, 0)
                });
            }
        }
    }
}

#[test]
fn sinks_outside_of_the_window() {
    for kinds in KINDS {
        for sinks in [1, 4, 64] {
            for (tokens, position, window) in [
                (1, 300, 40),
                (1, 70, 10),
                (20, 60, 50),
                (5, 3000, 70),
                (9, 508, 500),
            ] {
                let base = case(3, 40, 0, 0);
                check(&Case {
                    kinds,
                    sinks,
                    tokens,
                    position,
                    window,
                    ..base.clone()
                });
                check(&Case {
                    kinds,
                    sinks,
                    tokens,
                    position,
                    window,
                    exact: Some((4, 32)),
                    ..base
                });
            }
        }
    }
}

#[test]
fn rotations() {
    for n in [1, 2, 4, 15, 16, 64, 80, 96, 100, 128, 256] {
        let head = Random(n as u64).floats(n);
        let turned = agreed("rotate", |set| {
            let mut x = head.clone();
            set.rotate(&mut x);
            x
        });
        for (x, exact) in turned.iter().zip(oracle::rotate(&head)) {
            assert!((f64::from(*x) - exact).abs() < 1e-5, "{x} for {exact}");
        }
        let mut back = turned;
        Kernels::best().rotate(&mut back);
        for (x, expected) in back.iter().zip(&head) {
            assert!((x - expected).abs() < 1e-5, "{x} for {expected}");
        }
    }
}

#[test]
fn odd_rows_are_stored_as_by_the_oracle() {
    let rows = [
        vec![0.0; 20],
        vec![-0.0, 1e-30, -1e-39, 0.0],
        vec![3e38, -3e38, 1.0],
        vec![f32::INFINITY, 1.0],
        vec![1.0, f32::NAN],
    ];
    for row in rows {
        for kind in [KvType::Q4, KvType::Q2, KvType::B1] {
            let bits = agreed("store", |set| {
                let mut data = Bytes::zeroed(KV_BLOCK * kind.row_bytes(row.len()));
                let mut view = KvViewMut::new(kind, &mut data, KV_BLOCK, row.len());
                set.store_kv(&mut view, 3, &row);
                data.iter().map(|&byte| f32::from(byte)).collect::<Vec<_>>()
            });
            let stride = kind.stride(row.len());
            let at = KV_BLOCK * stride + 2 * 3;
            let scale = u16::from_ne_bytes([bits[at] as u8, bits[at + 1] as u8]);
            let scale = half::bf16::from_bits(scale).to_f32();
            for (i, expected) in oracle::packed_row(&row, kind.bits()).iter().enumerate() {
                let byte = bits[3 * stride + i % stride] as u8;
                let largest = (1 << kind.bits()) - 1;
                let code = byte >> (kind.bits() * (i / stride)) & largest;
                let found = f32::from(2 * code as i8 - largest as i8) * scale;
                assert!(
                    found == *expected || found.is_nan() && expected.is_nan(),
                    "{found} for {expected}"
                );
            }
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
        kinds in 0usize..KINDS.len(),
        exact in proptest::option::of((0usize..16, 0usize..50)),
    ) {
        let exact = exact.map(|(first, reach)| (4 * first, reach));
        let (kinds, slots) = (KINDS[kinds], slots * KV_BLOCK);
        let base = case(heads, head_dim, 0, 0);
        check(&Case { kinds, slots, tokens, position, window, exact, ..base });
    }
}
