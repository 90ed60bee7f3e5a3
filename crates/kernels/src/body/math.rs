//! The exponential.
//!
//! `exp(x) = 2^n * exp(r)` with `n = round(x / ln 2)` and `|r| <= ln 2 / 2`:
//!
//! 1. `n` by adding and subtracting 1.5 * 2^23, which rounds half to even in any IEEE arithmetic.
//! 2. `r = x - n ln 2`, with ln 2 split in a head of 9 bits, whose product with `n` is exact, and a
//!    tail (Cody and Waite).
//! 3. `exp(r)` by its Taylor polynomial of degree 7, whose truncation is below 0.1 ulp on this range.
//! 4. `2^n` as the product of two powers of two, each built from its exponent bits, so that results
//!    below the normal range round once and results above become infinite.
//!
//! Inputs are clamped to -104..=89, beyond which the result is 0 or infinite anyway; NaN stays NaN.
//!
//! The weights of a softmax are at most 1 and relative to one that is 1: below `e^-87` they count for nothing, and are taken as
//! that. So no result is below the normal range, where some CPUs take a hundred cycles, and one power of two is enough.

use crate::sets::{Set, Vector};

/// 1.5 * 2^23.
const ROUND: f32 = 12_582_912.0;
/// `ROUND + n` has `n` in its low bits; with the exponent bias added they are those of 2^n.
const ROUND_BIASED: f32 = ROUND + 127.0;
const LN2_HEAD: f32 = 355.0 / 512.0;
const LN2_TAIL: f32 = -2.121_944_4e-4;

/// 1/7!, 1/6!, ... 1/2!.
const TAYLOR: [f32; 6] = [
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
];

/// `e^x` in each lane, within 1.5 ulp.
#[inline(always)]
pub(crate) fn exp<S: Set>(s: S, x: S::F) -> S::F {
    let (y, n) = reduced(s, s.splat(89.0).min(s.splat(-104.0).max(x)));
    let half = n.mul_add(s.splat(0.5), s.splat(ROUND_BIASED));
    let rest = (n - (half - s.splat(ROUND_BIASED))) + s.splat(ROUND_BIASED);
    y * half.shl23() * rest.shl23()
}

/// `e^x` in each lane for `x` of at most 0, within 1.5 ulp down to -87, and from there on `e^-87`.
#[inline(always)]
pub(crate) fn exp_weight<S: Set>(s: S, x: S::F) -> S::F {
    let (y, n) = reduced(s, s.splat(-87.0).max(x));
    y * (n + s.splat(ROUND_BIASED)).shl23()
}

/// `y` between the roots of 1/2 and 2, and a whole `n`: `e^x = 2^n y`.
#[inline(always)]
fn reduced<S: Set>(s: S, x: S::F) -> (S::F, S::F) {
    let n = x.mul_add(s.splat(std::f32::consts::LOG2_E), s.splat(ROUND)) - s.splat(ROUND);
    let r = n.mul_add(s.splat(-LN2_HEAD), x);
    let r = n.mul_add(s.splat(-LN2_TAIL), r);
    let mut p = s.splat(TAYLOR[0]);
    for c in &TAYLOR[1..] {
        p = p.mul_add(r, s.splat(*c));
    }
    (p.mul_add(r * r, r) + s.splat(1.0), n)
}

/// `x = e^x`.
#[inline(always)]
pub(crate) fn exp_slice<S: Set>(s: S, x: &mut [f32]) {
    let (chunks, tail) = x.as_chunks_mut::<16>();
    for chunk in chunks {
        exp(s, s.load(chunk)).store(chunk);
    }
    if !tail.is_empty() {
        exp(s, s.load_part(tail)).store_part(tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::scalar::Scalar;

    #[test]
    fn weights_are_exponentials_cut_off_where_they_count_for_nothing() {
        // SAFETY: it asks nothing of the CPU.
        let s = unsafe { Scalar::assume() };
        let of = |x: f32| {
            let (mut weight, mut whole) = ([0.0; 16], [0.0; 16]);
            exp_weight(s, s.splat(x)).store(&mut weight);
            exp(s, s.splat(x)).store(&mut whole);
            (weight[0], whole[0])
        };
        let least = of(-87.0).0;
        for i in 0..=8700 {
            let x = i as f32 * -0.01;
            let (weight, whole) = of(x);
            assert_eq!(weight.to_bits(), whole.to_bits(), "e^{x}");
            assert!(weight.is_normal() && weight >= least, "e^{x}");
        }
        for x in [-87.1, -104.0, -1e30, f32::NEG_INFINITY] {
            assert_eq!(of(x).0, least, "e^{x}");
        }
        assert!(of(f32::NAN).0.is_nan());
    }
}
