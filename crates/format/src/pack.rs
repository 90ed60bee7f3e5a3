//! Rows into bytes.
//!
//! Each function fills one whole row, padding included, or whole bands where rows share their bytes. Lengths and integer codes are the caller's
//! to get right: a mistake there panics. Values that come from a checkpoint never panic; see each
//! function for what it does with those it cannot represent.

use half::{bf16, f16};
use thiserror::Error;

pub use crate::binary::{binary_band_codes, binary_bands};
pub use crate::dense::{dense_band_codes, dense_bands, dense_codes, dense_row};
use crate::layout::{ATOM_BYTES, I4_GROUP, Layout, Packs};
pub use crate::ternary::{ternary_band_codes, ternary_bands};

/// A finite number that the target type can only store as infinity, or a number that is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("column {column}: {value} is not a finite {layout} number")]
pub struct NotFinite {
    /// Where in the row.
    pub column: usize,
    /// The number given.
    pub value: f32,
    /// The layout that cannot hold it.
    pub layout: Layout,
}

/// Packs -1, 0 and 1 as [`Layout::T2`].
///
/// # Panics
/// On any other code, and when `out` is not exactly one row.
pub fn ternary_row(codes: &[i8], out: &mut [u8]) {
    check_ternary(codes);
    planes(Layout::T2, codes, out, 0x55, |code| (code + 1) as u8);
}

/// Decodes a row of [`Layout::T2`], padding included: the inverse of [`ternary_row`]. The invalid code 3 becomes 2.
///
/// # Panics
/// When `out` is not one number per code of `row`.
pub fn ternary_codes(row: &[u8], out: &mut [i8]) {
    codes(Layout::T2, row, out, |field| (field & 3) as i8 - 1);
}

/// Decodes a row of [`Layout::B1`], padding included (as -1): the inverse of [`binary_row`].
///
/// # Panics
/// When `out` is not one number per code of `row`.
pub fn binary_codes(row: &[u8], out: &mut [i8]) {
    codes(Layout::B1, row, out, |field| (field & 1) as i8 * 2 - 1);
}

/// Gathers codes from the planes of each atom; `decode` is given a byte whose low bits are the code.
fn codes(layout: Layout, row: &[u8], out: &mut [i8], decode: impl Fn(u8) -> i8) {
    let per_atom = layout.atom_cols();
    assert_eq!(
        out.len(),
        row.len() / ATOM_BYTES * per_atom,
        "one number per code"
    );
    for (atom, out) in row
        .chunks_exact(ATOM_BYTES)
        .zip(out.chunks_exact_mut(per_atom))
    {
        for (p, plane) in out.chunks_exact_mut(ATOM_BYTES).enumerate() {
            for (code, byte) in plane.iter_mut().zip(atom) {
                *code = decode(byte >> (field_bits(layout) * p));
            }
        }
    }
}

/// Packs rows of codes, each `cols` long, in a ternary or binary layout: whole bands, one after another.
///
/// # Panics
/// On a code that the layout does not have, when `codes` is not whole rows, when `out` is not exactly their bands, and for
/// other layouts.
pub fn code_rows(layout: Layout, codes: &[i8], cols: usize, out: &mut [u8]) {
    let pack_row = match layout {
        Layout::T2 => ternary_row,
        Layout::T5 => dense_row,
        Layout::B1 => binary_row,
        Layout::T2R16 => return ternary_bands(codes, cols, out),
        Layout::T5R5 => return dense_bands(codes, cols, out),
        Layout::B1R64 => return binary_bands(codes, cols, out),
        other => panic!("layout {other} is neither ternary nor binary"),
    };
    check_rows(layout, codes, cols, out);
    let row_bytes = layout.row_bytes(cols).unwrap_or(0).max(1);
    for (codes, out) in codes
        .chunks(cols.max(1))
        .zip(out.chunks_exact_mut(row_bytes))
    {
        pack_row(codes, out);
    }
}

