//! [`Layout::T5`] and [`Layout::T5R5`]: five ternary codes in a byte.
//!
//! 3^5 = 243 of the 256 values of a byte would do with places 81, 27, 9, 3 and 1. The places here are
//! wider apart, so that two of them leave 1 when divided by 4: `85 c & 3 = c` and `29 c & 3 = c`, as
//! `9 c & 3 = c`, which spares kernels a step (docs/kernels.md).

use crate::layout::{ATOM_BYTES, Layout};
use crate::pack::{check_rows, check_ternary};

/// What a code of 1 adds to the byte, by plane.
pub(crate) const PLACES: [u8; 5] = [85, 29, 9, 3, 1];

/// The code, 0 to 2, that `byte` holds in `plane`: the largest that fits, after those of the planes
/// before it. So every byte has five codes, also the 13 that [`dense_row`] and [`dense_bands`] never write.
pub(crate) fn code(byte: u8, plane: usize) -> u8 {
    codes(byte)[plane]
}

/// Whether `byte` is what its codes make.
pub(crate) fn is_canonical(byte: u8) -> bool {
    let sum = |sum, (code, place): (u8, u8)| sum + code * place;
    codes(byte).into_iter().zip(PLACES).fold(0, sum) == byte
}

fn codes(byte: u8) -> [u8; 5] {
    let mut rest = byte;
    PLACES.map(|place| take(&mut rest, place))
}

/// Takes the largest code that fits.
fn take(rest: &mut u8, place: u8) -> u8 {
    let code = u8::from(*rest >= place) + u8::from(*rest >= 2 * place);
    *rest -= code * place;
    code
}

/// Packs -1, 0 and 1 as [`Layout::T5`].
///
/// # Panics
/// On any other code, and when `out` is not exactly one row.
pub fn dense_row(codes: &[i8], out: &mut [u8]) {
    check_ternary(codes);
    let (cols, expected) = (codes.len(), Layout::T5.row_bytes(codes.len()));
    assert_eq!(
        Some(out.len()),
        expected,
        "{cols} columns of layout {}",
        Layout::T5
    );
    out.fill(ZEROS);
    let atoms = out.as_chunks_mut::<ATOM_BYTES>().0.iter_mut();
    for (atom, codes) in atoms.zip(codes.chunks(Layout::T5.atom_cols())) {
        for (plane, place) in codes.chunks(ATOM_BYTES).zip(PLACES) {
            add(plane, place, atom);
        }
    }
}

/// Packs rows of -1, 0 and 1, each `cols` long, as bands of [`Layout::T5R5`]. Rows that are lacking in
/// the last band become zeros.
///
/// # Panics
/// On any other code, when `codes` is not whole rows, and when `out` is not exactly their bands.
pub fn dense_bands(codes: &[i8], cols: usize, out: &mut [u8]) {
    let layout = Layout::T5R5;
    check_ternary(codes);
    check_rows(layout, codes, cols, out);
    out.fill(ZEROS);
    let band_bytes = layout.band_bytes(cols).unwrap_or(0).max(1);
    let bands = codes.chunks((layout.atom_rows() * cols).max(1));
    for (codes, out) in bands.zip(out.chunks_exact_mut(band_bytes)) {
        for (row, place) in codes.chunks(cols).zip(PLACES) {
            add(row, place, out);
        }
    }
}

/// Five zeros. `place * w` changes the code 1 of a zero to that of `w`, without a carry.
const ZEROS: u8 = 85 + 29 + 9 + 3 + 1;

/// Puts codes in the place of zeros, one to a byte.
fn add(codes: &[i8], place: u8, bytes: &mut [u8]) {
    for (byte, code) in bytes.iter_mut().zip(codes) {
        *byte = byte.wrapping_add((*code as u8).wrapping_mul(place));
    }
}

/// Decodes a row of [`Layout::T5`], padding included: the inverse of [`dense_row`].
///
/// # Panics
/// When `out` is not one number per code of `row`.
pub fn dense_codes(row: &[u8], out: &mut [i8]) {
    let per_atom = Layout::T5.atom_cols();
    let expected = row.len() / ATOM_BYTES * per_atom;
    assert_eq!(out.len(), expected, "one number per code");
    let atoms = row.as_chunks::<ATOM_BYTES>().0;
    for (atom, out) in atoms.iter().zip(out.chunks_exact_mut(per_atom)) {
        let mut rest = *atom;
        for (plane, place) in out.chunks_exact_mut(ATOM_BYTES).zip(PLACES) {
            for (out, rest) in plane.iter_mut().zip(&mut rest) {
                *out = take(rest, place) as i8 - 1;
            }
        }
    }
}

/// Decodes a band of [`Layout::T5R5`], padding included: five rows, one after another, as long as the
/// band has bytes.
///
/// # Panics
/// When `out` is not one number per code of `band`.
pub fn dense_band_codes(band: &[u8], out: &mut [i8]) {
    assert_eq!(out.len(), PLACES.len() * band.len(), "one number per code");
    for (i, byte) in band.iter().enumerate() {
        let mut rest = *byte;
        for (row, place) in PLACES.into_iter().enumerate() {
            out[row * band.len() + i] = take(&mut rest, place) as i8 - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_five_codes_have_a_byte_of_their_own() {
        let canonical = (0..=255).filter(|byte| is_canonical(*byte)).count();
        assert_eq!(canonical, 3usize.pow(5));
        let mut seen = std::collections::BTreeSet::new();
        for byte in (0..=255).filter(|byte| is_canonical(*byte)) {
            assert!(seen.insert(codes(byte)));
        }
        assert_eq!(codes(255), [2; 5]);
        assert_eq!(codes(27), [0, 0, 2, 2, 2]);
        assert!(!is_canonical(255) && !is_canonical(27) && is_canonical(127));
    }
}
