//! Ternary and binary weights with a scale per 128 columns, times int8 activations.
//!
//! As in [`int4`](super::int4): exact within a group, `f32` between groups, lane `l` of 16 owning
//! bytes `4l..4l + 4` of the group's two planes. One row and token at a time; not tuned.

use onebit_format::{Layout, Scales};

use super::Product;
use crate::input::I8Rows;
use crate::sets::{Set, Vector};
use crate::tiles::TileMut;

/// Planes of 64 columns in a group.
const PLANES: usize = 2;

/// How a code becomes a weight: `code * step - 1`, codes of `bits` bits.
#[derive(Clone, Copy)]
struct Codes {
    bits: usize,
    step: i16,
}

/// Products of a ternary or binary matrix with group scales, scaled.
#[inline(always)]
pub(crate) fn grouped<S: Set>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, f32>) {
    let Product { w, rows, x } = job;
    let Scales::Groups { values, .. } = w.scales() else {
        panic!("{} has no group scales", w.layout());
    };
    let codes = match w.layout() {
        Layout::T2 => Codes { bits: 2, step: 1 },
        _ => Codes { bits: 1, step: 2 },
    };
    let groups = w.cols().div_ceil(64 * PLANES);
    for row in rows.clone() {
        let scales = &values[row * groups..][..groups];
        let bytes = w.row_bytes_of(row).as_chunks::<64>().0;
        for token in 0..x.tokens() {
            let x_row = x.row(token).as_chunks::<64>().0.as_chunks::<PLANES>().0;
            let mut acc = s.splat(0.0);
            for (g, scale) in scales.iter().enumerate() {
                let bit = g * PLANES * codes.bits;
                let dots = dots(codes, &bytes[bit / 8], bit % 8, &x_row[g]);
                acc = acc + s.load(&dots) * s.splat(scale.to_f32_const());
            }
            out.row(token)[row - rows.start] = acc.tree_sum() * (1.0 / x.scale(token));
        }
    }
}

/// The exact sums of the 16 lanes of a group whose first plane is at `bit` of each byte.
#[inline(always)]
fn dots(codes: Codes, w: &[u8; 64], bit: usize, x: &[[i8; 64]; PLANES]) -> [f32; 16] {
    let mask = (1 << codes.bits) - 1;
    let mut sums = [0i16; 64];
    for (p, x) in x.iter().enumerate() {
        for j in 0..64 {
            let code = i16::from((w[j] >> (bit + p * codes.bits)) & mask);
            sums[j] += (code * codes.step - 1) * i16::from(x[j]);
        }
    }
    let mut dots = [0.0; 16];
    for (dot, four) in dots.iter_mut().zip(sums.as_chunks::<4>().0) {
        *dot = f32::from(four[0] + four[1] + four[2] + four[3]);
    }
    dots
}