/// Decodes a band of a ternary or binary layout, padding included, row after row: the inverse of [`code_rows`].
///
/// # Panics
/// When `out` is not one number per code of `band`, and for other layouts.
pub fn band_codes(layout: Layout, band: &[u8], out: &mut [i8]) {
    match layout {
        Layout::T2 => ternary_codes(band, out),
        Layout::T2R16 => ternary_band_codes(band, out),
        Layout::T5 => dense_codes(band, out),
        Layout::T5R5 => dense_band_codes(band, out),
        Layout::B1 => binary_codes(band, out),
        Layout::B1R64 => binary_band_codes(band, out),
        other => panic!("layout {other} is neither ternary nor binary"),
    }
}

/// What is stored of whole bands of a matrix with group scales: their packed rows, with the scales between the atoms as
/// [`Packs`] says. `scales` are given row after row, one per group. Rows that are lacking in the last band have scales of 0.
///
/// # Panics
/// When `weights` are not the bands of as many rows as there are scales for, and for layouts without groups.
pub fn with_scales(layout: Layout, cols: usize, weights: &[u8], scales: &[f16]) -> Vec<u8> {
    let size = layout.group().expect("a layout with scales of groups");
    let groups = cols.div_ceil(size).max(1);
    let rows = scales.len() / groups;
    assert_eq!(rows * groups, scales.len(), "{groups} scales per row");
    let what = format!("{rows} x {cols} of layout {layout}");
    assert_eq!(Some(weights.len()), layout.byte_len(rows, cols), "{what}");
    let stored = layout.stored_len(rows, cols, true);
    let mut out = vec![0; stored.unwrap_or_else(|| panic!("{what} overflows"))];
    let bands = rows.div_ceil(layout.atom_rows()).max(1);
    let [band_bytes, stored_bytes] = [weights.len(), out.len()].map(|len| (len / bands).max(1));
    let stored = out.chunks_mut(stored_bytes);
    let scales = scales.chunks(layout.atom_rows() * groups);
    for ((out, weights), scales) in stored.zip(weights.chunks(band_bytes)).zip(scales) {
        put_band(layout.packs(true), groups, weights, scales, out);
    }
    out
}

/// Puts a band and the scales of its rows, `groups` each, in zeroed bytes.
fn put_band(packs: Packs, groups: usize, weights: &[u8], scales: &[f16], out: &mut [u8]) {
    let lines = out.as_chunks_mut::<ATOM_BYTES>().0;
    for (a, atom) in weights.as_chunks().0.iter().enumerate() {
        lines[packs.line(a)] = *atom;
    }
    for (row, scales) in scales.chunks(groups).enumerate() {
        for (group, scale) in scales.iter().enumerate() {
            out[packs.scales(group) + 2 * row..][..2].copy_from_slice(&scale.to_le_bytes());
        }
    }
}

/// Packs -1 and 1 as [`Layout::B1`].
///
/// # Panics
/// On any other code, and when `out` is not exactly one row.
pub fn binary_row(codes: &[i8], out: &mut [u8]) {
    assert!(
        codes.iter().all(|code| matches!(code, -1 | 1)),
        "binary codes are -1 and 1"
    );
    planes(Layout::B1, codes, out, 0, |code| u8::from(code > 0));
}

/// Quantizes a row to [`Layout::I8`] and returns its scale, absmax / 127; codes are
/// `round(x / scale)`, halves to even. A row of zeros has scale 0.
///
/// A row that is not finite gets scale NaN and codes 0, which [`Writer`](crate::Writer) refuses.
///
/// # Panics
/// When `out` is not exactly one row.
pub fn quantize_i8_row(x: &[f32], out: &mut [u8]) -> f32 {
    check_len(Layout::I8, x.len(), out);
    out.fill(0);
    let scale = absmax(x) / 127.0;
    if scale > 0.0 {
        for (byte, value) in out.iter_mut().zip(x) {
            *byte = (value / scale).round_ties_even().clamp(-127.0, 127.0) as i8 as u8;
        }
    }
    scale
}

