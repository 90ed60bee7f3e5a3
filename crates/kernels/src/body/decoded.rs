//! Integer weights times float activations: the weights as `f32` (code times scale), then as in
//! [`float`](super::float). For layers trained without activation quantization; not tuned.

use onebit_format::MatrixRef;

use super::Product;
use crate::input::F32Rows;
use crate::sets::{Set, Vector};
use crate::tiles::TileMut;

/// Columns decoded at a time.
const STEP: usize = 256;

/// Products of an integer matrix with float activations. The padding takes no part.
#[inline(always)]
pub(crate) fn decoded<S: Set>(s: S, job: &Product<'_, F32Rows<'_>>, out: &mut TileMut<'_, f32>) {
    let Product { w, rows, x } = job;
    for row in rows.clone() {
        for token in 0..x.tokens() {
            let mut acc = s.splat(0.0);
            let mut weights = [0.0; STEP];
            for start in (0..w.cols()).step_by(STEP) {
                let len = STEP.min(w.cols() - start);
                decode(w, row, start, &mut weights[..len]);
                weights[len..].fill(0.0);
                let x = &x.row(token)[start..][..len];
                acc = add_products(s, acc, &weights, x);
            }
            out.row(token)[row - rows.start] = acc.tree_sum();
        }
    }
}

/// Adds the products of `x.len()` columns, which start at a multiple of 16.
#[inline(always)]
fn add_products<S: Set>(s: S, mut acc: S::F, weights: &[f32; STEP], x: &[f32]) -> S::F {
    let (chunks, tail) = x.as_chunks::<16>();
    let weights = weights.as_chunks::<16>().0;
    for (w, x) in weights.iter().zip(chunks) {
        acc = acc + s.load(w) * s.load(x);
    }
    if !tail.is_empty() {
        acc = acc + s.load(&weights[chunks.len()]) * s.load_part(tail);
    }
    acc
}

/// Columns `start..` of a row as `f32`.
#[inline(never)]
fn decode(w: &MatrixRef<'_>, row: usize, start: usize, out: &mut [f32]) {
    for (k, out) in out.iter_mut().enumerate() {
        *out = w.value(row, start + k);
    }
}
