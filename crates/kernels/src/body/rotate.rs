//! Rotation of heads: fast Walsh-Hadamard transforms.

use crate::sets::{Set, Vector};

/// Multiplies blocks of the largest powers of two by `H / sqrt(size)`.
#[inline(always)]
pub(crate) fn rotate<S: Set>(s: S, head: &mut [f32]) {
    let mut rest = head;
    while !rest.is_empty() {
        let size = 1 << rest.len().ilog2();
        let (block, tail) = rest.split_at_mut(size);
        match size {
            16.. => wide(s, block.as_chunks_mut::<16>().0),
            _ => narrow(block),
        }
        rest = tail;
    }
}

/// A power of two of vectors: sums and differences of vectors, then within each.
#[inline(always)]
fn wide<S: Set>(s: S, block: &mut [[f32; 16]]) {
    let mut half = block.len() / 2;
    while half > 0 {
        for pair in block.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                let (x, y) = (s.load(a), s.load(b));
                (x + y).store(a);
                (x - y).store(b);
            }
        }
        half /= 2;
    }
    let factor = 1.0 / ((16 * block.len()) as f32).sqrt();
    for chunk in block {
        for half in [8, 4, 2, 1] {
            let x = *chunk;
            for l in 0..16 {
                let (this, other) = (x[l], x[l ^ half]);
                chunk[l] = if l & half == 0 {
                    this + other
                } else {
                    other - this
                };
            }
        }
        (s.load(chunk) * s.splat(factor)).store(chunk);
    }
}

/// Fewer numbers than a vector has.
#[inline(always)]
fn narrow(block: &mut [f32]) {
    let mut half = block.len() / 2;
    while half > 0 {
        for pair in block.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half /= 2;
    }
    let factor = 1.0 / (block.len() as f32).sqrt();
    block.iter_mut().for_each(|x| *x *= factor);
}
