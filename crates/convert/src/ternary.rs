//! Ternary and binary codes from each way a checkpoint stores them with one scale.

use std::ops::Range;

use onebit_format::{ATOM_BYTES, Layout, pack};
use rayon::prelude::*;

use crate::blocks::blocks;
use crate::config::few_bits::Kind;
use crate::error::{ConvertError, Result};
use crate::floats::{self, check_finite, position};
use crate::linear::{Weights, float_layout};
use crate::signs::bit;
use crate::source::Checkpoint;
use crate::source::shard::TensorInfo;

/// The smallest mean magnitude that masters are scaled by.
const MIN_MEAN: f32 = 1e-5;

/// Produces the codes of any rows of one ternary or binary matrix.
pub(crate) struct Ternary<'a> {
    checkpoint: &'a Checkpoint,
    weights: Weights<'a>,
    cols: usize,
    /// What a code is multiplied by to get the weight.
    pub(crate) multiplier: f32,
    /// What an online weight is multiplied by before it is rounded.
    scale: f32,
    /// The bytes of an online weight, and perhaps more behind them, between the two times they are needed; `None` where
    /// they are too many.
    held: Option<Vec<u8>>,
}

/// Most bytes of a matrix kept between finding its mean and rounding it; a larger one is read twice.
const MAX_HELD: u64 = 256 << 20;
/// Weights decoded at a time: few enough for the first cache.
const PIECE: usize = 4096;

impl<'a> Ternary<'a> {
    /// Prepares a matrix of `rows` x `cols`; for online weights this reads all of it once.
    pub(crate) fn new(
        checkpoint: &'a Checkpoint,
        weights: Weights<'a>,
        rows: usize,
        cols: usize,
    ) -> Result<Self> {
        let mut ternary = Self {
            checkpoint,
            weights,
            cols,
            multiplier: 1.0,
            scale: 1.0,
            held: None,
        };
        match weights {
            Weights::Packed { multiplier, .. } | Weights::Unpacked { multiplier, .. } => {
                ternary.multiplier = multiplier;
            }
            Weights::Online { weight, kind } => {
                if weight.bytes <= MAX_HELD {
                    ternary.held = Some(ternary.checkpoint.read_all(weight)?);
                }
                let mean = ternary.mean_magnitude(weight, rows)?.max(MIN_MEAN);
                ternary.scale = 1.0 / mean;
                ternary.multiplier = match kind {
                    Kind::Binary => mean,
                    Kind::Ternary => 1.0 / ternary.scale,
                };
            }
            Weights::Dense { .. } | Weights::Grouped { .. } => unreachable!("not of one scale"),
        }
        Ok(ternary)
    }

    /// Codes -1, 0 and 1 of `rows`, row after row.
    pub(crate) fn codes(&self, rows: Range<usize>) -> Result<Vec<i8>> {
        match self.weights {
            Weights::Packed {
                weight,
                kind: Kind::Ternary,
                ..
            } => self.unpack(weight, rows),
            Weights::Packed { weight, .. } => self.unpack_bits(weight, rows),
            Weights::Unpacked { weight, .. } => {
                let first = (rows.start * self.cols) as u64;
                let values = self.floats(weight, rows)?;
                values
                    .iter()
                    .enumerate()
                    .map(|(at, value)| self.exact(weight, first + at as u64, *value))
                    .collect()
            }
            Weights::Online { weight, kind } => {
                let mut codes = Vec::with_capacity(rows.len() * self.cols);
                self.for_pieces(weight, rows, |values| match kind {
                    Kind::Binary => codes.extend(values.iter().map(|value| sign(*value))),
                    Kind::Ternary => {
                        codes.extend(values.iter().map(|value| round(*value, self.scale)));
                    }
                })?;
                Ok(codes)
            }
            Weights::Dense { .. } | Weights::Grouped { .. } => unreachable!("not of one scale"),
        }
    }