/// Quantizes a row to [`Layout::I4`], one scale per 64 columns, choosing of several scales near
/// absmax / 7 the one with the smallest squared error.
///
/// A group that is not finite, or too large for `f16`, gets scale NaN and codes 0, which
/// [`Writer`](crate::Writer) refuses.
///
/// # Panics
/// When `out` is not exactly one row or `scales` is not `x.len().div_ceil(64)` long.
pub fn quantize_i4_row(x: &[f32], out: &mut [u8], scales: &mut [f16]) {
    check_len(Layout::I4, x.len(), out);
    assert_eq!(
        scales.len(),
        x.len().div_ceil(I4_GROUP),
        "one scale per {I4_GROUP} columns"
    );
    out.fill(0x88);
    for (g, (group, scale)) in x.chunks(I4_GROUP).zip(scales).enumerate() {
        *scale = i4_scale(group);
        let s = scale.to_f32();
        if s > 0.0 {
            let shift = g % 2 * 4;
            for (byte, value) in out[g / 2 * ATOM_BYTES..].iter_mut().zip(group) {
                *byte = *byte & !(15 << shift) | ((i4_code(*value, s) + 8.0) as u8) << shift;
            }
        }
    }
}

/// Stores a row as [`Layout::F16`], rounding halves to even.
///
/// # Errors
/// When a number is not finite in `f16`; `out` is then unspecified.
///
/// # Panics
/// When `out` is not exactly one row.
pub fn f16_row(x: &[f32], out: &mut [u8]) -> Result<(), NotFinite> {
    floats(Layout::F16, x, out, |value| {
        let value = f16::from_f32(value);
        value.is_finite().then_some(value.to_le_bytes())
    })
}

/// Stores a row as [`Layout::BF16`], rounding halves to even.
///
/// # Errors
/// When a number is not finite in `bf16`; `out` is then unspecified.
///
/// # Panics
/// When `out` is not exactly one row.
pub fn bf16_row(x: &[f32], out: &mut [u8]) -> Result<(), NotFinite> {
    floats(Layout::BF16, x, out, |value| {
        let value = bf16::from_f32(value);
        value.is_finite().then_some(value.to_le_bytes())
    })
}

/// Stores a row as [`Layout::F32`].
///
/// # Errors
/// When a number is not finite; `out` is then unspecified.
///
/// # Panics
/// When `out` is not exactly one row.
pub fn f32_row(x: &[f32], out: &mut [u8]) -> Result<(), NotFinite> {
    floats(Layout::F32, x, out, |value| {
        value.is_finite().then_some(value.to_le_bytes())
    })
}

/// Copies a row that already has the element type of a float `layout`, and zeroes the padding.
///
/// # Panics
/// When `layout` stores integers or `out` is not exactly one row of `bytes`.
pub fn raw_row(layout: Layout, bytes: &[u8], out: &mut [u8]) {
    assert!(layout.is_float(), "layout {layout} is packed, not copied");
    check_len(layout, bytes.len() * 8 / layout.dtype().bitsize(), out);
    out[..bytes.len()].copy_from_slice(bytes);
    out[bytes.len()..].fill(0);
}

/// Panics unless all codes are -1, 0 and 1.
pub(crate) fn check_ternary(codes: &[i8]) {
    // Without an early end, so that the compiler works on many at a time.
    let wrong = codes
        .iter()
        .fold(false, |wrong, code| wrong | !(-1..=1).contains(code));
    assert!(!wrong, "ternary codes are -1, 0 and 1");
}

