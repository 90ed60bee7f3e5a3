//! [`Layout::B1R64`]: a byte is eight columns of one of 64 rows.

use crate::layout::{ATOM_BYTES, Layout};
use crate::pack::check_rows;

/// Columns in a byte.
const COLS: usize = 8;

/// Rows of a band, one to a byte of an atom.
const ROWS: usize = ATOM_BYTES;

/// Packs rows of -1 and 1, each `cols` long, as bands of [`Layout::B1R64`]. Rows that are lacking in the last band
/// become -1.
///
/// # Panics
/// On any other code, when `codes` is not whole rows, and when `out` is not exactly their bands.
pub fn binary_bands(codes: &[i8], cols: usize, out: &mut [u8]) {
    let layout = Layout::B1R64;
    let wrong = codes
        .iter()
        .fold(false, |wrong, code| wrong | !matches!(code, -1 | 1));
    assert!(!wrong, "binary codes are -1 and 1");
    check_rows(layout, codes, cols, out);
    out.fill(0);
    let band_bytes = layout.band_bytes(cols).unwrap_or(0).max(1);
    let bands = codes.chunks((ROWS * cols).max(1));
    for (codes, out) in bands.zip(out.chunks_exact_mut(band_bytes)) {
        let atoms = out.as_chunks_mut::<ATOM_BYTES>().0;
        for (row, codes) in codes.chunks(cols).enumerate() {
            for (atom, codes) in atoms.iter_mut().zip(codes.chunks(COLS)) {
                atom[Layout::binary_place(row)] = bits(codes);
            }
        }
    }
}

/// Up to eight codes as bits, the first lowest.
fn bits(codes: &[i8]) -> u8 {
    let bit = |(k, code): (usize, &i8)| u8::from(*code > 0) << k;
    codes
        .iter()
        .enumerate()
        .map(bit)
        .fold(0, |byte, bit| byte | bit)
}

/// Decodes a band of [`Layout::B1R64`], padding included (as -1): 64 rows, one after another, of eight columns per
/// atom.
///
/// # Panics
/// When `out` is not one number per code of `band`.
pub fn binary_band_codes(band: &[u8], out: &mut [i8]) {
    let width = band.len() / ATOM_BYTES * COLS;
    assert_eq!(out.len(), ROWS * width, "one number per code");
    for (row, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
        let bytes = band
            .iter()
            .skip(Layout::binary_place(row))
            .step_by(ATOM_BYTES);
        for (out, byte) in out.as_chunks_mut::<COLS>().0.iter_mut().zip(bytes) {
            for (k, code) in out.iter_mut().enumerate() {
                *code = (byte >> k & 1) as i8 * 2 - 1;
            }
        }
    }
}