    /// Row `r` is in bits `2q..2q+2` of the bytes of packed row `r % R`, where `R` is the number of
    /// packed rows and `q = r / R`.
    fn unpack(&self, weight: &TensorInfo, rows: Range<usize>) -> Result<Vec<i8>> {
        let packed_rows = weight.shape[0];
        let mut codes = Vec::with_capacity(rows.len() * self.cols);
        let mut row = rows.start;
        while row < rows.end {
            let quarter = row / packed_rows;
            let end = rows.end.min((quarter + 1) * packed_rows);
            let offset = quarter * packed_rows;
            let bytes = self
                .checkpoint
                .read_rows(weight, row - offset..end - offset)?;
            let codes_of_quarter = bytes
                .iter()
                .map(|byte| ((byte >> (2 * quarter)) & 3) as i8 - 1);
            codes.extend(codes_of_quarter);
            row = end;
        }
        match codes.iter().position(|code| *code == 2) {
            None => Ok(codes),
            Some(at) => Err(self.invalid(
                weight,
                (rows.start * self.cols + at) as u64,
                "code 3, expected 0, 1 or 2",
            )),
        }
    }

    /// Bit `k % 8` of byte `k / 8` is column `k`; bits past the last column are 0.
    fn unpack_bits(&self, weight: &TensorInfo, rows: Range<usize>) -> Result<Vec<i8>> {
        let row_bytes = self.cols.div_ceil(8);
        let bytes = self.checkpoint.read_rows(weight, rows.clone())?;
        let mut codes = Vec::with_capacity(rows.len() * self.cols);
        for (r, row) in bytes.chunks(row_bytes).enumerate() {
            if let Some(k) = (self.cols..8 * row_bytes).find(|k| bit(row, *k) > 0) {
                let index = (rows.start + r) as u64 * self.cols as u64;
                let reason = format!("bit {k} is set past the last column");
                return Err(self.invalid(weight, index, &reason));
            }
            codes.extend((0..self.cols).map(|k| bit(row, k)));
        }
        Ok(codes)
    }

    fn floats(&self, weight: &TensorInfo, rows: Range<usize>) -> Result<Vec<f32>> {
        let first = (rows.start * self.cols) as u64;
        let mut values = vec![0.0; rows.len() * self.cols];
        floats::decode(
            float_layout(weight)?,
            &self.checkpoint.read_rows(weight, rows)?,
            &mut values,
        );
        check_finite(&weight.name, &values, first, self.cols)?;
        Ok(values)
    }

    fn exact(&self, weight: &TensorInfo, index: u64, value: f32) -> Result<i8> {
        match value {
            -1.0 => Ok(-1),
            0.0 => Ok(0),
            1.0 => Ok(1),
            other => {
                let reason =
                    format!("{other}, expected -1, 0 or 1 in an offline weight that is not packed");
                Err(self.invalid(weight, index, &reason))
            }
        }
    }

    fn invalid(&self, weight: &TensorInfo, index: u64, what: &str) -> ConvertError {
        let (row, col) = position(index, self.cols);
        ConvertError::malformed(
            format!("tensor `{}`", weight.name),
            format!("row {row}, column {col}: {what}"),
        )
    }

    /// Hands the weights of `rows` to `take` in pieces of [`PIECE`].
    fn for_pieces(
        &self,
        weight: &TensorInfo,
        rows: Range<usize>,
        mut take: impl FnMut(&[f32]),
    ) -> Result<()> {
        let layout = float_layout(weight)?;
        let size = layout.dtype().bitsize() / 8;
        let read;
        let bytes = match &self.held {
            Some(held) => &held[rows.start * self.cols * size..rows.end * self.cols * size],
            None => {
                read = self.checkpoint.read_rows(weight, rows)?;
                &read[..]
            }
        };
        let mut values = [0.0; PIECE];
        for bytes in bytes.chunks(PIECE * size) {
            let values = &mut values[..bytes.len() / size];
            floats::decode(layout, bytes, values);
            take(values);
        }
        Ok(())
    }

    /// Mean of the magnitudes of the whole matrix, summed in `f64` in an order that depends on the
    /// shape only.
    fn mean_magnitude(&self, weight: &TensorInfo, rows: usize) -> Result<f32> {
        let sums: Vec<Result<f64>> = blocks(rows, self.cols)
            .into_par_iter()
            .map(|rows| {
                let mut sum = 0.0;
                self.for_pieces(weight, rows.clone(), |values| sum += magnitudes(values))?;
                // No sum of so few finite magnitudes overflows, so one that is not finite has a culprit.
                if !f64::is_finite(sum) {
                    self.floats(weight, rows)?;
                }
                Ok(sum)
            })
            .collect();
        let total: f64 = sums.into_iter().sum::<Result<f64>>()?;
        Ok((total / (rows as f64 * self.cols as f64)) as f32)
    }
}

