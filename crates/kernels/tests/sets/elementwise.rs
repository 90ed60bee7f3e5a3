//! Quantization, norms, activations, rotation, cache rows, and the exponential.

use half::f16;
use onebit_kernels::{Activation, KV_BLOCK, Kernels, KvType, KvViewMut, oracle};
use proptest::prelude::*;

use crate::chosen::sets;
use crate::common::{Random, agreed, assert_same};
use crate::memory::{Bytes, assert_exact};

const LENGTHS: &[usize] = &[1, 15, 16, 17, 31, 32, 33, 100, 2560];

/// Floats of every magnitude: denormals, zeros of both signs, halves, and large values.
fn all_sizes(n: usize, random: &mut Random) -> Vec<f32> {
    let mut next = || match random.next() % 8 {
        0 => f32::from_bits(random.next() as u32 & 0x007f_ffff),
        1 => -f32::from_bits(random.next() as u32 & 0x007f_ffff),
        2 => 0.0,
        3 => -0.0,
        4 => random.unit() * 1e30,
        5 => random.unit() * 1e-30,
        6 => (random.unit() * 200.0).round() / 2.0,
        _ => random.unit() * 10.0,
    };
    (0..n).map(|_| next()).collect()
}

fn check_quantize(x: &[f32]) {
    let (expected, quant) = oracle::quantize_i8(x);
    let exact = Box::<[f32]>::from(x);
    assert_exact(&exact);
    for set in sets() {
        let mut q = vec![99; x.len() + 37];
        let found = set.quantize_i8(&exact, &mut q);
        assert_eq!(
            found.scale.to_bits(),
            quant.scale.to_bits(),
            "{} scale",
            set.name()
        );
        assert_eq!(found.sum, quant.sum, "{} sum", set.name());
        assert_eq!(q[..x.len()], expected, "{} codes", set.name());
        assert!(
            q[x.len()..].iter().all(|&q| q == 0),
            "{} padding",
            set.name()
        );
    }
}

#[test]
fn quantize_rounds_halves_to_even() {
    let ties: Vec<f32> = (-254..=254).map(|i| i as f32 / 2.0).collect();
    check_quantize(&ties);
    let (q, _) = oracle::quantize_i8(&ties);
    assert_eq!(q[254 + 1], 0); // 0.5
    assert_eq!(q[254 + 3], 2); // 1.5
    assert_eq!(q[254 + 5], 2); // 2.5
}

#[test]
fn quantize_lengths_and_magnitudes() {
    let mut random = Random(1);
    for &n in LENGTHS {
        check_quantize(&random.floats(n));
        check_quantize(&all_sizes(n, &mut random));
        check_quantize(&vec![0.0; n]);
        check_quantize(&vec![-1e-20; n]);
        check_quantize(&vec![f32::MAX; n]);
    }
    check_quantize(&[]);
}

#[test]
fn quantize_refuses_what_is_not_finite() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 20, 39] {
            let mut x = vec![1.0; 40];
            x[place] = bad;
            for set in sets() {
                let mut q = vec![5; 64];
                let found = set.quantize_i8(&x, &mut q);
                assert!(
                    found.scale.is_nan() && found.sum == 0,
                    "{} {bad}",
                    set.name()
                );
                assert_eq!(q, vec![0; 64], "{} {bad}", set.name());
            }
        }
    }
}

#[test]
fn rms_norm() {
    let mut random = Random(2);
    for &n in LENGTHS {
        let weight = random.floats(n);
        for x in [random.floats(n), all_sizes(n, &mut random), vec![0.0; n]] {
            let found = agreed("rms_norm", |set| {
                let mut out = vec![0.0; n];
                set.rms_norm(&x, &weight, 1e-5, &mut out);
                out
            });
            assert_same(&found, &oracle::rms_norm(&x, &weight, 1e-5), "rms_norm");
        }
    }
}

