//! Bodies that need no instructions of a set: what a set has until it brings its own.

use std::ops::Range;

use crate::body::columns::{Batch, STRIP, Strip};
use crate::kv::KV_BLOCK;

/// The 16 lane dots of a group of sign codes with `bits` bits each, the first plane at bit `shift` of
/// each byte: codes of two bits are `w + 1`, of one bit `(w + 1) / 2`.
#[inline(always)]
pub(crate) fn sign_dots(bits: usize, w: &[u8; 64], shift: usize, x: &[[i8; 64]; 2]) -> [f32; 16] {
    let (mask, step) = ((1 << bits) - 1, if bits == 1 { 2 } else { 1 });
    let mut sums = [0i16; 64];
    for (p, x) in x.iter().enumerate() {
        for j in 0..64 {
            let code = i16::from((w[j] >> (shift + p * bits)) & mask);
            sums[j] += (code * step - 1) * i16::from(x[j]);
        }
    }
    let mut dots = [0.0; 16];
    for (dot, four) in dots.iter_mut().zip(sums.as_chunks::<4>().0) {
        *dot = f32::from(four[0] + four[1] + four[2] + four[3]);
    }
    dots
}

/// How many bits of two rows differ, the last atom under `mask`.
#[inline(always)]
pub(crate) fn differing(w: &[[u8; 64]], x: &[[u8; 64]], mask: &[u8; 64]) -> u32 {
    let (Some((w_last, w)), Some((x_last, x))) = (w.split_last(), x.split_last()) else {
        return 0;
    };
    let mut count = 0;
    for (w, x) in w.iter().zip(x) {
        for (w, x) in w.as_chunks::<8>().0.iter().zip(x.as_chunks::<8>().0) {
            count += (u64::from_le_bytes(*w) ^ u64::from_le_bytes(*x)).count_ones();
        }
    }
    for j in 0..64 {
        count += ((w_last[j] ^ x_last[j]) & mask[j]).count_ones();
    }
    count
}

/// For each lane, -2 times the differing bits of its four bytes in the two planes at bit `shift`,
/// under `mask`.
#[inline(always)]
pub(crate) fn xnor_lanes(w: &[u8; 64], x: &[u8; 64], mask: &[u8; 64], shift: usize) -> [f32; 16] {
    let mut counts = [0u8; 64];
    for j in 0..64 {
        let differ = ((w[j] ^ x[j]) & mask[j]) >> shift;
        counts[j] = (differ & 1) + ((differ >> 1) & 1);
    }
    let mut lanes = [0.0; 16];
    for (lane, four) in lanes.iter_mut().zip(counts.as_chunks::<4>().0) {
        *lane = -2.0 * f32::from(four[0] + four[1] + four[2] + four[3]);
    }
    lanes
}

/// Bit `i` says whether code `i` of at most 64 is not 0.
#[inline(always)]
pub(crate) fn nonzero(codes: &[i8]) -> u64 {
    let set = |mask, (i, code): (usize, &i8)| mask | (u64::from(*code != 0) << i);
    codes.iter().enumerate().fold(0, set)
}

/// Adds the products of a batch to the sums of a strip.
#[inline(always)]
pub(crate) fn t2_columns(strip: Strip<'_>, batch: &Batch, sums: &mut [i32; STRIP]) {
    for (inputs, codes) in batch.fours() {
        for (input, x) in inputs.iter().zip(codes) {
            let atom = strip.atom(*input);
            for (p, plane) in sums.as_chunks_mut::<64>().0.iter_mut().enumerate() {
                for (sum, byte) in plane.iter_mut().zip(atom) {
                    *sum += i32::from((byte >> (2 * p)) & 3) * i32::from(*x);
                }
            }
        }
    }
}

/// For each row of weights the sums of weight times the first 32 signed bytes of rows `stride` apart.
#[inline(always)]
pub(crate) fn weighted_sums<const T: usize>(
    rows: &[u8],
    stride: usize,
    pairs: Range<usize>,
    weights: &[[i16; KV_BLOCK]; T],
) -> [[i32; 32]; T] {
    let mut sums = [[0; 32]; T];
    for j in 2 * pairs.start..2 * pairs.end {
        let row = &rows[j * stride..][..32];
        for (sums, weights) in sums.iter_mut().zip(weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value as i8) * i32::from(weights[j]);
            }
        }
    }
    sums
}
