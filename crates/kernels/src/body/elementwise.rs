//! Norms, activations, rotation: loops over 16 lanes with a padded last step.

use super::math::exp;
use crate::sets::{Set, Vector};

/// `out = x / sqrt(mean(x^2) + eps) * weight`: squares summed in 16 lanes and the tree, then one
/// division and square root, both correctly rounded, and two products per element.
#[inline(always)]
pub(crate) fn rms_norm<S: Set>(s: S, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let (chunks, tail) = x.as_chunks::<16>();
    let mut acc = s.splat(0.0);
    for chunk in chunks {
        let v = s.load(chunk);
        acc = v.mul_add(v, acc);
    }
    if !tail.is_empty() {
        let v = s.load_part(tail);
        acc = v.mul_add(v, acc);
    }
    let mean = acc.tree_sum() / x.len() as f32;
    let factor = s.splat(1.0 / (mean + eps).sqrt());
    let (w_chunks, w_tail) = weight.as_chunks::<16>();
    let (out_chunks, out_tail) = out.as_chunks_mut::<16>();
    for ((x, w), out) in chunks.iter().zip(w_chunks).zip(out_chunks) {
        (s.load(x) * factor * s.load(w)).store(out);
    }
    if !tail.is_empty() {
        (s.load_part(tail) * factor * s.load_part(w_tail)).store_part(out_tail);
    }
}

/// A function of two vectors.
trait Map {
    fn apply<S: Set>(s: S, x: S::F, y: S::F) -> S::F;
}

/// `x = f(x, y)`, element by element.
#[inline(always)]
fn update<S: Set, M: Map>(s: S, x: &mut [f32], y: &[f32]) {
    let (x, x_tail) = x.as_chunks_mut::<16>();
    let (y, y_tail) = y.as_chunks::<16>();
    for (x, y) in x.iter_mut().zip(y) {
        M::apply(s, s.load(x), s.load(y)).store(x);
    }
    if !x_tail.is_empty() {
        M::apply(s, s.load_part(x_tail), s.load_part(y_tail)).store_part(x_tail);
    }
}

struct Sum;
struct Silu;

impl Map for Sum {
    #[inline(always)]
    fn apply<S: Set>(_: S, x: S::F, y: S::F) -> S::F {
        x + y
    }
}

impl Map for Silu {
    #[inline(always)]
    fn apply<S: Set>(s: S, x: S::F, y: S::F) -> S::F {
        x / (s.splat(1.0) + exp(s, s.splat(0.0) - x)) * y
    }
}

/// `x += y`.
#[inline(always)]
pub(crate) fn add<S: Set>(s: S, x: &mut [f32], y: &[f32]) {
    update::<S, Sum>(s, x, y);
}

/// `gate = gate / (1 + exp(-gate)) * up`.
#[inline(always)]
pub(crate) fn silu<S: Set>(s: S, gate: &mut [f32], up: &[f32]) {
    update::<S, Silu>(s, gate, up);
}

/// `gate = gate^2 * up` where `gate` is above 0, else 0 whatever `up` is: what need not be computed
/// does not matter. NaN in `gate` stays NaN.
#[inline(always)]
pub(crate) fn relu2<S: Set>(_: S, gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        let product = *gate * *gate * *up;
        *gate = if *gate <= 0.0 { 0.0 } else { product };
    }
}

/// Rotates the pairs `(head[i], head[i + d / 2])` by the angles whose cosines and sines are given.
#[inline(always)]
pub(crate) fn rope<S: Set>(s: S, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (a, b) = head.split_at_mut(cos.len());
    let (a, a_tail) = a.as_chunks_mut::<16>();
    let (b, b_tail) = b.as_chunks_mut::<16>();
    let (cos, cos_tail) = cos.as_chunks::<16>();
    let (sin, sin_tail) = sin.as_chunks::<16>();
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        let (x, y, c, d) = (s.load(a), s.load(b), s.load(cos), s.load(sin));
        (x * c - y * d).store(a);
        (y * c + x * d).store(b);
    }
    if !a_tail.is_empty() {
        let (x, y) = (s.load_part(a_tail), s.load_part(b_tail));
        let (c, d) = (s.load_part(cos_tail), s.load_part(sin_tail));
        (x * c - y * d).store_part(a_tail);
        (y * c + x * d).store_part(b_tail);
    }
}
