//! The softmax on line: within a span by blocks, then over spans.

use super::Block;
use crate::body::math::exp_weight;
use crate::sets::{Set, Vector};

/// Turns the scores of a block into weights relative to the new maximum, updates maximum and total,
/// and returns the factor for what the earlier blocks left, each of `T` heads. A step is taken for all heads before the
/// next one: the steps of one wait for one another.
#[inline(always)]
pub(super) fn soften<S: Set, const T: usize>(
    s: S,
    p: &mut [Block; T],
    states: &mut [[f32; 2]; T],
) -> [f32; T] {
    const { assert!(T <= 16) };
    let mut max = [0.0; T];
    let mut less = [0.0; 16];
    for i in 0..T {
        let mut lanes = s.splat(states[i][0]);
        for chunk in p[i].as_chunks::<16>().0 {
            lanes = s.load(chunk).max(lanes);
        }
        max[i] = lanes.tree_max();
        less[i] = states[i][0] - max[i];
    }
    let mut factors = [0.0; 16];
    exp_weight(s, s.load(&less)).store(&mut factors);
    let mut sums = [0.0; T];
    for i in 0..T {
        let mut sum = s.splat(0.0);
        for chunk in p[i].as_chunks_mut::<16>().0 {
            let weight = exp_weight(s, s.load(chunk) - s.splat(max[i]));
            weight.store(chunk);
            sum = sum + weight;
        }
        sums[i] = sum.tree_sum();
    }
    let mut rescale = [0.0; T];
    for i in 0..T {
        rescale[i] = factors[i];
        states[i] = [max[i], states[i][1].mul_add(factors[i], sums[i])];
    }
    rescale
}

#[inline(always)]
fn exp_of<S: Set>(s: S, x: f32) -> f32 {
    let mut lanes = [0.0; 16];
    exp_weight(s, s.splat(x)).store(&mut lanes);
    lanes[0]
}

/// Merges the partial result `from` into `into`, which is that of earlier spans.
#[inline(always)]
pub(crate) fn merge<S: Set>(s: S, head_dim: usize, into: &mut [f32], from: &[f32]) {
    let heads = into.len() / (head_dim + 2);
    let (sums, states) = into.split_at_mut(heads * head_dim);
    let (from, from_states) = from.split_at(heads * head_dim);
    let states = states.as_chunks_mut::<2>().0.iter_mut();
    let states = states.zip(from_states.as_chunks::<2>().0);
    let sums = sums
        .chunks_exact_mut(head_dim)
        .zip(from.chunks_exact(head_dim));
    for (([max, total], [m, l]), (sums, from)) in states.zip(sums) {
        let new_max = if *m > *max { *m } else { *max };
        let (a, b) = (exp_of(s, *max - new_max), exp_of(s, *m - new_max));
        *max = new_max;
        *total = total.mul_add(a, *l * b);
        for (x, y) in sums.iter_mut().zip(from) {
            *x = x.mul_add(a, *y * b);
        }
    }
}

/// Divides the sums of a merged result by the total weights.
#[inline(always)]
pub(crate) fn finish<S: Set>(_: S, head_dim: usize, partial: &[f32], out: &mut [f32]) {
    let heads = partial.len() / (head_dim + 2);
    let (sums, states) = partial.split_at(heads * head_dim);
    let sums = sums.chunks_exact(head_dim).zip(states.as_chunks::<2>().0);
    for ((sums, [_, total]), out) in sums.zip(out.chunks_exact_mut(head_dim)) {
        let factor = 1.0 / total;
        for (x, y) in out.iter_mut().zip(sums) {
            *x = y * factor;
        }
    }
}
