//! What a CPU could do at best, to compare kernels with: reading memory, and multiplying bytes.

use super::ahead::STREAMS;
use crate::sets::{PREFETCH_BYTES, Set};

/// Reads all of `bytes`, up to the last whole lines of [`STREAMS`] equal parts, and folds them into
/// one number, so that no read can be left out.
#[inline(always)]
pub(crate) fn read<S: Set>(s: S, bytes: &[u8]) -> u64 {
    let lines = bytes.as_chunks::<64>().0;
    let part = lines.len() / STREAMS;
    let mut acc = [[0u64; 8]; STREAMS];
    for i in 0..part {
        for n in 0..STREAMS {
            let line = &lines[n * part + i];
            s.prefetch(line.as_ptr().wrapping_add(PREFETCH_BYTES));
            let words = line.as_chunks::<8>().0;
            for word in 0..8 {
                acc[n][word] ^= u64::from_ne_bytes(words[word]);
            }
        }
    }
    acc.iter().flatten().fold(0, |all, word| all ^ word)
}

/// Multiplications of a call of [`multiply`], per round: 4 rows x 4 tokens x 64 columns, for each of
/// as many planes as an atom of the form has.
pub(crate) const MULTIPLIED: u64 = 4 * 4 * 64;

/// Multiplies registers of ternary (`ternary`, four planes) or int8 (one) weights with activations, again and
/// again, and reads nothing from beyond the first-level cache. Blocks of atoms, where a set has no better loop: these unpack, too.
#[inline(always)]
pub(crate) fn multiply<S: Set>(s: S, rounds: usize, ternary: bool) -> i32 {
    let planes = if ternary { 4 } else { 1 };
    if let Some(sum) = s.multiply(rounds as u64 * planes * MULTIPLIED, ternary) {
        return sum;
    }
    let w = std::hint::black_box([[1u8; 64]; 4]);
    let x = std::hint::black_box([[[1i8; 64]; 4]; 4]);
    let mut acc = [[s.zero_sums(); 4]; 4];
    let rows = [&w[0], &w[1], &w[2], &w[3]];
    if ternary {
        for _ in 0..rounds {
            s.t2(&mut acc, rows, [&x[0], &x[1], &x[2], &x[3]]);
        }
    } else {
        let one = |t: usize| x[t].first_chunk().expect("four planes");
        for _ in 0..rounds {
            s.i8(&mut acc, rows, [one(0), one(1), one(2), one(3)]);
        }
    }
    let sums = s.block_sums(acc);
    sums.iter().flatten().fold(0, |all, sum| all ^ sum)
}