impl Drop for Ternary<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.checkpoint.give_back(held);
        }
    }
}

/// 1 where the value is at least 0, else -1.
fn sign(value: f32) -> i8 {
    if value >= 0.0 { 1 } else { -1 }
}

/// `round(value * scale)`, halves to even, clamped to -1..=1: the arithmetic, in `f32`, of the
/// trained forward pass.
fn round(value: f32, scale: f32) -> i8 {
    let scaled = value * scale;
    // Halves go to the even 0, everything beyond them to 1 after clamping.
    i8::from(scaled > 0.5) - i8::from(scaled < -0.5)
}

/// Sum of magnitudes over eight lanes.
fn magnitudes(values: &[f32]) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0f64; 8];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value.abs());
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|value| f64::from(value.abs())).sum::<f64>()
}

/// Compares rows packed in `layout`, ternary or binary, with the codes they were packed from, by decoding them.
/// Returns how many are -1, 0 and 1, or the first row and column that differ.
pub(crate) fn read_back(
    layout: Layout,
    codes: &[i8],
    packed: &[u8],
    [rows, cols]: [usize; 2],
) -> Result<[u64; 3], (usize, usize)> {
    let per_band = layout.atom_rows();
    let band_bytes = packed.len() / rows.div_ceil(per_band).max(1);
    let width = band_bytes / ATOM_BYTES * layout.atom_cols();
    let mut decoded = vec![0; per_band * width];
    let filler = if layout.is_binary() { -1 } else { 0 };
    let mut counts = [0; 3];
    let bands = codes.chunks(per_band * cols).zip(packed.chunks(band_bytes));
    for (band, (codes, packed)) in bands.enumerate() {
        pack::band_codes(layout, packed, &mut decoded);
        let mut rows = codes.chunks(cols);
        for (i, decoded) in decoded.chunks(width).enumerate() {
            // Rows that fill up a band are all padding.
            let codes = rows.next().unwrap_or_default();
            let (weights, padding) = decoded.split_at(codes.len());
            if weights != codes || padding.iter().any(|code| *code != filler) {
                let expected = codes.iter().chain(std::iter::repeat(&filler));
                let differs = decoded.iter().zip(expected).position(|(a, b)| a != b);
                return Err((band * per_band + i, differs.unwrap_or(0)));
            }
            for (count, code) in counts.iter_mut().zip(-1..) {
                *count += weights.iter().filter(|weight| **weight == code).count() as u64;
            }
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_the_formula() {
        let edges = [0.5f32, 1.5, 2.5, 1.0, 0.0, f32::MIN_POSITIVE, f32::MAX];
        let near = |x: f32| {
            [
                x,
                f32::from_bits(x.to_bits().saturating_sub(1)),
                f32::from_bits(x.to_bits() + 1),
            ]
        };
        for x in edges.into_iter().flat_map(near).flat_map(|x| [x, -x]) {
            let formula = x.round_ties_even().clamp(-1.0, 1.0) as i8;
            assert_eq!(round(x, 1.0), formula, "{x:e}");
        }
    }

    #[test]
    fn what_differs_is_found() {
        let codes: Vec<i8> = (0..600).map(|i| (i % 3) as i8 - 1).collect();
        let mut packed = vec![0; 2 * 128];
        for (codes, out) in codes.chunks(300).zip(packed.chunks_mut(128)) {
            pack::ternary_row(codes, out);
        }
        let check = |packed: &[u8]| read_back(Layout::T2, &codes, packed, [2, 300]);
        assert_eq!(check(&packed), Ok([200; 3]));
        packed[128 + 70] ^= 1;
        assert_eq!(check(&packed), Err((1, 262)));
        packed[128 + 70] ^= 1;
        packed[127] ^= 2;
        assert_eq!(check(&packed), Err((0, 319)));
    }

    #[test]
    fn what_differs_is_found_in_dense_rows() {
        let codes: Vec<i8> = (0..600).map(|i| (i % 3) as i8 - 1).collect();
        let mut packed = vec![0; 2 * 64];
        for (codes, out) in codes.chunks(300).zip(packed.chunks_mut(64)) {
            pack::dense_row(codes, out);
        }
        let check = |packed: &[u8]| read_back(Layout::T5, &codes, packed, [2, 300]);
        assert_eq!(check(&packed), Ok([200; 3]));
        packed[64 + 5] ^= 1;
        assert_eq!(check(&packed).unwrap_err().0, 1);
        packed[64 + 5] ^= 1;
        packed[63] -= 1;
        assert_eq!(check(&packed), Err((0, 319)));
    }

    #[test]
    fn what_differs_is_found_in_bands() {
        let codes: Vec<i8> = (0..700).map(|i| (i % 3) as i8 - 1).collect();
        let mut packed = vec![0; 2 * 128];
        pack::dense_bands(&codes, 100, &mut packed);
        let check = |packed: &[u8]| read_back(Layout::T5R5, &codes, packed, [7, 100]);
        assert_eq!(check(&packed), Ok([234, 233, 233]));
        packed[70] ^= 1;
        assert!(check(&packed).is_err_and(|(row, col)| row < 5 && col == 70));
        packed[70] ^= 1;
        // The last code of the second band's byte belongs to a row that is not there.
        packed[128] -= 1;
        assert_eq!(check(&packed), Err((9, 0)));
        packed[128] += 1;
        packed[127] -= 1;
        assert_eq!(check(&packed), Err((4, 127)));
    }

    #[test]
    fn what_differs_is_found_in_lanes() {
        let codes: Vec<i8> = (0..2000).map(|i| (i % 3) as i8 - 1).collect();
        let layout = Layout::T2R16;
        let band_bytes = layout.band_bytes(100).unwrap();
        let mut packed = vec![0; 2 * band_bytes];
        pack::code_rows(layout, &codes, 100, &mut packed);
        let check = |packed: &[u8]| read_back(layout, &codes, packed, [20, 100]);
        assert_eq!(check(&packed), Ok([667, 667, 666]));
        // Column 29 of row 17, column 3 of row 20, which is not there, and column 101, which is padding.
        for (row, col) in [(17, 29), (20, 3), (15, 101)] {
            let lane = row / 16 * band_bytes + col / 16 * ATOM_BYTES + 4 * (row % 16);
            let byte = lane + col % 4;
            packed[byte] ^= 2 << (2 * (col % 16 / 4));
            assert_eq!(check(&packed), Err((row, col)));
            packed[byte] ^= 2 << (2 * (col % 16 / 4));
        }
    }

    #[test]
    fn what_differs_is_found_in_signs() {
        let codes: Vec<i8> = (0..600).map(|i| (i % 2) as i8 * 2 - 1).collect();
        let mut packed = vec![0; 2 * 64];
        for (codes, out) in codes.chunks(300).zip(packed.chunks_mut(64)) {
            pack::binary_row(codes, out);
        }
        let check = |packed: &[u8]| read_back(Layout::B1, &codes, packed, [2, 300]);
        assert_eq!(check(&packed), Ok([300, 0, 300]));
        packed[64 + 5] ^= 4;
        assert_eq!(check(&packed), Err((1, 133)));
        packed[64 + 5] ^= 4;
        packed[63] ^= 128;
        assert_eq!(check(&packed), Err((0, 511)));
    }

    #[test]
    fn what_differs_is_found_in_bands_of_signs() {
        let codes: Vec<i8> = (0..7000).map(|i| (i % 2) as i8 * 2 - 1).collect();
        let layout = Layout::B1R64;
        let band_bytes = layout.band_bytes(100).unwrap();
        let mut packed = vec![0; 2 * band_bytes];
        pack::code_rows(layout, &codes, 100, &mut packed);
        let check = |packed: &[u8]| read_back(layout, &codes, packed, [70, 100]);
        assert_eq!(check(&packed), Ok([3500, 0, 3500]));
        // Column 29 of row 66, and column 3 of row 70, which is not there.
        for (row, col) in [(66, 29), (70, 3), (63, 101)] {
            let place = Layout::binary_place(row % 64);
            let byte = row / 64 * band_bytes + col / 8 * ATOM_BYTES + place;
            packed[byte] ^= 1 << (col % 8);
            assert_eq!(check(&packed), Err((row, col)));
            packed[byte] ^= 1 << (col % 8);
        }
    }
}
