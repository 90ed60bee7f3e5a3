//! Weights as the right-hand tiles of a matrix unit.
//!
//! A tile holds 64 columns of 16 rows. The unit multiplies four columns at once, so the tile's line
//! `n` holds columns `4 n..4 n + 4` of all rows: byte `4 j + i` of it is column `4 n + i` of row
//! `j`. The columns of a plane of an atom are bytes of a row's atom in order, so the lines of a
//! plane are the 16 atoms with their 4-byte words transposed, unpacked. Words are transposed while
//! they are packed, once for all planes of the atom.
//!
//! Of a layout whose atoms hold several rows, these are taken apart first, and their words transposed
//! after.
//!
//! Weights are stored as they are counted, -1, 0 and 1, not as unsigned codes: the unit multiplies
//! signed bytes, so no offset has to be taken back.

use std::ops::Range;

use onebit_format::MatrixRef;

use super::{ROWS, TILE, Unit};
use crate::body::atoms_of;
use crate::body::bands::{BAND, bands_of};
use crate::body::int::{B1, I8, T2, T5, T5R5};
use crate::sets::portable;

/// A tile of weights: 16 lines of 4 columns of 16 rows.
pub(crate) type Right = [[i8; 64]; TILE];

/// A layout with `P` planes of 64 columns in an atom.
pub(crate) trait Weights<const P: usize> {
    /// Packs some atoms of up to 32 rows, a pair of tiles per plane; rows that are lacking repeat the
    /// last. Asks for what is packed next: the atoms behind, or those of the next rows.
    fn pack<U: Unit>(
        unit: &U,
        w: &MatrixRef<'_>,
        rows: Range<usize>,
        atoms: Range<usize>,
        out: &mut [[Right; 2]],
    );
}

/// A layout whose atoms belong to one row: byte `j` holds the columns `64 p + j`.
pub(crate) trait Planes<const P: usize> {
    /// The weight that a byte holds for a plane; defined for every byte.
    fn weight(byte: u8, plane: usize) -> i8;
}

impl Planes<4> for T2 {
    #[inline(always)]
    fn weight(byte: u8, plane: usize) -> i8 {
        (byte >> (2 * plane) & 3) as i8 - 1
    }
}

impl Planes<5> for T5 {
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

impl Planes<8> for B1 {
    #[inline(always)]
    fn weight(byte: u8, plane: usize) -> i8 {
        (byte >> plane & 1) as i8 * 2 - 1
    }
}

impl Planes<1> for I8 {
    #[inline(always)]
    fn weight(byte: u8, _: usize) -> i8 {
        byte as i8
    }
}

/// Where the next line is that a band's line is packed before, from the band's start: behind the atoms
/// that are being packed, or where these are the last, at the start of the band `bands` further on.
#[inline(always)]
fn next(w: &MatrixRef<'_>, atoms: &Range<usize>, bands: usize) -> usize {
    match 64 * atoms.end == w.band_bytes() {
        true => bands * w.band_bytes(),
        false => 64 * atoms.end,
    }
}

impl<L: Planes<P>, const P: usize> Weights<P> for L {
    #[inline(always)]
    fn pack<U: Unit>(
        unit: &U,
        w: &MatrixRef<'_>,
        rows: Range<usize>,
        atoms: Range<usize>,
        out: &mut [[Right; 2]],
    ) {
        let next = next(w, &atoms, ROWS);
        let mut lines: [&[[u8; 64]]; ROWS] = [&[]; ROWS];
        for (r, line) in lines.iter_mut().enumerate() {
            *line = atoms_of(w, (rows.start + r).min(rows.end - 1));
        }
        let steps = out.as_chunks_mut::<P>().0;
        for (i, (atom, planes)) in atoms.zip(steps).enumerate() {
            for half in 0..2 {
                let mut packed = [&[0; 64]; TILE];
                for (r, packed) in packed.iter_mut().enumerate() {
                    let row = lines[half * TILE + r];
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
}

/// Most bands that hold 32 rows.
const BANDS: usize = (ROWS + BAND - 1).div_ceil(BAND);

impl Weights<1> for T5R5 {
    #[inline(always)]
    fn pack<U: Unit>(
        unit: &U,
        w: &MatrixRef<'_>,
        rows: Range<usize>,
        atoms: Range<usize>,
        out: &mut [[Right; 2]],
    ) {
        let bands = bands_of(&rows);
        let (first, next) = (BAND * bands.start, next(w, &atoms, ROWS / BAND));
        let mut codes = [[0; 64]; BANDS * BAND];
        for (i, (atom, tiles)) in atoms.zip(out).enumerate() {
            for (codes, band) in codes
                .as_chunks_mut::<BAND>()
                .0
                .iter_mut()
                .zip(bands.clone())
            {
                let band = w.band_bytes_of(band);
                unit.prefetch(band.as_ptr().wrapping_add(next + i * 64));
                *codes = portable::t5_planes(&band.as_chunks::<64>().0[atom]);
            }
            for (half, tile) in tiles.iter_mut().enumerate() {
                let mut lines = [&[0; 64]; TILE];
                for (r, line) in lines.iter_mut().enumerate() {
                    *line = &codes[(rows.start + half * TILE + r).min(rows.end - 1) - first];
                }
                let words = unit.transpose(lines);
                for (line, words) in tile.iter_mut().zip(&words) {
                    for (weight, code) in line.iter_mut().zip(words) {
                        *weight = *code as i8 - 1;
                    }
                }
            }
        }
    }
}
