//! Bodies that need no instructions of a set: what a set has until it brings its own.

use std::ops::Range;

use super::{Set, Vector};
use crate::body::columns::{Batch, STRIP, Strip};
use crate::body::grouped::MAX_GROUPS;
use crate::body::lookup::{BAND, STEP, Step, Table};
use crate::body::rows16;
use crate::kv::KV_BLOCK;

/// The codes, 0 to 2, of an atom with five to a byte, plane by plane.
#[inline(always)]
pub(crate) fn t5_planes(w: &[u8; 64]) -> [[u8; 64]; 5] {
    let (mut rest, mut planes) = (*w, [[0; 64]; 5]);
    for (plane, place) in planes.iter_mut().zip([85, 29, 9]) {
        for (code, rest) in plane.iter_mut().zip(&mut rest) {
            // Subtracting too much wraps to more than there was.
            let once = rest.wrapping_sub(place);
            let least = (*rest).min(once).min(rest.wrapping_sub(2 * place));
            // A multiple of the place, which leaves 1 when divided by 4.
            *code = (*rest - least) & 3;
            *rest = least;
        }
    }
    for j in 0..64 {
        planes[3][j] = u8::from(rest[j] >= 3) + u8::from(rest[j] >= 6);
        planes[4][j] = (rest[j] - 3 * planes[3][j]).min(2);
    }
    planes
}

/// The sums of `code * x` of each group of an atom with codes of `BITS` bits. The products of one byte
/// of a group sum to less than 2^11.
#[inline(always)]
pub(crate) fn group_dots<const BITS: usize>(w: &[u8; 64], x: &[[i8; 64]]) -> [i32; MAX_GROUPS] {
    let mask = (1 << BITS) - 1;
    let group_planes = if BITS == 4 { 1 } else { 2 };
    let mut dots = [0; MAX_GROUPS];
    for (g, planes) in x.chunks(group_planes).enumerate() {
        let mut sums = [0i16; 64];
        for (p, x) in planes.iter().enumerate() {
            let shift = (g * group_planes + p) * BITS;
            for j in 0..64 {
                sums[j] += i16::from((w[j] >> shift) & mask) * i16::from(x[j]);
            }
        }
        dots[g] = sums.iter().map(|sum| i32::from(*sum)).sum();
    }
    dots
}

/// The sums of `code * x` over 128 columns of 16 rows side by side. A byte's products sum to less than 2^15.
#[inline(always)]
pub(crate) fn lane_sums<const T: usize>(
    step: &rows16::Step,
    x: [&rows16::Fours; T],
) -> [[i32; rows16::BAND]; T] {
    let mut sums = [[0; rows16::BAND]; T];
    for t in 0..T {
        let mut bytes = [0i16; 64];
        for (atom, x) in step.iter().zip(x[t].as_chunks::<4>().0) {
            for (p, x) in x.iter().enumerate() {
                for j in 0..64 {
                    bytes[j] += i16::from((atom[j] >> (2 * p)) & 3) * i16::from(x[j % 4]);
                }
            }
        }
        for (sum, bytes) in sums[t].iter_mut().zip(bytes.as_chunks::<4>().0) {
            *sum = bytes.iter().map(|byte| i32::from(*byte)).sum();
        }
    }
    sums
}

/// The sums of the subsets of each four of 64 activations.
#[inline(always)]
pub(crate) fn subset_sums(x: &[i8; 64], tables: &mut [Table; 8]) {
    for (table, x) in tables.iter_mut().zip(x.as_chunks::<8>().0) {
        for (four, x) in x.as_chunks::<4>().0.iter().enumerate() {
            for subset in 0..16usize {
                let mut sum = 0;
                for (c, x) in x.iter().enumerate() {
                    sum += i16::from(*x) * (subset >> c & 1) as i16;
                }
                table.0[2 * four][subset] = (sum & 63) as u8;
                table.0[2 * four + 1][subset] = ((sum >> 6) + 8) as u8;
            }
        }
    }
}

/// The sums of `bit * x` over some steps of 64 rows, each of 32 fours too large by 8 times 64.
#[inline(always)]
pub(crate) fn looked_up(steps: &[Step], tables: &[[Table; STEP]], sums: &mut [i32; BAND]) {
    *sums = [0; BAND];
    let atoms = steps.as_flattened().iter();
    for (atom, Table(table)) in atoms.zip(tables.as_flattened()) {
        for (i, rows) in atom.as_chunks::<4>().0.iter().enumerate() {
            for (m, byte) in rows.iter().enumerate() {
                let (first, last) = (usize::from(byte & 15), usize::from(byte >> 4));
                let low = i32::from(table[0][first]) + i32::from(table[2][last]);
                let high = i32::from(table[1][first]) + i32::from(table[3][last]);
                sums[16 * m + i] += low + 64 * high;
            }
        }
    }
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

/// How many bits of an atom differ under `mask`, by groups of two planes.
#[inline(always)]
pub(crate) fn differing_by_group(w: &[u8; 64], x: &[u8; 64], mask: &[u8; 64]) -> [u32; MAX_GROUPS] {
    let mut counts = [0; MAX_GROUPS];
    let eights = |bytes: &'_ [u8; 64]| -> [u64; 8] {
        let mut eights = [0; 8];
        for (eight, bytes) in eights.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *eight = u64::from_le_bytes(*bytes);
        }
        eights
    };
    let (w, x, mask) = (eights(w), eights(x), eights(mask));
    for i in 0..8 {
        let bits = (w[i] ^ x[i]) & mask[i];
        for (g, count) in counts.iter_mut().enumerate() {
            *count += (bits & (0x0303_0303_0303_0303 << (2 * g))).count_ones();
        }
    }
    counts
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

/// The sum of each accumulator.
#[inline(always)]
pub(crate) fn sums<S: Set, const R: usize, const T: usize>(
    s: S,
    acc: [[S::I; T]; R],
) -> [[i32; R]; T] {
    let mut sums = [[0; R]; T];
    for t in 0..T {
        for r in 0..R {
            sums[t][r] = s.sum(acc[r][t]);
        }
    }
    sums
}

/// The tree sum of each vector.
#[inline(always)]
pub(crate) fn tree_sums<F: Vector, const R: usize, const T: usize>(
    acc: [[F; T]; R],
) -> [[f32; R]; T] {
    let mut sums = [[0.0; R]; T];
    for t in 0..T {
        for r in 0..R {
            sums[t][r] = acc[r][t].tree_sum();
        }
    }
    sums
}