/// Panics unless `codes` are whole rows and `out` is exactly their bands.
pub(crate) fn check_rows(layout: Layout, codes: &[i8], cols: usize, out: &[u8]) {
    let rows = codes.len() / cols.max(1);
    assert_eq!(rows * cols, codes.len(), "whole rows of {cols} codes");
    let expected = layout.byte_len(rows, cols);
    assert_eq!(
        Some(out.len()),
        expected,
        "{rows} x {cols} of layout {layout}"
    );
}

fn check_len(layout: Layout, cols: usize, out: &[u8]) {
    let expected = layout.row_bytes(cols);
    assert_eq!(
        Some(out.len()),
        expected,
        "{cols} columns of layout {layout}"
    );
}

/// Bits of a code where a byte is several of them side by side.
fn field_bits(layout: Layout) -> usize {
    8 * ATOM_BYTES / layout.atom_cols()
}

/// Spreads codes over the planes of each atom; `fill` is a byte of padding codes.
fn planes(layout: Layout, codes: &[i8], out: &mut [u8], fill: u8, encode: impl Fn(i8) -> u8) {
    check_len(layout, codes.len(), out);
    out.fill(fill);
    let (bits, per_atom) = (field_bits(layout), layout.atom_cols());
    let mask = (1u8 << bits) - 1;
    for (atom, codes) in out.chunks_mut(ATOM_BYTES).zip(codes.chunks(per_atom)) {
        for (p, plane) in codes.chunks(ATOM_BYTES).enumerate() {
            for (byte, code) in atom.iter_mut().zip(plane) {
                *byte = *byte & !(mask << (p * bits)) | encode(*code) << (p * bits);
            }
        }
    }
}

fn floats<const N: usize>(
    layout: Layout,
    x: &[f32],
    out: &mut [u8],
    encode: impl Fn(f32) -> Option<[u8; N]>,
) -> Result<(), NotFinite> {
    check_len(layout, x.len(), out);
    out.fill(0);
    for (column, (bytes, value)) in out.as_chunks_mut::<N>().0.iter_mut().zip(x).enumerate() {
        *bytes = encode(*value).ok_or(NotFinite {
            column,
            value: *value,
            layout,
        })?;
    }
    Ok(())
}

/// The largest magnitude, or NaN when a value is not finite.
fn absmax(x: &[f32]) -> f32 {
    if x.iter().all(|value| value.is_finite()) {
        x.iter().fold(0.0, |max, value| max.max(value.abs()))
    } else {
        f32::NAN
    }
}

fn i4_code(value: f32, scale: f32) -> f32 {
    (value / scale).round_ties_even().clamp(-8.0, 7.0)
}

/// Tries absmax / 5.5 to absmax / 8.5, each also refined to the least-squares scale of its codes.
fn i4_scale(group: &[f32]) -> f16 {
    let max = absmax(group);
    if max == 0.0 {
        return f16::ZERO;
    }
    let mut best = (f64::INFINITY, f16::NAN);
    for step in 0..=12u8 {
        let first = f16::from_f32(max / (5.5 + 0.25 * f32::from(step)));
        for scale in [first, i4_refined(group, first)] {
            let error = i4_error(group, scale);
            if error < best.0 {
                best = (error, scale);
            }
        }
    }
    best.1
}

fn i4_refined(group: &[f32], scale: f16) -> f16 {
    let (mut xq, mut qq) = (0.0f64, 0.0f64);
    for value in group {
        let q = f64::from(i4_code(*value, scale.to_f32()));
        xq += f64::from(*value) * q;
        qq += q * q;
    }
    f16::from_f64(xq / qq)
}

/// The squared error of a group under `scale`; NaN for a scale that cannot be used.
fn i4_error(group: &[f32], scale: f16) -> f64 {
    if !scale.is_finite() || scale.is_sign_negative() {
        return f64::NAN;
    }
    let s = scale.to_f32();
    let error = |value: &f32| {
        let code = if s > 0.0 { i4_code(*value, s) } else { 0.0 };
        let error = f64::from(*value) - f64::from(code * s);
        error * error
    };
    group.iter().map(error).sum()
}
