//! Attention: all sets agree to the bit, and come close to an exact softmax.

use onebit_kernels::{Attend, KV_BLOCK, Kernels, KvType, KvView, oracle};
use proptest::prelude::*;

use crate::common::{Random, agreed, assert_same};

struct Case {
    heads: usize,
    head_dim: usize,
    kinds: (KvType, KvType),
    slots: usize,
    first: usize,
    last: usize,
    /// Multiplies the queries: large makes the softmax sharp.
    sharpness: f32,
}

/// A ring of rows of one kind, filled at the positions attended to; every other slot is NaN.
fn ring(set: &Kernels, kind: KvType, case: &Case, rows: &[Vec<f32>]) -> Vec<u8> {
    let size = kind.row_bytes(case.head_dim);
    let mut data = vec![0xff; case.slots * size];
    for (i, row) in rows.iter().enumerate() {
        let slot = (case.first + i) % case.slots;
        set.store_kv(kind, row, &mut data[slot * size..][..size]);
    }
    data
}

/// Values as the cache gives them back.
fn stored(kind: KvType, rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let read = |x: &f32| match kind {
        KvType::F16 => half::f16::from_f32(*x).to_f32(),
        _ => *x,
    };
    rows.iter()
        .map(|row| row.iter().map(read).collect())
        .collect()
}

fn check(case: &Case) -> Vec<f32> {
    let mut random = Random(case.first as u64);
    let n = case.last - case.first + 1;
    let mut rows = || {
        (0..n)
            .map(|_| random.floats(case.head_dim))
            .collect::<Vec<_>>()
    };
    let (keys, values) = (rows(), rows());
    let q: Vec<f32> = random
        .floats(case.heads * case.head_dim)
        .iter()
        .map(|q| q * case.sharpness)
        .collect();
    let scale = 1.0 / (case.head_dim as f32).sqrt();
    let attend = |set: &Kernels, q: &[f32]| {
        let k = ring(set, case.kinds.0, case, &keys);
        let v = ring(set, case.kinds.1, case, &values);
        let attend = Attend {
            q,
            head_dim: case.head_dim,
            keys: KvView::new(case.kinds.0, &k, case.slots, case.head_dim),
            values: KvView::new(case.kinds.1, &v, case.slots, case.head_dim),
            first: case.first,
            last: case.last,
            scale,
        };
        let mut out = vec![f32::NAN; q.len()];
        set.attend(&attend, &mut out);
        out
    };
    let found = agreed("attend", |set| attend(set, &q));
    for (q, together) in q.chunks(case.head_dim).zip(found.chunks(case.head_dim)) {
        assert_same(&attend(Kernels::best(), q), together, "a head alone");
    }
    let (keys, values) = (stored(case.kinds.0, &keys), stored(case.kinds.1, &values));
    for (q, out) in q.chunks(case.head_dim).zip(found.chunks(case.head_dim)) {
        for (x, exact) in out.iter().zip(oracle::attend(q, &keys, &values, scale)) {
            assert!((f64::from(*x) - exact).abs() < 2e-5, "{x} and {exact}");
        }
    }
    found
}

const F32: (KvType, KvType) = (KvType::F32, KvType::F32);
const F16: (KvType, KvType) = (KvType::F16, KvType::F16);

fn case(heads: usize, head_dim: usize, first: usize, last: usize) -> Case {
    Case {
        heads,
        head_dim,
        kinds: F32,
        slots: 1024,
        first,
        last,
        sharpness: 3.0,
    }
}

#[test]
fn head_sizes_and_groups() {
    for head_dim in [1, 15, 16, 17, 64, 80, 100, 128, 256] {
        for heads in [1, 2, 3, 4, 5, 8, 11] {
            for kinds in [
                F32,
                F16,
                (KvType::F16, KvType::F32),
                (KvType::F32, KvType::F16),
            ] {
                check(&Case {
                    kinds,
                    ..case(heads, head_dim, 0, 70)
                });
            }
        }
    }
}

#[test]
fn windows_start_and_end_inside_blocks() {
    for first in [0, 1, 63, 64, 65, 100, 127, 128] {
        for n in [1, 2, 27, 28, 63, 64, 65, 129, 200] {
            for kinds in [F32, F16] {
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
            for n in [1, 33, slots] {
                let last = first + n - 1;
                check(&Case {
                    slots,
                    ..case(3, 100, first, last)
                });
            }
        }
    }
}

#[test]
fn where_the_ring_lies_does_not_matter() {
    let expected = check(&Case {
        slots: 4096,
        ..case(4, 64, 700, 890)
    });
    for slots in [192, 256, 1024] {
        let found = check(&Case {
            slots,
            ..case(4, 64, 700, 890)
        });
        assert_eq!(found, expected, "{slots} slots");
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
    for set in crate::common::sets() {
        let k = vec![0; 4 * 16];
        let mut v = vec![0; 4 * 16];
        set.store_kv(KvType::F32, &[1.0; 16], &mut v);
        let view = |data| KvView::new(KvType::F32, data, 1, 16);
        let q = [f32::NAN; 16];
        let attend = Attend {
            q: &q,
            head_dim: 16,
            keys: view(&k),
            values: view(&v),
            first: 0,
            last: 0,
            scale: 1.0,
        };
        let mut out = [0.0; 16];
        set.attend(&attend, &mut out);
        assert!(out.iter().all(|x| x.is_nan()), "{}", set.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_shape(
        heads in 1usize..10,
        head_dim in 1usize..140,
        first in 0usize..500,
        n in 1usize..200,
        slots in 200usize..400,
        f16: bool,
    ) {
        let kinds = if f16 { F16 } else { F32 };
        check(&Case { kinds, slots, ..case(heads, head_dim, first, first + n - 1) });
    }
}
