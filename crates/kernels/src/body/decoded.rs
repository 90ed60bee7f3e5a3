//! Integer weights times float activations: the weights as `f32` (code times scale), then as in
//! [`float`](super::float). For layers trained without activation quantization; not tuned.

use onebit_format::{Band, Layout, MatrixRef};

use super::Product;
use crate::input::F32Rows;
use crate::sets::{Set, Vector, portable};
use crate::tiles::TileMut;

/// Columns decoded at a time.
const STEP: usize = 256;

/// Tokens that decoded columns are used for.
const TOKENS: usize = 8;

/// Products of an integer matrix with float activations. The padding takes no part.
#[inline(always)]
pub(crate) fn decoded<S: Set>(s: S, job: &Product<'_, F32Rows<'_>>, out: &mut TileMut<'_, f32>) {
    let Product { w, rows, x } = job;
    for row in rows.clone() {
        for first in (0..x.tokens()).step_by(TOKENS) {
            let tokens = TOKENS.min(x.tokens() - first);
            let mut acc = [s.splat(0.0); TOKENS];
            let mut weights = [0.0; STEP];
            for start in (0..w.cols()).step_by(STEP) {
                let len = STEP.min(w.cols() - start);
                decode(w, row, start, &mut weights[..len]);
                weights[len..].fill(0.0);
                for t in 0..tokens {
                    let x = &x.row(first + t)[start..][..len];
                    acc[t] = add_products(s, acc[t], &weights, x);
                }
            }
            for t in 0..tokens {
                out.row(first + t)[row - rows.start] = acc[t].tree_sum();
            }
        }
    }
}

/// Adds the products of `x.len()` columns, which start at a multiple of 16.
#[inline(always)]
fn add_products<S: Set>(s: S, mut acc: S::F, weights: &[f32; STEP], x: &[f32]) -> S::F {
    let (chunks, tail) = x.as_chunks::<16>();
    let weights = weights.as_chunks::<16>().0;
    for (w, x) in weights.iter().zip(chunks) {
        acc = s.load(w).mul_add(s.load(x), acc);
    }
    if !tail.is_empty() {
        acc = s
            .load(&weights[chunks.len()])
            .mul_add(s.load_part(tail), acc);
    }
    acc
}

/// Columns `start..`, a multiple of [`STEP`], of a row as `f32`: code times scale.
#[inline(always)]
fn decode(w: &MatrixRef<'_>, row: usize, start: usize, out: &mut [f32]) {
    let atom_rows = w.layout().atom_rows();
    let band = w.band(row / atom_rows);
    let bytes = band.lines().as_flattened();
    match w.layout() {
        Layout::T2 => planes::<2>(band, start, out, |code| f32::from(code) - 1.0),
        Layout::T2R16 => lanes(band, row % atom_rows, start, out),
        Layout::T5 => dense(bytes, start, out),
        Layout::T5R5 => banded(bytes, row % atom_rows, start, out),
        Layout::B1R64 => {
            let place = Layout::binary_place(row % atom_rows);
            for (a, out) in out.chunks_mut(8).enumerate() {
                let byte = band.atom(start / 8 + a)[place];
                for (k, out) in out.iter_mut().enumerate() {
                    *out = f32::from((byte >> k) & 1) * 2.0 - 1.0;
                }
            }
        }
        Layout::B1 => planes::<1>(band, start, out, |code| f32::from(code) * 2.0 - 1.0),
        Layout::I4 => planes::<4>(band, start, out, |code| f32::from(code) - 8.0),
        _ => {
            for (k, out) in out.iter_mut().enumerate() {
                *out = w.code(row, start + k) as f32;
            }
        }
    }
    let group = w.layout().group().unwrap_or(STEP);
    for (g, out) in out.chunks_mut(group).enumerate() {
        let scale = w.scale(row, start + g * group);
        out.iter_mut().for_each(|x| *x *= scale);
    }
}

/// Five codes to a byte from column `start` on.
#[inline(always)]
fn dense(bytes: &[u8], start: usize, out: &mut [f32]) {
    let atoms = bytes.as_chunks::<64>().0;
    for (p, out) in out.chunks_mut(64).enumerate() {
        let plane = start / 64 + p;
        let codes = portable::t5_planes(&atoms[plane / 5]);
        for (out, code) in out.iter_mut().zip(&codes[plane % 5]) {
            *out = f32::from(*code) - 1.0;
        }
    }
}

/// Row `row` of a band from column `start` on.
#[inline(always)]
fn banded(bytes: &[u8], row: usize, start: usize, out: &mut [f32]) {
    let atoms = &bytes.as_chunks::<64>().0[start / 64..];
    for (atom, out) in atoms.iter().zip(out.chunks_mut(64)) {
        let codes = portable::t5_planes(atom);
        for (out, code) in out.iter_mut().zip(&codes[row]) {
            *out = f32::from(*code) - 1.0;
        }
    }
}

/// Row `row` of 16 side by side from column `start` on.
#[inline(always)]
fn lanes(band: Band<'_>, row: usize, start: usize, out: &mut [f32]) {
    for i in 0..out.len().div_ceil(16) {
        let lane = band.atom(start / 16 + i).as_chunks::<4>().0[row];
        let mut values = [0.0; 16];
        for p in 0..4 {
            for m in 0..4 {
                values[4 * p + m] = f32::from((lane[m] >> (2 * p)) & 3) - 1.0;
            }
        }
        match out[16 * i..].first_chunk_mut() {
            Some(whole) => *whole = values,
            None => {
                let part = &mut out[16 * i..];
                part.copy_from_slice(&values[..part.len()]);
            }
        }
    }
}

/// Codes of `BITS` bits from column `start` on, in planes of 64 columns.
#[inline(always)]
fn planes<const BITS: usize>(
    band: Band<'_>,
    start: usize,
    out: &mut [f32],
    value: impl Fn(u8) -> f32,
) {
    let (per_atom, mask) = (8 / BITS, ((1u16 << BITS) - 1) as u8);
    for (p, out) in out.chunks_mut(64).enumerate() {
        let plane = start / 64 + p;
        let atom = band.atom(plane / per_atom);
        let shift = plane % per_atom * BITS;
        for (out, byte) in out.iter_mut().zip(atom) {
            *out = value((byte >> shift) & mask);
        }
    }
}