#[test]
fn add() {
    let mut random = Random(3);
    for &n in LENGTHS {
        let (x, y) = (all_sizes(n, &mut random), all_sizes(n, &mut random));
        let found = agreed("add", |set| {
            let mut out = x.clone();
            set.add(&mut out, &y);
            out
        });
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        assert_same(&found, &expected, "add");
    }
}

fn gate(activation: Activation, x: &[f32], up: &[f32]) -> Vec<f32> {
    let up = Box::<[f32]>::from(up);
    assert_exact(&up);
    agreed("gate", |set| {
        let mut out = x.to_vec();
        set.gate(activation, &mut out, &up);
        out
    })
}

#[test]
fn relu2_up_to_overflow() {
    let mut random = Random(4);
    for &n in LENGTHS {
        let (mut x, up) = (all_sizes(n, &mut random), random.floats(n));
        x[n - 1] = 1e30;
        let expected: Vec<f32> = x
            .iter()
            .zip(&up)
            .map(|(&x, up)| if x <= 0.0 { 0.0 } else { x * x * up })
            .collect();
        assert_same(&gate(Activation::Relu2, &x, &up), &expected, "relu2");
    }
    let x = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -0.0];
    assert_same(
        &gate(Activation::Relu2, &x, &[1.0; 4]),
        &[f32::NAN, 0.0, f32::INFINITY, 0.0],
        "relu2",
    );
    let up = [f32::NAN, f32::INFINITY, -f32::MAX];
    assert_same(
        &gate(Activation::Relu2, &[-1.0, 0.0, -0.0], &up),
        &[0.0; 3],
        "relu2 of what is not needed",
    );
}

#[test]
fn silu_close_to_exact() {
    let mut random = Random(5);
    let mut x: Vec<f32> = (-4000..4000).map(|i| i as f32 / 40.0).collect();
    x.extend(all_sizes(1000, &mut random));
    let found = gate(Activation::Silu, &x, &vec![1.0; x.len()]);
    for (&x, &y) in x.iter().zip(&found) {
        let exact = f64::from(x) / (1.0 + (-f64::from(x)).exp());
        let error = (f64::from(y) - exact).abs();
        assert!(
            error <= exact.abs() * 4e-7 + 3e-37,
            "silu({x:e}) = {y:e}, exactly {exact:e}"
        );
    }
}

#[test]
fn rope_rotates_halves() {
    let mut random = Random(6);
    for half in [1, 8, 32, 40, 50, 64] {
        let head = random.floats(2 * half);
        let (cos, sin) = (random.floats(half), random.floats(half));
        let found = agreed("rope", |set| {
            let mut out = head.clone();
            set.rope(&mut out, &cos, &sin);
            out
        });
        for i in 0..half {
            let (a, b) = (head[i], head[half + i]);
            assert_eq!(found[i].to_bits(), (a * cos[i] - b * sin[i]).to_bits());
            assert_eq!(
                found[half + i].to_bits(),
                (b * cos[i] + a * sin[i]).to_bits()
            );
        }
    }
}

#[test]
fn store_kv_saturates() {
    let mut random = Random(7);
    for &n in LENGTHS {
        let mut x = all_sizes(n, &mut random);
        x.extend([
            65504.0,
            65519.9,
            65520.0,
            -1e30,
            f32::INFINITY,
            f32::NEG_INFINITY,
            6e-8,
            3e-8,
        ]);
        x.extend((0..64).map(|i| f16::from_bits(i * 997).to_f32() * (1.0 + 4.9e-4)));
        for set in sets() {
            let out = stored(set, KvType::F16, &x);
            for (&x, bytes) in x.iter().zip(out.as_chunks::<2>().0) {
                let expected = f16::from_f32_const(if x.is_nan() {
                    x
                } else {
                    x.clamp(-65504.0, 65504.0)
                });
                assert_eq!(
                    f16::from_le_bytes(*bytes).to_bits(),
                    expected.to_bits(),
                    "{x:e}"
                );
            }
            let out = stored(set, KvType::F32, &x);
            for (&x, bytes) in x.iter().zip(out.as_chunks::<4>().0) {
                assert_eq!(f32::from_le_bytes(*bytes).to_bits(), x.to_bits());
            }
        }
    }
}

