//! [`Layout::T2R16`]: a byte is four columns of one of 16 rows.

use crate::layout::{ATOM_BYTES, Layout};
use crate::pack::{check_rows, check_ternary};

/// Bytes of an atom that hold one row: a 32-bit lane.
const LANE: usize = 4;

/// Columns in an atom: four fields of each byte of a lane.
const COLS: usize = 16;

/// Rows of a band, one to a lane of an atom.
const ROWS: usize = ATOM_BYTES / LANE;

/// Four zeros. Adding `w << 2 p` changes the code 1 of a zero to that of `w`, without a carry.
const ZEROS: u8 = 0x55;

/// Packs rows of -1, 0 and 1, each `cols` long, as bands of [`Layout::T2R16`]. Rows that are lacking in the last band
/// become zeros.
///
/// # Panics
/// On any other code, when `codes` is not whole rows, and when `out` is not exactly their bands.
pub fn ternary_bands(codes: &[i8], cols: usize, out: &mut [u8]) {
    let layout = Layout::T2R16;
    check_ternary(codes);
    check_rows(layout, codes, cols, out);
    out.fill(ZEROS);
    let band_bytes = layout.band_bytes(cols).unwrap_or(0).max(1);
    let bands = codes.chunks((ROWS * cols).max(1));
    for (codes, out) in bands.zip(out.chunks_exact_mut(band_bytes)) {
        let atoms = out.as_chunks_mut::<ATOM_BYTES>().0;
        for (row, codes) in codes.chunks(cols).enumerate() {
            for (atom, codes) in atoms.iter_mut().zip(codes.chunks(COLS)) {
                let lane = &mut atom[LANE * row..][..LANE];
                for (k, code) in codes.iter().enumerate() {
                    let byte = &mut lane[k % LANE];
                    *byte = byte.wrapping_add_signed(code << (2 * (k / LANE)));
                }
            }
        }
    }
}

/// The field, 0 to 3, of column `k` of row `row` in an atom.
pub(crate) fn field(atom: &[u8], row: usize, k: usize) -> u8 {
    (atom[LANE * row + k % LANE] >> (2 * (k / LANE))) & 3
}

/// Decodes a band of [`Layout::T2R16`], padding included: 16 rows, one after another, of 16 columns per atom. The invalid
/// code 3 becomes 2.
///
/// # Panics
/// When `out` is not one number per code of `band`.
pub fn ternary_band_codes(band: &[u8], out: &mut [i8]) {
    let width = band.len() / ATOM_BYTES * COLS;
    assert_eq!(out.len(), ROWS * width, "one number per code");
    for (row, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
        let atoms = band.as_chunks::<ATOM_BYTES>().0;
        for (out, atom) in out.as_chunks_mut::<COLS>().0.iter_mut().zip(atoms) {
            for (k, code) in out.iter_mut().enumerate() {
                *code = field(atom, row, k) as i8 - 1;
            }
        }
    }
}
