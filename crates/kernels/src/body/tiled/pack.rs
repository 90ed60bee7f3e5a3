//! Weights as the right-hand tiles of a matrix unit.
//!
//! A tile holds 64 columns of 16 rows. The unit multiplies four columns at once, so the tile's line
//! `n` holds columns `4 n..4 n + 4` of all rows: byte `4 j + i` of it is column `4 n + i` of row
//! `j`. The columns of a plane of an atom are bytes of a row's atom in order, so the lines of a
//! plane are the 16 atoms with their 4-byte words transposed, unpacked. Words are transposed while
//! they are packed, once for all planes of the atom.
//!
//! Weights are stored as they are counted, -1, 0 and 1, not as unsigned codes: the unit multiplies
//! signed bytes, so no offset has to be taken back.

use std::ops::Range;

use super::{ROWS, TILE, Unit};
use crate::body::int::{B1, I8, T2, T5};

/// A tile of weights: 16 lines of 4 columns of 16 rows.
pub(crate) type Right = [[i8; 64]; TILE];

/// A layout whose atoms have `P` planes of 64 columns: byte `j` holds the columns `64 p + j`.
pub(crate) trait Weights<const P: usize> {
    /// The weight that a byte holds for a plane; defined for every byte.
    fn weight(byte: u8, plane: usize) -> i8;
}

impl Weights<4> for T2 {
    #[inline(always)]
    fn weight(byte: u8, plane: usize) -> i8 {
        (byte >> (2 * plane) & 3) as i8 - 1
    }
}

impl Weights<5> for T5 {
    #[inline(always)]
    fn weight(byte: u8, plane: usize) -> i8 {
        let mut rest = byte;
        for place in [85, 29, 9, 3].into_iter().take(plane) {
            rest -= place * (u8::from(rest >= place) + u8::from(rest >= 2 * place));
        }
        let place = [85, 29, 9, 3, 1][plane];
        (u8::from(rest >= place) + u8::from(rest >= 2 * place)) as i8 - 1
    }
}

impl Weights<8> for B1 {
    #[inline(always)]
    fn weight(byte: u8, plane: usize) -> i8 {
        (byte >> plane & 1) as i8 * 2 - 1
    }
}

impl Weights<1> for I8 {
    #[inline(always)]
    fn weight(byte: u8, _: usize) -> i8 {
        byte as i8
    }
}

/// Packs some atoms of 32 rows, a pair of tiles per plane. While a row's first atom of these is
/// packed, its line `next` bytes after the row's start is asked for, and so on.
#[inline(always)]
pub(crate) fn pack<U: Unit, L: Weights<P>, const P: usize>(
    unit: &U,
    rows: &[&[[u8; 64]]; ROWS],
    atoms: Range<usize>,
    next: usize,
    out: &mut [[Right; 2]],
) {
    let steps = out.as_chunks_mut::<P>().0;
    for (i, (atom, planes)) in atoms.zip(steps).enumerate() {
        for half in 0..2 {
            let mut packed = [&[0; 64]; TILE];
            for (r, packed) in packed.iter_mut().enumerate() {
                let row = rows[half * TILE + r];
                *packed = &row[atom];
                unit.prefetch(row.as_ptr().cast::<u8>().wrapping_add(next + i * 64));
            }
            let words = unit.transpose(packed);
            for (p, tiles) in planes.iter_mut().enumerate() {
                for (line, words) in tiles[half].iter_mut().zip(&words) {
                    for (weight, byte) in line.iter_mut().zip(words) {
                        *weight = L::weight(*byte, p);
                    }
                }
            }
        }
    }
}