#[test]
fn int8_cache_rows() {
    for n in [1, 16, 31, 100, 128] {
        let x = Random(n as u64).floats(n);
        let (codes, quant) = oracle::quantize_i8(&x);
        for set in sets() {
            let out = stored(set, KvType::Q8, &x);
            let rows: &[i8] = bytemuck::cast_slice(&out[..n]);
            assert_eq!(rows, codes, "{}", set.name());
            let scale: f32 = bytemuck::pod_read_unaligned(&out[KV_BLOCK * n..][..4]);
            assert_eq!(scale.to_bits(), (1.0 / quant.scale).to_bits());
        }
    }
}

/// A cache of one block whose first row is `x`.
fn stored(set: &Kernels, kind: KvType, x: &[f32]) -> Bytes {
    let x: &[f32] = &Box::<[f32]>::from(x);
    assert_exact(x);
    let mut data = Bytes::zeroed(KV_BLOCK * kind.row_bytes(x.len()));
    set.store_kv(
        &mut KvViewMut::new(kind, &mut data, KV_BLOCK, x.len()),
        0,
        x,
    );
    data
}

/// Distance from the exact result in units of its last place (of the smallest denormal below the
/// normal range).
fn ulps(found: f32, exact: f64) -> f64 {
    let exponent = (exact.log2().floor() as i32).clamp(-126, 127);
    (f64::from(found) - exact).abs() / 2f64.powi(exponent - 23)
}

#[test]
fn exp_is_accurate_over_its_whole_range() {
    let mut x: Vec<f32> = (0..2_000_000)
        .map(|i| -104.0 + i as f32 * (192.7 / 2e6))
        .collect();
    x.extend((0..100_000).map(|i| f32::from_bits(i * 10_651)));
    x.extend((0..100_000).map(|i| -f32::from_bits(i * 10_651)));
    x.retain(|x| *x <= 88.72);
    let found = agreed("exp", |set| {
        let mut out = x.clone();
        set.exp(&mut out);
        out
    });
    let mut worst = 0.0f64;
    for (&x, &y) in x.iter().zip(&found) {
        let exact = f64::from(x).exp();
        worst = worst.max(if exact < 1e-45 {
            f64::from(y) / 1e-45
        } else {
            ulps(y, exact)
        });
    }
    assert!(worst <= 1.5, "{worst} ulp");
    eprintln!("exp: {worst:.3} ulp at worst");
}

#[test]
fn exp_outside_its_range() {
    let x = [
        f32::NEG_INFINITY,
        -1e30,
        -105.0,
        0.0,
        -0.0,
        89.0,
        1e30,
        f32::INFINITY,
        f32::NAN,
    ];
    let expected = [
        0.0,
        0.0,
        0.0,
        1.0,
        1.0,
        f32::INFINITY,
        f32::INFINITY,
        f32::INFINITY,
        f32::NAN,
    ];
    let found = agreed("exp", |set| {
        let mut out = x.to_vec();
        set.exp(&mut out);
        out
    });
    assert_same(&found, &expected, "exp");
}

proptest! {
    #[test]
    fn quantize_anything(bits in prop::collection::vec(any::<u32>(), 0..200), scale in 0u32..3) {
        let x: Vec<f32> = bits.iter().map(|&b| match scale {
            0 => f32::from_bits(b),
            1 => f32::from_bits(b & 0xbfff_ffff),
            _ => b as i32 as f32 / 65536.0,
        }).collect();
        if x.iter().all(|x| x.is_finite()) {
            check_quantize(&x);
        }
    }

    #[test]
    fn exp_of_any_bits(bits in prop::collection::vec(any::<u32>(), 1..100)) {
        let x: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let found = agreed("exp", |set| {
            let mut out = x.clone();
            set.exp(&mut out);
            out
        });
        prop_assert!(found.iter().zip(&x).all(|(y, x)| x.is_nan() || *y >= 0.0));
    }
}
