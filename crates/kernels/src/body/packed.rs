//! Cache rows of fewer than 8 bits a number: odd numbers times a scale.
//!
//! ```text
//! n bits: values (2 c - (2^n - 1)) s for codes c in 0..2^n
//! s = absmax / 15, 0.498 rms, mean magnitude for n = 4, 2, 1, rounded to bfloat16
//! c = clamp(floor(x * (0.5 / s) + 2^(n - 1)), 0, 2^n - 1)
//! ```
//!
//! Rows are read by unpacking a block of them to int8 into a room that stays in the first-level cache; it
//! serves all queries that share the kv head. The odd numbers are multiplied by a power of two there, the
//! scale divided by it: rows of 8 bits that stand in the same block then have scales of the same order,
//! and the weights of its values, which have 15 bits under the largest, stay as precise as without.

use super::quantize::{absmax, mean};
use crate::sets::Set;

/// Quantizes `x` into `row`, and returns the scale as the bits of a bfloat16: NaN for a row that holds an
/// infinity or NaN.
#[inline(always)]
pub(crate) fn store<S: Set>(s: S, x: &[f32], bits: usize, row: &mut [u8]) -> u16 {
    row.fill(0);
    let Some(absmax) = absmax(s, x) else {
        return 0x7fc0;
    };
    let scale = match bits {
        4 => absmax / 15.0,
        2 => 0.498 * mean::<S, true>(s, x).sqrt(),
        _ => mean::<S, false>(s, x),
    };
    let stored = to_bf16(scale);
    let scale = from_bf16(stored);
    let factor = if scale == 0.0 { 0.0 } else { 0.5 / scale };
    let (middle, largest) = ((1 << (bits - 1)) as f32, (1 << bits) - 1);
    for (plane, x) in x.chunks(row.len()).enumerate() {
        let shift = bits * plane;
        for (byte, x) in row.iter_mut().zip(x) {
            // Beyond the range of codes the cast saturates; below 0 it would round up.
            let code = ((x * factor + middle) as i32).clamp(0, largest);
            *byte |= (code as u8) << shift;
        }
    }
    stored
}

/// The bits of the nearest finite bfloat16; a value below the normal ones is 0, since its reciprocal is
/// none.
fn to_bf16(x: f32) -> u16 {
    const LARGEST: u32 = 0x7f7f;
    let bits = x.to_bits();
    let nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    match x < f32::MIN_POSITIVE {
        true => 0,
        false => nearest.min(LARGEST) as u16,
    }
}

/// The value of the bits of a bfloat16.
#[inline(always)]
pub(crate) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// What the odd numbers are multiplied by when they are unpacked.
#[inline(always)]
pub(crate) const fn widening(bits: usize) -> u8 {
    match bits {
        4 => 8,
        2 => 32,
        _ => 64,
    }
}

/// Unpacks rows of `len` numbers each to int8, [widened](widening), each behind the one before. What follows the last in `out`,
/// up to 128 bytes past it, may be overwritten.
#[inline(always)]
pub(crate) fn unpack(bits: usize, rows: &[u8], len: usize, out: &mut [u8]) {
    match bits {
        4 => unpack_bits::<4>(rows, len, out),
        2 => unpack_bits::<2>(rows, len, out),
        _ => unpack_bits::<1>(rows, len, out),
    }
}

#[inline(always)]
fn unpack_bits<const BITS: usize>(rows: &[u8], len: usize, out: &mut [u8]) {
    match ((len * BITS).div_ceil(8), (len * BITS).is_multiple_of(8)) {
        (8, true) => whole::<BITS, 8>(rows, out),
        (16, true) => whole::<BITS, 16>(rows, out),
        (32, true) => whole::<BITS, 32>(rows, out),
        (64, true) => whole::<BITS, 64>(rows, out),
        (128, true) => whole::<BITS, 128>(rows, out),
        (0..=8, _) => parts::<BITS, 8>(rows, len, out),
        (9..=16, _) => parts::<BITS, 16>(rows, len, out),
        (17..=32, _) => parts::<BITS, 32>(rows, len, out),
        (33..=64, _) => parts::<BITS, 64>(rows, len, out),
        _ => parts::<BITS, 128>(rows, len, out),
    }
}

/// Rows of exactly `W` bytes, all planes of which are whole.
#[inline(always)]
fn whole<const BITS: usize, const W: usize>(rows: &[u8], out: &mut [u8]) {
    let out = out.as_chunks_mut::<W>().0.chunks_exact_mut(8 / BITS);
    for (row, out) in rows.as_chunks::<W>().0.iter().zip(out) {
        for plane in 0..8 / BITS {
            plane_of::<BITS, W>(row, plane, &mut out[plane]);
        }
    }
}

/// Rows of at most `W` bytes: each plane, in ascending order, writes `W` bytes, of which the next ones replace those that are too
/// many.
#[inline(always)]
fn parts<const BITS: usize, const W: usize>(rows: &[u8], len: usize, out: &mut [u8]) {
    let stride = (len * BITS).div_ceil(8);
    for r in 0..rows.len() / stride {
        let mut padded = [0; W];
        // What follows a row is read with it, but from the last ones on, where there is too little.
        let row = match rows[r * stride..].first_chunk() {
            Some(row) => row,
            None => {
                padded[..stride].copy_from_slice(&rows[r * stride..][..stride]);
                &padded
            }
        };
        for (plane, start) in (0..len).step_by(stride).enumerate() {
            let out = out[r * len + start..].first_chunk_mut();
            plane_of::<BITS, W>(row, plane, out.expect("room past a row"));
        }
    }
}

/// One number of each byte.
#[inline(always)]
fn plane_of<const BITS: usize, const W: usize>(row: &[u8; W], plane: usize, out: &mut [u8; W]) {
    let (mask, factor) = ((1u8 << BITS) - 1, widening(BITS));
    for i in 0..W {
        let code = row[i] >> (BITS * plane) & mask;
        out[i] = (2 * factor * code).wrapping_sub(mask * factor);
    }
}
