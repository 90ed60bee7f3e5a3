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

/// Unpacks a row of `len` numbers, the first of `bytes`, to int8, [widened](widening). What follows in `out`, up to 128 bytes
/// past them, may be overwritten.
#[inline(always)]
pub(crate) fn unpack(bits: usize, bytes: &[u8], len: usize, out: &mut [u8]) {
    match bits {
        4 => unpack_bits::<4>(bytes, len, out),
        2 => unpack_bits::<2>(bytes, len, out),
        _ => unpack_bits::<1>(bytes, len, out),
    }
}

#[inline(always)]
fn unpack_bits<const BITS: usize>(bytes: &[u8], len: usize, out: &mut [u8]) {
    match (len * BITS).div_ceil(8) {
        0..=8 => planes::<BITS, 8>(bytes, len, out),
        9..=16 => planes::<BITS, 16>(bytes, len, out),
        17..=32 => planes::<BITS, 32>(bytes, len, out),
        33..=64 => planes::<BITS, 64>(bytes, len, out),
        _ => planes::<BITS, 128>(bytes, len, out),
    }
}

/// All planes of a row of at most `W` bytes, in ascending order: each writes `W` bytes, of which the next
/// ones replace those that are too many.
#[inline(always)]
fn planes<const BITS: usize, const W: usize>(bytes: &[u8], len: usize, out: &mut [u8]) {
    let stride = (len * BITS).div_ceil(8);
    let mut padded = [0; W];
    let row: &[u8; W] = match bytes.first_chunk() {
        Some(row) => row,
        None => {
            padded[..stride].copy_from_slice(&bytes[..stride]);
            &padded
        }
    };
    let (mask, factor) = ((1u8 << BITS) - 1, widening(BITS));
    let mut start = 0;
    for plane in 0..8 / BITS {
        if start >= len {
            break;
        }
        let out: &mut [u8; W] = out[start..].first_chunk_mut().expect("room past a row");
        for i in 0..W {
            let code = row[i] >> (BITS * plane) & mask;
            out[i] = (2 * factor * code).wrapping_sub(mask * factor);
        }
        start += stride;
    }
}
